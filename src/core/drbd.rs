//! DRBD's words.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! words { ($($(#[$d:meta])* $t:ident { $($v:ident),* })*) => { $( $(#[$d])* #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)] #[allow(missing_docs)] pub enum $t { $($v,)* #[default] Other } )* } }
words! {
    /// Role
    Role { Primary, Secondary, Unknown }
    /// Disk
    DiskState { Diskless, Attaching, Detaching, Failed, Negotiating, Inconsistent, Outdated, DUnknown, Consistent, UpToDate }
    /// Connection
    ConnectionState { StandAlone, Disconnecting, Unconnected, Timeout, BrokenPipe, NetworkFailure, ProtocolError, TearDown, Connecting, Connected }
    /// Replication
    ReplicationState { Off, Established, SyncSource, SyncTarget, VerifyS, VerifyT, PausedSyncS, PausedSyncT, Ahead, Behind }
}
/// Version of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DrbdVersion {
    pub major: u8,
    pub minor: u8,
    pub patch: u8,
}
impl DrbdVersion {
    /// 9 or newer.
    pub fn is_9(self) -> bool {
        self.major >= 9
    }
}
/// Resource
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Resource {
    pub name: String,
    pub role: Role,
    pub suspended: String,
    pub force_io_failures: bool,
    pub devices: BTreeMap<u16, Device>,
    pub peers: BTreeMap<u8, Peer>,
}
/// Device
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Device {
    pub minor: u32,
    pub disk: DiskState,
    pub client: bool,
    pub quorum: Option<bool>,
    pub size_kib: u64,
    pub backing: Option<String>,
    pub open: Option<bool>,
}
/// Peer
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Peer {
    pub name: Option<String>,
    pub connection: ConnectionState,
    pub role: Role,
    pub devices: BTreeMap<u16, PeerDevice>,
}
/// PeerDevice
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct PeerDevice {
    pub disk: DiskState,
    pub client: bool,
    pub replication: ReplicationState,
    pub resync_suspended: String,
    pub out_of_sync_kib: u64,
    pub done_percent: Option<u16>,
}
