//! The use of the device: open, write, read. `settle` has prepared what these need, so that they do little.

use super::{
    cluster::{Cluster, Node, World},
    types::{BoxId, IoError, OpenError, Version},
};
use crate::core::drbd::{DiskState, Role};

/// What one write marks as missing elsewhere.
const WRITE_KIB: u64 = 4;

impl Cluster {
    pub(super) fn open(&mut self, at: BoxId, world: &mut World) -> Result<(), OpenError> {
        let node = self.nodes.get(&at).ok_or(OpenError::Gone)?;
        if node.fail_io {
            return Err(OpenError::ReadOnly);
        }
        if node.role != Role::Primary {
            if !node.options.auto_promote {
                return Err(OpenError::ReadOnly);
            }
            self.promote(at, true, world).map_err(|_| OpenError::ReadOnly)?;
        }
        if let Some(node) = self.nodes.get_mut(&at) {
            node.openers += 1;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, at: BoxId, world: &mut World) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.openers = node.openers.saturating_sub(1);
        if node.openers > 0 {
            return;
        }
        let demote = node.auto_promoted && node.role == Role::Primary;
        let was_forced = std::mem::take(&mut node.fail_io);
        if demote {
            self.step_down(at, false);
        }
        if demote || was_forced {
            self.settle(world);
        }
    }

    pub(super) fn write(&mut self, at: BoxId, world: &mut World) -> Result<Version, IoError> {
        let node = self.nodes.get_mut(&at).ok_or(IoError::Gone)?;
        if node.role != Role::Primary || node.fail_io {
            return Err(IoError::Io);
        }
        if node.suspended_since.is_some() {
            return Err(IoError::Frozen);
        }
        if std::mem::take(&mut node.through) {
            return node.unanswered.take().ok_or(IoError::Io);
        }
        if std::mem::take(&mut node.doomed) || !node.quorum {
            node.unanswered = None;
            return Err(IoError::Io);
        }
        if node.waits {
            if node.unanswered.is_none() {
                let version = self.put(at, world);
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.unanswered = version;
                }
            }
            return Err(IoError::Frozen);
        }
        if node.unanswered.take().is_some() {
            return Err(IoError::Io); // nobody is left who has it
        }
        self.put(at, world).ok_or(IoError::Io)
    }

    /// Writes that waited for a silent peer: it is heard again, or given up. True if there were some.
    pub(super) fn complete_writes(&mut self, world: &mut World) -> bool {
        let waited = |node: &Node| {
            let free = node.quorum && !node.waits && !node.doomed && node.suspended_since.is_none();
            node.unanswered.filter(|_| free && !node.through && !node.reach.is_empty())
        };
        let due: Vec<_> = self.nodes.iter().filter_map(|(at, node)| Some((*at, waited(node)?))).collect();
        for (at, version) in &due {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            node.through = true;
            for id in node.reach.iter() {
                if let Some(backing) = world.disks.get_mut(*id) {
                    backing.content = *version;
                }
            }
            if node.bump_due {
                self.bump(*at, world);
            }
            self.mark(*at, world);
        }
        !due.is_empty()
    }

    /// Puts a new version on all replicas in reach.
    fn put(&mut self, at: BoxId, world: &mut World) -> Option<Version> {
        // While a peer is silent nobody agrees on a new generation.
        if self.nodes.get(&at).is_some_and(|node| node.bump_due && !node.waits) {
            self.bump(at, world);
        }
        let node = self.nodes.get(&at)?;
        let parent = world.disks.get(*node.reach.first()?)?.content;
        let version = world.versions.child(parent);
        for id in &node.reach {
            if let Some(backing) = world.disks.get_mut(*id) {
                backing.content = version;
            }
        }
        self.mark(at, world);
        Some(version)
    }

    /// Marks the write as missing on the replicas out of reach.
    fn mark(&self, at: BoxId, world: &mut World) {
        let Some(node) = self.nodes.get(&at).filter(|node| node.lacking) else { return };
        for good in self.good(at, world) {
            let Some(holder) = self.nodes.get(&good) else { continue };
            let lacks = |id: u8| {
                let peer = holder.link(id).and_then(|link| link.peer);
                peer.and_then(|peer| self.nodes.get(&peer))
                    .is_none_or(|peer| peer.backing.is_none_or(|backing| !node.reach.contains(&backing)))
            };
            let Some(md) = world.disks.md_mut(holder.backing) else { continue };
            for slot in md.slots.iter_mut().filter(|slot| slot.has_bitmap && lacks(slot.id)) {
                slot.dirty_kib = (slot.dirty_kib + WRITE_KIB).min(holder.size_kib);
            }
        }
    }

    pub(super) fn write_torn(
        &mut self,
        at: BoxId,
        reaches: &dyn Fn(BoxId) -> bool,
        world: &mut World,
    ) -> Option<Version> {
        let node = self.nodes.get(&at)?;
        let may =
            node.role == Role::Primary && !node.fail_io && node.quorum && node.suspended_since.is_none();
        if !may || node.unanswered.is_some() || node.waits {
            return None;
        }
        if node.bump_due {
            self.bump(at, world);
        }
        let good = self.good(at, world);
        let backings: Vec<_> =
            good.iter().filter_map(|at| Some((*at, self.nodes.get(at)?.backing?))).collect();
        let parent = world.disks.get(backings.first()?.1)?.content;
        let version = world.versions.child(parent);
        for (_, id) in backings.into_iter().filter(|(at, _)| reaches(*at)) {
            if let Some(backing) = world.disks.get_mut(id) {
                backing.content = version;
            }
        }
        Some(version)
    }

    pub(super) fn read(&self, at: BoxId, world: &World) -> Result<Version, IoError> {
        let node = self.nodes.get(&at).ok_or(IoError::Gone)?;
        if node.fail_io || !world.nine && node.role != Role::Primary {
            return Err(IoError::Io);
        }
        if node.suspended_since.is_some() {
            return Err(IoError::Frozen);
        }
        if !node.quorum {
            return Err(IoError::Io);
        }
        match node.reach.first() {
            Some(id) => world.disks.get(*id).map(|backing| backing.content).ok_or(IoError::Io),
            None if node.links.iter().any(|l| l.lost_at.is_some() && l.disk == DiskState::UpToDate) => {
                Err(IoError::Frozen)
            }
            None => Err(IoError::Io),
        }
    }
}
