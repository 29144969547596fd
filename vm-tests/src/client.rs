//! A word's side of the conversation with the lab's server.

use crate::frame::{Frame, Kind};
use crate::link::Output;
use crate::paths::Paths;
use crate::request::{Config, Request};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const END_LIMIT: Duration = Duration::from_secs(10);
const INPUT_CHUNK_BYTES: usize = 32 * 1024;

/// Whose input a command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// None: it reads the end at once.
    Nothing,
    /// This program's.
    Ours,
}

/// What the running lab was started with, if there is one.
pub fn running(paths: &Paths) -> Option<Config> {
    let config: Config = serde_json::from_slice(&fs::read(paths.config()).ok()?).ok()?;
    UnixStream::connect(config.control()).is_ok().then_some(config)
}

fn connect(paths: &Paths) -> Result<UnixStream> {
    let config =
        fs::read(paths.config()).ok().and_then(|bytes| serde_json::from_slice::<Config>(&bytes).ok());
    let stream = config.and_then(|config| UnixStream::connect(config.control()).ok());
    stream.context("no lab is up: start one with `vm-tests/lab up 3`")
}

fn send(stream: &mut UnixStream, request: &Request) -> Result<()> {
    Frame::new(0, Kind::Request, serde_json::to_vec(request)?)
        .write(stream)
        .context("the request is too long")
}

/// Asks the server, passes on what it says, and gives the exit code.
pub fn call(paths: &Paths, request: &Request, input: Input) -> Result<i32> {
    let mut stream = connect(paths)?;
    send(&mut stream, request)?;
    let mut writer = stream.try_clone()?;
    match input {
        Input::Nothing => end_input(&mut writer),
        Input::Ours => drop(thread::spawn(move || pass_input(&mut writer))),
    }
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    while let Some(frame) = Frame::read(&mut stream)? {
        if let Some(code) = frame.exit_code() {
            return Ok(code);
        }
        if frame.kind == Kind::Err {
            stderr.write_all(&frame.payload)?;
        } else {
            stdout.write_all(&frame.payload)?;
            stdout.flush()?;
        }
    }
    bail!("the lab went down")
}

fn pass_input(to: &mut UnixStream) {
    let mut chunk = vec![0u8; INPUT_CHUNK_BYTES];
    while let Ok(count @ 1..) = io::stdin().read(&mut chunk) {
        if Frame::new(0, Kind::In, &chunk[..count]).write(to).is_err() {
            return;
        }
    }
    end_input(to);
}

/// The server may have answered and hung up already; what it said is still to be read.
fn end_input(to: &mut UnixStream) {
    let _ = Frame::new(0, Kind::InEnd, []).write(to);
}

/// Asks the server and gathers what it says.
pub fn ask(paths: &Paths, request: &Request) -> Result<Output> {
    let mut stream = connect(paths)?;
    send(&mut stream, request)?;
    end_input(&mut stream);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(frame) = Frame::read(&mut stream)? {
        if let Some(code) = frame.exit_code() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Ok(Output { code, stdout: text(&stdout), stderr: text(&stderr) });
        }
        if frame.kind == Kind::Err { stderr.extend(frame.payload) } else { stdout.extend(frame.payload) }
    }
    bail!("the lab went down")
}

/// A shell in a box, on this terminal.
pub fn shell(paths: &Paths, at: usize) -> Result<i32> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return call(paths, &Request::Sh { at, command: "exec bash".into() }, Input::Ours);
    }
    let size =
        std::process::Command::new("stty").arg("size").stdin(std::process::Stdio::inherit()).output()?;
    let size = String::from_utf8_lossy(&size.stdout).into_owned();
    let (rows, columns) = size.trim().split_once(' ').unwrap_or(("24", "80"));
    let term = std::env::var("TERM").unwrap_or_else(|_| "vt100".into());
    let command =
        format!("TERM='{term}' exec script -qefc 'stty rows {rows} cols {columns}; exec bash -il' /dev/null");
    let before = tcgetattr(&stdin)?;
    let _guard = Raw::set(&before)?;
    call(paths, &Request::Sh { at, command }, Input::Ours)
}

/// The terminal, raw for as long as this lives.
struct Raw<'a>(&'a Termios);

impl Raw<'_> {
    fn set(before: &Termios) -> Result<Raw<'_>> {
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, self.0);
    }
}

/// Ends the lab and waits until its process is gone. Nothing to do is fine.
pub fn down(paths: &Paths) -> Result<()> {
    if let Ok(mut stream) = connect(paths) {
        let server = Pid::from_raw(getsockopt(&stream, PeerCredentials)?.pid());
        // It ends the boxes first, then itself. One of another version may not understand, then it has to be told
        // otherwise; its boxes die with it.
        let _ = send(&mut stream, &Request::Down);
        if !ends_within(server, END_LIMIT) {
            kill(server, Signal::SIGKILL)
                .with_context(|| format!("cannot end the lab's server, process {server}"))?;
            ends_within(server, END_LIMIT);
        }
    }
    // A server that was killed leaves its sockets behind.
    if let Ok(run) = fs::read_link(paths.run_link()) {
        let _ = fs::remove_dir_all(run);
        fs::remove_file(paths.run_link())?;
    }
    for gone in [paths.boxes().join("disks"), paths.config()] {
        let removed = if gone.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", gone.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn ends_within(server: Pid, limit: Duration) -> bool {
    let process = Path::new("/proc").join(server.to_string());
    let deadline = Instant::now() + limit;
    while process.exists() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
