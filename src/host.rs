//! The seam to the machine, cut at the level of meaning: observe, and apply one step.
//!
//! Why: everything above decides by pure functions and is tested against a model world; everything below is one edge a
//! neighbour. This file only dispatches. Every command below has a deadline, so `apply` returns in bounded time; it is
//! called from several threads, one for each volume that is worked on.
//! What must not go in: decisions. A step that is refused because the world is not as planned is an error, and the next
//! plan is made from what is then observed.

use std::sync::Arc;

use crate::{
    core::{
        names::{DiskIdent, PoolName},
        node::{Facts, Source},
        step::{Step, StepError},
    },
    edge::{drbd::Drbd, lvm::Lvm, run::Programs, udev::Disks},
};

/// A machine, real or simulated.
pub trait Host: Send + Sync {
    /// Looks at all of one source. Blocks; a source that cannot be looked at is unknown.
    fn observe(&self, source: Source) -> Facts;

    /// Takes a step. Blocks. Ok also if it was taken before.
    fn apply(&self, step: &Step) -> Result<(), StepError>;
}

/// This machine.
pub struct RealHost {
    lvm: Lvm,
    drbd: Drbd,
    disks: Disks,
}

impl RealHost {
    /// With programs as found at start.
    pub fn new(programs: Arc<Programs>) -> Self {
        Self {
            lvm: Lvm::new(Arc::clone(&programs)),
            drbd: Drbd::new(Arc::clone(&programs)),
            disks: Disks::new(programs),
        }
    }

    fn claim(&self, pool: &PoolName, device: &str, ident: &DiskIdent) -> Result<(), StepError> {
        self.lvm.claim(pool, device, || self.disks.must_be_blank(device, ident))
    }
}

impl Host for RealHost {
    fn observe(&self, source: Source) -> Facts {
        match source {
            Source::Disks => Facts::Disks(self.disks.look(|| self.lvm.pools_by_device())),
            Source::Vgs => Facts::Vgs(self.lvm.vgs()),
            Source::Conf => Facts::Conf(self.drbd.conf()),
            Source::Counters => Facts::Counters(self.drbd.counters()),
        }
    }

    fn apply(&self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::ClaimDisk { pool, device, ident } => self.claim(pool, device, ident),
            Step::CreateLv { lv, volume, size, pv } => self.lvm.create(lv, volume, *size, pv.as_deref()),
            Step::CreateMd { lv, minor } => {
                self.lvm.make_md(lv, |device| self.drbd.create_md(*minor, device))
            }
            Step::GrowLv { lv, size } => self.lvm.grow(lv, *size),
            Step::WriteConf { resource, text } => self.drbd.write_conf(resource, text),
            Step::Adjust { resource } => self.drbd.adjust(resource),
            Step::Seed { resource, how } => self.drbd.seed(resource, *how),
            Step::Promote { resource } => self.drbd.promote(resource),
            Step::Demote { resource } => self.drbd.demote(resource),
            Step::Resize { resource } => self.drbd.resize(resource),
            Step::Down { resource, minor } => self.drbd.down(resource, *minor),
            Step::RemoveConf { resource } => self.drbd.remove_conf(resource),
            Step::RemoveLv { lv } => self.lvm.remove(lv),
        }
    }
}
