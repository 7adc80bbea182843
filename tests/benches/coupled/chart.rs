//! Charts of windows and rates over time, as SVG.
use crate::response::Run;
use anyhow::{Context, Result};
use plotters::prelude::*;
use std::fs;
use std::path::Path;

/// What was seen of a subflow at a time.
#[derive(Clone, Copy)]
pub struct Point {
    /// Seconds.
    pub at: f64,
    /// Packets.
    pub window: f64,
    /// Of late, bit/s.
    pub rate: f64,
    /// Acknowledged so far.
    pub bytes: u64,
}

/// A blue and an orange that everybody can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(230, 159, 0)];
const SIZE: (u32, u32) = (900, 520);

/// Draws `target/bench/coupled-NAME.svg`: the rate above, the window below, with lines where something changed.
pub fn draw(name: &str, run: &Run, changes: &[f64]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join(format!("coupled-{name}.svg"));
    let root = SVGBackend::new(&file, SIZE).into_drawing_area();
    let drawn = root.fill(&WHITE).map_err(anyhow::Error::from).and_then(|()| {
        let [upper, lower] =
            <[_; 2]>::try_from(root.split_evenly((2, 1))).map_err(|_| anyhow::anyhow!("two halves"))?;
        panel(&upper, &format!("{name}: rate, Mbit/s"), run, changes, |point| point.rate / 1e6)?;
        panel(&lower, &format!("{name}: window, packets, over seconds"), run, changes, |point| point.window)?;
        root.present().map_err(anyhow::Error::from)
    });
    drawn.with_context(|| format!("draw {}", file.display()))
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    run: &Run,
    changes: &[f64],
    value: impl Fn(&Point) -> f64,
) -> Result<()> {
    let points = || run.values().flatten();
    let end = points().map(|point| point.at).fold(0.0, f64::max);
    // The first slow start goes beyond all that follows.
    let settled = points().filter(|point| point.at > 2.0).map(&value).fold(1.0, f64::max);
    let top = settled * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_labels(15).y_labels(6).draw()?;
    for change in changes {
        chart.draw_series(LineSeries::new([(*change, 0.0), (*change, top)], BLACK.mix(0.4)))?;
    }
    for ((address, points), colour) in run.iter().zip(COLOURS) {
        let line = points.iter().map(|point| (point.at, value(point).min(top)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(address.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    Ok(())
}
