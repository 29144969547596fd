//! A wish: one write, mkdir, rmdir or rename in the tree, parsed. Whether it is granted is for `admit` to say.

use serde::{Deserialize, Serialize};

use super::{
    intent::{Member, Place},
    names::{BoxName, DiskName, GroupName, PoolName, VolumeName},
    size::Size,
};

/// A value that can be handed back to the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Or<T> {
    /// As the group says.
    Default,
    /// This.
    Set(T),
}

/// Attributes of a volume that one write changes, all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeChange {
    /// `size`
    pub size: Option<Size>,
    /// `replicas`
    pub replicas: Option<Or<u8>>,
    /// `place`
    pub place: Option<Place>,
    /// `pool`
    pub pool: Option<Or<PoolName>>,
    /// `group`
    pub group: Option<GroupName>,
}

/// What an operator, or a newcomer, asks of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// `mkdir volumes/VOL`
    MakeVolume(VolumeName),
    /// `rmdir volumes/VOL`
    RemoveVolume(VolumeName),
    /// A write into one of a volume's files, or several by `spec`.
    ChangeVolume(VolumeName, VolumeChange),
    /// `echo primary > volumes/VOL/on/BOX/role` (true), or `secondary` (false).
    SetRole(VolumeName, BoxName, bool),
    /// `echo POOL > nodes/BOX/disks/DISK/pool`, or `none`.
    SetDiskPool(BoxName, DiskName, Option<PoolName>),
    /// `mkdir pools/POOL`
    MakePool(PoolName),
    /// `rmdir pools/POOL`
    RemovePool(PoolName),
    /// `mkdir groups/GROUP`
    MakeGroup(GroupName),
    /// `rmdir groups/GROUP`
    RemoveGroup(GroupName),
    /// `echo N > groups/GROUP/replicas`
    SetGroupReplicas(GroupName, u8),
    /// `echo POOL > groups/GROUP/pool`
    SetGroupPool(GroupName, PoolName),
    /// `echo NAME > name`
    SetClusterName(String),
    /// `echo new > token` (None): a new secret, the old token is worth nothing any more. The secret of the token that
    /// was written back: it is so already.
    SetToken(Option<String>),
    /// A box that showed a good token, or a member that comes again with the same key.
    Join(Member),
}

/// A wish on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// 64 random hexadecimal digits: names the request, and ids and secrets of what it makes are taken from it, so
    /// that granting it twice makes the same thing.
    pub seed: String,
    /// The wish.
    pub wish: Wish,
}

impl Request {
    /// The first 16 digits: the id of what is made.
    pub fn id_digits(&self) -> &str {
        self.seed.get(..16).unwrap_or_default()
    }

    /// The other 48 digits: the secret of what is made.
    pub fn secret_digits(&self) -> &str {
        self.seed.get(16..).unwrap_or_default()
    }
}
