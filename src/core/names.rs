//! The names an operator gives or reads: one newtype a kind, checked once at the edge.
//!
//! Nothing else may decide what a name may look like.

use std::{borrow::Borrow, fmt};

use serde::{Deserialize, Serialize};

use super::refusal::{Errno, Refusal, quote};

/// Longest name in bytes: an LV name has 127, and `VOLUME.NN` with LVM's own suffixes must fit.
pub const NAME_MAX_BYTES: usize = 48;

/// Beginnings and parts of LV names that LVM keeps to itself (lvm(8), "Valid names").
const LVM_BEGINNINGS: [&str; 2] = ["snapshot", "pvmove"];
const LVM_PARTS: [&str; 14] = [
    "_cdata", "_cmeta", "_corig", "_cvol", "_wcorig", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata",
];

fn check(kind: &str, text: &str) -> Result<(), Refusal> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && text.len() <= NAME_MAX_BYTES {
        return Ok(());
    }
    Err(Refusal::new(
        Errno::Invalid,
        format!(
            "{} is not a {kind} name: it has to begin with a letter or digit, go on with letters, digits, \
             '_', '.' or '-', and have at most {NAME_MAX_BYTES} characters",
            quote(text)
        ),
    ))
}

fn check_lvm(kind: &str, text: &str) -> Result<(), Refusal> {
    check(kind, text)?;
    let reserved = LVM_BEGINNINGS.iter().any(|b| text.starts_with(b))
        || LVM_PARTS.iter().any(|p| text.contains(p))
        || text == "all"
        || text.starts_with("holdfast-");
    if reserved {
        return Err(Refusal::new(
            Errno::Invalid,
            format!("{text:?} is not a {kind} name: LVM, DRBD or holdfast keeps it to itself; take another"),
        ));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and takes `text`. EINVAL, with the rule, where it is not such a name.
            pub fn new(text: impl Into<String>) -> Result<Self, Refusal> {
                let text = text.into();
                $check($kind, &text)?;
                Ok(Self(text))
            }

            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = Refusal;
            fn try_from(text: String) -> Result<Self, Refusal> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A box: its host name.
    BoxName, "box", check
);
name!(
    /// A volume; also the name of its DRBD resource and the first part of its LVs' names.
    VolumeName, "volume", check_lvm
);
name!(
    /// A pool: on each box a volume group `holdfast-POOL`.
    PoolName, "pool", check_lvm
);
name!(
    /// A group of volumes that share defaults.
    GroupName, "group", check
);
name!(
    /// What the operator calls the cluster.
    ClusterName, "cluster", check
);
name!(
    /// A disk as its box's kernel names it now, like `sdb` or `nvme0n1`. Not an identity: see `DiskIdent`.
    DiskName, "disk", check
);

/// What stays the same of a disk when its kernel name changes: WWN, serial or, with neither, its slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct DiskIdent(String);

impl From<String> for DiskIdent {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl DiskIdent {
    /// What a device says of itself is not to be trusted with lengths and control characters: at most 96 printable
    /// characters without spaces or slashes are kept, others become `_`.
    pub fn new(text: &str) -> Self {
        let printable = |c: char| if c.is_ascii_graphic() && c != '/' { c } else { '_' };
        Self(text.chars().take(96).map(printable).collect())
    }
}

impl fmt::Display for DiskIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume's identity for life: 16 hexadecimal digits, made at random when the volume is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct VolumeId(String);

impl TryFrom<String> for VolumeId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not an id: it has 16 hexadecimal digits"))
    }
}

impl VolumeId {
    /// Takes 16 lower-case hexadecimal digits; None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// The digits of the meta resource's id, the same in every cluster.
    pub const META: &str = "0000000000000000";

    /// The id of the meta resource.
    pub fn meta() -> Self {
        Self(Self::META.to_owned())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for VolumeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_refused_with_the_rule() {
        for good in ["db", "a", "Web-1.old", "0", &"x".repeat(48)] {
            assert_eq!(VolumeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "a b", "a/b", "ä", "snapshot1", "a_rimage_0", "all", "holdfast-meta"]
        {
            let refusal = VolumeName::new(bad).unwrap_err();
            assert_eq!(refusal.errno, Errno::Invalid);
            assert!(refusal.text.contains(&format!("{bad:?}")), "{}", refusal.text);
        }
        assert!(VolumeName::new("x".repeat(49)).is_err());
        assert!(BoxName::new("all").is_ok());
    }

    /// Found by tests/fuzz: 4096 quotation marks made a sentence of 8 KiB.
    #[test]
    fn a_long_bad_name_is_quoted_in_part() {
        let refusal = GroupName::new("\"".repeat(4_096)).unwrap_err();
        assert!(refusal.text.len() < 500 && refusal.text.contains("\"... is not"), "{}", refusal.text);
    }

    #[test]
    fn ids_are_sixteen_hexadecimal_digits() {
        assert!(VolumeId::parse("0123456789abcdef").is_some());
        for bad in ["", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdeg"] {
            assert!(VolumeId::parse(bad).is_none(), "{bad}");
            assert!(serde_json::from_str::<VolumeId>(&format!("{bad:?}")).is_err(), "{bad}");
        }
    }
}
