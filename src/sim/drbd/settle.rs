//! What follows from a change, worked out until nothing follows any more: what each box sees of its peers, quorum, who
//! is outdated, which resync runs, and what events tell.

use super::{
    cluster::{Cluster, Told, World},
    disk::Md,
    types::BoxId,
};
use crate::core::drbd::{DiskState, ReplicationState, Role};

/// More rounds than any change needs.
const ROUNDS: usize = 12;
/// While a resync runs DRBD 9 tells its progress about once in that time.
const PROGRESS_MS: u64 = 1000;

/// The state in which a replica comes up.
pub(super) fn disk_from_md(md: Option<&Md>) -> DiskState {
    match md {
        None => DiskState::Diskless,
        Some(md) if !md.consistent => DiskState::Inconsistent,
        Some(md) if !md.up_to_date => DiskState::Outdated,
        Some(_) => DiskState::UpToDate,
    }
}

impl Cluster {
    /// To be called after every change but a write.
    pub(super) fn settle(&mut self, world: &mut World) {
        for _ in 0..ROUNDS {
            let mut again = self.watch(world);
            self.look_at_peers(world);
            again |= self.offers(world);
            self.choose_runs(world);
            self.look_at_peers(world);
            again |= self.doubt(world);
            again |= self.outdate_weak(world);
            again |= self.upgrade(world);
            again |= self.quorums(world);
            if !again {
                break;
            }
        }
        self.reconcile(world);
        self.persist(world);
        self.prepare_io(world);
        if self.complete_writes(world) {
            self.prepare_io(world);
        }
        self.tell();
        self.plan(world);
    }

    /// What is heard of the peers.
    fn look_at_peers(&mut self, world: &mut World) {
        let mut lost = Vec::new();
        let boxes: Vec<BoxId> = self.nodes.keys().copied().collect();
        for &at in &boxes {
            self.trust(at, world);
            for peer in self.live_peers(at, world) {
                let Some(other) = self.nodes.get(&peer) else { continue };
                let (role, mut disk) = (other.role, other.disk);
                let current = other.md(&world.disks).map_or(0, |md| md.current);
                let Some(node) = self.nodes.get(&at) else { continue };
                let blind = world.nine && node.disk == DiskState::Diskless && node.exposed != 0;
                if blind && disk == DiskState::UpToDate && current != node.exposed {
                    disk = DiskState::Consistent; // of another generation than is trusted here
                }
                let Some(node) = self.nodes.get_mut(&at) else { continue };
                let primary = node.role == Role::Primary;
                let Some(link) = node.link_to_mut(peer) else { continue };
                if primary && link.disk == DiskState::UpToDate && disk != DiskState::UpToDate {
                    lost.push(at);
                }
                (link.role, link.disk) = (role, disk);
            }
        }
        for at in lost {
            self.lost_data(at, world);
        }
    }

    /// 9: of peers with different generations a box without a disk trusts one: the one it works on while it is Primary,
    /// else one that no other knows as older, if it can the one that it trusted before, or one that has quorum.
    fn trust(&mut self, at: BoxId, world: &World) {
        let Some(node) = self.nodes.get(&at) else { return };
        if !world.nine || node.disk != DiskState::Diskless || node.role == Role::Primary && node.exposed != 0
        {
            return;
        }
        let good = self.good(at, world).into_iter().filter_map(|peer| {
            let peer = self.nodes.get(&peer)?;
            Some((peer.quorum, peer.md(&world.disks)?))
        });
        let good: Vec<(bool, &Md)> = good.collect();
        let older = |id: u64| {
            good.iter().any(|(_, md)| md.history.contains(&id) || md.slots.iter().any(|s| s.bitmap == id))
        };
        let mut ids: Vec<(bool, bool, bool, u64)> = good
            .iter()
            .map(|(quorum, md)| (older(md.current), md.current != node.exposed, !quorum, md.current))
            .collect();
        ids.sort();
        let trusted = ids.first().map_or(0, |(_, _, _, id)| *id);
        if let Some(node) = self.nodes.get_mut(&at) {
            node.exposed = trusted;
        }
    }

    /// 9: next to a Primary that works on another generation and has no disk to compare with, nobody is UpToDate.
    fn doubt(&mut self, world: &World) -> bool {
        let mut found = Vec::new();
        for (&at, node) in self.nodes.iter().filter(|(_, n)| world.nine && n.disk >= DiskState::Consistent) {
            let current = node.md(&world.disks).map(|md| md.current);
            let stranger = |peer: &BoxId| {
                self.nodes.get(peer).is_some_and(|peer| {
                    let diskless = peer.role == Role::Primary && peer.disk == DiskState::Diskless;
                    diskless && peer.exposed != 0 && current != Some(peer.exposed)
                })
            };
            let doubtful = self.live_peers(at, world).iter().any(stranger);
            let disk = if doubtful { DiskState::Consistent } else { DiskState::UpToDate };
            if node.disk != disk {
                found.push((at, disk));
            }
        }
        for (at, disk) in &found {
            if let Some(node) = self.nodes.get_mut(at) {
                node.disk = *disk;
            }
        }
        !found.is_empty()
    }

    /// Who is connected to a Primary (one with quorum) only by way of others misses its writes.
    fn outdate_weak(&mut self, world: &World) -> bool {
        let mut any = false;
        let primaries: Vec<BoxId> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.role == Role::Primary && n.has_data() && n.quorum)
            .map(|(at, _)| *at)
            .collect();
        for primary in primaries.into_iter().filter(|at| !self.waits(*at)).collect::<Vec<_>>() {
            for at in self.component(primary, world).into_iter().filter(|at| *at != primary) {
                let Some(node) = self.nodes.get_mut(&at) else { continue };
                if node.link_to(primary).is_some_and(|link| link.is_up()) || node.role == Role::Primary {
                    continue;
                }
                if node.disk >= DiskState::Consistent {
                    node.disk = DiskState::Outdated;
                    any = true;
                }
            }
        }
        any
    }

    /// Some Primary is in reach only by way of others, so its writes do not come here: no resync makes this one good now.
    pub(super) fn is_weak(&self, at: BoxId, world: &World) -> bool {
        let Some(node) = self.nodes.get(&at) else { return false };
        let away = |other: BoxId| other != at && node.link_to(other).is_none_or(|link| !link.is_up());
        let primary =
            |other: &BoxId| self.nodes.get(other).is_some_and(|n| n.role == Role::Primary && n.quorum);
        self.component(at, world).into_iter().any(|other| primary(&other) && away(other))
    }

    /// An outdated replica that turns out to be equal to a good one is good.
    fn upgrade(&mut self, world: &World) -> bool {
        let mut good = Vec::new();
        for (&at, node) in &self.nodes {
            if node.disk != DiskState::Outdated {
                continue;
            }
            let current = node.md(&world.disks).map(|md| md.current);
            let equal = |peer: &BoxId| {
                self.nodes.get(peer).is_some_and(|p| {
                    p.disk == DiskState::UpToDate && p.md(&world.disks).map(|md| md.current) == current
                }) && node.link_to(*peer).is_some_and(|l| l.repl == ReplicationState::Established)
            };
            if !self.is_weak(at, world) && self.live_peers(at, world).iter().any(equal) {
                good.push(at);
            }
        }
        for at in &good {
            if let Some(node) = self.nodes.get_mut(at) {
                node.disk = DiskState::UpToDate;
            }
        }
        !good.is_empty()
    }

    /// After a Primary vanished: what reached only some of the replicas that are left is given to all of them.
    fn reconcile(&mut self, world: &mut World) {
        let mut pairs = Vec::new();
        for (&a, node) in self.nodes.iter().filter(|(_, n)| n.disk == DiskState::UpToDate) {
            if node.role == Role::Primary || node.links.iter().any(|link| link.role == Role::Primary) {
                continue;
            }
            for b in self.live_peers(a, world) {
                let Some(other) = self.nodes.get(&b).filter(|n| n.disk == DiskState::UpToDate) else {
                    continue;
                };
                let quiet = !other.links.iter().any(|link| link.role == Role::Primary);
                let equal =
                    node.md(&world.disks).map(|m| m.current) == other.md(&world.disks).map(|m| m.current);
                if quiet && equal {
                    pairs.extend(node.backing.zip(other.backing));
                }
            }
        }
        for (one, other) in pairs {
            let content = |id| world.disks.get(id).map(|backing| backing.content).unwrap_or_default();
            let (newer, older) = (content(one), content(other));
            if newer != older
                && world.versions.descends(newer, older)
                && let Some(backing) = world.disks.get_mut(other)
            {
                backing.content = newer;
            }
        }
    }

    /// What the metadata keeps of the states.
    fn persist(&mut self, world: &mut World) {
        for node in self.nodes.values() {
            let Some(md) = world.disks.md_mut(node.backing) else { continue };
            if node.disk >= DiskState::Inconsistent {
                md.consistent = node.disk > DiskState::Inconsistent;
                md.up_to_date = node.disk > DiskState::Outdated;
            }
            md.crashed = node.crashed || node.role == Role::Primary;
            (md.lost_quorum, md.have_quorum, md.members) = (node.lost_quorum, node.quorum, node.members);
            md.size_kib = node.size_kib;
            for link in &node.links {
                let Some(slot) = md.slots.iter_mut().find(|slot| slot.id == link.id) else { continue };
                let told = link.disk >= DiskState::Inconsistent;
                slot.outdated = told && link.disk <= DiskState::Outdated;
                slot.seen |= told && link.disk != DiskState::DUnknown;
                slot.seen &= !(link.client && link.disk == DiskState::Diskless);
            }
        }
    }

    /// What I/O needs to know, so that a write does no more than write.
    fn prepare_io(&mut self, world: &World) {
        let boxes: Vec<BoxId> = self.nodes.keys().copied().collect();
        for at in boxes {
            let trusted = |peer: &BoxId| {
                let link = self.nodes.get(&at).and_then(|node| node.link_to(*peer));
                *peer == at || link.is_some_and(|link| link.disk == DiskState::UpToDate)
            };
            let good = self.good(at, world);
            let reach: Vec<_> = good
                .iter()
                .filter(|peer| trusted(peer))
                .filter_map(|at| self.nodes.get(at)?.backing)
                .collect();
            let Some(node) = self.nodes.get_mut(&at) else { continue };
            let diskful = |link: &&super::cluster::Link| link.disk >= DiskState::Inconsistent;
            node.waits = node.links.iter().filter(diskful).any(|link| link.lost_at.is_some());
            let lacks = |md: &Md| md.slots.iter().filter(|slot| slot.has_bitmap).count() + 1 > reach.len();
            node.lacking = reach.iter().any(|id| world.disks.md(Some(*id)).is_some_and(lacks));
            node.reach = reach;
            if node.role == Role::Primary && node.exposed == 0 {
                let current =
                    node.reach.first().and_then(|id| world.disks.md(Some(*id))).map(|md| md.current);
                node.exposed = current.unwrap_or(0);
            }
        }
    }

    fn tell(&mut self) {
        for (&at, node) in &mut self.nodes {
            let links = node.links.iter();
            let links = links.map(|l| (l.id, l.state, l.role, l.disk, l.client, l.repl, l.paused)).collect();
            let told = Told {
                role: node.role,
                suspended: node.suspended_since.is_some(),
                fail_io: node.fail_io,
                disk: node.disk,
                client: node.client,
                quorum: node.quorum,
                links,
            };
            if told == node.told {
                continue;
            }
            let device = |t: &Told| (t.role, t.disk, t.client, t.quorum);
            if node.told_kib == 0 || device(&told) != device(&node.told) {
                node.told_kib = node.size_kib; // a line about the device carries its size
            }
            node.told = told;
            if !node.changed {
                node.changed = true;
                self.changed.push(at);
            }
        }
    }

    /// Progress of a resync is told by 9.
    pub(super) fn tell_progress(&mut self) {
        for run in &self.runs {
            for at in [run.source, run.target] {
                if let Some(node) = self.nodes.get_mut(&at).filter(|node| !node.changed) {
                    node.changed = true;
                    self.changed.push(at);
                }
            }
        }
    }

    fn plan(&mut self, world: &World) {
        let notices = self.nodes.values().flat_map(|node| &node.links).filter_map(|link| link.lost_at);
        let connects = self.wanting(world).into_iter().map(|(_, _, when)| when);
        let ends = self.runs.iter().filter(|run| run.active).map(|run| {
            let end = run.ends_ms(world);
            if world.nine { end.min(world.now_ms + PROGRESS_MS) } else { end }
        });
        self.wake = notices.chain(connects).chain(ends).min();
    }

    /// Time went on.
    pub(super) fn tick(&mut self, world: &mut World) {
        if world.nine {
            self.tell_progress();
        }
        self.end_due_runs(world);
        self.connect_due(world);
        self.settle(world);
    }
}
