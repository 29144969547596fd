//! From a path to its row and back: lookup, listing, reading.

use std::sync::LazyLock;

use super::{
    table::{Act, Kind, Row, SLOTS, TABLE},
    text,
};
use crate::core::{
    claim::Disk,
    facts::{Report, Vg},
    intent::{Assignment, Group, Leg, Member, Pool, Volume},
    view::View,
};

/// The users' names in a path; empty where it has none of that kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Args<'a> {
    /// POOL
    pub pool: &'a str,
    /// GROUP
    pub group: &'a str,
    /// BOX
    pub on: &'a str,
    /// DISK
    pub disk: &'a str,
    /// VOL
    pub volume: &'a str,
}

impl<'a> Args<'a> {
    fn set(&mut self, slot: &str, name: &'a str) {
        match slot {
            "POOL" => self.pool = name,
            "GROUP" => self.group = name,
            "BOX" => self.on = name,
            "DISK" => self.disk = name,
            _ => self.volume = name,
        }
    }

    /// The volume that is named, if there is one.
    pub fn volume<'v>(&self, view: &'v View) -> Option<&'v Volume> {
        view.intent.volumes.get(self.volume)
    }

    /// What was decided for it.
    pub fn assignment<'v>(&self, view: &'v View) -> Option<&'v Assignment> {
        view.intent.assignments.get(&self.volume(view)?.id)
    }

    /// Its leg on the box that is named.
    pub fn leg<'v>(&self, view: &'v View) -> Option<&'v Leg> {
        self.assignment(view)?.legs.get(self.on)
    }

    /// The pool.
    pub fn pool<'v>(&self, view: &'v View) -> Option<&'v Pool> {
        view.intent.pools.get(self.pool)
    }

    /// The group.
    pub fn group<'v>(&self, view: &'v View) -> Option<&'v Group> {
        view.intent.groups.get(self.group)
    }

    /// The box.
    pub fn member<'v>(&self, view: &'v View) -> Option<&'v Member> {
        view.intent.members.get(self.on)
    }

    /// What that box said last; it may be away by now.
    pub fn report<'v>(&self, view: &'v View) -> Option<&'v Report> {
        self.member(view)?;
        view.reports.get(self.on).map(AsRef::as_ref)
    }

    /// The pool's volume group there.
    pub fn vg<'v>(&self, view: &'v View) -> Option<&'v Vg> {
        self.report(view)?.vgs.known()?.get(self.pool)
    }

    /// The disk there.
    pub fn disk<'v>(&self, view: &'v View) -> Option<&'v Disk> {
        self.report(view)?.disks.known()?.get(self.disk)
    }
}

/// The directories of users' names.
pub mod names {
    use super::super::table::Names;

    pub const VOLUMES: Names = Names {
        list: |view, _| view.intent.volumes.keys().map(ToString::to_string).collect(),
        has: |view, args| args.volume(view).is_some(),
    };
    pub const LEGS: Names = Names {
        list: |view, args| {
            args.assignment(view).map_or(Vec::new(), |a| a.legs.keys().map(ToString::to_string).collect())
        },
        has: |view, args| args.leg(view).is_some(),
    };
    pub const POOLS: Names = Names {
        list: |view, _| view.intent.pools.keys().map(ToString::to_string).collect(),
        has: |view, args| args.pool(view).is_some(),
    };
    pub const GROUPS: Names = Names {
        list: |view, _| view.intent.groups.keys().map(ToString::to_string).collect(),
        has: |view, args| args.group(view).is_some(),
    };
    pub const BOXES: Names = Names {
        list: |view, _| view.intent.members.keys().map(ToString::to_string).collect(),
        has: |view, args| args.member(view).is_some(),
    };
    pub const VGS: Names = Names {
        list: |view, args| {
            let vgs = args.report(view).and_then(|report| report.vgs.known());
            vgs.map_or(Vec::new(), |vgs| vgs.keys().map(ToString::to_string).collect())
        },
        has: |view, args| args.vg(view).is_some(),
    };
    pub const DISKS: Names = Names {
        list: |view, args| {
            let disks = args.report(view).and_then(|report| report.disks.known());
            disks.map_or(Vec::new(), |disks| disks.keys().map(ToString::to_string).collect())
        },
        has: |view, args| args.disk(view).is_some(),
    };
    pub const BOX_VOLUMES: Names = Names {
        list: |view, args| {
            let volumes = view.intent.volumes.values();
            let here = volumes.filter(|volume| {
                view.intent.assignments.get(&volume.id).is_some_and(|a| a.legs.contains_key(args.on))
            });
            here.map(|volume| volume.name.to_string()).collect()
        },
        has: |view, args| args.member(view).is_some() && args.leg(view).is_some(),
    };
}

/// For each row, the rows of what is in it.
static CHILDREN: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
    let mut children = vec![Vec::new(); TABLE.len()];
    for (index, row) in TABLE.iter().enumerate().skip(1) {
        let parent = row.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if let Some(found) = TABLE.iter().position(|row| row.path == parent) {
            children[found].push(index);
        }
    }
    children
});

/// A path that fits a row of the table; whether there is such an object is another question.
#[derive(Clone, Copy)]
pub(super) struct Fit<'p> {
    index: usize,
    pub args: Args<'p>,
}

impl<'p> Fit<'p> {
    pub(super) fn row(&self) -> &'static Row {
        &TABLE[self.index]
    }

    fn child(&self, name: &'p str) -> Option<Fit<'p>> {
        let rows = &CHILDREN[self.index];
        let index = *rows.iter().find(|index| {
            let row = &TABLE[**index];
            row.names.is_some() || row.last() == name
        })?;
        let mut args = self.args;
        if TABLE[index].names.is_some() {
            args.set(TABLE[index].last(), name);
        }
        Some(Fit { index, args })
    }
}

/// Every row on the way to `path`, from /cluster itself to the last; None where the table has no such path.
pub(super) fn way(path: &str) -> Option<Vec<Fit<'_>>> {
    let mut way = vec![Fit { index: 0, args: Args::default() }];
    if path.is_empty() {
        return Some(way);
    }
    for name in path.split('/') {
        let next = way.last()?.child(name)?;
        way.push(next);
    }
    Some(way)
}

pub(super) fn exists(view: &View, fit: &Fit<'_>) -> bool {
    match (&fit.row().names, &fit.row().act) {
        (Some(names), _) => (names.has)(view, &fit.args),
        (None, Act::Link(target)) => target(view, &fit.args).is_some(),
        (None, Act::Dir | Act::Fact(_) | Act::Wish(..) | Act::Secret(..)) => true,
    }
}

/// The row and arguments of something that is there.
pub(super) fn find<'p>(view: &View, path: &'p str) -> Option<Fit<'p>> {
    let way = way(path)?;
    if way.iter().all(|fit| exists(view, fit)) { way.last().copied() } else { None }
}

/// Something that is in the tree now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u16,
    /// The table's line about it.
    pub help: &'static str,
}

fn node(row: &'static Row) -> NodeRef {
    let mode = match row.kind() {
        Kind::Dir => super::DIR_MODE,
        Kind::Fact => 0o444,
        Kind::Wish => 0o644,
        Kind::Secret => 0o600,
        Kind::Link => 0o777,
    };
    NodeRef { kind: row.kind(), mode, help: row.help }
}

/// What is at `path` now, if anything.
pub fn resolve(view: &View, path: &str) -> Option<NodeRef> {
    find(view, path).map(|fit| node(fit.row()))
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last segment of its path.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What is in the directory at `path`; None where there is no such directory.
pub fn list(view: &View, path: &str) -> Option<Vec<Entry>> {
    let fit = find(view, path)?;
    if fit.row().kind() != Kind::Dir {
        return None;
    }
    let mut entries = Vec::new();
    for index in &CHILDREN[fit.index] {
        let (row, child) = (&TABLE[*index], Fit { index: *index, args: fit.args });
        match &row.names {
            Some(names) => entries.extend(
                (names.list)(view, &fit.args).into_iter().map(|name| Entry { name, kind: row.kind() }),
            ),
            None if exists(view, &child) => {
                entries.push(Entry { name: row.last().to_owned(), kind: row.kind() });
            }
            None => {}
        }
    }
    Some(entries)
}

/// The text of the file at `path`: ASCII, whole lines. None where there is no such file.
pub fn read(view: &View, path: &str) -> Option<Vec<u8>> {
    let fit = find(view, path)?;
    match fit.row().act {
        Act::Fact(read) | Act::Wish(read, _) | Act::Secret(read, _) => {
            Some(text::lines(&read(view, &fit.args)?))
        }
        Act::Dir | Act::Link(_) => None,
    }
}

/// Where the symlink at `path` points; None where there is no such symlink.
pub fn target(view: &View, path: &str) -> Option<String> {
    let fit = find(view, path)?;
    match fit.row().act {
        Act::Link(target) => target(view, &fit.args),
        Act::Dir | Act::Fact(_) | Act::Wish(..) | Act::Secret(..) => None,
    }
}

/// The object that a refusal of something at `path` is filed under: `volumes/db`, `nodes/box1/disks/vdb`, `name`.
///
/// Everything of a volume is filed under the volume. A name that nothing can have is left out.
pub fn about(path: &str) -> String {
    let good = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let names: Vec<&str> = path.split('/').take_while(good).collect();
    let depth = match names[..] {
        ["volumes" | "pools" | "groups", _, ..] => 2,
        ["nodes", _, "disks" | "pools", _, ..] => 4,
        ["nodes", _, ..] => 2,
        _ => names.len(),
    };
    if names.is_empty() { "/".to_owned() } else { names[..depth].join("/") }
}

/// Whether a word in a path of the table stands for users' names.
pub(super) fn is_slot(word: &str) -> bool {
    SLOTS.contains(&word)
}
