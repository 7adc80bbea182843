//! Log lines on standard error, as a terminal reads them or as a journal does.
use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// One line for each thing worth knowing; `RUST_LOG=debug` says more.
pub(super) fn to_stderr() {
    let wanted = std::env::var("RUST_LOG").ok();
    let level = wanted.as_deref().map(str::parse::<LevelFilter>);
    let shown = level.clone().and_then(Result::ok).unwrap_or(LevelFilter::INFO);
    let log = tracing_subscriber::fmt().with_max_level(shown).with_writer(std::io::stderr).with_target(false);
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log
            .with_ansi(false)
            .event_format(Journal(Format::default().without_time().with_target(false)))
            .init(),
        None => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    if let (Some(wanted), Some(Err(_))) = (wanted, level) {
        tracing::warn!("RUST_LOG={wanted:?} is no level: use error, warn, info, debug or trace");
    }
}

/// A journal adds the time by itself, and takes the priority from the beginning of the line (`SyslogLevelPrefix=` in
/// systemd.exec(5)).
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// As in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
