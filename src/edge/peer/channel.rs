//! One encrypted connection: the handshake, and messages cut into frames.
//!
//! Noise_XXpsk3: both sides prove a static key and that they know a shared secret; only keys, no certificates
//! and no clock, which a box without a battery does not have after a power cut. The Noise library is named in
//! this file only.
//!
//! On the wire: one clear byte ([`Kind`]), three handshake messages, then Noise messages for ever, each with
//! its length (u16, big-endian) before it. The first byte of a decrypted one says what it is: a ping, a part
//! of a message with more to come, or the last part. The prologue binds version, kind and cluster, so a
//! handshake between two clusters or two versions fails.
//!
//! Nothing is allocated because a peer says how much will come, nothing is waited for without a limit, and
//! what is not as written here ends the connection with an error. Who may connect, and what messages mean:
//! not here.

use super::{CONNECT_AFTER_MS, DEAD_AFTER_MS, HANDSHAKE_AFTER_MS, MAX_MESSAGE_BYTES, PeerError};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
/// Where the pattern mixes the shared secret in: with the third message.
const PSK_LOCATION: u8 = 3;
/// Bytes of a key or secret.
pub(super) const KEY_BYTES: usize = 32;
/// Longest Noise message, by its specification.
const MAX_FRAME_BYTES: usize = 65_535;
/// What encryption adds to a frame.
const TAG_BYTES: usize = 16;
/// Longest handshake message: keys, tags and a box's name are far below.
const MAX_HANDSHAKE_BYTES: usize = 1_024;
/// Message bytes in one frame.
const PART_BYTES: usize = MAX_FRAME_BYTES - TAG_BYTES - 1;

const PING: u8 = 0;
const PART: u8 = 1;
const LAST: u8 = 2;

/// A box's static key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Never leaves the box.
    pub secret_key: [u8; KEY_BYTES],
    /// What the other boxes know it by.
    pub public_key: [u8; KEY_BYTES],
}

/// Without the secret key, so that no log has it.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl Identity {
    /// A new random key pair.
    ///
    /// # Errors
    /// `Crypto` if the system has no randomness to give.
    pub fn generate() -> Result<Identity, PeerError> {
        let pair = builder()?.generate_keypair().map_err(crypto)?;
        match (pair.private.try_into(), pair.public.try_into()) {
            (Ok(secret_key), Ok(public_key)) => Ok(Identity { secret_key, public_key }),
            _ => Err(PeerError::Crypto { what: format!("a key has not {KEY_BYTES} bytes") }),
        }
    }
}

/// What a connection is for; the first byte on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Between members, under the cluster's key.
    Link,
    /// From a newcomer, under a token's secret.
    Join,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Link => b'L',
            Kind::Join => b'J',
        }
    }

    fn prologue(self, cluster: &str) -> String {
        match self {
            Kind::Link => format!("holdfast/1 link {cluster}"),
            Kind::Join => format!("holdfast/1 join {cluster}"),
        }
    }
}

fn crypto(error: snow::Error) -> PeerError {
    PeerError::Crypto { what: error.to_string() }
}

fn builder<'a>() -> Result<Builder<'a>, PeerError> {
    Ok(Builder::new(PATTERN.parse().map_err(crypto)?))
}

/// A connection whose handshake is under way.
pub(super) struct Handshake {
    stream: Arc<TcpStream>,
    address: SocketAddr,
    deadline: Instant,
}

/// What each side puts into the handshake.
pub(super) struct Secrets<'a> {
    pub kind: Kind,
    pub me: &'a Identity,
    pub psk: &'a [u8; KEY_BYTES],
    pub cluster: &'a str,
}

impl Handshake {
    /// Connects to `address`.
    pub fn connect(address: SocketAddr) -> Result<Handshake, PeerError> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_AFTER_MS))
            .map_err(|cause| PeerError::Io { doing: "connect to", address, cause })?;
        Handshake::accepted(stream, address)
    }

    /// Takes a connection that was accepted from `address`.
    pub fn accepted(stream: TcpStream, address: SocketAddr) -> Result<Handshake, PeerError> {
        let limit = Duration::from_millis(DEAD_AFTER_MS);
        let set = |stream: &TcpStream| {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(limit))
        };
        set(&stream).map_err(|cause| PeerError::Io { doing: "set up the connection to", address, cause })?;
        let deadline = Instant::now() + Duration::from_millis(HANDSHAKE_AFTER_MS);
        Ok(Handshake { stream: Arc::new(stream), address, deadline })
    }

    /// What the connecting side wants.
    pub fn read_kind(&self) -> Result<Kind, PeerError> {
        let mut byte = [0];
        self.read(&mut byte)?;
        [Kind::Link, Kind::Join]
            .into_iter()
            .find(|kind| kind.byte() == byte[0])
            .ok_or_else(|| self.bad_frame("it does not speak this protocol"))
    }

    /// The connecting side: proves itself to the owner of `server_key` and to nobody else, and tells it
    /// `payload`.
    pub fn initiate(
        self,
        secrets: &Secrets<'_>,
        server_key: &[u8; KEY_BYTES],
        payload: &[u8],
    ) -> Result<Channel, PeerError> {
        let prologue = secrets.kind.prologue(secrets.cluster);
        let mut noise = self.prepare(secrets, &prologue, Builder::build_initiator)?;
        let send = |bytes: &[u8]| write_all(&self.stream, self.address, bytes);
        send(&[secrets.kind.byte()])?;
        send(&self.written(&mut noise, &[])?)?;
        self.read_message(&mut noise)?;
        if noise.get_remote_static() != Some(server_key.as_slice()) {
            return Err(PeerError::WrongKey { address: self.address });
        }
        send(&self.written(&mut noise, payload)?)?;
        self.into_channel(noise)
    }

    /// The accepting side; returns what the other one told. It has proven that it knows the secret, and owns
    /// its key.
    pub fn respond(self, secrets: &Secrets<'_>) -> Result<(Channel, Vec<u8>), PeerError> {
        let prologue = secrets.kind.prologue(secrets.cluster);
        let mut noise = self.prepare(secrets, &prologue, Builder::build_responder)?;
        self.read_message(&mut noise)?;
        write_all(&self.stream, self.address, &self.written(&mut noise, &[])?)?;
        let payload = self.read_message(&mut noise)?;
        Ok((self.into_channel(noise)?, payload))
    }

    fn prepare<'a>(
        &self,
        secrets: &Secrets<'a>,
        prologue: &'a str,
        build: impl FnOnce(Builder<'a>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<HandshakeState, PeerError> {
        builder()?
            .local_private_key(&secrets.me.secret_key)
            .and_then(|builder| builder.psk(PSK_LOCATION, secrets.psk))
            .and_then(|builder| builder.prologue(prologue.as_bytes()))
            .and_then(build)
            .map_err(crypto)
    }

    /// The next handshake message with its length.
    fn written(&self, noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, PeerError> {
        let mut bytes = vec![0; MAX_HANDSHAKE_BYTES];
        let length = noise.write_message(payload, &mut bytes[2..]).map_err(crypto)?;
        bytes[..2].copy_from_slice(&(length as u16).to_be_bytes());
        bytes.truncate(2 + length);
        Ok(bytes)
    }

    /// Reads the next handshake message; returns its payload.
    fn read_message(&self, noise: &mut HandshakeState) -> Result<Vec<u8>, PeerError> {
        let mut length = [0; 2];
        self.read(&mut length)?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_HANDSHAKE_BYTES {
            return Err(self.bad_frame("its handshake is too long"));
        }
        let mut bytes = vec![0; length];
        self.read(&mut bytes)?;
        let mut payload = vec![0; MAX_HANDSHAKE_BYTES];
        let read = noise.read_message(&bytes, &mut payload);
        let length = read.map_err(|_| PeerError::NotOurs { address: self.address })?;
        payload.truncate(length);
        Ok(payload)
    }

    fn read(&self, buffer: &mut [u8]) -> Result<(), PeerError> {
        read_exact(&self.stream, self.address, buffer, Some(self.deadline))
    }

    fn bad_frame(&self, what: &'static str) -> PeerError {
        PeerError::BadFrame { address: self.address, what }
    }

    fn into_channel(self, noise: HandshakeState) -> Result<Channel, PeerError> {
        let noise = Arc::new(noise.into_stateless_transport_mode().map_err(crypto)?);
        let key = noise.get_remote_static().and_then(|key| key.try_into().ok());
        let remote_key = key.ok_or(PeerError::WrongKey { address: self.address })?;
        let (stream, address) = (self.stream, self.address);
        let sender = Sender { stream: Arc::clone(&stream), address, noise: Arc::clone(&noise), nonce: 0 };
        let deadline = Some(self.deadline);
        let receiver = Receiver { stream: Arc::clone(&stream), address, noise, nonce: 0, deadline };
        Ok(Channel { address, remote_key, sender, receiver, closer: Closer(stream) })
    }
}

/// A connection whose handshake is done. What is received first is still under the handshake's time limit.
pub(super) struct Channel {
    pub address: SocketAddr,
    pub remote_key: [u8; KEY_BYTES],
    pub sender: Sender,
    pub receiver: Receiver,
    pub closer: Closer,
}

/// Ends a connection from any thread.
#[derive(Clone)]
pub(super) struct Closer(Arc<TcpStream>);

impl Closer {
    pub fn close(&self) {
        // It fails when the other side was faster, which is as good.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The sending half.
pub(super) struct Sender {
    stream: Arc<TcpStream>,
    address: SocketAddr,
    noise: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Sender {
    /// Sends a message of up to [`MAX_MESSAGE_BYTES`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), PeerError> {
        let mut parts = message.chunks(PART_BYTES).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            self.send_frame(if more { PART } else { LAST }, part)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Shows the other side that this one is alive.
    pub fn ping(&mut self) -> Result<(), PeerError> {
        self.send_frame(PING, &[])
    }

    fn send_frame(&mut self, what: u8, part: &[u8]) -> Result<(), PeerError> {
        let mut plain = Vec::with_capacity(1 + part.len());
        plain.push(what);
        plain.extend(part);
        let length = plain.len() + TAG_BYTES;
        let mut frame = vec![0; 2 + length];
        // Below 2^16: PART_BYTES is what MAX_FRAME_BYTES leaves.
        frame[..2].copy_from_slice(&(length as u16).to_be_bytes());
        self.noise.write_message(self.nonce, &plain, &mut frame[2..]).map_err(crypto)?;
        self.nonce += 1;
        write_all(&self.stream, self.address, &frame)
    }
}

/// The receiving half.
pub(super) struct Receiver {
    stream: Arc<TcpStream>,
    address: SocketAddr,
    noise: Arc<StatelessTransportState>,
    nonce: u64,
    /// By when all must have come; None: only silence of DEAD_AFTER_MS ends it.
    deadline: Option<Instant>,
}

impl Receiver {
    /// By when all that is received from now on must have come; None: only silence ends it.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The next message. Takes up to [`MAX_MESSAGE_BYTES`], and only as much memory as has really come.
    pub fn receive(&mut self, max_bytes: usize) -> Result<Vec<u8>, PeerError> {
        let bad = |what| PeerError::BadFrame { address: self.address, what };
        let mut message = Vec::new();
        loop {
            let mut length = [0; 2];
            read_exact(&self.stream, self.address, &mut length, self.deadline)?;
            let length = usize::from(u16::from_be_bytes(length));
            if length <= TAG_BYTES {
                return Err(bad("a frame is too short"));
            }
            let mut frame = vec![0; length];
            read_exact(&self.stream, self.address, &mut frame, self.deadline)?;
            let mut plain = vec![0; length];
            let read = self.noise.read_message(self.nonce, &frame, &mut plain);
            let length = read.map_err(|_| bad("a frame is not what was sent"))?;
            self.nonce += 1;
            let (what, part) = plain[..length].split_first().ok_or_else(|| bad("a frame is empty"))?;
            if message.len() + part.len() > max_bytes.min(MAX_MESSAGE_BYTES) {
                return Err(bad("a message is too long"));
            }
            match (*what, part.is_empty()) {
                (PING, true) => {}
                (PART, false) => message.extend(part),
                (LAST, _) => {
                    message.extend(part);
                    return Ok(message);
                }
                _ => return Err(bad("a frame makes no sense")),
            }
        }
    }
}

fn write_all(stream: &TcpStream, address: SocketAddr, bytes: &[u8]) -> Result<(), PeerError> {
    let mut stream = stream;
    stream.write_all(bytes).map_err(|cause| {
        if is_time_over(&cause) {
            PeerError::Silent { address, after_ms: DEAD_AFTER_MS }
        } else {
            broken("send to", address, cause)
        }
    })
}

/// What a socket's time limit ends in.
fn is_time_over(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn broken(doing: &'static str, address: SocketAddr, cause: io::Error) -> PeerError {
    if matches!(cause.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        PeerError::Closed { address }
    } else {
        PeerError::Io { doing, address, cause }
    }
}

/// Fills `buffer`. Ends when nothing comes for DEAD_AFTER_MS, or at the deadline.
fn read_exact(
    stream: &TcpStream,
    address: SocketAddr,
    buffer: &mut [u8],
    deadline: Option<Instant>,
) -> Result<(), PeerError> {
    let mut stream = stream;
    let mut filled = 0;
    while filled < buffer.len() {
        let dead_after = Duration::from_millis(DEAD_AFTER_MS);
        let limit =
            deadline.map_or(dead_after, |deadline| deadline.saturating_duration_since(Instant::now()));
        if limit.is_zero() {
            return Err(PeerError::TooSlow { address });
        }
        let read = stream.set_read_timeout(Some(limit)).and_then(|()| stream.read(&mut buffer[filled..]));
        match read {
            Ok(0) => return Err(PeerError::Closed { address }),
            Ok(count) => filled += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) if is_time_over(&cause) => {
                return Err(match deadline {
                    Some(_) => PeerError::TooSlow { address },
                    None => PeerError::Silent { address, after_ms: DEAD_AFTER_MS },
                });
            }
            Err(cause) => return Err(broken("receive from", address, cause)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Both ends of a connection after its handshake.
    fn pair() -> (Channel, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let server_key = server.public_key;
        let accepting = std::thread::spawn(move || {
            let (stream, address) = listener.accept().unwrap();
            let handshake = Handshake::accepted(stream, address).unwrap();
            let kind = handshake.read_kind().unwrap();
            let (channel, told) =
                handshake.respond(&Secrets { kind, me: &server, psk: &[1; 32], cluster: "c" }).unwrap();
            assert_eq!((kind, told), (Kind::Link, b"told".to_vec()));
            channel
        });
        let secrets = Secrets { kind: Kind::Link, me: &client, psk: &[1; 32], cluster: "c" };
        let connected =
            Handshake::connect(address).unwrap().initiate(&secrets, &server_key, b"told").unwrap();
        let accepted = accepting.join().unwrap();
        assert_eq!((connected.remote_key, accepted.remote_key), (server_key, client.public_key));
        (connected, accepted)
    }

    /// What a receiver says to frames that a sender would never make.
    fn error_of(max_bytes: usize, send: impl FnOnce(&mut Sender)) -> String {
        let (mut from, mut to) = pair();
        send(&mut from.sender);
        from.closer.close();
        to.receiver.receive(max_bytes).unwrap_err().to_string()
    }

    #[test]
    fn messages_of_all_sizes_arrive_between_pings() {
        let (mut from, mut to) = pair();
        let sizes = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 20 * PART_BYTES];
        to.receiver.set_deadline(None);
        let sending = std::thread::spawn(move || {
            for size_bytes in sizes {
                from.sender.ping().unwrap();
                from.sender.send(&vec![size_bytes as u8; size_bytes]).unwrap();
            }
            from
        });
        for size_bytes in sizes {
            let message = to.receiver.receive(MAX_MESSAGE_BYTES).unwrap();
            assert!(message == vec![size_bytes as u8; size_bytes], "{size_bytes}");
        }
        drop(sending.join().unwrap());
    }

    #[test]
    fn frames_that_make_no_sense_end_the_connection_with_a_sentence() {
        let raw = |bytes: &'static [u8]| {
            move |sender: &mut Sender| write_all(&sender.stream, sender.address, bytes).unwrap()
        };
        let frame =
            |what, part: &'static [u8]| move |sender: &mut Sender| sender.send_frame(what, part).unwrap();
        assert!(error_of(10, |sender| sender.send(&[0; 11]).unwrap()).contains("too long"));
        assert!(error_of(10, frame(9, b"x")).contains("makes no sense"));
        assert!(error_of(10, frame(PART, b"")).contains("makes no sense"));
        assert!(error_of(10, frame(PING, b"x")).contains("makes no sense"));
        assert!(error_of(10, raw(&[0, 16])).contains("too short"));
        assert!(error_of(10, raw(&[0, 17])).contains("closed"), "cut off in a frame");
        assert!(error_of(10, raw(&[0])).contains("closed"), "cut off in a length");
        assert!(error_of(10, raw(&[0; 40])).contains("too short"));
        assert!(
            error_of(10, raw(&[0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
                .contains("not what was sent")
        );
        let endless = |sender: &mut Sender| {
            while sender.send_frame(PART, &[0; 1_000]).is_ok() {}
        };
        let (mut from, mut to) = pair();
        let sending = std::thread::spawn(move || endless(&mut from.sender));
        assert!(to.receiver.receive(100_000).unwrap_err().to_string().contains("too long"));
        to.closer.close();
        sending.join().unwrap();
    }
}
