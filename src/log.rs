//! The log: one line on standard error, with the priority in front that journald reads (sd-daemon(3)).

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().starts_with("holdfast")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let text = record.args().to_string().replace('\n', " | ");
        // Nobody is left to tell when standard error is gone.
        drop(writeln!(std::io::stderr().lock(), "<{priority}>{text}"));
    }

    fn flush(&self) {}
}

/// Starts logging; `debug` also shows each command that is run.
pub fn start(debug: bool) {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
}
