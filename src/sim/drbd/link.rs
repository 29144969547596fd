//! Links: made, noticed to be lost, given up.

use super::{
    cluster::{Cluster, Node, World},
    compare::{Side, Verdict, compare},
    disk::ACTIVITY_LOG_KIB,
    types::BoxId,
};
use crate::core::drbd::{ConnectionState, DiskState, ReplicationState, Role};

/// How soon the next attempt follows one that failed, and how soon the first one comes.
const RETRY_MS: u64 = 1000;
const FIRST_MS: u64 = 200;
/// An attempt to promote asks all peers: who does not answer in time is lost.
pub(super) const HURRY_MS: u64 = 500;

/// What the handshake comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shake {
    NoSync,
    Sync {
        source: BoxId,
        target: BoxId,
        full: bool,
    },
    /// It has older data, but who has newer is a target itself and can be no source yet.
    Outdate(BoxId),
    Retry,
    GiveUp,
}

impl Cluster {
    /// Links whose other end is gone, or has been silent for long enough, are taken down. The rest is waited for.
    pub(super) fn watch(&mut self, world: &mut World) -> bool {
        let mut lost = Vec::new();
        let mut silent = Vec::new();
        for (&at, node) in &self.nodes {
            for link in node.links.iter().filter(|link| link.is_up()) {
                let Some(peer) = link.peer else { continue };
                if self.live(at, peer, world) {
                    if link.lost_at.is_some() {
                        silent.push((at, peer, None));
                    }
                    continue;
                }
                let answers = self.nodes.contains_key(&peer) && world.wired(at, peer);
                let skew = (at as u64 * 37 + peer as u64 * 11) % 97;
                let notice = link.lost_at.unwrap_or(world.now_ms + node.options.notice_ms + skew);
                if answers || notice <= world.now_ms {
                    lost.push((at, peer));
                } else if link.lost_at.is_none() {
                    silent.push((at, peer, Some(notice)));
                }
            }
        }
        for (at, peer, when) in silent {
            if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                link.lost_at = when;
            }
        }
        for &(at, peer) in &lost {
            self.drop_end(at, peer, ConnectionState::Connecting, world);
            self.hurry(at, world);
        }
        !lost.is_empty()
    }

    /// The box asks all its peers: silence is noticed soon.
    pub(super) fn hurry(&mut self, at: BoxId, world: &World) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        for link in node.links.iter_mut() {
            link.lost_at = link.lost_at.map(|when| when.min(world.now_ms + HURRY_MS));
        }
    }

    /// One end of a link goes down. What the other end has is its own affair.
    pub(super) fn drop_end(&mut self, at: BoxId, peer: BoxId, to: ConnectionState, world: &mut World) {
        self.stop_run(at, peer, world);
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let primary = node.role == Role::Primary;
        let Some(link) = node.link_to_mut(peer) else { return };
        let was_up = link.is_up();
        let had_data = was_up && link.disk == DiskState::UpToDate;
        link.state = to;
        link.role = Role::Unknown;
        link.repl = ReplicationState::Off;
        link.paused = "no";
        link.lost_at = None;
        link.session = 0;
        link.retry_at = world.now_ms + FIRST_MS;
        link.reconnect |= was_up;
        match link.disk {
            DiskState::Inconsistent | DiskState::Outdated => {}
            DiskState::Diskless
            | DiskState::Attaching
            | DiskState::Detaching
            | DiskState::Failed
            | DiskState::Negotiating
            | DiskState::DUnknown
            | DiskState::Consistent
            | DiskState::UpToDate
            | DiskState::Other => link.disk = DiskState::DUnknown,
        }
        node.restore_quorum &= !was_up;
        if had_data && primary {
            self.lost_data(at, world);
        }
    }

    /// Both ends go down at once, where they hear each other; else each in its time.
    pub(super) fn disconnect(&mut self, at: BoxId, peer: BoxId, to: ConnectionState, world: &mut World) {
        let live = self.live(at, peer, world);
        self.drop_end(at, peer, to, world);
        if live {
            self.drop_end(peer, at, ConnectionState::Connecting, world);
        }
    }

    fn give_up(&mut self, a: BoxId, b: BoxId, world: &mut World) {
        self.drop_end(a, b, ConnectionState::StandAlone, world);
        self.drop_end(b, a, ConnectionState::StandAlone, world);
    }

    /// The network is back: both ends try soon.
    pub(super) fn try_soon(&mut self, a: BoxId, b: BoxId, world: &World) {
        for (at, peer) in [(a, b), (b, a)] {
            if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                link.retry_at = world.now_ms + RETRY_MS / 2;
            }
        }
    }

    /// Pairs that want to connect and can reach each other, with the time of their next attempt.
    pub(super) fn wanting(&self, world: &World) -> Vec<(BoxId, BoxId, u64)> {
        let mut found = Vec::new();
        for (&a, node) in &self.nodes {
            for link in node.links.iter().filter(|l| l.state == ConnectionState::Connecting) {
                let Some(b) = link.peer.filter(|b| a < *b && world.wired(a, *b)) else { continue };
                let Some(other) = self.nodes.get(&b).and_then(|node| node.link_to(a)) else { continue };
                let same = link.mine == other.theirs && link.theirs == other.mine;
                if same && other.state == ConnectionState::Connecting {
                    found.push((a, b, link.retry_at.max(other.retry_at)));
                }
            }
        }
        found
    }

    /// Makes the connections that are due.
    pub(super) fn connect_due(&mut self, world: &mut World) -> bool {
        let mut any = false;
        let now_ms = world.now_ms;
        let due = self.wanting(world).into_iter().filter(|(_, _, when)| *when <= now_ms);
        for (a, b, _) in due {
            any = true;
            self.connect(a, b, world);
        }
        any
    }

    fn connect(&mut self, a: BoxId, b: BoxId, world: &mut World) {
        let (Some(one), Some(other)) = (self.nodes.get(&a), self.nodes.get(&b)) else { return };
        if one.options.secret != other.options.secret {
            return self.give_up(a, b, world);
        }
        if world.nine && self.must_wait(a, b, world) {
            return self.try_soon(a, b, world);
        }
        let shake = match self.agree_on_size(a, b, world) {
            true => self.shake(a, b, true, world),
            false => Shake::GiveUp,
        };
        let session = world.new_id();
        match shake {
            Shake::GiveUp => {
                self.mind_split(a, b, world);
                return self.give_up(a, b, world);
            }
            Shake::Retry => {
                self.force_suspended(a);
                self.force_suspended(b);
                return self.try_later(a, b, world);
            }
            Shake::NoSync | Shake::Sync { .. } | Shake::Outdate(_) => {}
        }
        for (at, peer) in [(a, b), (b, a)] {
            let seen = self.nodes.get(&peer).map(|node| (node.role, node.disk));
            let Some(node) = self.nodes.get_mut(&at) else { continue };
            node.restore_quorum = false;
            let Some((link, (role, disk))) = node.link_to_mut(peer).zip(seen) else { continue };
            (link.state, link.repl, link.session) =
                (ConnectionState::Connected, ReplicationState::Established, session);
            (link.role, link.disk) = (role, disk);
            let (backing, id) = (node.backing, node.link_to(peer).map_or(0, |link| link.id));
            node.split.remove(&id);
            if let Some(md) = world.disks.md_mut(backing) {
                md.slot_mut(id).exists = true;
            }
        }
        self.apply(shake, a, b, world);
    }

    /// A connection is agreed on by all that are connected already: who is silent is noticed by that, and first.
    fn must_wait(&mut self, a: BoxId, b: BoxId, world: &World) -> bool {
        let mut all = self.component(a, world);
        all.extend(self.component(b, world));
        all.retain(|at| self.waits(*at));
        all.iter().for_each(|at| self.hurry(*at, world));
        !all.is_empty()
    }

    /// Both ends are told of a split brain before the link is given up.
    fn mind_split(&mut self, a: BoxId, b: BoxId, world: &World) {
        let (Some(first), Some(second)) = (self.side(a, b, world), self.side(b, a, world)) else { return };
        let majority = [a, b].iter().all(|at| self.nodes.get(at).is_some_and(|node| node.options.majority));
        if compare(&first, &second, world.nine, majority) != Verdict::SplitBrain {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let Some(node) = self.nodes.get_mut(&at) else { continue };
            let id = node.link_to(peer).map(|link| link.id);
            node.split.extend(id);
        }
    }

    /// `on-suspended-primary-outdated force-secondary`
    fn force_suspended(&mut self, at: BoxId) {
        let Some(node) = self.nodes.get(&at) else { return };
        if node.options.force_secondary && node.suspended_since.is_some() && node.role == Role::Primary {
            self.step_down(at, true);
        }
    }

    fn try_later(&mut self, a: BoxId, b: BoxId, world: &World) {
        for (at, peer) in [(a, b), (b, a)] {
            if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                link.retry_at = world.now_ms + RETRY_MS;
            }
        }
    }

    fn apply(&mut self, shake: Shake, a: BoxId, b: BoxId, world: &mut World) {
        match shake {
            Shake::Sync { source, target, full } => self.start_run(source, target, full, world),
            Shake::NoSync => self.level(a, b, world),
            Shake::Outdate(target) => {
                if let Some(node) = self.nodes.get_mut(&target) {
                    node.disk = DiskState::Outdated;
                }
            }
            Shake::Retry | Shake::GiveUp => {}
        }
    }

    /// After a handshake that found nothing to sync. A write that was on its way when the link went is sent again.
    fn level(&mut self, a: BoxId, b: BoxId, world: &mut World) {
        let (Some(one), Some(other)) = (self.nodes.get(&a), self.nodes.get(&b)) else { return };
        if one.disk < DiskState::Outdated || other.disk < DiskState::Outdated {
            return;
        }
        if one.md(&world.disks).map(|md| md.current) != other.md(&world.disks).map(|md| md.current) {
            return;
        }
        let (Some(mine), Some(theirs)) = (one.backing, other.backing) else { return };
        let content = |id| world.disks.get(id).map(|backing| backing.content).unwrap_or_default();
        let (at_one, at_other) = (content(mine), content(theirs));
        let first = match (one.role == Role::Primary, other.role == Role::Primary) {
            (true, false) => true,
            (false, true) => false,
            (true, true) | (false, false) => world.versions.descends(at_one, at_other),
        };
        let (from, to) = if first { (at_one, theirs) } else { (at_other, mine) };
        if let Some(backing) = world.disks.get_mut(to) {
            backing.content = from;
        }
        for (backing, at, peer) in [(mine, a, b), (theirs, b, a)] {
            let id = self.nodes.get(&at).and_then(|node| node.link_to(peer)).map_or(0, |link| link.id);
            if let Some(md) = world.disks.md_mut(Some(backing)) {
                md.clear_slot(id);
            }
        }
    }

    /// Connected pairs of which one has better data than the other: an offer to resync.
    pub(super) fn offers(&mut self, world: &mut World) -> bool {
        let mut pairs = Vec::new();
        for (&a, node) in &self.nodes {
            if node.disk < DiskState::Negotiating {
                continue;
            }
            for link in node.links.iter().filter(|l| l.repl == ReplicationState::Established) {
                let Some(b) = link.peer.filter(|b| a < *b && self.live(a, *b, world)) else { continue };
                let Some(other) = self.nodes.get(&b) else { continue };
                let attaching = node.disk == DiskState::Negotiating || other.disk == DiskState::Negotiating;
                let better = (node.disk == DiskState::UpToDate) != (other.disk == DiskState::UpToDate);
                let current = |node: &Node| node.md(&world.disks).map(|md| md.current);
                let differ = other.disk == DiskState::UpToDate && current(node) != current(other);
                if other.disk >= DiskState::Negotiating && (attaching || better || differ) {
                    pairs.push((a, b));
                }
            }
        }
        let mut any = false;
        pairs.retain(|(a, b)| !self.is_weak(*a, world) && !self.is_weak(*b, world));
        for (a, b) in pairs {
            let shake = self.shake(a, b, false, world);
            match shake {
                Shake::Sync { .. } | Shake::Outdate(_) => {
                    any = true;
                    self.apply(shake, a, b, world);
                }
                Shake::GiveUp | Shake::Retry => {
                    any = true;
                    let to = if shake == Shake::GiveUp {
                        ConnectionState::StandAlone
                    } else {
                        ConnectionState::Connecting
                    };
                    self.drop_end(a, b, to, world);
                    self.drop_end(b, a, to, world);
                    self.try_later(a, b, world);
                }
                Shake::NoSync => {}
            }
        }
        any | self.attached(world)
    }

    /// Attaching ends when all connected peers were compared with.
    fn attached(&mut self, world: &mut World) -> bool {
        let mut any = false;
        for node in self.nodes.values_mut().filter(|node| node.disk == DiskState::Negotiating) {
            node.disk = super::settle::disk_from_md(world.disks.md(node.backing));
            any = true;
        }
        any
    }

    fn side<'w>(&self, at: BoxId, peer: BoxId, world: &'w World) -> Option<Side<'w>> {
        let node = self.nodes.get(&at)?;
        let link = node.link_to(peer)?;
        let md = world.disks.md(node.backing)?;
        let attaching = node.disk == DiskState::Negotiating;
        let disk = if attaching { super::settle::disk_from_md(Some(md)) } else { node.disk };
        let (role, reconnect) = (node.role, link.reconnect);
        let (crashed, lost_quorum, quorum) = (node.crashed, node.lost_quorum, node.quorum);
        Some(Side { md, other: link.id, disk, role, reconnect, crashed, lost_quorum, quorum })
    }

    /// Connecting them would make a cluster with more than one Primary.
    fn too_many_primaries(&self, a: BoxId, b: BoxId, world: &World) -> bool {
        let mut all = self.component(a, world);
        all.extend(self.component(b, world));
        all.iter().filter(|at| self.nodes.get(at).is_some_and(|node| node.role == Role::Primary)).count() > 1
    }

    fn shake(&self, a: BoxId, b: BoxId, connecting: bool, world: &World) -> Shake {
        let (Some(one), Some(other)) = (self.nodes.get(&a), self.nodes.get(&b)) else { return Shake::Retry };
        let two_primaries = connecting && self.too_many_primaries(a, b, world);
        let refused = |retry| if retry { Shake::Retry } else { Shake::GiveUp };
        let retry = world.nine && one.options.retry_connect && other.options.retry_connect;
        let (Some(first), Some(second)) = (self.side(a, b, world), self.side(b, a, world)) else {
            if two_primaries {
                return refused(retry);
            }
            return if self.foreign(a, b, world) { Shake::GiveUp } else { Shake::NoSync };
        };
        let majority = one.options.majority && other.options.majority;
        let (source, target, full) = match compare(&first, &second, world.nine, majority) {
            Verdict::Same if two_primaries => return refused(retry),
            Verdict::Same => return Shake::NoSync,
            Verdict::SplitBrain | Verdict::Unrelated => return Shake::GiveUp,
            Verdict::First { full } => (a, b, full),
            Verdict::Second { full } => (b, a, full),
        };
        let (from, to) = if source == a { (&first, &second) } else { (&second, &first) };
        let attaching = self.nodes.get(&target).is_some_and(|node| node.disk == DiskState::Negotiating);
        if to.role == Role::Primary && to.disk >= DiskState::Consistent && !attaching {
            return refused(retry);
        }
        if two_primaries {
            return refused(retry);
        }
        if from.disk <= DiskState::Inconsistent {
            return if to.disk > DiskState::Outdated { Shake::Outdate(target) } else { Shake::NoSync };
        }
        Shake::Sync { source, target, full }
    }

    /// 8.4: a diskless Primary takes no data of another generation than it works on.
    fn foreign(&self, a: BoxId, b: BoxId, world: &World) -> bool {
        let odd = |at: BoxId, peer: BoxId| {
            let (Some(node), Some(peer)) = (self.nodes.get(&at), self.nodes.get(&peer)) else { return false };
            let current = peer.md(&world.disks).map(|md| md.current);
            node.role == Role::Primary
                && node.exposed != 0
                && node.disk == DiskState::Diskless
                && current.is_some_and(|current| current != node.exposed)
        };
        !world.nine && (odd(a, b) || odd(b, a))
    }

    /// How much is to be sent in a resync that is not a full one.
    pub(super) fn dirty_kib(&self, source: BoxId, target: BoxId, world: &World) -> u64 {
        let dirty = |at: BoxId, peer: BoxId| {
            let node = self.nodes.get(&at)?;
            let slot = node.md(&world.disks)?.slot(node.link_to(peer)?.id)?;
            Some(slot.dirty_kib)
        };
        let crashed = self.nodes.get(&target).is_some_and(|node| node.crashed);
        let log = if crashed { ACTIVITY_LOG_KIB } else { 0 };
        dirty(source, target).unwrap_or(0).max(dirty(target, source).unwrap_or(0)) + log
    }
}
