//! What is told of it all: to the boxes as events add up, and to checks.

use std::collections::BTreeMap;

use super::{
    cluster::{Cluster, Link, Node, World},
    types::{BoxId, UseView},
};
use crate::core::drbd::{
    ConnectionState, Counters, Device, DiskState, Peer, PeerDevice, ReplicationState, Resource,
};

impl Cluster {
    pub(super) fn look(&self, at: BoxId, world: &World) -> Option<Resource> {
        let node = self.nodes.get(&at)?;
        let nine = world.nine;
        let device = Device {
            minor: node.minor,
            disk: if node.disk == DiskState::Negotiating { DiskState::Diskless } else { node.disk },
            client: nine && node.client,
            quorum: nine.then_some(node.quorum),
            size_kib: node.told_kib,
            backing: Some(node.path.clone()).filter(|path| nine && !path.is_empty()),
            open: None,
        };
        // 8.4 takes a link that stands alone out of its events.
        let told = |link: &&Link| nine || link.state != ConnectionState::StandAlone;
        let peers =
            node.links.iter().filter(told).map(|link| (link.id, self.peer(at, link, world))).collect();
        Some(Resource {
            name: self.name.clone(),
            role: node.role,
            suspended: if node.suspended_since.is_some() { "quorum" } else { "no" }.to_owned(),
            force_io_failures: node.fail_io,
            devices: BTreeMap::from([(0, device)]),
            peers,
            split: node.split.clone(),
        })
    }

    fn peer(&self, at: BoxId, link: &Link, world: &World) -> Peer {
        let run = link.peer.and_then(|peer| self.run_of(at, peer)).and_then(|run| self.runs.get(run));
        let left_kib = run.map(|run| if world.nine { run.left_now_kib(world) } else { run.total_kib });
        let done = run.zip(left_kib).filter(|_| world.nine).map(|(run, left)| {
            let done = run.total_kib.saturating_sub(left) * 10_000 / run.total_kib.max(1);
            u16::try_from(done).unwrap_or(10_000)
        });
        let device = PeerDevice {
            disk: if link.disk == DiskState::Negotiating { DiskState::Diskless } else { link.disk },
            client: world.nine && link.client,
            replication: link.repl,
            resync_suspended: link.paused.to_owned(),
            out_of_sync_kib: left_kib.unwrap_or(0),
            done_hundredths: done,
        };
        Peer {
            name: Some(if world.nine { link.name.clone() } else { "peer".to_owned() }),
            connection: link.state,
            role: link.role,
            devices: BTreeMap::from([(0, device)]),
        }
    }

    pub(super) fn counters(&self, at: BoxId, world: &World) -> Option<(u32, Counters)> {
        let node = self.nodes.get(&at)?;
        let out_of_sync_kib = (!world.nine).then(|| self.out_of_sync(at, node, world));
        Some((node.minor, Counters { size_kib: node.size_kib, out_of_sync_kib }))
    }

    /// /proc/drbd of 8.4.
    fn out_of_sync(&self, at: BoxId, node: &Node, world: &World) -> u64 {
        let Some(link) = node.links.first() else { return 0 };
        let run = link.peer.and_then(|peer| self.run_of(at, peer)).and_then(|run| self.runs.get(run));
        match (run, link.repl) {
            (Some(run), _) => run.left_now_kib(world),
            (None, ReplicationState::Established) if node.disk == DiskState::Inconsistent => node.size_kib,
            (None, _) => {
                node.md(&world.disks).and_then(|md| md.slot(link.id)).map_or(0, |slot| slot.dirty_kib)
            }
        }
    }

    pub(super) fn used(&self, at: BoxId) -> Option<UseView> {
        let node = self.nodes.get(&at)?;
        Some(UseView {
            role: node.role,
            suspended_since_ms: node.suspended_since,
            openers: node.openers,
            force_io_failures: node.fail_io,
            unanswered: node.unanswered,
        })
    }
}
