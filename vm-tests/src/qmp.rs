//! QEMU's control channel: one JSON object a line, commands answered in order, events in between.
//! The dozen commands used need no generated types.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for an answer. A restore loads hundreds of megabytes while QEMU's main loop stands still.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Events nobody waits for are dropped, oldest first.
const EVENTS_MAX: usize = 64;

/// An open channel to one QEMU.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects and leaves the greeting behind.
    pub fn connect(socket: &Path) -> Result<Qmp> {
        let stream = UnixStream::connect(socket)?;
        let mut qmp = Qmp { reader: BufReader::new(stream), events: VecDeque::new() };
        let greeting = qmp.read(Instant::now() + ANSWER_LIMIT)?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and gives what it returned.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).context("QEMU is gone")?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let mut answer = self.read(deadline)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("unknown error");
                return Err(anyhow!("QEMU refused {command}: {text}"));
            }
            self.keep(answer);
        }
    }

    /// Waits for an event, also one that came earlier.
    pub fn wait_event(&mut self, wanted: impl Fn(&Value) -> bool, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        if let Some(position) = self.events.iter().position(&wanted) {
            self.events.remove(position);
            return Ok(());
        }
        loop {
            let event = self.read(deadline)?;
            if wanted(&event) {
                return Ok(());
            }
            self.keep(event);
        }
    }

    /// The word QEMU has for what the machine does: `running`, `paused`, `inmigrate`...
    pub fn status(&mut self) -> Result<String> {
        let status = self.execute("query-status", json!({}))?;
        Ok(status.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn read(&mut self, deadline: Instant) -> Result<Value> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("QEMU did not answer in time");
            }
            self.reader.get_ref().set_read_timeout(Some(left))?;
            // Bytes of an unfinished line stay in `line` when the wait is cut short.
            match self.reader.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    return serde_json::from_slice(&line).context("QEMU spoke nonsense");
                }
                Ok(_) => bail!("QEMU is gone"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("QEMU is gone"),
            }
        }
    }
}
