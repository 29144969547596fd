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
type Conversations = Arc<Mutex<Option<HashMap<u32, Sender<Frame>>>>>;

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
        let conversations: Conversations = Arc::new(Mutex::new(Some(HashMap::new())));
        let link = Arc::new(Link {
            stream: Mutex::new(stream),
            conversations: Arc::clone(&conversations),
            next_id: AtomicU32::new(1),
        });
        thread::spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut reader) {
                if let Some(conversation) = lock(&conversations).as_ref().and_then(|all| all.get(&frame.id)) {
                    let _ = conversation.send(frame);
                }
            }
            // Dropping the senders tells everybody who waits.
            *lock(&conversations) = None;
        });
        Ok(link)
    }

    /// Begins a conversation.
    pub fn open(self: &Arc<Self>, kind: Kind, payload: impl Into<Vec<u8>>) -> Result<Conversation> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = channel();
        match lock(&self.conversations).as_mut() {
            Some(all) => all.insert(id, sender),
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
            Err(RecvTimeoutError::Disconnected) => bail!("the box has lost power"),
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
