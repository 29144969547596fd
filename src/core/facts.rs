//! What is: each box's observation of itself, whole, as it is spread to all boxes.
//!
//! Every source is [`Known`] or unknown. Unknown never leads to a destructive step.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    claim::Disk,
    drbd::{DrbdVersion, Resource},
    names::{DiskName, PoolName, VolumeId},
    size::Size,
};

/// A fact, or why it could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known<T> {
    /// It could not be looked at: one sentence.
    Unknown(String),
    /// It is so.
    Known(T),
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known::Unknown("not looked at yet".to_owned())
    }
}

impl<T> Known<T> {
    /// The fact, where there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Known::Known(fact) => Some(fact),
            Known::Unknown(_) => None,
        }
    }

    /// Why it is not known, where it is not.
    pub fn why(&self) -> Option<&str> {
        match self {
            Known::Known(_) => None,
            Known::Unknown(why) => Some(why),
        }
    }
}

/// An LV that holdfast made, told by its tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lv {
    /// The LV's name.
    pub name: String,
    /// Whose replica it is.
    pub id: VolumeId,
    /// Which device of the volume.
    pub device_nr: u16,
    /// Which life of the leg.
    pub generation: u32,
    /// The LV's size, metadata included.
    pub size: Size,
    /// It was just made: no DRBD metadata on it yet, never written by anyone.
    pub fresh: bool,
    /// All of it read as zeroes when its metadata was made.
    pub zeroed: bool,
    /// Its device node exists.
    pub active: bool,
}

/// A pool's volume group on one box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vg {
    /// All extents.
    pub size: Size,
    /// Free extents.
    pub free: Size,
    /// Bytes in one extent.
    pub extent: Size,
    /// Physical volumes: device node to free bytes.
    pub pvs: BTreeMap<String, Size>,
    /// Physical volumes that are gone.
    pub missing_pvs: u32,
    /// Our LVs in it.
    pub lvs: Vec<Lv>,
}

impl Vg {
    /// The LVs of volumes' first devices by whose they are and which life of the leg: for who looks many up.
    pub fn by_leg(&self) -> BTreeMap<(&VolumeId, u32), &Lv> {
        let mut by_leg = BTreeMap::new();
        for lv in self.lvs.iter().filter(|lv| lv.device_nr == 0) {
            by_leg.entry((&lv.id, lv.generation)).or_insert(lv);
        }
        by_leg
    }
}

/// One line of `errors`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ErrorLine {
    /// Seconds since 1970, by the clock of the box that refused.
    pub at_s: u64,
    /// Greater than that of any line the box knew of then: clocks of boxes differ, and the newest has to come last.
    pub number: u64,
    /// What it was about: `volumes/db`, `nodes/box1/disks/vdb`.
    pub about: String,
    /// One sentence.
    pub text: String,
}

/// A `.res` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfFile {
    /// CRC-32 of its text.
    pub crc: u32,
    /// `drbdadm adjust` brought the kernel to just this text, since the box has power. False as well where that is not known.
    pub adjusted: bool,
}

/// What one box knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// holdfast's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// The DRBD module, when it is loaded.
    pub drbd_version: Option<DrbdVersion>,
    /// Seconds since 1970 when this daemon started.
    pub since_s: u64,
    /// Its disks by the kernel's name.
    pub disks: Known<BTreeMap<DiskName, Disk>>,
    /// Its volume groups of pools.
    pub vgs: Known<BTreeMap<PoolName, Vg>>,
    /// Its DRBD resources, also those of others.
    pub drbd: Known<BTreeMap<String, Resource>>,
    /// The .res files that are there, by resource; only for the box itself.
    #[serde(skip)]
    pub conf: Known<BTreeMap<String, ConfFile>>,
    /// What this box tried and failed at, by `volumes/VOL` or `nodes/BOX/...`; an entry goes when it succeeds.
    pub trouble: BTreeMap<String, String>,
    /// The newest refusals of writes that were made on this box.
    pub errors: Vec<ErrorLine>,
    /// What was granted on this box after a refusal about the same thing: the number of the newest line it answers.
    pub settled: BTreeMap<String, u64>,
    /// Keys of the leaves that this box was told of and has nothing left of. Only its own word counts: that a report
    /// shows no LV may mean that it is older than the LV.
    pub left: BTreeSet<String>,
}

impl Report {
    /// The LV of a leg, if the box is known to have it.
    pub fn lv(&self, pool: &PoolName, id: &VolumeId, generation: u32) -> Option<&Lv> {
        let vg = self.vgs.known()?.get(pool)?;
        vg.lvs.iter().find(|lv| &lv.id == id && lv.generation == generation && lv.device_nr == 0)
    }

    /// The DRBD resource of that name, if the box is known to have it.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.drbd.known()?.get(name)
    }
}
