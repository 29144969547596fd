//! Links between boxes over loopback: who is let in, what arrives, what happens when the other side dies or
//! lies.
//!
//! Nothing here is timed: each test waits for what must happen, with a limit that only a hang reaches.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

use holdfast::edge::peer::{
    Identity, LinkKeys, Links, MAX_HANDSHAKES, Member, PeerError, PeerEvent, QUEUE_BYTES, join,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const PSK: [u8; 32] = [1; 32];
const SECRET: [u8; 32] = [2; 32];

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn keys(me: &Identity, psk: [u8; 32]) -> LinkKeys {
    LinkKeys { me: me.clone(), psk, cluster: "c1".into() }
}

struct Node {
    name: String,
    me: Identity,
    links: Links,
    events: Receiver<PeerEvent>,
}

impl Node {
    fn start(name: &str) -> Node {
        Node::start_as(name, Identity::generate().unwrap(), PSK, any_port())
    }

    fn start_as(name: &str, me: Identity, psk: [u8; 32], listen: SocketAddr) -> Node {
        let (sender, events) = channel();
        let on_event = move |event| drop(sender.send(event));
        let links = Links::start(listen, keys(&me, psk), name.to_owned(), on_event).unwrap();
        Node { name: name.to_owned(), me, links, events }
    }

    fn member(&self) -> Member {
        self.member_at(self.links.address())
    }

    fn member_at(&self, address: SocketAddr) -> Member {
        Member { name: self.name.clone(), public_key: self.me.public_key, address }
    }

    /// The first event that `pick` takes; those before it are dropped.
    fn wait<T>(&self, what: &str, mut pick: impl FnMut(PeerEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            let event = event.unwrap_or_else(|_| panic!("{} waited for {what}, got {seen:?}", self.name));
            seen.push(format!("{event:?}").chars().take(120).collect::<String>());
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    fn up(&self, of: &str) {
        self.wait(&format!("Up of {of}"), |event| match event {
            PeerEvent::Up(name, _) if name == of => Some(()),
            PeerEvent::Down(name, why) if name == of => panic!("Down before Up: {why}"),
            _ => None,
        });
    }

    fn down(&self, of: &str) -> String {
        self.wait(&format!("Down of {of}"), |event| match event {
            PeerEvent::Down(name, why) if name == of => Some(why),
            PeerEvent::Up(name, _) if name == of => panic!("Up before Down"),
            _ => None,
        })
    }

    fn message(&self, of: &str) -> Vec<u8> {
        self.wait(&format!("a message of {of}"), |event| match event {
            PeerEvent::Message(name, message) if name == of => Some(message),
            PeerEvent::Down(name, why) => panic!("Down of {name}: {why}"),
            _ => None,
        })
    }

    /// A refusal that says `says`; nobody may be let in before.
    fn refused(&self, says: &str) -> String {
        self.wait(&format!("a refusal that says {says:?}"), |event| match event {
            PeerEvent::Refused(why) => why.contains(says).then_some(why),
            PeerEvent::Up(name, _) => panic!("{name} was let in"),
            _ => None,
        })
    }

    /// Events that have come by now, other than refusals.
    fn drained(&self) -> Vec<PeerEvent> {
        self.events.try_iter().filter(|event| !matches!(event, PeerEvent::Refused(_))).collect()
    }
}

/// Two nodes that know each other; `a` dials `b`.
fn linked() -> (Node, Node) {
    let (a, b) = (Node::start("a"), Node::start("b"));
    introduce(&a, &b);
    (a, b)
}

fn introduce(a: &Node, b: &Node) {
    let members = vec![a.member(), b.member()];
    b.links.set_members(members.clone());
    a.links.set_members(members);
    a.up("b");
    b.up("a");
}

const FORWARD: u8 = 0;
const SWALLOW: u8 = 1;
const HOLD: u8 = 2;
const FLIP_ONE: u8 = 3;

/// A wire between two boxes, to be disturbed.
struct Relay {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Relay {
    fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind(any_port()).unwrap();
        let (address, mode) = (listener.local_addr().unwrap(), Arc::new(AtomicU8::new(FORWARD)));
        let shared = Arc::clone(&mode);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let mode = Arc::clone(&shared);
                    std::thread::spawn(move || copy(from, to, &mode));
                }
            }
        });
        Relay { address, mode }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while mode.load(Ordering::SeqCst) == HOLD {
            std::thread::sleep(Duration::from_millis(10));
        }
        if mode.compare_exchange(FLIP_ONE, FORWARD, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            buffer[count - 1] ^= 1;
        }
        if mode.load(Ordering::SeqCst) != SWALLOW && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // A dead wire does not tell one end that the other one has closed.
    while mode.load(Ordering::SeqCst) == SWALLOW {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Two nodes with a relay between them.
fn relayed() -> (Node, Node, Relay) {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let relay = Relay::start(b.links.address());
    b.links.set_members(vec![a.member(), b.member()]);
    a.links.set_members(vec![a.member(), b.member_at(relay.address)]);
    a.up("b");
    b.up("a");
    (a, b, relay)
}

#[test]
fn two_members_talk_both_ways_in_order() {
    let (a, b) = linked();
    let big: Vec<u8> = (0..5 << 20).map(|i: u32| (i % 251) as u8).collect();
    for message in [b"".to_vec(), b"hello".to_vec(), big.clone(), b"after".to_vec()] {
        assert!(a.links.send("b", message.clone()) && b.links.send("a", message));
    }
    for node in [(&a, "b"), (&b, "a")] {
        assert_eq!(node.0.message(node.1), b"");
        assert_eq!(node.0.message(node.1), b"hello");
        assert!(node.0.message(node.1) == big);
        assert_eq!(node.0.message(node.1), b"after");
    }
    assert!(!a.links.send("c", vec![]), "nobody of that name");
    assert!(!a.links.send("b", vec![0; (16 << 20) + 1]), "too long");
    assert!(a.links.send("b", b"still up".to_vec()));
    assert_eq!(b.message("a"), b"still up");
}

#[test]
fn an_idle_link_stays_up() {
    let (a, b) = linked();
    // Longer than the time after which silence is death.
    std::thread::sleep(Duration::from_millis(holdfast::edge::peer::DEAD_AFTER_MS + 1_000));
    assert!(a.drained().is_empty() && b.drained().is_empty());
    assert!(a.links.send("b", b"x".to_vec()));
    assert_eq!(b.message("a"), b"x");
}

#[test]
fn another_cluster_key_is_refused() {
    let b = Node::start("b");
    let a = Node::start_as("a", Identity::generate().unwrap(), [9; 32], any_port());
    b.links.set_members(vec![a.member()]);
    a.links.set_members(vec![b.member()]);
    a.refused("does not have the same secret");
    b.refused("does not have the same secret");
}

#[test]
fn an_unknown_key_and_the_key_of_another_name_are_refused() {
    let (a, b, c) = (Node::start("a"), Node::start("b"), Node::start("c"));
    a.links.set_members(vec![c.member()]);
    a.refused("no member of this name");
    c.refused("a at ");
    // The name a, but with the key of b.
    c.links.set_members(vec![Member { public_key: b.me.public_key, ..a.member() }, b.member()]);
    a.refused("its key is not the one");
    c.refused("its key is not the one");
    // The box that answers is not the one that was dialled.
    b.links.set_members(vec![Member { public_key: a.me.public_key, ..c.member() }]);
    b.refused("has another key");
}

#[test]
fn nonsense_closes_only_its_own_connection() {
    let (a, b) = linked();
    let address = b.links.address();
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak"),
        (b"L\xff\xff", "handshake is too long"),
        (b"L\x00\x20half of it", "closed"),
        (b"L\x00\x00", "not have the same secret"),
        (b"J\x00\x00", "no token is valid"),
        (b"", "closed"),
    ];
    for (bytes, says) in cases {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        // The far side may have closed before.
        let _ = stream.shutdown(Shutdown::Write);
        b.refused(says);
        assert!(a.links.send("b", says.as_bytes().to_vec()));
        assert_eq!(b.message("a"), says.as_bytes());
    }
    let mut random = vec![0; 4_000];
    for _ in 0..20 {
        getrandom::fill(&mut random).unwrap();
        random[0] = b'L';
        // The far side may have closed before all is written.
        let _ = TcpStream::connect(address).unwrap().write_all(&random);
        b.refused("");
    }
    assert!(a.drained().is_empty() && b.drained().is_empty());
}

#[test]
fn too_many_at_the_door_are_turned_away() {
    let b = Node::start("b");
    let _waiting: Vec<_> =
        (0..=MAX_HANDSHAKES).map(|_| TcpStream::connect(b.links.address()).unwrap()).collect();
    b.refused("64 connections are in handshake already");
    // They are sent away when their time is over, and the door is open again.
    b.refused("did not answer in time");
    let a = Node::start("a");
    introduce(&a, &b);
}

#[test]
fn one_flipped_bit_on_the_wire_ends_the_link_and_it_comes_back() {
    let (a, b, relay) = relayed();
    relay.set(FLIP_ONE);
    assert!(a.links.send("b", b"changed on the way".to_vec()));
    let (why_a, why_b) = (a.down("b"), b.down("a"));
    assert!([why_a, why_b].concat().contains("not what was sent"));
    a.up("b");
    b.up("a");
    assert!(a.links.send("b", b"again".to_vec()));
    assert_eq!(b.message("a"), b"again");
}

#[test]
fn a_link_comes_back_after_either_side_restarts() {
    let (a, b) = linked();
    let (me, address) = (b.me.clone(), b.links.address());
    b.links.stop();
    a.down("b");
    let b = Node::start_as("b", me, PSK, address);
    b.links.set_members(vec![a.member()]);
    a.up("b");
    b.up("a");
    let (me, address) = (a.me.clone(), a.links.address());
    a.links.stop();
    b.down("a");
    let a = Node::start_as("a", me, PSK, address);
    a.links.set_members(vec![b.member()]);
    a.up("b");
    b.up("a");
    assert!(b.links.send("a", b"x".to_vec()));
    assert_eq!(a.message("b"), b"x");
}

#[test]
fn a_dead_wire_is_noticed_on_both_sides() {
    let (a, b, relay) = relayed();
    relay.set(SWALLOW);
    assert!(a.down("b").contains("silent"));
    assert!(b.down("a").contains("silent"));
    relay.set(FORWARD);
    a.up("b");
    b.up("a");
}

#[test]
fn who_takes_nothing_is_cut_off_and_may_come_back() {
    let (a, b, relay) = relayed();
    relay.set(HOLD);
    let megabyte = vec![0; 1 << 20];
    let most = QUEUE_BYTES / megabyte.len() + 50;
    let taken = (0..most).take_while(|_| a.links.send("b", megabyte.clone())).count();
    assert!(taken < most, "the queue has an end");
    assert!(a.down("b").contains("too slowly"));
    relay.set(FORWARD);
    a.up("b");
    b.down("a");
    b.up("a");
}

#[test]
fn members_that_change_or_go_are_cut_and_new_ones_dialled() {
    let (a, b) = linked();
    b.links.set_members(vec![a.member(), b.member()]);
    assert!(a.links.send("b", b"the same set changes nothing".to_vec()));
    b.message("a");
    a.links.set_members(vec![]);
    assert!(a.down("b").contains("no longer a member"));
    b.down("a");
    a.links.set_members(vec![b.member()]);
    a.up("b");
    b.up("a");
    let other = Identity::generate().unwrap();
    b.links.set_members(vec![Member { public_key: other.public_key, ..a.member() }]);
    assert!(b.down("a").contains("has changed"));
    a.down("b");
    b.refused("its key is not the one");
    b.links.set_members(vec![a.member()]);
    b.up("a");
    a.up("b");
    let relay = Relay::start(b.links.address());
    a.links.set_members(vec![b.member_at(relay.address)]);
    assert!(a.down("b").contains("has changed"));
    a.up("b");
}

#[test]
fn a_new_connection_replaces_the_old_one_with_a_down_between() {
    let (a, b) = linked();
    let twin = Node::start_as("a", a.me.clone(), PSK, any_port());
    twin.links.set_members(vec![b.member()]);
    assert!(b.down("a").contains("replaces"));
    b.up("a");
}

#[test]
fn a_newcomer_with_the_token_gets_its_answer() {
    let (b, me) = (Node::start("b"), Identity::generate().unwrap());
    b.links.set_join_secret(Some(SECRET));
    let (address, server_key, newcomer) = (b.links.address(), b.me.public_key, me.clone());
    let long = vec![7; 60_000];
    let sent = long.clone();
    let joining = std::thread::spawn(move || join(address, "c1", server_key, SECRET, &newcomer, &sent));
    let request = b.wait("a join", |event| match event {
        PeerEvent::Join(request) => Some(request),
        _ => None,
    });
    assert!(request.message == long && request.public_key == me.public_key);
    let answer = vec![8; 1 << 20];
    assert!(request.answer(answer.clone()));
    assert!(joining.join().unwrap().unwrap() == answer);
}

#[test]
fn without_the_right_token_nobody_joins() {
    let (b, me) = (Node::start("b"), Identity::generate().unwrap());
    let try_join = |cluster: &str, server_key: [u8; 32], secret: [u8; 32]| {
        join(b.links.address(), cluster, server_key, secret, &me, b"let me in").unwrap_err()
    };
    let key = b.me.public_key;
    assert!(matches!(try_join("c1", key, SECRET), PeerError::JoinRefused { .. }));
    b.refused("no token is valid");
    b.links.set_join_secret(Some(SECRET));
    assert!(matches!(try_join("c1", key, [3; 32]), PeerError::JoinRefused { .. }));
    b.refused("does not have the same secret");
    assert!(matches!(try_join("c1", key, PSK), PeerError::JoinRefused { .. }));
    assert!(matches!(try_join("c2", key, SECRET), PeerError::JoinRefused { .. }));
    assert!(matches!(try_join("c1", me.public_key, SECRET), PeerError::WrongKey { .. }));
    b.links.set_join_secret(None);
    assert!(matches!(try_join("c1", key, SECRET), PeerError::JoinRefused { .. }));
    assert!(b.drained().is_empty());
}

#[test]
fn a_newcomer_that_is_given_no_answer_is_sent_away() {
    let (b, me) = (Node::start("b"), Identity::generate().unwrap());
    b.links.set_join_secret(Some(SECRET));
    let (address, server_key) = (b.links.address(), b.me.public_key);
    let joining = std::thread::spawn(move || join(address, "c1", server_key, SECRET, &me, b"hello"));
    b.wait("a join", |event| matches!(event, PeerEvent::Join(_)).then_some(()));
    assert!(joining.join().unwrap().is_err());
    b.refused("given no answer");
}
