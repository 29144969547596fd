//! The one table of all files and directories.
//!
//! A path's segments are names of the daemon or, where the word is one of [`SLOTS`], users' names; a directory has only
//! one of the two kinds in it (rule 14). To add a file, add a row; everything else follows from it.

use super::{
    path::{Args, names},
    read, read_volume, write,
};
use crate::core::{
    refusal::{Errno, Refusal},
    view::View,
    wish::Wish,
};

/// The words in paths that stand for users' names.
pub const SLOTS: [&str; 5] = ["POOL", "GROUP", "BOX", "DISK", "VOL"];

/// What a read prints, without the last newline; None where there is nothing to read now.
pub type Read = fn(&View, &Args<'_>) -> Option<String>;
/// What a write of that value asks for.
pub type Write = fn(&View, &Args<'_>, &str) -> Result<Wish, Refusal>;
/// What a mkdir or rmdir asks for.
pub type Make = fn(&Args<'_>) -> Result<Wish, Refusal>;

/// Where a symlink points.
pub type Target = fn(&View, &Args<'_>) -> Option<String>;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mode 0555.
    Dir,
    /// A file of mode 0444: what is.
    Fact,
    /// A file of mode 0644: what was asked.
    Wish,
    /// A file of mode 0600: a wish that lets others in.
    Secret,
    /// A symlink.
    Link,
}

/// The users' names in a directory.
pub struct Names {
    /// All of them, in order.
    pub list: fn(&View, &Args<'_>) -> Vec<String>,
    /// Whether there is the one that the arguments name.
    pub has: fn(&View, &Args<'_>) -> bool,
}

/// Whether mkdir or rmdir can be used on a user's name.
pub enum Verb {
    /// Never: the reason, and the next thing to try.
    Never(Errno, &'static str),
    /// It is a wish.
    Asks(Make),
}

/// What a row does, by kind.
pub enum Act {
    /// A directory of the daemon's, or of users' names (see [`Row::names`]).
    Dir,
    /// Read only.
    Fact(Read),
    /// Read and write.
    Wish(Read, Write),
    /// Read and write, for root alone.
    Secret(Read, Write),
    /// A symlink.
    Link(Target),
}

/// One file or directory, or all of one kind.
pub struct Row {
    /// From /cluster on.
    pub path: &'static str,
    /// One line for the README.
    pub help: &'static str,
    /// What it does.
    pub act: Act,
    /// Where the last segment stands for users' names.
    pub names: Option<Names>,
    /// mkdir of the last segment.
    pub mkdir: Verb,
    /// rmdir of it.
    pub rmdir: Verb,
}

impl Row {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.act {
            Act::Dir => Kind::Dir,
            Act::Fact(_) => Kind::Fact,
            Act::Wish(..) => Kind::Wish,
            Act::Secret(..) => Kind::Secret,
            Act::Link(_) => Kind::Link,
        }
    }

    /// The last segment.
    pub fn last(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

const FIXED: &str = "directories are made by mkdir in volumes, pools and groups only";
const KEPT: &str =
    "this directory belongs to the tree; rmdir works on what mkdir made: volumes, pools and groups";

const fn row(path: &'static str, help: &'static str, act: Act) -> Row {
    let (mkdir, rmdir) = (Verb::Never(Errno::NotPermitted, FIXED), Verb::Never(Errno::NotPermitted, KEPT));
    Row { path, help, act, names: None, mkdir, rmdir }
}
const fn dir(path: &'static str, help: &'static str) -> Row {
    row(path, help, Act::Dir)
}
const fn fact(path: &'static str, help: &'static str, read: Read) -> Row {
    row(path, help, Act::Fact(read))
}
const fn wish(path: &'static str, help: &'static str, read: Read, write: Write) -> Row {
    row(path, help, Act::Wish(read, write))
}
const fn link(path: &'static str, help: &'static str, target: Target) -> Row {
    row(path, help, Act::Link(target))
}
const fn each(mut of: Row, names: Names) -> Row {
    of.names = Some(names);
    of
}
const fn verbs(mut of: Row, mkdir: Verb, rmdir: Verb) -> Row {
    of.mkdir = mkdir;
    of.rmdir = rmdir;
    of
}

/// Every file and directory, each after its parent, in the order in which people read about them.
pub static TABLE: &[Row] = &[
    dir("", "the cluster, the same on every box; what is read may be written back"),
    fact("README", "this text", read::readme),
    fact("version", "holdfast's version on this box; a newer one only adds files", read::version),
    wish("name", "what the cluster is called", read::name, write::name),
    fact("id", "the cluster's identity for life", read::id),
    fact("leader", "the box that takes writes now, - if none: then writes answer EROFS", read::leader),
    fact("health", "ok, or one problem per line, each with what to do", read::health),
    fact("status", "boxes and volumes, a table for people", read::status),
    row(
        "token",
        "what holdfast join takes on a new box; write new to make the old one worthless",
        Act::Secret(read::token, write::token),
    ),
    fact("errors", "the newest refused writes: when, on which box, about what, why", read::errors),
    dir("volumes", "replicated block devices: mkdir makes one, rmdir removes it and its data"),
    verbs(
        each(dir("volumes/VOL", "one volume; nothing is built before size is set"), names::VOLUMES),
        Verb::Asks(write::make_volume),
        Verb::Asks(write::remove_volume),
    ),
    wish(
        "volumes/VOL/size",
        "like 20G or 512M; a larger one grows it in use; none before the first write",
        read_volume::size,
        write::size,
    ),
    wish(
        "volumes/VOL/replicas",
        "how many copies, or default: as the group says, or one on each box in place",
        read_volume::replicas,
        write::replicas,
    ),
    wish("volumes/VOL/place", "auto, or the boxes that are to have a copy", read_volume::place, write::place),
    wish("volumes/VOL/pool", "which pool, or default: as the group says", read_volume::pool, write::pool),
    wish("volumes/VOL/group", "whose defaults hold", read_volume::group, write::group),
    wish(
        "volumes/VOL/spec",
        "all of the above in one line; a write changes the keys it names, all or none",
        read_volume::spec,
        write::spec,
    ),
    fact(
        "volumes/VOL/state",
        "unsized creating ready syncing degraded growing stopped wedged failed, then detail; poll(2) wakes on change",
        read_volume::state,
    ),
    fact("volumes/VOL/health", "ok, or one problem per line", read_volume::health),
    fact(
        "volumes/VOL/error",
        "why the newest write was refused and what boxes failed at; empty if neither",
        read_volume::error,
    ),
    fact("volumes/VOL/status", "its copies, a table for people", read_volume::status),
    link("volumes/VOL/device", "the block device; the same name on each of its boxes", read_volume::device),
    fact("volumes/VOL/id", "the volume's identity for life", read_volume::id),
    fact(
        "volumes/VOL/used-by",
        "the boxes where it is Primary: open or promoted there; - if none",
        read_volume::used_by,
    ),
    verbs(
        dir("volumes/VOL/on", "the boxes that have a part in it"),
        Verb::Never(Errno::NotPermitted, FIXED),
        Verb::Never(Errno::NotPermitted, "to remove the volume with its data, rmdir the volume itself"),
    ),
    verbs(
        each(dir("volumes/VOL/on/BOX", "its part on one box"), names::LEGS),
        Verb::Never(
            Errno::NotSupported,
            "clients (access from a box without a copy) are not built yet; for a copy there, write the boxes into place",
        ),
        Verb::Never(
            Errno::NotSupported,
            "taking a copy away by rmdir is not built yet; write the boxes that are to have one into place",
        ),
    ),
    fact(
        "volumes/VOL/on/BOX/kind",
        "replica, or tie-breaker: it has no data and votes",
        read_volume::leg_kind,
    ),
    wish(
        "volumes/VOL/on/BOX/role",
        "primary or secondary; with DRBD 8.4 write it to promote and demote, 9 does it by opening the device",
        read_volume::leg_role,
        write::role,
    ),
    fact(
        "volumes/VOL/on/BOX/disk",
        "DRBD's word for this copy, like UpToDate; - if not known",
        read_volume::leg_disk,
    ),
    fact(
        "volumes/VOL/on/BOX/sync",
        "how far the sync into this copy is, like 43.10%; - without one",
        read_volume::leg_sync,
    ),
    fact(
        "volumes/VOL/on/BOX/links",
        "its links as it sees them, like box2:Connected; - if not known",
        read_volume::leg_links,
    ),
    link("volumes/VOL/on/BOX/device", "the block device there", read_volume::leg_device),
    dir("pools", "pools of disks: mkdir makes one, rmdir removes an empty one"),
    verbs(
        each(dir("pools/POOL", "one pool, on each box the volume group holdfast-POOL"), names::POOLS),
        Verb::Asks(write::make_pool),
        Verb::Asks(write::remove_pool),
    ),
    fact("pools/POOL/kind", "how it keeps data: lvm (linear logical volumes)", read::pool_kind),
    fact("pools/POOL/size", "on all boxes together, as last heard of each", read::pool_size),
    fact("pools/POOL/free", "not given to any logical volume, on all boxes together", read::pool_free),
    fact("pools/POOL/promised", "asked by volumes, each copy counted", read::pool_promised),
    dir("groups", "defaults that volumes share: mkdir makes one, rmdir removes an unused one"),
    verbs(
        each(dir("groups/GROUP", "the defaults of one group"), names::GROUPS),
        Verb::Asks(write::make_group),
        Verb::Asks(write::remove_group),
    ),
    wish("groups/GROUP/replicas", "how many copies", read::group_replicas, write::group_replicas),
    wish("groups/GROUP/pool", "which pool", read::group_pool, write::group_pool),
    dir("nodes", "the boxes"),
    verbs(
        each(dir("nodes/BOX", "one box"), names::BOXES),
        Verb::Never(Errno::NotPermitted, "a box becomes a member by `holdfast join TOKEN` on that box"),
        Verb::Never(Errno::NotSupported, "removing a box is not built yet"),
    ),
    fact(
        "nodes/BOX/address",
        "where it is reached: peers on port 6999, DRBD on 7000 to 7999",
        read::box_address,
    ),
    fact(
        "nodes/BOX/state",
        "up or away; what else is shown of a box that is away is what it said last",
        read::box_state,
    ),
    fact(
        "nodes/BOX/drbd",
        "the version of its DRBD module; none if it is not loaded, - if not known",
        read::box_drbd,
    ),
    fact("nodes/BOX/kernel", "its kernel's release", read::box_kernel),
    fact("nodes/BOX/version", "holdfast's version there", read::box_version),
    fact("nodes/BOX/since", "when holdfast started there, UTC", read::box_since),
    dir("nodes/BOX/pools", "its part of each pool"),
    each(dir("nodes/BOX/pools/POOL", "its volume group holdfast-POOL"), names::VGS),
    fact("nodes/BOX/pools/POOL/size", "all of it", read::vg_size),
    fact("nodes/BOX/pools/POOL/free", "not given to any logical volume", read::vg_free),
    dir("nodes/BOX/disks", "its disks"),
    each(dir("nodes/BOX/disks/DISK", "one disk, by the kernel's name there"), names::DISKS),
    fact("nodes/BOX/disks/DISK/size", "all of it", read::disk_size),
    fact("nodes/BOX/disks/DISK/model", "as the disk says; - if it does not", read::disk_model),
    fact("nodes/BOX/disks/DISK/serial", "as the disk says; - if it does not", read::disk_serial),
    fact("nodes/BOX/disks/DISK/path", "where it is plugged in; - if not known", read::disk_path),
    fact("nodes/BOX/disks/DISK/rotational", "1 if it turns, else 0", read::disk_rotational),
    fact(
        "nodes/BOX/disks/DISK/state",
        "claimed (in a pool), blank, foreign, in-use or unfit",
        read::disk_state,
    ),
    fact(
        "nodes/BOX/disks/DISK/reason",
        "what makes it foreign, in-use or unfit; - otherwise",
        read::disk_reason,
    ),
    wish(
        "nodes/BOX/disks/DISK/pool",
        "the pool it was handed to, or none; only a blank disk is taken",
        read::disk_pool,
        write::disk_pool,
    ),
    dir("nodes/BOX/volumes", "the volumes that have a part there"),
    each(link("nodes/BOX/volumes/VOL", "to the volume", read::box_volume), names::BOX_VOLUMES),
    dir("debug", "internals, no promise: for people who look for a fault"),
    fact("debug/revision", "how many commits of wishes and assignments this box knows", read::revision),
    fact("debug/epoch", "the leadership that made the newest", read::epoch),
    fact("debug/plan", "the steps this box would take or is taking, one per line", read::plan),
    fact("debug/counters", "name and value, one per line", read::counters),
];
