//! What the model is asked and told.

use crate::core::drbd::Role;

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
    /// It cannot be Primary here (EROFS). Opening for reading only, which is not modelled, would be EMEDIUMTYPE here.
    ReadOnly,
}

/// Why nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// There is no such device.
    Gone,
    /// EIO: not Primary, no quorum, no data, or failed by force.
    Io,
    /// It does not return now: I/O is suspended, or a peer is silent and that was not noticed yet. In the second case a
    /// write has reached all others already; calling again asks for the answer to that same write.
    Frozen,
}

/// One replica on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// What it holds. While it is the target of a sync: what it held before.
    pub content: Version,
    /// Its metadata says that it is consistent and was not outdated.
    pub up_to_date: bool,
    /// Where it is attached, and to which resource.
    pub attached: Option<(BoxId, String)>,
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
