//! Frames from others: whatever bytes come, each message that was sent whole arrives, and the first nonsense ends that
//! connection and nothing else.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use holdfast::edge::peer::{Identity, LinkKeys, Links, MAX_JOIN_BYTES, Member, PeerEvent, join};
use snow::{Builder, HandshakeState, TransportState};

use crate::{
    make,
    random::Random,
    runs::{is_sentence, runs},
};

const LIMIT: Duration = Duration::from_secs(60);
const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
const PSK: [u8; 32] = [1; 32];
const SECRET: [u8; 32] = [2; 32];
const PING: u8 = 0;
const PART: u8 = 1;
const LAST: u8 = 2;

/// The box under test, and what it tells.
struct Target {
    links: Links,
    events: Receiver<PeerEvent>,
}

impl Target {
    /// The member `b`, which knows the member `a`.
    fn start(a: &Identity) -> Self {
        let me = Identity::generate().unwrap();
        let (to, events) = channel();
        let keys = LinkKeys { me, psk: PSK, cluster: "c1".into() };
        let on_event = move |event| drop(to.send(event));
        let links = Links::start("127.0.0.1:0".parse().unwrap(), keys, "b".to_owned(), on_event).unwrap();
        // Nothing listens where `a` is; it is the one that dials.
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        links.set_members(vec![Member { name: "a".to_owned(), public_key: a.public_key, address }]);
        links.set_join_secret(Some(SECRET));
        Self { links, events }
    }

    fn event(&self) -> PeerEvent {
        self.events.recv_timeout(LIMIT).expect("something is told")
    }

    fn is_refused(&self) {
        match self.event() {
            PeerEvent::Refused(why) => assert!(is_sentence(&why), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

fn noise(kind: u8, me: &Identity, initiates: bool) -> HandshakeState {
    let (word, secret) = if kind == b'L' { ("link", &PSK) } else { ("join", &SECRET) };
    let prologue = format!("holdfast/1 {word} c1");
    let builder = Builder::new(PATTERN.parse().unwrap()).local_private_key(&me.secret_key).unwrap();
    let builder = builder.psk(3, secret).unwrap().prologue(prologue.as_bytes()).unwrap();
    if initiates { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
}

/// The next message of a handshake, with its length.
fn written(noise: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1_024];
    let length = noise.write_message(payload, &mut bytes).unwrap();
    framed(&bytes[..length])
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// The handshake as `me`; `change` may change each of the three things that are sent. None: it was cut off.
fn shake(
    target: &Target,
    kind: u8,
    me: &Identity,
    mut change: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> (TcpStream, Option<TransportState>) {
    let mut stream = connected(target.links.address());
    let mut noise = noise(kind, me, true);
    // Nothing follows what is shorter or longer now: who waits for more sees the end.
    let mut send = |stream: &mut TcpStream, number, bytes: Vec<u8>| {
        let sent = change(number, bytes.clone());
        stream.write_all(&sent).ok()?;
        if sent.len() == bytes.len() {
            Some(())
        } else {
            stream.shutdown(Shutdown::Write).ok().filter(|()| false)
        }
    };
    let mut shake = || {
        send(&mut stream, 0, vec![kind])?;
        send(&mut stream, 1, written(&mut noise, &[]))?;
        noise.read_message(&read_frame(&mut stream)?, &mut [0; 1_024]).ok()?;
        let name: &[u8] = if kind == b'L' { b"a" } else { b"" };
        send(&mut stream, 2, written(&mut noise, name))
    };
    let shaken = shake();
    let transport = shaken.and_then(|()| noise.into_transport_mode().ok());
    (stream, transport)
}

/// Frames to send, the messages that they are, and whether they end in nonsense.
#[derive(Default)]
struct Talk {
    bytes: Vec<u8>,
    messages: Vec<Vec<u8>>,
    is_nonsense: bool,
}

impl Talk {
    fn frame(&mut self, noise: &mut TransportState, what: &[u8], part: &[u8]) {
        let mut frame = vec![0; what.len() + part.len() + 16];
        let length = noise.write_message(&[what, part].concat(), &mut frame).unwrap();
        self.bytes.extend(framed(&frame[..length]));
    }

    fn message(&mut self, random: &mut Random, noise: &mut TransportState) {
        let mut message = Vec::new();
        for _ in 0..random.below(4) {
            let length = 1 + random.below(200);
            let part = random.bytes(length);
            self.frame(noise, &[PART], &part);
            message.extend(part);
            if random.one_in(4) {
                self.frame(noise, &[PING], b"");
            }
        }
        let last = serde_json::to_vec(&make::any_message(random)).unwrap();
        let last = if random.one_in(3) { &last[..0] } else { &last[..last.len().min(2_000)] };
        self.frame(noise, &[LAST], last);
        message.extend(last);
        self.messages.push(message);
    }

    fn nonsense(&mut self, random: &mut Random, noise: &mut TransportState) {
        self.is_nonsense = true;
        match random.below(8) {
            0 => self.frame(noise, &[3 + random.below(253) as u8], b"x"),
            1 => self.frame(noise, &[PART], b""),
            2 => self.frame(noise, &[PING], b"x"),
            3 => self.frame(noise, &[], b""),
            4 => self.bytes.extend([0, random.below(17) as u8]),
            5 => {
                let length = 17 + random.below(2_000);
                self.bytes.extend(framed(&random.bytes(length)));
            }
            6 => {
                let before = self.bytes.len();
                self.frame(noise, &[LAST], b"changed on the way");
                let at = before + 2 + random.below(self.bytes.len() - before - 2);
                self.bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                // The same frame a second time.
                let before = self.bytes.len();
                self.frame(noise, &[LAST], b"again");
                self.messages.push(b"again".to_vec());
                self.bytes.extend_from_within(before..);
            }
        }
    }
}

#[test]
fn what_was_sent_whole_arrives_and_the_first_nonsense_ends_the_link() {
    let a = Identity::generate().unwrap();
    let target = Target::start(&a);
    runs(40, |run| {
        let (mut stream, noise) = shake(&target, b'L', &a, |_, bytes| bytes);
        let mut noise = noise.unwrap();
        let welcome = read_frame(&mut stream).unwrap();
        noise.read_message(&welcome, &mut [0; 100]).unwrap();
        let mut talk = Talk::default();
        for _ in 0..run.random.below(6) {
            talk.message(&mut run.random, &mut noise);
        }
        if run.random.one_in(2) {
            talk.nonsense(&mut run.random, &mut noise);
            talk.bytes.extend(run.random.bytes(100));
        } else if run.random.one_in(2) {
            let whole = talk.bytes.len();
            talk.frame(&mut noise, &[LAST], b"cut off");
            let cut = run.random.below(talk.bytes.len() - whole);
            talk.bytes.truncate(whole + cut);
        }
        run.note(&talk.bytes);
        // The far side may have closed before all is written.
        let _ = stream.write_all(&talk.bytes);
        let _ = stream.shutdown(Shutdown::Write);
        assert!(matches!(target.event(), PeerEvent::Up(name, _) if name == "a"));
        for message in talk.messages {
            match target.event() {
                PeerEvent::Message(_, arrived) => assert_eq!(arrived, message),
                other => panic!("{other:?} instead of a message"),
            }
        }
        match target.event() {
            PeerEvent::Down(_, why) => {
                assert_eq!(why.contains("sent nonsense"), talk.is_nonsense, "{why}");
                assert!(is_sentence(&why), "{why}");
            }
            other => panic!("{other:?} instead of the end"),
        }
    });
}

#[test]
fn a_handshake_that_was_changed_anywhere_lets_nobody_in() {
    let a = Identity::generate().unwrap();
    let target = Target::start(&a);
    runs(40, |run| {
        let kind = *run.random.pick(b"LJ");
        let (at, mut changed) = (run.random.below(3), false);
        let (stream, noise) = shake(&target, kind, &a, |number, bytes| {
            if number != at {
                return bytes;
            }
            let mut damaged = run.random.damage(&bytes, &[]);
            if run.random.one_in(2) {
                damaged.clone_from(&bytes);
                damaged[run.random.below(bytes.len())] ^= 1 << run.random.below(8);
            }
            // What comes after a whole handshake is not part of it.
            changed = damaged != bytes && (number < 2 || !damaged.starts_with(&bytes));
            run.note(&damaged);
            damaged
        });
        let _ = stream.shutdown(Shutdown::Write);
        if changed {
            target.is_refused();
        } else {
            // It was let in, and told nothing.
            drop((stream, noise));
            while !matches!(target.event(), PeerEvent::Down(..) | PeerEvent::Refused(_)) {}
        }
    });
}

#[test]
fn a_newcomer_is_heard_up_to_its_limit_and_no_further() {
    let (me, target) = (Identity::generate().unwrap(), Target::start(&Identity::generate().unwrap()));
    runs(12, |run| {
        let (mut stream, noise) = shake(&target, b'J', &me, |_, bytes| bytes);
        let mut noise = noise.unwrap();
        let length = MAX_JOIN_BYTES - 20 + run.random.below(40);
        let mut talk = Talk::default();
        let (first, last) = (vec![7; 40_000], vec![8; length - 40_000]);
        talk.frame(&mut noise, &[PART], &first);
        talk.frame(&mut noise, &[LAST], &last);
        run.note(format!("{length} bytes"));
        let _ = stream.write_all(&talk.bytes);
        match target.event() {
            PeerEvent::Join(request) => {
                assert!(length <= MAX_JOIN_BYTES && request.message == [first, last].concat())
            }
            PeerEvent::Refused(why) => assert!(length > MAX_JOIN_BYTES && why.contains("too long"), "{why}"),
            other => panic!("{other:?}"),
        }
        if length <= MAX_JOIN_BYTES {
            target.is_refused();
        }
    });
}

/// A box that a newcomer was sent to, and that answers with whatever it likes.
fn answer(listener: &TcpListener, me: &Identity, random: &mut Random) -> Option<()> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.read_exact(&mut [0]).ok()?;
    let mut noise = noise(b'J', me, false);
    noise.read_message(&read_frame(&mut stream)?, &mut [0; 1_024]).ok()?;
    let bytes = written(&mut noise, &[]);
    let is_good = random.one_in(2);
    if !is_good {
        stream.write_all(&random.damage(&bytes, &[])).ok()?;
        return stream.shutdown(Shutdown::Write).ok();
    }
    stream.write_all(&bytes).ok()?;
    noise.read_message(&read_frame(&mut stream)?, &mut [0; 1_024]).ok()?;
    let mut talk = Talk::default();
    talk.nonsense(random, &mut noise.into_transport_mode().ok()?);
    if talk.messages.is_empty() {
        stream.write_all(&talk.bytes).ok()?;
    }
    stream.shutdown(Shutdown::Write).ok()
}

#[test]
fn a_newcomer_is_not_let_in_by_nonsense() {
    let (server, me) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    runs(25, |run| {
        thread::scope(|scope| {
            scope.spawn(|| answer(&listener, &server, &mut run.random));
            let why =
                join(address, "c1", server.public_key, SECRET, &me, b"let me in").unwrap_err().to_string();
            assert!(is_sentence(&why), "{why}");
        });
    });
}
