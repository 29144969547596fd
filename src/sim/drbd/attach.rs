//! A replica comes and goes: attach, detach, disks that die, sizes.

use super::{
    cluster::{Cluster, Link, World},
    disk::JUST_CREATED,
    link::HURRY_MS,
    types::{BackingId, BoxId},
};
use crate::core::drbd::{DiskState, ReplicationState, Role};

impl Cluster {
    /// `drbdsetup attach`. The error is the tool's words.
    pub(super) fn attach(
        &mut self,
        at: BoxId,
        id: BackingId,
        path: &str,
        world: &mut World,
    ) -> Result<(), String> {
        let Some(node) = self.nodes.get(&at) else { return Err("(127) Device minor not allocated".into()) };
        let node_size = node.size_kib;
        let links: Vec<(u8, bool)> = node.links.iter().map(|link| (link.id, link.client)).collect();
        let refused = node.links.iter().any(|link| {
            let peer = link.peer.and_then(|peer| self.nodes.get(&peer));
            link.is_up() && peer.and_then(|peer| peer.link_to(at)).is_some_and(|link| link.client)
        });
        if refused {
            return Err(
                "State change failed: (-10) State change was refused by peer node: Probably this node is \
                        marked as intentional diskless on a peer"
                    .into(),
            );
        }
        if self.waits(at) {
            return Err("State change failed: (-23) Timeout in operation".into());
        }
        let current = world.disks.md(Some(id)).map(|md| md.current);
        let stale = node.exposed != 0 && current.is_some_and(|current| current != node.exposed);
        if node.role == Role::Primary && stale && !node.has_data() {
            return Err("Failure: (150) Can only attach to the data we lost last (see kernel log).".into());
        }
        let met = node.links.iter().any(|link| link.is_up());
        let nine = world.nine;
        let Some(backing) = world.disks.get_mut(id) else { return Err(no_such(path)) };
        let usable = backing.usable_kib(nine);
        let Some(md) = backing.md.as_mut().filter(|_| !backing.failed) else {
            return Err("No valid meta data found".into());
        };
        let size_kib = match (md.size_kib, node_size) {
            (0, 0) => usable,
            (0, size) | (size, _) => size,
        };
        if usable < size_kib {
            return Err("(111) Low.dev. smaller than requested DRBD-dev. size.".into());
        }
        backing.attached = Some((self.index, at));
        for (peer, client) in links {
            md.slot_mut(peer).has_bitmap |= !client;
        }
        let members = md.members;
        let restore = md.have_quorum && md.up_to_date && !met;
        let (crashed, lost_quorum) = (md.crashed, md.lost_quorum);
        let Some(node) = self.nodes.get_mut(&at) else { return Ok(()) };
        for link in node.links.iter_mut().filter(|link| !link.is_up()) {
            if md.slot(link.id).is_some_and(|slot| slot.outdated) {
                link.disk = DiskState::Outdated;
            }
        }
        node.restore_quorum = restore && members == 1 << node.me;
        node.crashed = crashed && node.exposed == 0;
        node.lost_quorum = lost_quorum && !node.quorum;
        node.backing = Some(id);
        node.path = path.to_owned();
        node.client = false;
        node.size_kib = size_kib;
        node.told_kib = size_kib;
        node.disk = DiskState::Negotiating;
        for peer in self.live_peers(at, world) {
            self.agree_on_size(at, peer, world);
        }
        self.settle(world);
        Ok(())
    }

    /// The replica is let go of, in order (`client`) or because its disk died. Its metadata keeps what it says.
    pub(super) fn detach(&mut self, at: BoxId, client: bool, world: &mut World) {
        for peer in
            self.nodes.get(&at).map_or(Vec::new(), |n| n.links.iter().filter_map(|l| l.peer).collect())
        {
            self.stop_run(at, peer, world);
        }
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let Some(backing) = node.backing.take().and_then(|id| world.disks.get_mut(id)) else {
            node.client = client;
            return self.settle(world);
        };
        backing.attached = None;
        let primary = node.role == Role::Primary;
        if let Some(md) = backing.md.as_mut() {
            md.crashed = node.crashed || primary && !client;
            md.up_to_date &= !(primary && client);
        }
        node.disk = DiskState::Diskless;
        node.client = client;
        node.path.clear();
        if primary && node.links.iter().any(|link| link.disk == DiskState::UpToDate && link.is_up()) {
            self.bump(at, world);
        }
        self.settle(world);
    }

    /// The disk below failed: DRBD lets go of it, and a Primary begins a new generation elsewhere at once.
    pub(super) fn disk_failed(&mut self, at: BoxId, world: &mut World) {
        self.detach(at, false, world);
        let primaries: Vec<BoxId> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.role == Role::Primary && n.bump_due)
            .map(|(at, _)| *at)
            .collect();
        for primary in primaries {
            self.bump(primary, world);
        }
    }

    fn usable_kib(&self, at: BoxId, world: &World) -> Option<u64> {
        Some(world.disks.get(self.nodes.get(&at)?.backing?)?.usable_kib(world.nine))
    }

    fn is_fresh(&self, at: BoxId, world: &World) -> bool {
        let md = self.nodes.get(&at).and_then(|node| node.md(&world.disks));
        md.is_none_or(|md| md.current == JUST_CREATED)
    }

    /// Two that connect have one size. False: one's data does not fit on the other.
    pub(super) fn agree_on_size(&mut self, a: BoxId, b: BoxId, world: &mut World) -> bool {
        let size = |at: BoxId| self.nodes.get(&at).map_or(0, |node| node.size_kib);
        let agreed = match (self.usable_kib(a, world), self.usable_kib(b, world)) {
            (None, None) => return true,
            (Some(_), None) => self.through_diskless(a, b, world),
            (None, Some(_)) => self.through_diskless(b, a, world),
            (Some(fits_a), Some(fits_b)) => {
                let agreed = match (self.is_fresh(a, world), self.is_fresh(b, world)) {
                    (true, true) => size(a).min(size(b)),
                    (false, true) => size(a),
                    (true, false) => size(b),
                    (false, false) => size(a).max(size(b)),
                };
                if agreed > fits_a.min(fits_b) {
                    return false;
                }
                agreed
            }
        };
        let shrinks = |at: BoxId| {
            self.nodes
                .get(&at)
                .is_some_and(|n| n.backing.is_none() && n.role == Role::Primary && agreed < n.size_kib)
        };
        if shrinks(a) || shrinks(b) {
            return false;
        }
        let mut all = self.component(a, world);
        all.extend(self.component(b, world));
        let fits: Vec<u64> = all.iter().filter_map(|at| self.usable_kib(*at, world)).collect();
        // Who lost its disk still counts with the size that it had.
        let there = |at: &BoxId| {
            let Some(node) = self.nodes.get(at) else { return true };
            let linked = |link: &Link| link.client || link.peer.is_some_and(|peer| all.contains(&peer));
            (node.client || node.backing.is_some()) && node.links.iter().all(linked)
        };
        let grown = fits.iter().copied().min().filter(|_| world.nine && all.iter().all(there));
        self.set_size(all.into_iter(), grown.unwrap_or(agreed).max(agreed));
        true
    }

    /// What replicas agree on that so far only a diskless box connects: what fits on all, while nothing is on them.
    fn through_diskless(&self, diskful: BoxId, diskless: BoxId, world: &World) -> u64 {
        let size = self.nodes.get(&diskful).map_or(0, |node| node.size_kib);
        if !self.is_fresh(diskful, world) {
            return size;
        }
        let others = self.component(diskless, world);
        others
            .into_iter()
            .filter_map(|at| self.usable_kib(at, world))
            .min()
            .map_or(size, |fits| fits.min(size))
    }

    /// A replica with data never becomes smaller by whom it meets. A diskless box does (receive_sizes of 9.2.18).
    fn set_size(&mut self, boxes: impl Iterator<Item = BoxId>, size_kib: u64) {
        for at in boxes {
            if let Some(node) = self.nodes.get_mut(&at)
                && (node.disk < DiskState::Outdated || node.size_kib < size_kib)
            {
                node.size_kib = size_kib;
            }
        }
    }

    /// `drbdadm resize`. It does nothing unless all replicas are there and have grown.
    pub(super) fn resize(&mut self, at: BoxId, world: &mut World) -> Result<(), String> {
        let Some(node) = self.nodes.get(&at) else { return Err("(127) Device minor not allocated".into()) };
        if node.backing.is_none() {
            return Err("Failure: (138) Device does not have a disk-config".into());
        }
        let secondary = |link: &Link| link.is_up() && link.role == Role::Secondary;
        if !world.nine && node.role == Role::Secondary && node.links.iter().any(secondary) {
            return Err("Failure: (131) Need one Primary node to resize.".into());
        }
        let all = self.component(at, world);
        if self.runs.iter().any(|run| all.contains(&run.source) || all.contains(&run.target)) {
            return Err("Failure: (130) Resize not allowed during resync.".into());
        }
        let alone = node.options.nobody;
        let old = node.size_kib;
        let missing = all
            .iter()
            .filter_map(|at| self.nodes.get(at))
            .flat_map(|node| &node.links)
            .any(|link| !link.client && link.repl != ReplicationState::Established);
        let fits = all.iter().filter_map(|at| self.usable_kib(*at, world)).min().unwrap_or(0);
        let diskless =
            all.iter().filter_map(|at| self.nodes.get(at)).any(|n| n.backing.is_none() && !n.client);
        if missing && !alone || diskless || fits <= old {
            return Ok(());
        }
        self.set_size(all.iter().copied(), fits);
        self.grow_run(at, fits - old, world);
        self.settle(world);
        Ok(())
    }

    /// The new part goes from the Primary, or from where the lowest id is, to all others.
    fn grow_run(&mut self, at: BoxId, new_kib: u64, world: &mut World) {
        let all = self.component(at, world);
        let primary = all.iter().copied().find(|at| {
            self.nodes.get(at).is_some_and(|n| n.role == Role::Primary && n.disk == DiskState::UpToDate)
        });
        let Some(source) = primary.or_else(|| self.good(at, world).into_iter().min()) else { return };
        for target in self.good(source, world).into_iter().filter(|target| *target != source) {
            let id = self.nodes.get(&source).and_then(|node| node.link_to(target)).map_or(0, |link| link.id);
            let backing = self.nodes.get(&source).and_then(|node| node.backing);
            if let Some(md) = world.disks.md_mut(backing) {
                md.slot_mut(id).dirty_kib = new_kib;
            }
            self.start_run(source, target, false, world);
        }
    }

    /// How long a command that asks all peers takes at least: until the silent ones are noticed.
    pub(super) fn answers_ms(&self, at: BoxId, world: &World) -> Option<u64> {
        let silent = self.nodes.get(&at)?.links.iter().filter_map(|link| link.lost_at);
        Some(silent.map(|when| when.min(world.now_ms + HURRY_MS)).max().unwrap_or(world.now_ms))
    }
}

pub(super) fn no_such(path: &str) -> String {
    format!("open({path}) failed: No such file or directory")
}
