//! One resource on all boxes, and what the boxes share: the state that everything else here works on.
//!
//! What must not go in: how it changes (settle.rs, link.rs, sync.rs, and the acts).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    disk::{Disks, Md},
    types::{BackingId, BoxId, Version},
    versions::Versions,
};
use crate::core::drbd::{ConnectionState, DiskState, ReplicationState, Role};

/// What all resources share.
pub(super) struct World {
    pub(super) nine: bool,
    pub(super) kib_per_s: u64,
    pub(super) now_ms: u64,
    pub(super) disks: Disks,
    pub(super) versions: Versions,
    /// Pairs of boxes between which nothing goes through, lower first.
    pub(super) cut: BTreeSet<(BoxId, BoxId)>,
    pub(super) last_id: u64,
}

impl World {
    /// A generation id, or a session, that was never used.
    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 2;
        self.last_id
    }

    pub(super) fn wired(&self, a: BoxId, b: BoxId) -> bool {
        self.cut.is_empty() || !self.cut.contains(&(a.min(b), a.max(b)))
    }
}

/// One end of a link, as one box's kernel has it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The peer's node id; 0 on 8.4.
    pub(super) id: u8,
    pub(super) name: String,
    /// None: nobody.
    pub(super) peer: Option<BoxId>,
    pub(super) mine: String,
    pub(super) theirs: String,
    /// The peer is diskless by configuration.
    pub(super) client: bool,
    pub(super) state: ConnectionState,
    pub(super) role: Role,
    pub(super) disk: DiskState,
    pub(super) repl: ReplicationState,
    /// Why a resync waits; "no".
    pub(super) paused: &'static str,
    /// It was up before.
    pub(super) reconnect: bool,
    /// The same number at both ends of a connection.
    pub(super) session: u64,
    /// It is silent, and that is noticed then.
    pub(super) lost_at: Option<u64>,
    /// The next attempt to connect.
    pub(super) retry_at: u64,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        self.state == ConnectionState::Connected
    }
}

/// What the file says of the resource as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) auto_promote: bool,
    pub(super) majority: bool,
    pub(super) suspend_io: bool,
    pub(super) force_secondary: bool,
    pub(super) retry_connect: bool,
    /// A silent peer is noticed after that.
    pub(super) notice_ms: u64,
    pub(super) secret: String,
    /// 8.4: the other host is a word.
    pub(super) nobody: bool,
}

/// What events told last, so that the next are told only of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) role: Role,
    pub(super) suspended: bool,
    pub(super) fail_io: bool,
    pub(super) disk: DiskState,
    pub(super) client: bool,
    pub(super) quorum: bool,
    pub(super) links: Vec<(u8, ConnectionState, Role, DiskState, bool, ReplicationState, &'static str)>,
}

/// A resource in one box's kernel.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) me: u8,
    pub(super) minor: u32,
    pub(super) options: Options,
    pub(super) role: Role,
    pub(super) auto_promoted: bool,
    pub(super) openers: u32,
    pub(super) fail_io: bool,
    pub(super) suspended_since: Option<u64>,
    pub(super) disk: DiskState,
    pub(super) backing: Option<BackingId>,
    pub(super) path: String,
    /// Diskless by configuration.
    pub(super) client: bool,
    pub(super) size_kib: u64,
    pub(super) told_kib: u64,
    pub(super) quorum: bool,
    /// It was alone when it went, with quorum: it has it again until a peer is met.
    pub(super) restore_quorum: bool,
    /// Node ids in reach, as bits.
    pub(super) members: u32,
    /// A new generation begins with the next write.
    pub(super) bump_due: bool,
    /// The generation that a diskless Primary works on.
    pub(super) exposed: u64,
    pub(super) crashed: bool,
    pub(super) lost_quorum: bool,
    pub(super) unanswered: Option<Version>,
    /// It is on all in reach: who asks next has the answer.
    pub(super) through: bool,
    /// The unanswered write is to fail.
    pub(super) doomed: bool,
    pub(super) links: Vec<Link>,
    /// Peers that a split brain was found with, until they are linked again.
    pub(super) split: BTreeSet<u8>,
    pub(super) told: Told,
    pub(super) changed: bool,
    /// For I/O, made by `settle`: the replicas that are written, and the one that is read.
    pub(super) reach: Vec<BackingId>,
    /// A peer with a disk is silent.
    pub(super) waits: bool,
    /// Some replica is not written.
    pub(super) lacking: bool,
}

impl Node {
    pub(super) fn link(&self, id: u8) -> Option<&Link> {
        self.links.iter().find(|link| link.id == id)
    }

    pub(super) fn link_to(&self, peer: BoxId) -> Option<&Link> {
        self.links.iter().find(|link| link.peer == Some(peer))
    }

    pub(super) fn link_to_mut(&mut self, peer: BoxId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.peer == Some(peer))
    }

    pub(super) fn md<'d>(&self, disks: &'d Disks) -> Option<&'d Md> {
        disks.md(self.backing)
    }

    /// Whether data is in reach that counts.
    pub(super) fn has_data(&self) -> bool {
        let good = |link: &Link| link.is_up() && link.disk == DiskState::UpToDate;
        self.disk == DiskState::UpToDate || self.links.iter().any(good)
    }
}

/// A resync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) source: BoxId,
    pub(super) target: BoxId,
    pub(super) total_kib: u64,
    /// What was left at `since_ms`.
    pub(super) left_kib: u64,
    pub(super) since_ms: u64,
    /// Not waiting for another one.
    pub(super) active: bool,
}

impl Run {
    pub(super) fn left_now_kib(&self, world: &World) -> u64 {
        if !self.active {
            return self.left_kib;
        }
        let ms = world.now_ms.saturating_sub(self.since_ms);
        self.left_kib.saturating_sub(ms.saturating_mul(world.kib_per_s) / 1000)
    }

    pub(super) fn ends_ms(&self, world: &World) -> u64 {
        self.since_ms + (self.left_kib * 1000).div_ceil(world.kib_per_s.max(1))
    }
}

/// One resource on all boxes.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) nodes: BTreeMap<BoxId, Node>,
    pub(super) runs: Vec<Run>,
    /// When time alone changes something.
    pub(super) wake: Option<u64>,
    /// Boxes of which events told something.
    pub(super) changed: Vec<BoxId>,
}

impl Cluster {
    /// Whether the two are connected and hear each other.
    pub(super) fn live(&self, a: BoxId, b: BoxId, world: &World) -> bool {
        let up = |from: BoxId, to: BoxId| self.nodes.get(&from)?.link_to(to).filter(|link| link.is_up());
        match (up(a, b), up(b, a)) {
            (Some(one), Some(other)) => one.session == other.session && world.wired(a, b),
            (Some(_) | None, _) => false,
        }
    }

    /// The peers of a box that it is connected to and hears.
    pub(super) fn live_peers(&self, at: BoxId, world: &World) -> Vec<BoxId> {
        let Some(node) = self.nodes.get(&at) else { return Vec::new() };
        let peers = node.links.iter().filter_map(|link| link.peer);
        peers.filter(|peer| self.live(at, *peer, world)).collect()
    }

    /// All boxes that are connected with this one over any way and hear it, itself included.
    pub(super) fn component(&self, at: BoxId, world: &World) -> BTreeSet<BoxId> {
        let mut found = BTreeSet::from([at]);
        let mut todo = vec![at];
        while let Some(next) = todo.pop() {
            todo.extend(self.live_peers(next, world).into_iter().filter(|peer| found.insert(*peer)));
        }
        found
    }

    /// A peer of this box is silent and that was not noticed yet: what all have to agree to waits.
    pub(super) fn waits(&self, at: BoxId) -> bool {
        self.nodes.get(&at).is_some_and(|node| node.links.iter().any(|link| link.lost_at.is_some()))
    }

    pub(super) fn run_of(&self, a: BoxId, b: BoxId) -> Option<usize> {
        self.runs.iter().position(|r| (r.source, r.target) == (a, b) || (r.source, r.target) == (b, a))
    }
}
