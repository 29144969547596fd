//! What a person says: the prompt, the control file, signals. One thread each.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Write, stdin, stdout},
    path::Path,
    sync::mpsc::SyncSender,
    thread,
};

use nix::{
    sys::stat::Mode,
    unistd::{getpgrp, mkfifo, tcgetpgrp},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{Event, Outcome};
use crate::cli::{Failure, say};

/// Where a command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Prompt,
    Control,
}

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// Somebody types there.
    Terminal,
    /// A script comes from there; its end ends nothing.
    Pipe,
    /// Not read: a terminal that another program has.
    None,
}

impl Prompt {
    /// A command is waited for.
    pub fn show(self) {
        if self == Self::Terminal {
            let mut out = stdout().lock();
            drop(write!(out, "> ").and_then(|()| out.flush()));
        }
    }

    /// A command as it would look had it been typed at the prompt.
    pub fn echo(self, from: From, line: &str) {
        match (self, from) {
            (Self::Terminal, From::Prompt) => {}
            (Self::Terminal, From::Control) => say(line),
            (Self::Pipe | Self::None, _) => say(format_args!("> {line}")),
        }
    }
}

/// Reads standard input, if it can be read.
pub(super) fn prompt(events: SyncSender<Event>) -> Result<Prompt, Failure> {
    let prompt = match stdin().is_terminal() {
        false => Prompt::Pipe,
        // Reading from a terminal in the background would stop all of the process.
        true if tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp()) => Prompt::Terminal,
        true => return Ok(Prompt::None),
    };
    spawn("prompt", move || {
        lines(stdin().lock(), From::Prompt, &events);
        if prompt == Prompt::Terminal {
            drop(events.send(Event::Stop));
        }
    })?;
    Ok(prompt)
}

/// Makes the control file and reads it.
pub(super) fn control(at: &Path, events: SyncSender<Event>) -> Outcome {
    // A killed sandbox may have left one.
    drop(std::fs::remove_file(at));
    mkfifo(at, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // For writing too: so it never ends, whoever closes it.
    let fifo = File::options().read(true).write(true).open(at)?;
    spawn("control", move || lines(BufReader::new(fifo), From::Control, &events))
}

fn lines(input: impl BufRead, from: From, events: &SyncSender<Event>) {
    for line in input.split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        if events.send(Event::Line(from, line)).is_err() {
            return;
        }
    }
}

/// Ends it on a signal.
pub(super) fn signals(events: SyncSender<Event>) -> Outcome {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    spawn("signals", move || {
        for _ in signals.forever() {
            drop(events.send(Event::Stop));
        }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Outcome {
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(())
}
