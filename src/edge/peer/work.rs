//! The threads of the links: one that accepts, one for each member that this box dials (it also reads that
//! link), one for each accepted connection (it becomes the link's reader, or answers a newcomer), and a
//! writer for each link.

use super::channel::{Channel, Closer, Handshake, Kind, Secrets, Sender};
use super::links::{Registered, Shared};
use super::{
    JOIN_ANSWER_AFTER_MS, JoinRequest, LinkKeys, MAX_HANDSHAKES, MAX_JOIN_BYTES, MAX_MESSAGE_BYTES, Member,
    PING_EVERY_MS, PeerError, PeerEvent, REDIAL_MS,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// The first message of the accepting side: the link is on, or a sentence why not.
const WELCOME: u8 = 0;
const NOT_WELCOME: u8 = 1;
/// A box's name, with room to spare.
const MAX_NAME_BYTES: usize = 256;
/// Enough for the handshake's curves in an unoptimized build; there are two threads for each link.
const STACK_BYTES: usize = 512 << 10;
/// Pause after accepting failed, which it does when descriptors run out.
const ACCEPT_AGAIN_MS: u16 = 500;

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), PeerError> {
    let spawned = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work);
    spawned.map(drop).map_err(|cause| PeerError::Thread { cause })
}

/// Dials one member until it is not to be dialled any more.
pub(super) fn dial_on(shared: &Arc<Shared>, member: &Member, dialler: u64) {
    let (shortest, longest) = REDIAL_MS;
    let (mut pause_ms, mut said) = (shortest, String::new());
    while shared.pause(&member.name, dialler, Duration::ZERO) {
        match dial(shared, member).and_then(|channel| run(shared, channel, &member.name, Some(dialler), None))
        {
            Ok(()) => (pause_ms, said) = (shortest, String::new()),
            Err(error) => {
                let sentence = format!("no link with {}: {error}", member.name);
                if sentence != said && shared.pause(&member.name, dialler, Duration::ZERO) {
                    shared.tell(PeerEvent::Refused(sentence.clone()));
                    said = sentence;
                }
            }
        }
        if !shared.pause(&member.name, dialler, Duration::from_millis(pause_ms)) {
            return;
        }
        pause_ms = longest.min(pause_ms * 2);
    }
}

fn dial(shared: &Shared, member: &Member) -> Result<Channel, PeerError> {
    let LinkKeys { me, psk, cluster } = &shared.keys;
    let secrets = Secrets { kind: Kind::Link, me, psk, cluster };
    let mut channel =
        Handshake::connect(member.address)?.initiate(&secrets, &member.public_key, shared.me.as_bytes())?;
    let address = channel.address;
    let first = channel.receiver.receive(MAX_JOIN_BYTES).map_err(|error| {
        // Who cannot read the last message of the handshake has nobody to say it to.
        if error.is_closed() { PeerError::NotOurs { address } } else { error }
    })?;
    match first.split_first() {
        Some((&WELCOME, [])) => Ok(channel),
        Some((&NOT_WELCOME, why)) => {
            Err(PeerError::RefusedThere { address, why: String::from_utf8_lossy(why).into_owned() })
        }
        _ => Err(PeerError::BadFrame { address, what: "it does not say whether this box is welcome" }),
    }
}

/// Accepts connections until all is to end.
pub(super) fn accept_all(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut crowded = false;
    let mut said = String::new();
    while !shared.is_stopping() {
        let accepted =
            wait_readable(shared, Some(listener), PollTimeout::NONE).and_then(|()| listener.accept());
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => {
                let sentence = format!("no connection can be accepted: {error}");
                if sentence != said {
                    shared.tell(PeerEvent::Refused(sentence.clone()));
                    said = sentence;
                }
                // That it fails, too, changes nothing: it is a pause.
                let _ = wait_readable(shared, None, PollTimeout::from(ACCEPT_AGAIN_MS));
                continue;
            }
        };
        let slot = HandshakeSlot::take(shared);
        let was_crowded = std::mem::replace(&mut crowded, slot.is_none());
        match slot {
            Some(slot) => {
                let shared = Arc::clone(shared);
                let spawned = spawn("peer-link", {
                    let shared = Arc::clone(&shared);
                    move || receive_one(&shared, stream, address, slot)
                });
                if let Err(error) = spawned {
                    shared.tell(PeerEvent::Refused(error.to_string()));
                }
            }
            None if !was_crowded => shared.tell(PeerEvent::Refused(format!(
                "{address} and those after it are refused: {MAX_HANDSHAKES} connections are in handshake already"
            ))),
            None => {}
        }
    }
}

/// Until something can be accepted, or all is to end, or the time is over.
fn wait_readable(shared: &Shared, listener: Option<&TcpListener>, limit: PollTimeout) -> io::Result<()> {
    let stop = PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN);
    let listener = listener.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
    let mut fds: Vec<PollFd<'_>> = [Some(stop), listener].into_iter().flatten().collect();
    poll(&mut fds, limit)?;
    Ok(())
}

/// One of the [`MAX_HANDSHAKES`], given back when dropped.
struct HandshakeSlot(Arc<Shared>);

impl HandshakeSlot {
    fn take(shared: &Arc<Shared>) -> Option<HandshakeSlot> {
        let slot = HandshakeSlot(Arc::clone(shared));
        (shared.handshakes.fetch_add(1, Ordering::SeqCst) < MAX_HANDSHAKES).then_some(slot)
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An accepted connection, to its end.
fn receive_one(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr, slot: HandshakeSlot) {
    let received =
        Handshake::accepted(stream, address).and_then(|handshake| match handshake.read_kind()? {
            Kind::Link => {
                let (channel, name) = let_in(shared, handshake)?;
                run(shared, channel, &name, None, Some(slot))
            }
            Kind::Join => receive_join(shared, handshake, address),
        });
    if let Err(error) = received {
        shared.tell(PeerEvent::Refused(error.to_string()));
    }
}

/// The handshake with somebody who says that it is a member; returns it and its name if it is.
fn let_in(shared: &Shared, handshake: Handshake) -> Result<(Channel, String), PeerError> {
    let LinkKeys { me, psk, cluster } = &shared.keys;
    let (mut channel, name) = handshake.respond(&Secrets { kind: Kind::Link, me, psk, cluster })?;
    let address = channel.address;
    let name = String::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME_BYTES);
    let name = name.ok_or(PeerError::BadFrame { address, what: "its name is none" })?;
    let objection = shared.objection(&shared.lock(), &name, &channel.remote_key);
    let Some(why) = objection else { return Ok((channel, name)) };
    let mut refusal = vec![NOT_WELCOME];
    refusal.extend(why.as_bytes());
    // A courtesy to who knows the cluster's key; that it was refused is told here in any case.
    let _ = channel.sender.send(&refusal);
    Err(PeerError::RefusedHere { name, address, why })
}

fn receive_join(shared: &Shared, handshake: Handshake, address: SocketAddr) -> Result<(), PeerError> {
    let secret = shared.lock().join_secret.ok_or(PeerError::NoToken { address })?;
    let LinkKeys { me, cluster, .. } = &shared.keys;
    let secrets = Secrets { kind: Kind::Join, me, psk: &secret, cluster };
    let (mut channel, _) = handshake.respond(&secrets)?;
    let message = channel.receiver.receive(MAX_JOIN_BYTES)?;
    let (answer, answered) = sync_channel(1);
    let public_key = channel.remote_key;
    shared.tell(PeerEvent::Join(JoinRequest { message, public_key, address, answer }));
    let limit = Duration::from_millis(JOIN_ANSWER_AFTER_MS);
    let answer = answered.recv_timeout(limit).map_err(|_| PeerError::NoAnswer { address })?;
    channel.sender.send(&answer)
}

/// The place of a link in the state: its connection is closed and the place free when this is dropped,
/// whatever happens.
struct Place<'a> {
    shared: &'a Shared,
    name: &'a str,
    closer: Closer,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.closer.close();
        self.shared.unregister(self.name);
    }
}

/// Runs a link from its Up to its Down. An error means that it did not come to an Up. `dialler` is who
/// dialled it, if it was dialled; `slot` is held until the link has its place, so that those that wait for
/// one are bounded, too.
fn run(
    shared: &Arc<Shared>,
    channel: Channel,
    name: &str,
    dialler: Option<u64>,
    slot: Option<HandshakeSlot>,
) -> Result<(), PeerError> {
    let Registered { id, queued, queued_bytes } = shared.register(name, &channel, dialler)?;
    drop(slot);
    let Channel { address, mut sender, mut receiver, closer, .. } = channel;
    let place = Place { shared, name, closer };
    if dialler.is_none() {
        sender.send(&[WELCOME])?;
    }
    let (for_thread, its_name) = (Arc::clone(shared), name.to_owned());
    spawn("peer-send", move || {
        if let Err(error) = send_queued(sender, &queued, &queued_bytes) {
            for_thread.cut(&its_name, id, &error.to_string());
        }
    })?;
    shared.tell(PeerEvent::Up(name.to_owned(), address));
    receiver.set_deadline(None);
    let error = loop {
        match receiver.receive(MAX_MESSAGE_BYTES) {
            Ok(message) => shared.tell(PeerEvent::Message(name.to_owned(), message)),
            Err(error) => break error,
        }
    };
    place.closer.close();
    let why = shared.cut_from_here(name).unwrap_or_else(|| error.to_string());
    shared.tell(PeerEvent::Down(name.to_owned(), why));
    Ok(())
}

/// Sends what is queued, and pings when nothing is, until the link is taken out of the state.
fn send_queued(
    mut sender: Sender,
    queued: &Receiver<Vec<u8>>,
    queued_bytes: &AtomicUsize,
) -> Result<(), PeerError> {
    loop {
        match queued.recv_timeout(Duration::from_millis(PING_EVERY_MS)) {
            Ok(message) => {
                let sent = sender.send(&message);
                queued_bytes.fetch_sub(message.len(), Ordering::SeqCst);
                sent?;
            }
            Err(RecvTimeoutError::Timeout) => sender.ping()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
