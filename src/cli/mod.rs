//! The commands. What can be done through the tree is done there; these are what the tree cannot do.

mod daemon;
mod init;
mod join;
mod network;
mod replay;
mod sandbox;
mod status;
mod wait;

use std::{
    fmt,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use lexopt::prelude::*;

use crate::local::STATE_DIR;

const HELP: &str = "\
holdfast turns a few Linux boxes with disks into one pool of replicated block devices.

  holdfast init --disk DEVICE [--name NAME] [--address IP]
        found a cluster on this box; DEVICE has to be blank and is the first disk of pool main
  holdfast join TOKEN [--address IP]
        make this box a member; TOKEN is what `cat /cluster/token` prints on a member
  holdfast daemon [--detach] [--debug] [--record DIR]
        run this box's part; under systemd: systemctl enable --now holdfast
        --record keeps what LVM's and DRBD's programs say as files in DIR, 64 MiB at most
  holdfast wait VOLUME... [--synced] [--timeout SECONDS]
        until every VOLUME can be used, or with --synced until it has all its replicas; without --timeout, or with 0,
        for as long as that takes
  holdfast status
        boxes and volumes as a table; the same as cat /cluster/status
  holdfast sandbox [DIR] [--boxes N] [--drbd 8|9]
        a cluster of model boxes to play with: nothing is real but the trees, DIR/box1, DIR/box2 and so on; no root
        needed; `help` at its prompt lists what can be done to boxes
  holdfast replay FILE
        walk through a script of model boxes, or what a failed test wrote down
  holdfast --help | --version

Everything else is done in the tree, see /cluster/README:
  mkdir /cluster/volumes/db && echo 20G > /cluster/volumes/db/size

Options, after the command:
  --state-dir DIR   where this box keeps who it is (/var/lib/holdfast), for every command
  --mount DIR       where the tree is (/cluster), for daemon, wait and status
Exit codes: 0 done, 1 failed (one sentence on standard error says why), 2 used wrongly.
";

/// Where the tree is.
const MOUNT: &str = "/cluster";

/// One sentence for the person who typed it.
#[derive(Debug)]
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn used_wrongly(text: impl fmt::Display) -> Self {
        Self { text: format!("{text}; holdfast --help says how"), code: 2 }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { text: error.to_string(), code: 1 }
    }
}

/// The tree, or a part of it, that is not there.
fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    let text = format!("{path} cannot be read ({error}): is the daemon running? systemctl status holdfast");
    Failure { text, code: 1 }
}

type Outcome = Result<(), Failure>;

fn fail<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { text: text.into(), code: 1 })
}

/// The first line that could not be said, and why.
static UNSAID: OnceLock<std::io::Error> = OnceLock::new();

/// A line for the person; a closed pipe is no error, and any other is one when the command ends.
fn say(text: impl fmt::Display) {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(UNSAID.set(error)),
        Ok(()) | Err(_) => {}
    }
}

/// What was given on the command line, for all commands.
#[derive(Debug, Default)]
struct Args {
    state_dir: Option<PathBuf>,
    mount: Option<PathBuf>,
    name: Option<String>,
    address: Option<String>,
    disk: Option<String>,
    record: Option<PathBuf>,
    timeout: Option<u64>,
    boxes: Option<usize>,
    drbd: Option<u8>,
    synced: bool,
    detach: bool,
    debug: bool,
    words: Vec<String>,
}

impl Args {
    fn state_dir(&self) -> &Path {
        self.state_dir.as_deref().unwrap_or(Path::new(STATE_DIR))
    }

    fn mount(&self) -> &Path {
        self.mount.as_deref().unwrap_or(Path::new(MOUNT))
    }

    /// Refuses words where the command takes options only.
    fn no_words(&self, command: &str) -> Outcome {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(Failure::used_wrongly(format_args!("holdfast {command} takes no {word:?}"))),
        }
    }
}

/// Runs what was asked for.
pub fn main() -> ExitCode {
    let said = |()| UNSAID.get().map_or(Ok(()), |why| fail(format!("standard output: {why}")));
    match dispatch(lexopt::Parser::from_env()).and_then(said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(writeln!(std::io::stderr().lock(), "holdfast: {}", failure.text));
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(mut parser: lexopt::Parser) -> Outcome {
    let command = match parser.next().map_err(Failure::used_wrongly)? {
        Some(Value(word)) => word.string().map_err(Failure::used_wrongly)?,
        Some(Long("help") | Short('h')) | None => {
            say(HELP.trim_end());
            return Ok(());
        }
        Some(Long("version") | Short('V')) => {
            say(format_args!("holdfast {}", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        Some(other) => return Err(Failure::used_wrongly(other.unexpected())),
    };
    type Run = fn(&Args) -> Outcome;
    let (run, allowed): (Run, &[&str]) = match command.as_str() {
        "init" => (init::run, &["disk", "name", "address"]),
        "join" => (join::run, &["address"]),
        "daemon" => (daemon::run, &["detach", "debug", "mount", "record"]),
        "wait" => (wait::run, &["synced", "timeout", "mount"]),
        "status" => (status::run, &["mount"]),
        "sandbox" => (sandbox::run, &["boxes", "drbd"]),
        "replay" => (replay::run, &[]),
        "help" => {
            say(HELP.trim_end());
            return Ok(());
        }
        other => return Err(Failure::used_wrongly(format_args!("{other:?} is not a command"))),
    };
    run(&parse(&mut parser, &command, allowed)?)
}

fn parse(parser: &mut lexopt::Parser, command: &str, allowed: &[&str]) -> Result<Args, Failure> {
    let mut args = Args::default();
    while let Some(arg) = parser.next().map_err(Failure::used_wrongly)? {
        let option = match &arg {
            Value(word) => {
                args.words.push(word.clone().string().map_err(Failure::used_wrongly)?);
                continue;
            }
            Long("help") | Short('h') => {
                say(HELP.trim_end());
                std::process::exit(0);
            }
            Long(option) => (*option).to_owned(),
            Short(_) => return Err(Failure::used_wrongly(arg.unexpected())),
        };
        let unknown = || Err(Failure::used_wrongly(format_args!("holdfast {command} knows no --{option}")));
        if option != "state-dir" && !allowed.contains(&option.as_str()) {
            return unknown();
        }
        let mut text = || parser.value().and_then(|v| v.string()).map_err(Failure::used_wrongly);
        match option.as_str() {
            "state-dir" => args.state_dir = Some(text()?.into()),
            "mount" => args.mount = Some(text()?.into()),
            "record" => args.record = Some(text()?.into()),
            "name" => args.name = Some(text()?),
            "address" => args.address = Some(text()?),
            "disk" => args.disk = Some(text()?),
            "timeout" => {
                let given = text()?;
                let seconds = given.parse();
                args.timeout = Some(seconds.map_err(|_| {
                    Failure::used_wrongly(format_args!("--timeout {given:?} is not a number of seconds"))
                })?);
            }
            "boxes" => {
                let given = text()?;
                let boxes = given.parse().ok().filter(|n| (1..=16).contains(n));
                args.boxes = Some(boxes.ok_or_else(|| {
                    Failure::used_wrongly(format_args!("--boxes {given:?} is not a number from 1 to 16"))
                })?);
            }
            "drbd" => {
                let given = text()?;
                let major = given.parse().ok().filter(|n| [8, 9].contains(n));
                args.drbd = Some(major.ok_or_else(|| {
                    Failure::used_wrongly(format_args!("--drbd {given:?} is neither 8 nor 9"))
                })?);
            }
            "synced" => args.synced = true,
            "detach" => args.detach = true,
            "debug" => args.debug = true,
            _ => return unknown(),
        }
    }
    Ok(args)
}
