//! What the model is asked and told.

use std::collections::BTreeMap;

use crate::core::{
    drbd::{Counters, DiskState, DrbdVersion, Resource, Role},
    size::Size,
    step::{SeedHow, StepError},
};

/// Index of a box.
pub type BoxId = usize;

/// What an LV is made of. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackingId(pub u32);

/// The content of a volume: a node in the tree of all writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// Nothing was ever written.
    pub const ZERO: Version = Version(0);
}

/// Why a device could not be opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such device (ENOENT, ENXIO).
    Gone,
    /// It may not be Primary here (EROFS).
    ReadOnly,
    /// Only ever of opening for reading: a Secondary of 8.4 (EMEDIUMTYPE).
    MediumType,
}

/// Why nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// There is no such device, or it is not open or Primary here.
    Gone,
    /// EIO: no quorum, no data, or failed by force.
    Io,
    /// It does not return now: I/O is suspended, or a peer does not answer and that was not noticed yet. A write has
    /// reached what it could reach; the same write is asked for again by calling again.
    Frozen,
}

/// One replica on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// What it holds.
    pub content: Version,
    /// Its metadata says that it is consistent.
    pub consistent: bool,
    /// Its metadata says that it is consistent and was not outdated.
    pub up_to_date: bool,
    /// Its metadata says that nothing was ever on it.
    pub just_created: bool,
    /// Where it is attached, and to which resource.
    pub attached: Option<(BoxId, String)>,
    /// The state of the disk, where it is attached.
    pub disk: Option<DiskState>,
}

/// How a resource is used on one box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseView {
    /// The role.
    pub role: Role,
    /// Since when I/O is suspended.
    pub suspended_since_ms: Option<u64>,
    /// How often it is open.
    pub openers: u32,
    /// After a forced step down.
    pub force_io_failures: bool,
    /// A write that was begun and is not answered yet.
    pub unanswered: Option<Version>,
}

/// DRBD on all boxes.
pub struct Kernels {
    nine: bool,
}

impl Kernels {
    /// All boxes have this version; nothing is configured.
    pub fn new(version: DrbdVersion) -> Self {
        Self { nine: version.is_9() }
    }
    /// Sets how fast a resync goes; 200 MiB/s at first.
    pub fn set_resync_speed(&mut self, _kib_per_s: u64) {}

    /// A new LV: zeroes, no metadata.
    pub fn new_backing(&mut self, _size: Size) -> BackingId {
        BackingId(0)
    }
    /// The LV is larger now; DRBD does not know yet.
    pub fn grow_backing(&mut self, _id: BackingId, _size: Size) {}
    /// The LV was removed.
    pub fn drop_backing(&mut self, _id: BackingId) {}
    /// The disk died.
    pub fn fail_backing(&mut self, _id: BackingId) {}
    /// The disk is back with what it held.
    pub fn mend_backing(&mut self, _id: BackingId) {}
    /// `drbdmeta create-md`.
    pub fn create_md(&mut self, _id: BackingId) -> Result<(), StepError> {
        Ok(())
    }

    /// `drbdadm adjust`, with this file; `me` is the box's host name, `backing` finds a device by its path.
    pub fn adjust(
        &mut self,
        _at: BoxId,
        _res_text: &str,
        _names: &dyn Fn(&str) -> Option<BoxId>,
        _me: &str,
        _backing: &dyn Fn(&str) -> Option<BackingId>,
    ) -> Result<(), StepError> {
        Ok(())
    }
    /// Makes the first copy UpToDate.
    pub fn seed(&mut self, _at: BoxId, _resource: &str, _how: SeedHow) -> Result<(), StepError> {
        Ok(())
    }
    /// `drbdadm primary`.
    pub fn promote(&mut self, _at: BoxId, _resource: &str) -> Result<(), StepError> {
        Ok(())
    }
    /// `drbdadm secondary`.
    pub fn demote(&mut self, _at: BoxId, _resource: &str) -> Result<(), StepError> {
        Ok(())
    }
    /// `drbdadm secondary --force`; only on 9.
    pub fn force_secondary(&mut self, _at: BoxId, _resource: &str) -> Result<(), StepError> {
        Ok(())
    }
    /// `drbdadm resize`.
    pub fn resize(&mut self, _at: BoxId, _resource: &str) -> Result<(), StepError> {
        Ok(())
    }
    /// `drbdsetup down`, if it has this minor.
    pub fn down(&mut self, _at: BoxId, _resource: &str, _minor: u32) -> Result<(), StepError> {
        Ok(())
    }

    /// open(O_RDWR)
    pub fn open(&mut self, _at: BoxId, _resource: &str) -> Result<(), OpenError> {
        Ok(())
    }
    /// close(): what opening made Primary is Secondary again after the last one.
    pub fn close(&mut self, _at: BoxId, _resource: &str) {}
    /// One synced write.
    pub fn write(&mut self, _at: BoxId, _resource: &str) -> Result<Version, IoError> {
        Err(IoError::Gone)
    }
    /// One write in whose middle the power of `at` is cut; `power_off` follows.
    pub fn write_torn(
        &mut self,
        _at: BoxId,
        _resource: &str,
        _reaches: &dyn Fn(BoxId) -> bool,
    ) -> Option<Version> {
        None
    }
    /// One read.
    pub fn read(&self, _at: BoxId, _resource: &str) -> Result<Version, IoError> {
        Err(IoError::Gone)
    }
    /// Whether `older` is `newer` or was there before it.
    pub fn descends(&self, newer: Version, older: Version) -> bool {
        newer == older
    }

    /// A resync goes on.
    pub fn is_syncing(&self) -> bool {
        false
    }
    /// The network between two boxes.
    pub fn wire(&mut self, _a: BoxId, _b: BoxId, _up: bool, _now_ms: u64) {}
    /// The power of a box is cut: its kernel forgets all.
    pub fn power_off(&mut self, _at: BoxId) {}
    /// Time goes on.
    pub fn tick(&mut self, _now_ms: u64) {}
    /// When `tick` has something to do.
    pub fn next_wake_ms(&self) -> Option<u64> {
        None
    }
    /// The resources of which events have told something since the last call.
    pub fn take_changed(&mut self) -> Vec<(BoxId, String)> {
        Vec::new()
    }

    /// What the events of one box add up to, of one resource.
    pub fn look(&self, _at: BoxId, _resource: &str) -> Option<Resource> {
        None
    }
    /// What the events of one box add up to.
    pub fn look_all(&self, _at: BoxId) -> BTreeMap<String, Resource> {
        BTreeMap::new()
    }
    /// Sizes from sysfs; with 8.4 what is out of sync from /proc/drbd.
    pub fn counters(&self, _at: BoxId) -> BTreeMap<u32, Counters> {
        BTreeMap::new()
    }
    /// One replica; None without metadata.
    pub fn replica(&self, _id: BackingId) -> Option<ReplicaView> {
        None
    }
    /// How a resource is used on a box.
    pub fn used(&self, _at: BoxId, _resource: &str) -> Option<UseView> {
        None
    }
    /// All resources and boxes whose kernels have them.
    pub fn uses(&self) -> impl Iterator<Item = (BoxId, &str, UseView)> {
        let _ = self.nine;
        std::iter::empty()
    }
}
