//! The lab: virtual boxes with disks and a private network, for holdfast's tests and for people who want to try it.
//!
//! One program in four places: a word (`lab up 3`) does its work and ends; the server (`lab serve`), started by `up`,
//! holds the switch and the QEMU processes and answers words on a socket; in each box the agent (`lab agent`) runs what
//! is asked of it; `up` itself builds what boxes start from.
//!
//! | module | what |
//! |---|---|
//! | args | argv to a closed list of words |
//! | paths, image, accel, machine, template, up | what boxes start from, built once, cached |
//! | server, boxes, vm, qmp, switch, system | the running lab |
//! | agent, frame, link, identity | the hand in the box, and the way to it |
//! | client, request, cluster | a word's side |
//!
//! Deliberately absent: anything that knows holdfast's insides. Boxes are driven as an operator would.

mod accel;
mod agent;
mod args;
mod boxes;
mod client;
mod cluster;
mod frame;
mod identity;
mod image;
mod link;
mod machine;
mod paths;
mod qmp;
mod request;
mod server;
mod switch;
mod system;
mod template;
mod up;
mod vm;

use anyhow::{Context, Result};
use args::{USAGE, Word};
use client::{Input, call};
use paths::Paths;
use request::Request;
use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(env::args_os().skip(1)).and_then(act) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(word: Word) -> Result<i32> {
    let request = match word {
        // Three words need no repository: two are for the inside of a box.
        Word::Agent => return agent::serve().map(|()| 0),
        Word::Network => return agent::network().map(|()| 0),
        Word::Help => {
            print!("{USAGE}");
            return Ok(0);
        }
        Word::Up { boxes, disks, disk_bytes, bare } => {
            let wish = up::Wish { boxes, disks, disk_bytes, is_bare: bare };
            return up::up(&Paths::find()?, wish).map(|()| 0);
        }
        Word::Image => {
            println!("{}", up::build(&Paths::find()?)?.0.kernel);
            return Ok(0);
        }
        Word::Serve => return server::serve(Paths::find()?).map(|()| 0),
        Word::Down => return client::down(&Paths::find()?).map(|()| 0),
        Word::Console { at } => {
            let console = Paths::find()?.of_box(&identity::name(at)).join("console.log");
            let mut file = File::open(&console).with_context(|| format!("no {}", console.display()))?;
            io::copy(&mut file, &mut io::stdout())?;
            return Ok(0);
        }
        Word::Sh { at, command: None } => return client::shell(&Paths::find()?, at),
        Word::Sh { at, command: Some(command) } => {
            let input = if io::stdin().is_terminal() { Input::Nothing } else { Input::Ours };
            return call(&Paths::find()?, &Request::Sh { at, command }, input);
        }
        Word::Log { at, arguments } => {
            Request::Sh { at, command: format!("journalctl --no-pager -u holdfast {}", arguments.join(" ")) }
        }
        Word::AddDisk { at, bytes, serial, from } => {
            Request::AddDisk { at, bytes, serial, from: from.map(absolute).transpose()? }
        }
        Word::PullDisk { at, serial } => Request::PullDisk { at, serial },
        Word::PowerOff { at } => Request::PowerOff { at },
        Word::PowerOn { at, cold } => Request::PowerOn { at, cold },
        Word::Cut { at, other } => Request::Cut { at, other },
        Word::Mend { at, other } => Request::Mend { at, other },
        Word::Freeze { at } => Request::Freeze { at },
        Word::Thaw { at } => Request::Thaw { at },
        Word::Install => Request::Install,
        Word::Status => Request::Status,
    };
    call(&Paths::find()?, &request, Input::Nothing)
}

/// The server has a working directory of its own.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    fs::canonicalize(&path).with_context(|| format!("cannot read {}", path.display()))
}
