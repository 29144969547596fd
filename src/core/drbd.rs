//! DRBD's words and what one box's kernel says with them.
//!
//! Why: every decision about replicas is made from these facts, so they are closed enums in DRBD's own spelling, the same for the
//! module in stock kernels (8.4) and LINBIT's (9). A word that is not known here becomes `Other`: a newer kernel must neither
//! stop the daemon nor be mistaken for a state that allows something. Facts travel between boxes of different versions, so
//! every field has a default, and the default claims nothing.
//! What must not go in: running or reading anything (edge/), and deciding what to do about a state.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// One enum of words in DRBD's spelling; `Other` is any word not listed, and never an error.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, default $default:ident { $($variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("DRBD's `", $word, "`.")] $variant,)+
            /// A word this version of holdfast does not know: nothing may be concluded from it.
            Other,
        }

        impl $name {
            /// DRBD's spelling.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other => "Other",
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Ok(match word {
                    $($word => Self::$variant,)+
                    _ => Self::Other,
                })
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                let Ok(known) = word.parse();
                known
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from).map(Self::from)
            }
        }
    };
}

words! {
    /// Who may write. `Unknown` is what the kernel says of a peer that is not connected.
    Role, default Unknown {
        Unknown = "Unknown",
        Primary = "Primary",
        Secondary = "Secondary",
    }
}

words! {
    /// How good the data of one replica is. `DUnknown` is only ever said of a peer.
    DiskState, default DUnknown {
        Diskless = "Diskless",
        Attaching = "Attaching",
        Detaching = "Detaching",
        Failed = "Failed",
        Negotiating = "Negotiating",
        Inconsistent = "Inconsistent",
        Outdated = "Outdated",
        DUnknown = "DUnknown",
        Consistent = "Consistent",
        UpToDate = "UpToDate",
    }
}

words! {
    /// How far a link has come. (8.4's `WFConnection` appears only in /proc/drbd; its drbdsetup says `Connecting` too.)
    ConnectionState, default Other {
        StandAlone = "StandAlone",
        Disconnecting = "Disconnecting",
        Unconnected = "Unconnected",
        Timeout = "Timeout",
        BrokenPipe = "BrokenPipe",
        NetworkFailure = "NetworkFailure",
        ProtocolError = "ProtocolError",
        TearDown = "TearDown",
        Connecting = "Connecting",
        Connected = "Connected",
    }
}

words! {
    /// What goes over the link for one volume. `S` is the side that sends, `T` the side that is written.
    ReplicationState, default Other {
        Off = "Off",
        Established = "Established",
        StartingSyncS = "StartingSyncS",
        StartingSyncT = "StartingSyncT",
        WFBitMapS = "WFBitMapS",
        WFBitMapT = "WFBitMapT",
        WFSyncUUID = "WFSyncUUID",
        SyncSource = "SyncSource",
        SyncTarget = "SyncTarget",
        VerifyS = "VerifyS",
        VerifyT = "VerifyT",
        PausedSyncS = "PausedSyncS",
        PausedSyncT = "PausedSyncT",
        Ahead = "Ahead",
        Behind = "Behind",
    }
}

impl DiskState {
    /// Whether a replica in this state may hold what someone wrote.
    pub fn has_data(self) -> bool {
        match self {
            Self::UpToDate | Self::Consistent | Self::Outdated => true,
            Self::Diskless | Self::Attaching | Self::Detaching | Self::Failed => false,
            Self::Negotiating | Self::Inconsistent | Self::DUnknown | Self::Other => false,
        }
    }
}

impl ReplicationState {
    /// Whether a sync or a verification is under way or paused: only then is there a progress.
    pub fn has_progress(self) -> bool {
        match self {
            Self::StartingSyncS | Self::StartingSyncT | Self::WFSyncUUID => true,
            Self::SyncSource | Self::SyncTarget | Self::PausedSyncS | Self::PausedSyncT => true,
            Self::VerifyS | Self::VerifyT => true,
            Self::Off | Self::Established | Self::WFBitMapS | Self::WFBitMapT => false,
            Self::Ahead | Self::Behind | Self::Other => false,
        }
    }
}

/// The version of the kernel's module, as read from `/proc/drbd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DrbdVersion {
    /// 8 or 9.
    pub major: u8,
    /// 4 in 8.4.
    pub minor: u8,
    /// 11 in 8.4.11.
    pub patch: u8,
}

impl DrbdVersion {
    /// LINBIT's module: more than two replicas, quorum, clients, promotion by opening.
    pub fn is_9(self) -> bool {
        self.major >= 9
    }

    /// Reads the first line of `/proc/drbd`: `version: 9.2.18 (api:2/proto:118-124)`. None is anything else.
    pub fn parse_proc_drbd(text: &str) -> Option<DrbdVersion> {
        let line = text.lines().find_map(|line| line.strip_prefix("version:"))?;
        let word = line.split_ascii_whitespace().next()?;
        let digits = |number: &str| number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let whole = |number: &str| if digits(number) == number.len() { number.parse().ok() } else { None };
        let mut numbers = word.split('.');
        let (major, minor) = (whole(numbers.next()?)?, whole(numbers.next()?)?);
        // A build from a git tree may say 9.2.18-1.
        let patch = numbers.next().and_then(|number| number[..digits(number)].parse().ok()).unwrap_or(0);
        Some(DrbdVersion { major, minor, patch })
    }
}

impl fmt::Display for DrbdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What DRBD sends no events for, of one device; looked at while it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The device's size: growing it makes no event on 8.4 or 9.
    pub size_kib: u64,
    /// What is not in sync with the peer yet: 8.4 tells its progress in `/proc/drbd` only.
    pub out_of_sync_kib: Option<u64>,
}

/// Reads the `oos:` of each minor in 8.4's `/proc/drbd`, in KiB; DRBD 9 has no such lines. What is broken is left out.
pub fn parse_out_of_sync(text: &str) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    let mut minor = None;
    // A last line without its end is a piece of one: what it says may be a piece of a number.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(number) = first.strip_suffix(':') {
            minor = number.parse::<u32>().ok();
        }
        let left = words.find_map(|word| word.strip_prefix("oos:")?.parse::<u64>().ok());
        if let (Some(minor), Some(left)) = (minor, left) {
            found.insert(minor, left);
        }
    }
    found
}

/// What one box's kernel says of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// DRBD's name of it.
    pub name: String,
    /// This box's role.
    pub role: Role,
    /// `no`, or why I/O is frozen: `user`, `no-data`, `fencing`, `quorum`, separated by commas.
    pub suspended: String,
    /// After a forced step down: every opener gets errors until it closes (DRBD 9 only).
    pub force_io_failures: bool,
    /// By volume number.
    pub devices: BTreeMap<u16, Device>,
    /// By node id; on 8.4 the only peer is 0.
    pub peers: BTreeMap<u8, Peer>,
    /// Peers that DRBD met, found a split brain with, and has not been linked to since. Not in what a first look tells.
    pub split: BTreeSet<u8>,
}

/// One volume of a resource, on this box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The N of /dev/drbdN.
    pub minor: u32,
    /// State of this box's replica.
    pub disk: DiskState,
    /// Diskless by intention. A replica that lost its disk is `Diskless` with `client` false.
    pub client: bool,
    /// Whether this box sees enough of the others; None where the kernel has no quorum (8.4).
    pub quorum: Option<bool>,
    /// Usable size in KiB as last told; 0 while unknown. Neither module tells when a device grows: /sys/block/drbdN/size does.
    pub size_kib: u64,
    /// The device below; None if there is none, and always on 8.4, which does not say.
    pub backing: Option<String>,
    /// Whether something holds it open; None where drbd-utils does not say (9.22 and older).
    pub open: Option<bool>,
}

/// One link of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// The peer's name as configured; 8.4 says `peer`, or nothing while StandAlone.
    pub name: Option<String>,
    /// State of the link.
    pub connection: ConnectionState,
    /// The peer's role.
    pub role: Role,
    /// By volume number.
    pub devices: BTreeMap<u16, PeerDevice>,
}

/// One volume at one peer, as this box sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerDevice {
    /// State of the peer's replica.
    pub disk: DiskState,
    /// Diskless by intention.
    pub client: bool,
    /// What goes over the link.
    pub replication: ReplicationState,
    /// `no`, or why a resync waits: `user`, `peer`, `dependency`, separated by commas.
    pub resync_suspended: String,
    /// How much is known to differ, in KiB.
    pub out_of_sync_kib: u64,
    /// Progress of a sync or verification in hundredths of a percent; None when there is none, and always on 8.4.
    pub done_hundredths: Option<u16>,
}

impl Default for Resource {
    fn default() -> Self {
        Resource {
            name: String::new(),
            role: Role::default(),
            suspended: "no".to_string(),
            force_io_failures: false,
            devices: BTreeMap::new(),
            peers: BTreeMap::new(),
            split: BTreeSet::new(),
        }
    }
}

impl Default for PeerDevice {
    fn default() -> Self {
        PeerDevice {
            disk: DiskState::default(),
            client: false,
            replication: ReplicationState::default(),
            resync_suspended: "no".to_string(),
            out_of_sync_kib: 0,
            done_hundredths: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_it_prints() {
        for word in ["Unknown", "Primary", "Secondary"] {
            assert_eq!(Role::from(word.to_string()).to_string(), word);
        }
        for word in ["StandAlone", "Connecting", "Connected", "TearDown", "Timeout"] {
            assert_eq!(ConnectionState::from(word.to_string()).to_string(), word);
        }
        for word in ["Off", "Established", "WFBitMapS", "WFSyncUUID", "PausedSyncT", "Behind"] {
            assert_eq!(ReplicationState::from(word.to_string()).to_string(), word);
        }
        for word in ["Diskless", "DUnknown", "UpToDate", "Negotiating"] {
            assert_eq!(DiskState::from(word.to_string()).to_string(), word);
        }
    }

    #[test]
    fn a_word_of_a_newer_kernel_is_other_and_no_error() {
        assert_eq!("Sparkling".parse(), Ok(DiskState::Other));
        assert_eq!(serde_json::from_str::<Role>("\"Tertiary\"").ok(), Some(Role::Other));
        assert_eq!(serde_json::to_string(&DiskState::UpToDate).ok().as_deref(), Some("\"UpToDate\""));
    }

    #[test]
    fn the_version_is_read_from_both_modules() {
        let nine = "version: 9.2.18 (api:2/proto:118-124)\nGIT-hash: ab\nTransports (api:21): tcp (9.2.18)\n";
        assert_eq!(
            DrbdVersion::parse_proc_drbd(nine).map(|v| (v.to_string(), v.is_9())),
            Some(("9.2.18".to_string(), true))
        );
        let eight = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 1234\n 0: cs:Connected\n";
        assert_eq!(
            DrbdVersion::parse_proc_drbd(eight).map(|v| (v.to_string(), v.is_9())),
            Some(("8.4.11".to_string(), false))
        );
        for other in
            ["", "version:", "version: x.y.z", "version: 99999999.1.1", "version: 80x10.4.11", "no such file"]
        {
            assert_eq!(DrbdVersion::parse_proc_drbd(other), None, "{other}");
        }
    }

    #[test]
    fn progress_is_read_from_proc_drbd_of_8_4() {
        let text = include_str!("../../tests/fixtures/drbd/8.4.11/05-syncing.n4.proc.txt");
        assert_eq!(parse_out_of_sync(text), BTreeMap::from([(1000, 11880)]));
        // Found by tests/fuzz: 11880 that was cut off is not 118.
        let cut = &text[..text.find("oos:11880").unwrap() + "oos:118".len()];
        assert_eq!(parse_out_of_sync(cut), BTreeMap::new());
        for broken in [
            "",
            "oos:5\n",
            "x: oos:5\n",
            "1000: cs\n oos:x\n",
            "99999999999: oos:1\n",
            "version: 9.2.18 oos:3\n",
        ] {
            assert_eq!(parse_out_of_sync(broken), BTreeMap::new(), "{broken:?}");
        }
    }

    #[test]
    fn facts_of_an_older_box_get_defaults_that_claim_nothing() {
        let text = r#"{"name":"db","devices":{"0":{"minor":1000}},"peers":{"1":{"devices":{"0":{}}}},"new-field":1}"#;
        let resource: Resource = serde_json::from_str(text).unwrap();
        assert_eq!((resource.role, resource.suspended.as_str()), (Role::Unknown, "no"));
        assert_eq!(resource.devices[&0], Device { minor: 1000, ..Device::default() });
        assert_eq!(resource.devices[&0].disk, DiskState::DUnknown);
        assert_eq!(resource.peers[&1].connection, ConnectionState::Other);
        let again: Resource = serde_json::from_str(&serde_json::to_string(&resource).unwrap()).unwrap();
        assert_eq!(again, resource);
    }
}
