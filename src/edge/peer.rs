//! Encrypted links between boxes: bytes from member to member, and the door for newcomers.
//!
//! Each box has a static key; the members' public keys and addresses are given by [`Links::set_members`],
//! always the whole set. Of two members the one with the smaller name dials. A connection counts only after
//! both sides have proven their key and the cluster's (see `channel`); who fails that is cut off, with one
//! sentence for the log. A newcomer has no key that is known; it proves that it was given the current token,
//! and gets one answer.
//!
//! A link is lossy at its ends: what was queued when it went down is gone, and the far side tells everything
//! anew after the next [`PeerEvent::Up`]. What messages mean, who is a member and who may join is decided
//! elsewhere.

mod channel;
mod links;
mod work;

pub use channel::Identity;
pub use links::Links;

use channel::{Handshake, Kind, Secrets};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Longest message between members, in bytes: several times the whole state of a large cluster.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Longest message of a newcomer, in bytes: it tells little, and is not trusted yet.
pub const MAX_JOIN_BYTES: usize = 64 << 10;
/// Messages that may wait for one member; with one more it is cut off.
pub const QUEUE_MESSAGES: usize = 1_024;
/// Bytes that may wait for one member.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Connections in handshake at a time; one more is closed at once.
pub const MAX_HANDSHAKES: usize = 64;
/// A side that has nothing to send sends a ping this often.
pub const PING_EVERY_MS: u64 = 1_500;
/// A side that is silent for so long, four pings, is dead; so is one that takes nothing.
pub const DEAD_AFTER_MS: u64 = 6_000;
/// For a connection to come about.
pub const CONNECT_AFTER_MS: u64 = 5_000;
/// For the whole handshake: milliseconds on a real machine, seconds on an emulated one under load.
pub const HANDSHAKE_AFTER_MS: u64 = 10_000;
/// For the answer to a newcomer: it is one commit of the leader's, who may have to be elected first.
pub const JOIN_ANSWER_AFTER_MS: u64 = 30_000;
/// Pause before dialling again, doubling from the one to the other.
pub const REDIAL_MS: (u64, u64) = (200, 5_000);

/// What this box needs to talk to its cluster.
#[derive(Clone)]
pub struct LinkKeys {
    /// This box's own key pair.
    pub me: Identity,
    /// The cluster's key, known to all members and to nobody else.
    pub psk: [u8; 32],
    /// The cluster's id; links between two clusters fail even under the same key.
    pub cluster: String,
}

/// A box that may link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// The only key that it is believed under.
    pub public_key: [u8; 32],
    /// Where it listens.
    pub address: SocketAddr,
}

/// What happens on the links. For each member Up, its messages and Down come in that order, then perhaps Up
/// again.
#[derive(Debug)]
pub enum PeerEvent {
    /// A link with this member is there; the address is the far end's.
    Up(String, SocketAddr),
    /// It is gone; the sentence says why.
    Down(String, String),
    /// A message from this member.
    Message(String, Vec<u8>),
    /// Somebody with the token wants to join.
    Join(JoinRequest),
    /// One sentence for the log: who was refused, or who cannot be reached (once, until the reason changes).
    Refused(String),
}

/// A newcomer that waits for its answer. Dropping this sends it away.
pub struct JoinRequest {
    /// What it said.
    pub message: Vec<u8>,
    /// Its static key; it has proven that it owns it.
    pub public_key: [u8; 32],
    /// Where its connection comes from.
    pub address: SocketAddr,
    answer: SyncSender<Vec<u8>>,
}

impl JoinRequest {
    /// Answers it. False if it has been sent away meanwhile, after [`JOIN_ANSWER_AFTER_MS`]. Does not wait.
    pub fn answer(self, message: Vec<u8>) -> bool {
        self.answer.try_send(message).is_ok()
    }
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a connection failed, or could not be.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The sentences say it.
pub enum PeerError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("cannot start a thread for peers: {cause}")]
    Thread { cause: io::Error },
    #[error("cannot {doing} {address}: {cause}")]
    Io { doing: &'static str, address: SocketAddr, cause: io::Error },
    #[error("encryption does not work here: {what}")]
    Crypto { what: String },
    #[error("{address} closed the connection")]
    Closed { address: SocketAddr },
    #[error("{address} has been silent for {after_ms} ms")]
    Silent { address: SocketAddr, after_ms: u64 },
    #[error("{address} did not answer in time")]
    TooSlow { address: SocketAddr },
    #[error("{address} sent nonsense: {what}")]
    BadFrame { address: SocketAddr, what: &'static str },
    #[error("{address} does not have the same secret, or is of another cluster or version")]
    NotOurs { address: SocketAddr },
    #[error("{address} is not the box it should be: it has another key")]
    WrongKey { address: SocketAddr },
    #[error("{address} refuses: {why}")]
    RefusedThere { address: SocketAddr, why: String },
    #[error("{name} at {address} is refused: {why}")]
    RefusedHere { name: String, address: SocketAddr, why: &'static str },
    #[error("{address} wants to join, but no token is valid now")]
    NoToken { address: SocketAddr },
    #[error("{address} wanted to join and was given no answer")]
    NoAnswer { address: SocketAddr },
    #[error("{address} did not let this box in: the token may have been replaced there; take a new one")]
    JoinRefused { address: SocketAddr },
    #[error("a message of {size_bytes} bytes is too long")]
    TooLong { size_bytes: usize },
}

/// The newcomer's side of joining: connects to the box of a token, says `message` (up to [`MAX_JOIN_BYTES`])
/// and returns the answer. Blocks, at most for the sum of the limits above.
///
/// # Errors
/// `WrongKey` if another box answers than the token's, `JoinRefused` if its secret is not valid there, and
/// those of a connection that fails.
pub fn join(
    address: SocketAddr,
    cluster: &str,
    server_key: [u8; 32],
    secret: [u8; 32],
    me: &Identity,
    message: &[u8],
) -> Result<Vec<u8>, PeerError> {
    if message.len() > MAX_JOIN_BYTES {
        return Err(PeerError::TooLong { size_bytes: message.len() });
    }
    let secrets = Secrets { kind: Kind::Join, me, psk: &secret, cluster };
    let handshake = Handshake::connect(address)?;
    let joined = handshake.initiate(&secrets, &server_key, &[]).and_then(|mut channel| {
        channel.sender.send(message)?;
        channel.receiver.set_deadline(Some(Instant::now() + Duration::from_millis(JOIN_ANSWER_AFTER_MS)));
        channel.receiver.receive(MAX_MESSAGE_BYTES)
    });
    // The far side says nothing to who does not know the secret.
    joined.map_err(|error| if error.is_closed() { PeerError::JoinRefused { address } } else { error })
}

impl PeerError {
    fn is_closed(&self) -> bool {
        matches!(self, PeerError::Closed { .. })
    }
}
