//! A step: one idempotent act on this box's LVM or DRBD. `plan` makes them, the host takes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::{DiskIdent, PoolName, VolumeId};
use super::size::Size;

/// Which LV, told by everything that must match before it is touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LvRef {
    /// The volume group is `holdfast-POOL`.
    pub pool: PoolName,
    /// The LV's name.
    pub name: String,
    /// Tag: whose it is.
    pub id: VolumeId,
    /// Tag: which device of the volume.
    pub device_nr: u16,
    /// Tag: which life of the leg.
    pub generation: u32,
}

/// How the first UpToDate copy comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedHow {
    /// All replicas are connected, just created and read as zeroes: declare them equal (`new-current-uuid --clear-bitmap`).
    ClearBitmap,
    /// This box's copy counts; the others sync from it while it is in use (`primary --force`, `secondary`).
    Force,
}

/// One act. Doing it again when it was done does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the disk a PV of the pool's VG, which is made if there is none. Both probes are asked again right before.
    ClaimDisk {
        /// Whose.
        pool: PoolName,
        /// `/dev/NAME` as last seen.
        device: String,
        /// It has to be this disk still.
        ident: DiskIdent,
    },
    /// Make an LV, tagged, marked fresh; on one PV where `pv` is given.
    CreateLv {
        /// What to make.
        lv: LvRef,
        /// The volume's name, for a tag that people read.
        volume: String,
        /// At least so large; rounded up to extents.
        size: Size,
        /// `/dev/NAME` of the PV that it fits on.
        pv: Option<String>,
    },
    /// Zero a fresh LV where the disk does that by itself, write DRBD metadata, take the fresh mark off.
    CreateMd {
        /// A fresh one; anything else is refused.
        lv: LvRef,
        /// The minor that it will have.
        minor: u32,
    },
    /// Make an LV larger.
    GrowLv {
        /// Which.
        lv: LvRef,
        /// At least so large; rounded up to extents.
        size: Size,
    },
    /// Write `/etc/drbd.d/RESOURCE.res`, renamed into place.
    WriteConf {
        /// The resource.
        resource: String,
        /// The whole file.
        text: String,
    },
    /// `drbdadm adjust`: bring the kernel from what it has to what the .res file says.
    Adjust {
        /// The resource.
        resource: String,
    },
    /// Make the first copy UpToDate.
    Seed {
        /// The resource.
        resource: String,
        /// How.
        how: SeedHow,
    },
    /// `drbdadm primary`
    Promote {
        /// The resource.
        resource: String,
    },
    /// `drbdadm secondary`
    Demote {
        /// The resource.
        resource: String,
    },
    /// Take over the larger LVs, on one box for all.
    Resize {
        /// The resource.
        resource: String,
    },
    /// Take the resource out of the kernel; refused by DRBD while it is open here.
    Down {
        /// The resource.
        resource: String,
        /// Only if it has this minor: another resource may have the name by now.
        minor: u32,
    },
    /// Remove `/etc/drbd.d/RESOURCE.res`.
    RemoveConf {
        /// The resource.
        resource: String,
    },
    /// Wipe the DRBD metadata and remove the LV, if all its tags match and nothing has it open.
    RemoveLv {
        /// Which.
        lv: LvRef,
    },
}

/// What happens next after a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepClass {
    /// Somebody uses it: try again later.
    Busy,
    /// The kernel or a tool refused: try again when something changed, or later.
    Refused,
    /// What it was about is not there.
    Gone,
    /// The command did not end within its limit and cannot be ended: the box needs a reboot for this volume.
    Wedged,
}

/// A step that was not taken, or whose outcome is not known. The next observation tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// What follows from it.
    pub class: StepClass,
    /// One sentence, with the command's own words.
    pub text: String,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StepError {}

impl Step {
    /// The LV that it is about.
    pub fn lv(&self) -> Option<&LvRef> {
        match self {
            Step::CreateLv { lv, .. }
            | Step::CreateMd { lv, .. }
            | Step::GrowLv { lv, .. }
            | Step::RemoveLv { lv } => Some(lv),
            Step::ClaimDisk { .. } | Step::WriteConf { .. } | Step::Adjust { .. } | Step::Seed { .. } => None,
            Step::Promote { .. } | Step::Demote { .. } | Step::Resize { .. } => None,
            Step::Down { .. } | Step::RemoveConf { .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ClaimDisk { pool, device, .. } => write!(f, "claim disk {device} for pool {pool}"),
            Step::CreateLv { lv, size, pv, .. } => {
                write!(f, "create LV {}/{} of {}", lv.pool, lv.name, size.about())?;
                pv.iter().try_for_each(|pv| write!(f, " on {pv}"))
            }
            Step::CreateMd { lv, .. } => write!(f, "create metadata on {}/{}", lv.pool, lv.name),
            Step::GrowLv { lv, size } => write!(f, "grow LV {}/{} to {}", lv.pool, lv.name, size.about()),
            Step::WriteConf { resource, .. } => write!(f, "write {resource}.res"),
            Step::Adjust { resource } => write!(f, "adjust {resource}"),
            Step::Seed { resource, how: SeedHow::ClearBitmap } => {
                write!(f, "declare {resource}'s zeroed replicas equal")
            }
            Step::Seed { resource, how: SeedHow::Force } => {
                write!(f, "make this copy of {resource} the first")
            }
            Step::Promote { resource } => write!(f, "make {resource} Primary"),
            Step::Demote { resource } => write!(f, "make {resource} Secondary"),
            Step::Resize { resource } => write!(f, "resize {resource}"),
            Step::Down { resource, .. } => write!(f, "take {resource} down"),
            Step::RemoveConf { resource } => write!(f, "remove {resource}.res"),
            Step::RemoveLv { lv } => write!(f, "remove LV {}/{}", lv.pool, lv.name),
        }
    }
}

/// Steps that belong together, in order: the first that fails ends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What it is about: one job of a lane at a time. `volumes/db`, `meta`, `nodes/box1/disks/vdb`.
    pub lane: String,
    /// In order.
    pub steps: Vec<Step>,
}
