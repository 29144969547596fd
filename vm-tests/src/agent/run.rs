//! Commands that run in the box for somebody outside: each in a process group of its own, output streamed as it comes.

use super::Port;
use crate::frame::{Frame, Kind};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the output of an ended command is waited for. It stays open for as long as something that the command left
/// in the background holds it, and a caller should not hang on that.
const LEFTOVER_LIMIT: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 32 * 1024;
/// What a shell says of a command it could not start.
const EXIT_NOT_STARTED: i32 = 127;

struct Running {
    group: Pid,
    /// Unbounded: the port's reader must never wait for a command that does not read its input.
    input: Sender<Option<Vec<u8>>>,
}

/// The commands that run now, by conversation.
#[derive(Default, Clone)]
pub struct Commands(Arc<Mutex<HashMap<u32, Running>>>);

impl Commands {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a shell command; its output and exit code are sent to `port`.
    pub fn start(&self, id: u32, command: &str, port: &Port) {
        port.send(&Frame::new(id, Kind::Pong, []));
        let child = Command::new("/bin/bash")
            .args(["-c", command])
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match child {
            Ok(child) => {
                let (input, inputs) = channel();
                let group = Pid::from_raw(child.id().cast_signed());
                self.lock().insert(id, Running { group, input });
                let (commands, port) = (self.clone(), port.clone());
                thread::spawn(move || {
                    let code = attend(child, id, inputs, &port);
                    commands.lock().remove(&id);
                    port.send(&Frame::exit(id, code));
                });
            }
            Err(error) => {
                port.send(&Frame::new(id, Kind::Err, format!("cannot start a shell: {error}\n")));
                port.send(&Frame::exit(id, EXIT_NOT_STARTED));
            }
        }
    }

    /// Hands bytes (or, with `None`, the end) to the standard input of a command.
    pub fn input(&self, id: u32, bytes: Option<Vec<u8>>) {
        if let Some(running) = self.lock().get(&id) {
            let _ = running.input.send(bytes);
        }
    }

    /// Ends a command that nobody waits for any more.
    pub fn kill(&self, id: u32) {
        if let Some(running) = self.lock().get(&id) {
            let _ = killpg(running.group, Signal::SIGKILL);
        }
    }
}

fn attend(mut child: Child, id: u32, inputs: Receiver<Option<Vec<u8>>>, port: &Port) -> i32 {
    if let Some(stdin) = child.stdin.take() {
        thread::spawn(move || feed(stdin, &inputs));
    }
    let (done, ends) = channel();
    if let Some(stdout) = child.stdout.take() {
        drain(stdout, id, Kind::Out, port, done.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        drain(stderr, id, Kind::Err, port, done);
    }
    let code = child.wait().map_or(EXIT_NOT_STARTED, exit_code);
    // Nothing is ever sent: the channel closes when both have ended.
    let _ = ends.recv_timeout(LEFTOVER_LIMIT);
    code
}

fn feed(mut stdin: impl Write, inputs: &Receiver<Option<Vec<u8>>>) {
    while let Ok(Some(bytes)) = inputs.recv() {
        if stdin.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Sends all that `from` gives. Goes on after the conversation has ended, so that whoever was left behind can still write.
fn drain(mut from: impl Read + Send + 'static, id: u32, kind: Kind, port: &Port, done: Sender<Infallible>) {
    let port = port.clone();
    thread::spawn(move || {
        let mut chunk = vec![0u8; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            port.send(&Frame::new(id, kind, &chunk[..count]));
        }
        drop(done);
    });
}

/// As a shell puts it: 128 and the signal where there was one.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(EXIT_NOT_STARTED)
}
