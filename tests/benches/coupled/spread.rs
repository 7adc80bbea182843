//! Several runs of the same: the median and what lies around it.
use tests::bench::Report;

/// One figure, of several runs.
#[derive(Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value below which a share of all lie; of nothing, nothing.
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = sorted.len().saturating_sub(1) as f64 * share;
        let at = |rank: f64| sorted.get(rank as usize).copied().unwrap_or(f64::NAN);
        (at(rank.floor()) + at(rank.ceil())) / 2.0
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Adds the median, and the least and the greatest of several; the peer is what the median is compared with.
    pub fn report(&self, report: &mut Report, case: &str, peer: Option<(&str, f64)>) {
        let name = peer.map(|(name, _)| format!("; peer: {name}")).unwrap_or_default();
        report.row(format!("{case}{name}"), self.median(), peer.map(|(_, peer)| peer));
        if self.0.len() > 1 {
            report.row(format!("{case}, least"), self.at(0.0), None);
            report.row(format!("{case}, greatest"), self.at(1.0), None);
        }
    }
}
