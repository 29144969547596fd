//! Quorum on DRBD 9, as `calc_quorum` of drbd_state.c has it: who is there, who is known not to count, and tie-breakers.
//!
//! What must not go in: what follows from it for I/O and roles (io.rs, acts.rs).

use super::{
    cluster::{Cluster, Node, World},
    types::BoxId,
};
use crate::core::drbd::{DiskState, Role};

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

#[derive(Default)]
struct Count {
    outdated: usize,
    quorumless: usize,
    unknown: usize,
    up_to_date: usize,
    present: usize,
    diskless: usize,
    missing_diskless: usize,
    quorate_peers: usize,
}

impl Cluster {
    /// calc_quorum of drbd_state.c.
    pub(super) fn has_quorum(&self, node: &Node, world: &World) -> bool {
        if !node.options.majority {
            return true;
        }
        let mut c = self.count(node, world);
        let voters = c.outdated + c.quorumless + c.unknown + c.up_to_date + c.present;
        if c.outdated + c.quorumless + c.unknown >= majority(voters) {
            c.unknown += std::mem::take(&mut c.quorumless);
        }
        let here = c.up_to_date + c.present;
        let voters = if c.unknown > 0 { c.outdated + c.quorumless + c.unknown + here } else { here };
        let needed = majority(voters);
        let tie = voters != 0 && voters % 2 == 0 && here + 1 == needed;
        let tie_breakers = c.diskless >= majority(c.diskless + c.missing_diskless);
        c.quorate_peers > 0 || here >= needed || (tie && tie_breakers && node.quorum)
    }

    fn count(&self, node: &Node, world: &World) -> Count {
        let mut c = Count::default();
        let old_members = |id: u8| !node.quorum || node.members & (1 << id) != 0;
        let away = |c: &mut Count, client: bool, outdated: bool, id: u8| match (client, outdated) {
            (true, _) => c.missing_diskless += 1,
            (false, true) => c.outdated += 1,
            (false, false) if !old_members(id) => c.quorumless += 1,
            (false, false) => c.unknown += 1,
        };
        let here = |c: &mut Count, disk: DiskState, diskless: bool| match disk {
            DiskState::Diskless if diskless => c.diskless += 1,
            DiskState::UpToDate => c.up_to_date += 1,
            DiskState::Diskless
            | DiskState::Attaching
            | DiskState::Detaching
            | DiskState::Failed
            | DiskState::Negotiating
            | DiskState::Inconsistent
            | DiskState::Outdated
            | DiskState::DUnknown
            | DiskState::Consistent
            | DiskState::Other => c.present += 1,
        };
        let Some(md) = node.md(&world.disks) else {
            if node.client {
                c.diskless += 1
            } else {
                c.unknown += 1
            }
            for link in &node.links {
                if link.is_up() {
                    here(&mut c, link.disk, true);
                    let peer = link.peer.and_then(|peer| self.nodes.get(&peer));
                    c.quorate_peers +=
                        usize::from(link.disk == DiskState::UpToDate && peer.is_some_and(|peer| peer.quorum));
                } else {
                    away(&mut c, link.client, link.disk <= DiskState::Outdated, link.id);
                }
            }
            return c;
        };
        here(&mut c, node.disk, false);
        for slot in md.slots.iter().filter(|s| s.has_bitmap || s.exists || s.seen) {
            match node.link(slot.id) {
                Some(link) if link.is_up() => here(&mut c, link.disk, link.client),
                Some(link) => {
                    away(&mut c, link.client, link.disk <= DiskState::Outdated || slot.outdated, slot.id);
                }
                None => away(&mut c, !slot.seen, slot.outdated, slot.id),
            }
        }
        c
    }

    /// Works out everyone's quorum, and who of the others was there at last.
    pub(super) fn quorums(&mut self, world: &mut World) -> bool {
        let mut any = false;
        let boxes: Vec<BoxId> = self.nodes.keys().copied().collect();
        for at in boxes {
            let Some(node) = self.nodes.get(&at) else { continue };
            let restored = node.restore_quorum && node.disk == DiskState::UpToDate;
            let quorum = self.has_quorum(node, world) || restored;
            let silent = self.waits(at);
            let reached = self.component(at, world);
            let reached = reached.iter().filter_map(|at| Some(1 << self.nodes.get(at)?.me));
            let members: u32 = reached.fold(0, |bits, bit: u32| bits | bit);
            let Some(node) = self.nodes.get_mut(&at) else { continue };
            if quorum != node.quorum {
                any = true;
                node.quorum = quorum;
                node.lost_quorum = !quorum && node.role == Role::Primary;
                node.doomed |=
                    !quorum && !node.options.suspend_io && node.unanswered.is_some() && !node.through;
            }
            let suspended = node.options.suspend_io && !quorum;
            if suspended != node.suspended_since.is_some() {
                node.suspended_since = suspended.then_some(world.now_ms);
            }
            // The boxes agree on who is there only if all that are connected answer.
            if !silent && members != node.members {
                node.members = members;
                any = true;
            }
        }
        any
    }
}
