//! Generations and resyncs: a new generation begun, a resync begun, broken off and ended.

use super::{
    cluster::{Cluster, Run, World},
    disk::JUST_CREATED,
    types::BoxId,
};
use crate::core::drbd::{DiskState, ReplicationState, Role};

impl Cluster {
    /// Begins a resync, or makes it wait for another one of the same target.
    pub(super) fn start_run(&mut self, source: BoxId, target: BoxId, full: bool, world: &mut World) {
        let ids = |at: BoxId, peer: BoxId| Some(self.nodes.get(&at)?.link_to(peer)?.id);
        let (Some(of_target), Some(of_source)) = (ids(source, target), ids(target, source)) else { return };
        let dirty = self.dirty_kib(source, target, world);
        let new = world.new_id();
        let (Some(from), Some(to)) = (self.nodes.get(&source), self.nodes.get(&target)) else { return };
        let (from_backing, to_backing, size_kib) = (from.backing, to.backing, from.size_kib);
        let left_kib = if full { size_kib } else { dirty.min(size_kib) }.max(4);
        let Some(md) = world.disks.md_mut(to_backing) else { return };
        if md.current == JUST_CREATED {
            md.current = new;
            md.filling = true;
        }
        let goal = md.current;
        md.slot_mut(of_source).dirty_kib = 0;
        let Some(md) = world.disks.md_mut(from_backing) else { return };
        let bitmap = if goal == md.current { 0 } else { goal };
        let slot = md.slot_mut(of_target);
        (slot.bitmap, slot.dirty_kib) = (bitmap, left_kib);
        let since_ms = world.now_ms;
        let run = Run { source, target, total_kib: left_kib, left_kib, since_ms, active: false };
        self.runs.push(run);
        if let Some(node) = self.nodes.get_mut(&target) {
            node.disk = DiskState::Inconsistent;
        }
        self.choose_runs(world);
    }

    /// Of several resyncs with one target one goes on and the rest wait.
    pub(super) fn choose_runs(&mut self, world: &World) {
        let runs = self.runs.clone();
        for (at, run) in runs.iter().enumerate() {
            let same = runs.iter().enumerate().filter(|(_, other)| other.target == run.target);
            let rank = |r: &Run| {
                let primary = self.nodes.get(&r.source).is_some_and(|node| node.role == Role::Primary);
                (!r.active, !primary, r.source)
            };
            let best = same.min_by_key(|(_, other)| rank(other)).map(|(at, _)| at);
            let may = (run.active || !self.waits(run.target)) && !self.is_weak(run.target, world);
            let source = self.nodes.get(&run.source).map(|node| node.disk);
            let may = may && source.is_some_and(|disk| disk > DiskState::Inconsistent);
            let active = best == Some(at) && may && self.live(run.source, run.target, world);
            if active != run.active {
                let left_kib = run.left_now_kib(world);
                self.runs[at] = Run { active, left_kib, since_ms: world.now_ms, ..*run };
            }
        }
        for run in self.runs.clone() {
            let (at_source, at_target, why) = if run.active {
                (ReplicationState::SyncSource, ReplicationState::SyncTarget, ("no", "no"))
            } else {
                (ReplicationState::PausedSyncS, ReplicationState::PausedSyncT, ("peer", "dependency"))
            };
            let ends =
                [(run.source, run.target, at_source, why.0), (run.target, run.source, at_target, why.1)];
            for (at, peer, repl, why) in ends {
                if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                    (link.repl, link.paused) = (repl, why);
                }
            }
        }
    }

    /// A resync is broken off; what is left stays marked.
    pub(super) fn stop_run(&mut self, a: BoxId, b: BoxId, world: &mut World) {
        let Some(at) = self.run_of(a, b) else { return };
        let run = self.runs.remove(at);
        let left = run.left_now_kib(world).max(4);
        let source = self.nodes.get(&run.source);
        let id = source.and_then(|node| node.link_to(run.target)).map(|link| link.id);
        let backing = source.and_then(|node| node.backing);
        if let Some((md, id)) = world.disks.md_mut(backing).zip(id) {
            let slot = md.slot_mut(id);
            slot.dirty_kib = slot.dirty_kib.min(left).max(4);
        }
        for (at, peer) in [(a, b), (b, a)] {
            if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                (link.repl, link.paused) = (ReplicationState::Established, "no");
            }
        }
    }

    /// Ends the resyncs that are through.
    pub(super) fn end_due_runs(&mut self, world: &mut World) -> bool {
        let mut any = false;
        while let Some(at) = self.runs.iter().position(|r| r.active && r.left_now_kib(world) == 0) {
            any = true;
            let run = self.runs.remove(at);
            self.end_run(run, world);
            self.choose_runs(world);
        }
        any
    }

    fn end_run(&mut self, run: Run, world: &mut World) {
        let (Some(from), Some(to)) = (self.nodes.get(&run.source), self.nodes.get(&run.target)) else {
            return;
        };
        let (source_id, target_id) = match (to.link_to(run.source), from.link_to(run.target)) {
            (Some(to_source), Some(to_target)) => (to_source.id, to_target.id),
            (Some(_) | None, _) => return,
        };
        let (from_backing, to_backing, disk) = (from.backing, to.backing, from.disk);
        let (Some(from_id), Some(to_id)) = (from_backing, to_backing) else { return };
        let Some(md) = world.disks.md_mut(from_backing) else { return };
        md.clear_slot(target_id);
        md.crashed &= from.role == Role::Primary;
        let source_md = md.clone();
        let content = world.disks.get(from_id).map(|backing| backing.content).unwrap_or_default();
        let Some(backing) = world.disks.get_mut(to_id) else { return };
        backing.content = content;
        let Some(md) = backing.md.as_mut() else { return };
        let old = md.current;
        md.remember(old);
        md.current = source_md.current;
        md.begun |= source_md.begun;
        for id in source_md.history.iter().rev() {
            md.remember(*id);
        }
        md.clear_slot(source_id);
        if world.nine {
            for other in source_md.slots.iter().filter(|slot| slot.id != target_id && slot.id != source_id) {
                let slot = md.slot_mut(other.id);
                (slot.bitmap, slot.dirty_kib) = (other.bitmap, other.dirty_kib);
            }
        } else {
            md.slot_mut(source_id).bitmap = 0;
        }
        (md.crashed, md.filling) = (false, false);
        if let Some(node) = self.nodes.get_mut(&run.target) {
            (node.disk, node.crashed, node.lost_quorum) = (disk, false, false);
        }
        if let Some(node) = self.nodes.get_mut(&run.source) {
            node.crashed = false;
        }
        self.establish(run);
        self.satisfied(run.target, source_md.current, world);
    }

    fn establish(&mut self, run: Run) {
        for (at, peer) in [(run.source, run.target), (run.target, run.source)] {
            if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
                (link.repl, link.paused) = (ReplicationState::Established, "no");
            }
        }
    }

    /// Resyncs of the same target that waited have nothing left to send, if they have the same generation.
    fn satisfied(&mut self, target: BoxId, current: u64, world: &mut World) {
        for run in self.runs.clone().into_iter().filter(|run| run.target == target) {
            let Some(node) = self.nodes.get(&run.source) else { continue };
            let content =
                |at| self.nodes.get(&at)?.backing.and_then(|id| world.disks.get(id)).map(|b| b.content);
            let same = node.md(&world.disks).map(|md| md.current) == Some(current);
            if !same || content(run.source) != content(target) {
                if let Some(node) = self.nodes.get_mut(&target) {
                    node.disk = DiskState::Inconsistent;
                }
                continue;
            }
            let id = node.link_to(target).map_or(0, |link| link.id);
            if let Some(md) = world.disks.md_mut(node.backing) {
                md.clear_slot(id);
            }
            self.runs.retain(|other| *other != run);
            self.establish(run);
        }
    }

    /// A Primary lost a peer that had all data: with the next write a new generation begins.
    pub(super) fn lost_data(&mut self, at: BoxId, world: &mut World) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.bump_due = true;
        if !world.nine && node.suspended_since.is_none() {
            self.bump(at, world);
        }
    }

    /// Begins a new generation at a Primary and at all replicas that it writes, if any other replica lacks it.
    pub(super) fn bump(&mut self, at: BoxId, world: &mut World) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.bump_due = false;
        if !world.nine {
            return self.bump_84(at, world);
        }
        let good = self.good(at, world);
        let ids: Vec<u8> = good.iter().filter_map(|at| Some(self.nodes.get(at)?.me)).collect();
        let new = world.new_id();
        let mut needed = false;
        for good in &good {
            let Some(node) = self.nodes.get(good) else { continue };
            let Some(md) = world.disks.md_mut(node.backing) else { continue };
            let old = md.current;
            let mut kept = false;
            for slot in md.slots.iter_mut().filter(|s| s.has_bitmap && !ids.contains(&s.id)) {
                if slot.bitmap == 0 || slot.bitmap == old {
                    slot.bitmap = old;
                    kept = true;
                }
            }
            needed |= kept || !md.begun;
            if !md.begun && !kept {
                md.remember(old);
            }
            md.begun = true;
        }
        if !needed {
            return;
        }
        for at in &good {
            let backing = self.nodes.get(at).and_then(|node| node.backing);
            if let Some(md) = world.disks.md_mut(backing) {
                let old = md.current;
                md.current = new;
                if !md.slots.iter().any(|slot| slot.bitmap == old) {
                    md.remember(old);
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&at) {
            node.exposed = new;
        }
    }

    fn bump_84(&mut self, at: BoxId, world: &mut World) {
        let new = world.new_id();
        // Without a disk of its own it is the peer that begins it.
        let Some(holder) = self.good(at, world).first().copied() else { return };
        let Some(node) = self.nodes.get(&holder) else { return };
        let Some(md) = world.disks.md_mut(node.backing) else { return };
        if md.bitmap(0) == 0 {
            let old = if md.current == JUST_CREATED { new + 1 } else { md.current };
            md.slot_mut(0).bitmap = old;
            md.current = new;
            if let Some(node) = self.nodes.get_mut(&at) {
                node.exposed = new;
            }
        }
    }

    /// The boxes whose replicas a box writes and that are UpToDate.
    pub(super) fn good(&self, at: BoxId, world: &World) -> Vec<BoxId> {
        let is_good = |at: &BoxId| {
            self.nodes.get(at).is_some_and(|n| n.disk == DiskState::UpToDate && n.backing.is_some())
        };
        let mut found: Vec<BoxId> = Some(at).into_iter().filter(is_good).collect();
        found.extend(self.live_peers(at, world).into_iter().filter(is_good));
        found
    }
}
