//! Roles, the first copy, and the way out of the kernel.

use std::collections::BTreeSet;

use super::{
    cluster::{Cluster, World},
    disk::JUST_CREATED,
    types::BoxId,
};
use crate::core::drbd::{ConnectionState, DiskState, ReplicationState, Role};

/// What the kernel answers, with the exit code of the tool.
pub(super) type Answer = Result<(), (u8, &'static str)>;

const TWO_PRIMARIES: (u8, &str) = (11, "State change failed: (-1) Multiple primaries not allowed by config");
const NO_DATA: (u8, &str) = (17, "State change failed: (-2) Need access to UpToDate data");
const HELD_OPEN: (u8, &str) = (11, "State change failed: (-12) Device is held open by someone");
const TIMEOUT: (u8, &str) = (11, "State change failed: (-23) Timeout in operation");
const NO_QUORUM: (u8, &str) = (11, "State change failed: (-25) No quorum");
const CONNECTED: (u8, &str) = (10, "Failure: (151) Need to be StandAlone");
const NO_MINOR: (u8, &str) = (10, "Failure: (127) Device minor not allocated");

impl Cluster {
    /// Whether the box may be Primary, as all would answer. Silent peers are hurried.
    fn may_promote(&mut self, at: BoxId, force: bool, world: &mut World) -> Answer {
        for asked in self.asked(at, world) {
            self.hurry(asked, world);
        }
        self.settle(world);
        let boxes = self.asked(at, world);
        let Some(node) = self.nodes.get(&at) else { return Err(NO_MINOR) };
        if boxes.iter().any(|asked| self.waits(*asked)) {
            return Err(TIMEOUT);
        }
        if node.fail_io {
            return Err(HELD_OPEN);
        }
        let primary = |other: &BoxId| self.nodes.get(other).is_some_and(|n| n.role == Role::Primary);
        if boxes.iter().any(|other| *other != at && primary(other)) {
            return Err(TWO_PRIMARIES);
        }
        let forced = force && node.disk >= DiskState::Inconsistent;
        if !node.has_data() && !forced {
            return Err(NO_DATA);
        }
        if !node.quorum && !force {
            return Err(NO_QUORUM);
        }
        Ok(())
    }

    /// Whom a change of role is asked of.
    fn asked(&self, at: BoxId, world: &World) -> BTreeSet<BoxId> {
        if world.nine {
            return self.component(at, world);
        }
        self.live_peers(at, world).into_iter().chain([at]).collect()
    }

    /// `primary`
    pub(super) fn promote(&mut self, at: BoxId, auto: bool, world: &mut World) -> Answer {
        if self.nodes.get(&at).is_some_and(|node| node.role == Role::Primary) {
            return Ok(());
        }
        self.may_promote(at, false, world)?;
        self.become_primary(at, auto, world);
        Ok(())
    }

    fn become_primary(&mut self, at: BoxId, auto: bool, world: &mut World) {
        let alone = self.good(at, world).len() < 2;
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.role = Role::Primary;
        node.auto_promoted = auto;
        node.bump_due = world.nine;
        node.crashed = false;
        node.exposed = if node.disk == DiskState::Diskless { node.exposed } else { 0 };
        if !world.nine && alone {
            self.bump(at, world);
        }
        // Who is reached only by way of others agrees to be outdated.
        let reached = self.component(at, world);
        if let Some(node) = self.nodes.get_mut(&at).filter(|_| world.nine) {
            let links = node.links.iter_mut().filter(|link| link.disk == DiskState::DUnknown && !link.client);
            for link in links.filter(|link| link.peer.is_some_and(|peer| reached.contains(&peer))) {
                link.disk = DiskState::Outdated;
            }
        }
        self.settle(world);
    }

    /// `secondary`, by force too.
    pub(super) fn demote(&mut self, at: BoxId, force: bool, world: &mut World) -> Answer {
        let Some(node) = self.nodes.get(&at) else { return Err(NO_MINOR) };
        if node.role != Role::Primary {
            return Ok(());
        }
        if node.openers > 0 && !force {
            return Err(HELD_OPEN);
        }
        self.step_down(at, force);
        self.settle(world);
        Ok(())
    }

    /// What the state change does; `settle` is to follow.
    pub(super) fn step_down(&mut self, at: BoxId, force: bool) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.role = Role::Secondary;
        node.auto_promoted = false;
        node.bump_due = false;
        node.exposed = if node.disk == DiskState::Diskless { node.exposed } else { 0 };
        node.fail_io = force && node.openers > 0;
        node.unanswered = None;
        node.through = false;
        node.doomed = false;
    }

    /// What `edge/drbd.rs` does to make the first copy UpToDate, by `new-current-uuid --clear-bitmap`.
    pub(super) fn clear_bitmap(&mut self, at: BoxId, world: &mut World) -> Answer {
        let Some(node) = self.nodes.get(&at) else { return Err(NO_MINOR) };
        let fresh = |at: BoxId| {
            let md = self.nodes.get(&at).and_then(|node| node.md(&world.disks));
            md.is_some_and(|md| md.current == JUST_CREATED)
        };
        let mut equal = vec![at];
        for link in &node.links {
            let skips = link.repl == ReplicationState::Established && fresh(at);
            let alone = match world.nine {
                true => link.repl == ReplicationState::Off,
                false => link.state == ConnectionState::StandAlone,
            };
            match link.peer {
                Some(peer) if skips && link.disk >= DiskState::Inconsistent => equal.push(peer),
                Some(_) | None if skips || alone => {}
                Some(_) | None => return Err(CONNECTED),
            }
        }
        let new = world.new_id();
        for other in equal.clone() {
            let ids: Vec<u8> = equal.iter().filter_map(|at| Some(self.nodes.get(at)?.me)).collect();
            let Some(node) = self.nodes.get_mut(&other) else { continue };
            let Some(md) = world.disks.md_mut(node.backing) else { continue };
            md.current = new;
            for slot in md.slots.iter_mut().filter(|slot| !world.nine || ids.contains(&slot.id)) {
                (slot.bitmap, slot.dirty_kib) = (0, 0);
            }
            node.disk = DiskState::UpToDate;
        }
        self.settle(world);
        Ok(())
    }

    /// `primary --force`; the caller demotes.
    pub(super) fn force_primary(&mut self, at: BoxId, world: &mut World) -> Answer {
        self.may_promote(at, true, world)?;
        let new = world.new_id();
        let Some(node) = self.nodes.get_mut(&at) else { return Err(NO_MINOR) };
        if !node.quorum {
            for link in node.links.iter_mut().filter(|link| !link.is_up() && !link.client) {
                link.disk = DiskState::Outdated;
            }
        }
        let size_kib = node.size_kib;
        if let Some(md) = world.disks.md_mut(node.backing).filter(|_| node.disk != DiskState::UpToDate) {
            let old = if md.current == JUST_CREATED { new + 1 } else { md.current };
            for slot in md.slots.iter_mut().filter(|slot| slot.has_bitmap) {
                (slot.bitmap, slot.dirty_kib) = (old, size_kib);
            }
            md.current = new;
            md.begun = true;
            node.disk = DiskState::UpToDate;
        }
        self.become_primary(at, false, world);
        Ok(())
    }

    /// `down`, after the demotion.
    pub(super) fn down(&mut self, at: BoxId, world: &mut World) -> Result<(), String> {
        let peers: Vec<BoxId> =
            self.nodes.get(&at).map_or(Vec::new(), |node| node.links.iter().filter_map(|l| l.peer).collect());
        for peer in peers {
            self.disconnect_politely(at, peer, world)?;
        }
        self.forget(at, world);
        self.settle(world);
        Ok(())
    }

    /// The kernel has it no more.
    pub(super) fn forget(&mut self, at: BoxId, world: &mut World) {
        let peers: Vec<BoxId> =
            self.nodes.get(&at).map_or(Vec::new(), |node| node.links.iter().filter_map(|l| l.peer).collect());
        for peer in peers {
            self.stop_run(at, peer, world);
        }
        if let Some(node) = self.nodes.remove(&at) {
            if let Some(backing) = node.backing.and_then(|id| world.disks.get_mut(id)) {
                backing.attached = None;
            }
            if !node.changed {
                self.changed.push(at);
            }
        }
    }
}
