//! The host's end of the channel to a box's agent: many conversations over one socket.

use crate::frame::{Frame, Kind};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Unbounded queues: one slow reader of a command's output must not hold up the other commands of the box.
type Conversations = Mutex<Option<HashMap<u32, Known>>>;

/// A box that has just started its agent is busy with other things too.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

struct Known {
    replies: Sender<Frame>,
    /// Whether the agent has said something in it. What it has not may still be on its way to it.
    is_begun: bool,
}

/// The channel to one box, for as long as that box has power.
pub struct Link {
    stream: Mutex<UnixStream>,
    /// `None` once the channel has closed.
    conversations: Conversations,
    next_id: AtomicU32,
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output, if the command succeeded.
    pub fn checked(self, what: &str) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        bail!("{what} failed ({}): {}{}", self.code, self.stdout, self.stderr.trim_end())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Connects to the socket that QEMU offers for the agent's port.
    pub fn connect(socket: &Path) -> Result<Arc<Link>> {
        let stream = UnixStream::connect(socket).context("cannot reach the agent's port")?;
        let mut reader = stream.try_clone()?;
        let link = Arc::new(Link {
            stream: Mutex::new(stream),
            conversations: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU32::new(1),
        });
        let reading = Arc::clone(&link);
        thread::spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut reader) {
                if frame.kind == Kind::Hello {
                    reading.restarted();
                } else if let Some(known) =
                    lock(&reading.conversations).as_mut().and_then(|all| all.get_mut(&frame.id))
                {
                    known.is_begun = true;
                    // The other end may have lost interest a moment ago.
                    let _ = known.replies.send(frame);
                }
            }
            // Dropping the senders tells everybody who waits.
            *lock(&reading.conversations) = None;
        });
        Ok(link)
    }

    /// The agent has just started. If the box restarted under its power, what ran there ended without a word; and what
    /// was being sent is either still on its way or lost. A ping that is answered tells: it came after all that.
    fn restarted(self: &Arc<Self>) {
        if let Some(all) = lock(&self.conversations).as_mut() {
            all.retain(|_, known| !known.is_begun);
        }
        let link = Arc::clone(self);
        thread::spawn(move || {
            let Ok(ping) = link.open(Kind::Ping, []) else { return };
            if let Ok(Some(_)) = ping.next(Instant::now() + RESTART_LIMIT)
                && let Some(all) = lock(&link.conversations).as_mut()
            {
                all.retain(|&id, known| id >= ping.sender.id || known.is_begun);
            }
        });
    }

    /// Begins a conversation.
    pub fn open(self: &Arc<Self>, kind: Kind, payload: impl Into<Vec<u8>>) -> Result<Conversation> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = channel();
        match lock(&self.conversations).as_mut() {
            Some(all) => all.insert(id, Known { replies: sender, is_begun: false }),
            None => bail!("the box has lost power"),
        };
        let conversation =
            Conversation { sender: ConversationSender { link: Arc::clone(self), id }, replies };
        conversation.send(kind, payload)?;
        Ok(conversation)
    }

    /// Asks the agent whether it is there.
    pub fn ping(self: &Arc<Self>, limit: Duration) -> Result<()> {
        let conversation = self.open(Kind::Ping, [])?;
        match conversation.next(Instant::now() + limit)? {
            Some(frame) if frame.kind == Kind::Pong => Ok(()),
            Some(frame) => bail!("the agent answered {:?} to a ping", frame.kind),
            None => bail!("the agent did not answer within {} s", limit.as_secs()),
        }
    }

    /// Runs a command to its end.
    pub fn run(self: &Arc<Self>, command: &str, limit: Duration) -> Result<Output> {
        self.call(Kind::Run, command, limit).with_context(|| format!("running {command:?}"))
    }

    /// Begins a conversation and gathers everything up to its end.
    pub fn call(
        self: &Arc<Self>,
        kind: Kind,
        payload: impl Into<Vec<u8>>,
        limit: Duration,
    ) -> Result<Output> {
        self.open(kind, payload)?.finish(limit)
    }
}

/// One exchange with the agent. Dropped before its end, the command is killed.
pub struct Conversation {
    sender: ConversationSender,
    replies: Receiver<Frame>,
}

impl Conversation {
    /// Sends a further frame of this conversation.
    pub fn send(&self, kind: Kind, payload: impl Into<Vec<u8>>) -> Result<()> {
        self.sender.send(kind, payload)
    }

    /// The sending half.
    pub fn sender(&self) -> ConversationSender {
        ConversationSender { link: Arc::clone(&self.sender.link), id: self.sender.id }
    }

    /// The next reply, or `None` at the deadline.
    pub fn next(&self, deadline: Instant) -> Result<Option<Frame>> {
        match self.replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the box has lost power or has restarted"),
        }
    }

    /// Gathers everything up to the end.
    pub fn finish(self, limit: Duration) -> Result<Output> {
        let deadline = Instant::now() + limit;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let frame = self.next(deadline)?.ok_or_else(|| anyhow!("no end within {} s", limit.as_secs()))?;
            match frame.kind {
                Kind::Out => stdout.extend(frame.payload),
                Kind::Err => stderr.extend(frame.payload),
                Kind::Exit => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let code = frame.exit_code().context("an exit without a code")?;
                    return Ok(Output { code, stdout: text(&stdout), stderr: text(&stderr) });
                }
                // Words of the other direction.
                Kind::Run
                | Kind::In
                | Kind::InEnd
                | Kind::Kill
                | Kind::Ping
                | Kind::Pong
                | Kind::Hello
                | Kind::Setup
                | Kind::Request => {}
            }
        }
    }
}

/// The sending half, for a thread of its own.
pub struct ConversationSender {
    link: Arc<Link>,
    id: u32,
}

impl ConversationSender {
    /// Sends a further frame of the conversation.
    pub fn send(&self, kind: Kind, payload: impl Into<Vec<u8>>) -> Result<()> {
        let frame = Frame::new(self.id, kind, payload);
        frame.write(&mut *lock(&self.link.stream)).context("the box has lost power")
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let known = lock(&self.sender.link.conversations)
            .as_mut()
            .and_then(|all| all.remove(&self.sender.id))
            .is_some();
        if known {
            let _ = self.send(Kind::Kill, []);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A link and the box's end of it.
    fn pair(name: &str) -> (Arc<Link>, UnixStream) {
        let path = std::env::temp_dir().join(format!("lab-link-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let link = Link::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (link, listener.accept().unwrap().0)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn output_finds_its_conversation() {
        let (link, mut agent) = pair("output");
        let (first, second) = (link.open(Kind::Run, "a").unwrap(), link.open(Kind::Run, "b").unwrap());
        let ids =
            [Frame::read(&mut agent).unwrap().unwrap().id, Frame::read(&mut agent).unwrap().unwrap().id];
        Frame::new(ids[1], Kind::Out, "b").write(&mut agent).unwrap();
        Frame::new(ids[0], Kind::Out, "a").write(&mut agent).unwrap();
        assert_eq!(first.next(soon()).unwrap().unwrap().payload, b"a");
        assert_eq!(second.next(soon()).unwrap().unwrap().payload, b"b");
    }

    #[test]
    fn a_restart_ends_what_had_begun_and_what_was_lost_but_not_what_is_on_its_way() {
        let (link, mut agent) = pair("restart");
        let begun = link.open(Kind::Run, "begun").unwrap();
        Frame::new(begun.sender.id, Kind::Pong, []).write(&mut agent).unwrap();
        begun.next(soon()).unwrap();
        let (lost, late) = (link.open(Kind::Run, "lost").unwrap(), link.open(Kind::Run, "late").unwrap());
        Frame::new(0, Kind::Hello, []).write(&mut agent).unwrap();
        assert!(begun.next(soon()).is_err());
        Frame::new(late.sender.id, Kind::Pong, []).write(&mut agent).unwrap();
        let ping = loop {
            let frame = Frame::read(&mut agent).unwrap().unwrap();
            if frame.kind == Kind::Ping {
                break frame.id;
            }
        };
        Frame::new(ping, Kind::Pong, []).write(&mut agent).unwrap();
        assert!(lost.next(soon()).is_err());
        Frame::exit(late.sender.id, 0).write(&mut agent).unwrap();
        assert_eq!(late.finish(Duration::from_secs(5)).unwrap().code, 0);
    }

    #[test]
    fn a_box_without_power_answers_at_once() {
        let (link, agent) = pair("power");
        let running = link.open(Kind::Run, "sleep").unwrap();
        drop(agent);
        assert!(running.next(soon()).is_err());
    }
}
