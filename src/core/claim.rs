//! Whether a disk may be taken. Pure: two opinions and the kernel's facts in, one closed answer out.
//!
//! The default is "leave it alone": a disk is blank only if udev and an own probe of the device both find nothing, and
//! nothing holds it (invariant 2 in docs/architecture.md).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    names::{DiskIdent, PoolName},
    size::Size,
};

/// Smaller disks are not taken: the meta LV and one volume have to fit.
pub const DISK_MIN: Size = Size(256 << 20);

/// What one probe says of a disk's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opinion {
    /// No signature of any kind.
    Clean,
    /// This is on it, in the probe's words, like `ext4` or `gpt`.
    Found(String),
    /// It could not tell: why.
    Unsure(String),
}

/// What a disk is to holdfast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is a PV of this pool.
    Claimed(PoolName),
    /// It may be taken.
    Blank,
    /// Somebody else's: what was found.
    Foreign(String),
    /// Held, mounted, partitioned or opened by someone: what.
    InUse(String),
    /// The probes disagree or cannot say, or the disk is not one to take: why.
    Unfit(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Claimed(_) => f.write_str("claimed"),
            Standing::Blank => f.write_str("blank"),
            Standing::Foreign(what) => write!(f, "foreign: {what}"),
            Standing::InUse(what) => write!(f, "in use: {what}"),
            Standing::Unfit(what) => write!(f, "left alone: {what}"),
        }
    }
}

/// A disk as its box sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `/dev/NAME`.
    pub device: String,
    /// What stays the same of it.
    pub ident: DiskIdent,
    /// All of it.
    pub size: Size,
    /// As the device says; may be empty.
    pub model: String,
    /// As the device says; may be empty.
    pub serial: String,
    /// Where it is plugged in (udev's ID_PATH); may be empty.
    pub path: String,
    /// It turns.
    pub rotational: bool,
    /// The answer of [`standing`].
    pub standing: Standing,
}

/// Everything that is looked at before a disk is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// All of it.
    pub size: Size,
    /// The kernel will not write to it.
    pub read_only: bool,
    /// The kernel says it can be taken out (USB sticks, card readers).
    pub removable: bool,
    /// udev's view, from its database.
    pub udev: Opinion,
    /// The own probe of the device itself.
    pub probe: Opinion,
    /// Partitions the kernel sees.
    pub partitions: Vec<String>,
    /// Devices on top of it (device-mapper, md).
    pub holders: Vec<String>,
    /// Where it is mounted, or `swap`.
    pub mounted: Option<String>,
    /// Opening it exclusively failed: why. None: it could be.
    pub open_error: Option<String>,
    /// LVM says it is a PV of this pool of ours.
    pub pv_of: Option<PoolName>,
}

/// What a disk is, from everything known of it.
pub fn standing(e: &Evidence) -> Standing {
    if let Some(pool) = &e.pv_of {
        return Standing::Claimed(pool.clone());
    }
    if let Some(place) = &e.mounted {
        return Standing::InUse(place.clone());
    }
    if let Some(part) = e.partitions.first() {
        return Standing::InUse(format!("partition {part}"));
    }
    match (&e.udev, &e.probe) {
        (Opinion::Found(a), Opinion::Found(b)) if a == b => return Standing::Foreign(a.clone()),
        (Opinion::Found(a), Opinion::Found(b)) => {
            return Standing::Foreign(format!("{a} (udev), {b} (probe)"));
        }
        (Opinion::Found(a), Opinion::Clean) => {
            return Standing::Unfit(format!("udev finds {a}, the probe nothing"));
        }
        (Opinion::Clean, Opinion::Found(b)) => {
            return Standing::Unfit(format!("the probe finds {b}, udev nothing"));
        }
        (Opinion::Found(a), Opinion::Unsure(why)) => {
            return Standing::Foreign(format!("{a} (udev); probe: {why}"));
        }
        (Opinion::Unsure(why), Opinion::Found(b)) => {
            return Standing::Foreign(format!("{b} (probe); udev: {why}"));
        }
        (Opinion::Unsure(why), Opinion::Clean | Opinion::Unsure(_)) => {
            return Standing::Unfit(format!("udev cannot say: {why}"));
        }
        (Opinion::Clean, Opinion::Unsure(why)) => {
            return Standing::Unfit(format!("the probe cannot say: {why}"));
        }
        (Opinion::Clean, Opinion::Clean) => {}
    }
    if let Some(holder) = e.holders.first() {
        return Standing::InUse(format!("held by {holder}"));
    }
    if let Some(why) = &e.open_error {
        return Standing::InUse(why.clone());
    }
    if e.read_only {
        return Standing::Unfit("it is read-only".to_owned());
    }
    if e.removable {
        return Standing::Unfit("it is removable".to_owned());
    }
    if e.size < DISK_MIN {
        return Standing::Unfit(format!("it is smaller than {DISK_MIN}"));
    }
    Standing::Blank
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> Evidence {
        Evidence {
            size: Size(4 << 30),
            read_only: false,
            removable: false,
            udev: Opinion::Clean,
            probe: Opinion::Clean,
            partitions: Vec::new(),
            holders: Vec::new(),
            mounted: None,
            open_error: None,
            pv_of: None,
        }
    }

    #[test]
    fn any_single_doubt_keeps_a_disk_from_being_taken() {
        assert_eq!(standing(&blank()), Standing::Blank);
        type Doubt = (&'static str, fn(&mut Evidence));
        let doubts: [Doubt; 11] = [
            ("small", |e| e.size = Size(1 << 20)),
            ("read-only", |e| e.read_only = true),
            ("removable", |e| e.removable = true),
            ("udev found", |e| e.udev = Opinion::Found("ext4".into())),
            ("udev unsure", |e| e.udev = Opinion::Unsure("no database".into())),
            ("probe found", |e| e.probe = Opinion::Found("ext4".into())),
            ("probe unsure", |e| e.probe = Opinion::Unsure("I/O error".into())),
            ("partition", |e| e.partitions = vec!["vdb1".into()]),
            ("holder", |e| e.holders = vec!["dm-0".into()]),
            ("mounted", |e| e.mounted = Some("/boot".into())),
            ("opened", |e| e.open_error = Some("Device or resource busy".into())),
        ];
        for (name, doubt) in doubts {
            let mut evidence = blank();
            doubt(&mut evidence);
            assert_ne!(standing(&evidence), Standing::Blank, "{name}");
        }
    }

    #[test]
    fn two_probes_that_disagree_are_both_named() {
        let mut e = blank();
        e.udev = Opinion::Found("ext4".into());
        assert_eq!(standing(&e).to_string(), "left alone: udev finds ext4, the probe nothing");
        e.probe = Opinion::Found("xfs".into());
        assert_eq!(standing(&e).to_string(), "foreign: ext4 (udev), xfs (probe)");
    }
}
