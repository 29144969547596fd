//! The manager: who is a member, and which connection of a member is the one.
//!
//! All state is under one lock, which is never held over I/O or a callback. The threads that connect, accept,
//! read and write are in `work`.

use super::channel::{Channel, Closer};
use super::work::{accept_all, dial_on, spawn};
use super::{
    DEAD_AFTER_MS, LinkKeys, MAX_MESSAGE_BYTES, Member, PeerError, PeerEvent, QUEUE_BYTES, QUEUE_MESSAGES,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All links of this box. Dropping it ends them, as [`Links::stop`] does, without waiting.
pub struct Links {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept_ended: Receiver<()>,
}

/// What all threads share.
pub(super) struct Shared {
    pub(super) keys: LinkKeys,
    pub(super) me: String,
    on_event: Box<dyn Fn(PeerEvent) + Send + Sync>,
    state: Mutex<State>,
    /// A link was taken out of the state, a dialler is not wanted any more, or all is to end.
    changed: Condvar,
    stopping: AtomicBool,
    /// Readable once all is to end.
    pub(super) stop: EventFd,
    pub(super) handshakes: AtomicUsize,
}

#[derive(Default)]
pub(super) struct State {
    members: BTreeMap<String, Member>,
    /// The one connection of a member, until its Down has been told.
    links: BTreeMap<String, Link>,
    /// Which dialler is the one for a member; another one ends.
    diallers: BTreeMap<String, u64>,
    pub(super) join_secret: Option<[u8; 32]>,
    last_id: u64,
}

struct Link {
    id: u64,
    queue: SyncSender<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
    closer: Closer,
    /// Why it was cut from this side, if it was.
    why: Option<String>,
}

impl Link {
    fn cut(&mut self, why: &str) {
        self.why.get_or_insert_with(|| why.to_owned());
        self.closer.close();
    }
}

impl Links {
    /// Listens on `listen` (port 0: any free one) as the member `me`. `on_event` is called from many threads;
    /// while it blocks, that link reads no more.
    ///
    /// # Errors
    /// `Listen`, `Thread`.
    pub fn start(
        listen: SocketAddr,
        keys: LinkKeys,
        me: String,
        on_event: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> Result<Links, PeerError> {
        let failed = |cause| PeerError::Listen { address: listen, cause };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let shared = Arc::new(Shared {
            keys,
            me,
            on_event: Box::new(on_event),
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            stop,
            handshakes: AtomicUsize::new(0),
        });
        let (ending, accept_ended) = sync_channel(0);
        let for_thread = Arc::clone(&shared);
        spawn("peer-accept", move || {
            accept_all(&for_thread, &listener);
            drop((listener, ending));
        })?;
        Ok(Links { shared, address, accept_ended })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// These are the members from now on; this box may be among them. Links of members that are gone, or have
    /// another key or address, are cut. Does not wait.
    pub fn set_members(&self, members: Vec<Member>) {
        let members: BTreeMap<String, Member> = members
            .into_iter()
            .filter(|member| member.name != self.shared.me)
            .map(|member| (member.name.clone(), member))
            .collect();
        let mut state = self.shared.lock();
        let State { members: before, links, diallers, last_id, .. } = &mut *state;
        let same = |name: &str| members.get(name).is_some_and(|member| before.get(name) == Some(member));
        for (name, link) in links.iter_mut().filter(|(name, _)| !same(name)) {
            let gone = !members.contains_key(name);
            link.cut(if gone { "it is no longer a member" } else { "its key or address has changed" });
        }
        diallers.retain(|name, _| same(name));
        let mut to_dial = Vec::new();
        for member in members.values().filter(|member| member.name > self.shared.me) {
            diallers.entry(member.name.clone()).or_insert_with(|| {
                *last_id += 1;
                to_dial.push((member.clone(), *last_id));
                *last_id
            });
        }
        state.members = members;
        drop(state);
        self.shared.changed.notify_all();
        for (member, id) in to_dial {
            let (shared, name) = (Arc::clone(&self.shared), member.name.clone());
            if let Err(error) = spawn("peer-dial", move || dial_on(&shared, &member, id)) {
                self.shared.lock().diallers.remove(&name);
                self.shared.tell(PeerEvent::Refused(error.to_string()));
            }
        }
    }

    /// The secret of the token that is valid from now on; None: nobody can join.
    pub fn set_join_secret(&self, secret: Option<[u8; 32]>) {
        self.shared.lock().join_secret = secret;
    }

    /// Queues a message to a member. False if it is not linked, or the message is above
    /// [`MAX_MESSAGE_BYTES`], or too much waits for it already: then it is cut off. True promises nothing:
    /// the link may go down. Does not wait.
    pub fn send(&self, to: &str, message: Vec<u8>) -> bool {
        let mut state = self.shared.lock();
        let Some(link) = state.links.get_mut(to).filter(|link| link.why.is_none()) else { return false };
        let size_bytes = message.len();
        if size_bytes > MAX_MESSAGE_BYTES {
            return false;
        }
        let waiting_bytes = link.queued_bytes.fetch_add(size_bytes, Ordering::SeqCst);
        let queued = waiting_bytes + size_bytes <= QUEUE_BYTES && link.queue.try_send(message).is_ok();
        if !queued {
            link.cut("it takes its messages too slowly");
        }
        queued
    }

    /// Ends all links and frees the port. No further event begins; one that is being told already may still
    /// arrive.
    pub fn stop(self) {
        self.shared.end();
        // The thread holds the listener; it waits for nothing but a callback in progress.
        let _ = self.accept_ended.recv_timeout(Duration::from_millis(DEAD_AFTER_MS));
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete by itself, so a thread that panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn tell(&self, event: PeerEvent) {
        if !self.is_stopping() {
            (self.on_event)(event);
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        self.stopping.store(true, Ordering::SeqCst);
        state.diallers.clear();
        state.links.values_mut().for_each(|link| link.cut("this box stops"));
        drop(state);
        self.changed.notify_all();
        // Only a counter at its limit of 2^64 would refuse one more.
        let _ = self.stop.write(1);
    }

    /// Why a box may not link under this name and key, if it may not.
    pub(super) fn objection(&self, state: &State, name: &str, key: &[u8; 32]) -> Option<&'static str> {
        match state.members.get(name) {
            _ if self.is_stopping() => Some("this box stops"),
            None => Some("no member of this name is known here"),
            Some(member) if member.public_key != *key => Some("its key is not the one known for this name"),
            Some(_) => None,
        }
    }

    /// Makes a connection the one of its member, once the one before has told its Down.
    pub(super) fn register(
        &self,
        name: &str,
        channel: &Channel,
        dialler: Option<u64>,
    ) -> Result<Registered, PeerError> {
        let mut state = self.lock();
        loop {
            let outdated = dialler.is_some() && state.diallers.get(name).copied() != dialler;
            let outdated = outdated.then_some("it is no longer dialled");
            if let Some(why) = self.objection(&state, name, &channel.remote_key).or(outdated) {
                return Err(PeerError::RefusedHere { name: name.to_owned(), address: channel.address, why });
            }
            let Some(old) = state.links.get_mut(name) else { break };
            old.cut("a new connection replaces it");
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.last_id += 1;
        let id = state.last_id;
        let (queue, queued) = sync_channel(QUEUE_MESSAGES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let link = Link {
            id,
            queue,
            queued_bytes: Arc::clone(&queued_bytes),
            closer: channel.closer.clone(),
            why: None,
        };
        state.links.insert(name.to_owned(), link);
        Ok(Registered { id, queued, queued_bytes })
    }

    /// Cuts this very connection, if it is still there.
    pub(super) fn cut(&self, name: &str, id: u64, why: &str) {
        let mut state = self.lock();
        if let Some(link) = state.links.get_mut(name).filter(|link| link.id == id) {
            link.cut(why);
        }
    }

    pub(super) fn unregister(&self, name: &str) {
        self.lock().links.remove(name);
        self.changed.notify_all();
    }

    pub(super) fn cut_from_here(&self, name: &str) -> Option<String> {
        self.lock().links.get(name).and_then(|link| link.why.clone())
    }

    /// Waits before dialling again; false if this dialler is not wanted any more.
    pub(super) fn pause(&self, name: &str, dialler: u64, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wanted = state.diallers.get(name) == Some(&dialler);
            if !wanted || left.is_zero() {
                return wanted;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the threads of a link need of its place in the state.
pub(super) struct Registered {
    pub id: u64,
    pub queued: Receiver<Vec<u8>>,
    pub queued_bytes: Arc<AtomicUsize>,
}
