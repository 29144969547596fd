//! Which boxes a resource's replicas go to: filter, then score. Every refusal is kept, as a sentence for the operator.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    conf,
    drbd::DrbdVersion,
    facts::Report,
    intent::{Assignment, Intent},
    names::{BoxName, PoolName, VolumeId},
    size::Size,
};

/// What decisions are made from: what is wanted, and what each box last said of itself.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Wishes and assignments.
    pub intent: &'a Intent,
    /// The last report of each box.
    pub reports: &'a BTreeMap<BoxName, Arc<Report>>,
    /// The boxes whose reports are current.
    pub alive: &'a BTreeSet<BoxName>,
}

impl<'a> World<'a> {
    /// The report of a box, if it is current.
    pub fn current(&self, name: &BoxName) -> Option<&'a Report> {
        self.alive.contains(name).then(|| self.reports.get(name))?.map(Arc::as_ref)
    }

    /// The DRBD module of a box, by its current or last report.
    pub fn drbd(&self, name: &BoxName) -> Option<DrbdVersion> {
        self.reports.get(name)?.drbd_version
    }

    /// The box's volume group of the pool is not there, and the operator gave it no disk that might bring it back.
    pub fn pool_is_gone(&self, name: &BoxName, report: &Report, pool: &PoolName) -> bool {
        let expected = self.intent.disks.values().any(|w| &w.on == name && &w.pool == pool);
        !expected && report.vgs.known().is_some_and(|vgs| !vgs.contains_key(pool))
    }

    /// Bytes that can still be promised on a box: free extents, less what assigned legs without an LV will take, less
    /// what legs still have to grow. None where that is not known.
    pub fn room(&self, name: &BoxName, pool: &PoolName) -> Option<Size> {
        let report = self.current(name)?;
        let vg = report.vgs.known()?.get(pool)?;
        let drbd = report.drbd_version?;
        let lvs = vg.by_leg();
        let promised: u64 = self
            .intent
            .assignments
            .values()
            .filter_map(|a| {
                a.legs.get(name).filter(|leg| leg.pool.as_ref() == Some(pool)).map(|leg| (a, leg))
            })
            .map(|(a, leg)| {
                let wanted = conf::lv_size_for(a.size, drbd).bytes();
                let there = lvs.get(&(&a.id, leg.generation)).map_or(0, |lv| lv.size.bytes());
                wanted.saturating_sub(there)
            })
            .fold(0, u64::saturating_add);
        Some(Size(vg.free.bytes().saturating_sub(promised)))
    }
}

/// What is looked for.
pub struct Want<'a> {
    /// For which resource: its present legs are not candidates.
    pub id: &'a VolumeId,
    /// Boxes that have a leg already.
    pub taken: &'a BTreeSet<BoxName>,
    /// Only these, where the operator named them.
    pub only: Option<&'a BTreeSet<BoxName>>,
    /// The device's size.
    pub size: Size,
    /// The pool that the LV goes to.
    pub pool: &'a PoolName,
    /// The DRBD that the resource's other boxes run.
    pub drbd: DrbdVersion,
}

type Filter = fn(&World<'_>, &BoxName, &Want<'_>) -> Result<(), String>;

/// In this order: the first that refuses is the reason given.
const FILTERS: [Filter; 6] = [is_alive, is_named, is_not_leaving, has_same_drbd, has_pool, has_room];

fn is_alive(world: &World<'_>, name: &BoxName, _: &Want<'_>) -> Result<(), String> {
    world.current(name).map(drop).ok_or_else(|| format!("{name} is away"))
}

fn is_named(_: &World<'_>, name: &BoxName, want: &Want<'_>) -> Result<(), String> {
    let named = want.only.is_none_or(|only| only.contains(name));
    named.then_some(()).ok_or_else(|| format!("{name} is not in place"))
}

fn is_not_leaving(world: &World<'_>, name: &BoxName, want: &Want<'_>) -> Result<(), String> {
    let leaving = world.intent.leaves.values().any(|l| &l.on == name && &l.id == want.id);
    (!leaving).then_some(()).ok_or_else(|| format!("{name} still removes its old replica"))
}

fn has_same_drbd(world: &World<'_>, name: &BoxName, want: &Want<'_>) -> Result<(), String> {
    match world.drbd(name) {
        None => Err(format!("{name} has no DRBD module loaded")),
        Some(v) if v.is_9() == want.drbd.is_9() => Ok(()),
        Some(v) => Err(format!("{name} runs DRBD {v}, the others {}", want.drbd)),
    }
}

fn has_pool(world: &World<'_>, name: &BoxName, want: &Want<'_>) -> Result<(), String> {
    let vgs = world.current(name).map(|r| &r.vgs);
    match vgs.and_then(|v| v.known()) {
        None => Err(format!("{name}'s volume groups could not be read")),
        Some(vgs) if vgs.contains_key(want.pool) => Ok(()),
        Some(_) => Err(format!("{name} has no disk in pool {}", want.pool)),
    }
}

fn has_room(world: &World<'_>, name: &BoxName, want: &Want<'_>) -> Result<(), String> {
    let room = world.room(name, want.pool).unwrap_or_default();
    let needed = conf::lv_size_for(want.size, want.drbd);
    if room >= needed {
        return Ok(());
    }
    Err(format!("{name}: pool {} has {} free, {} wanted", want.pool, room.about(), needed.about()))
}

/// Up to `count` boxes for further replicas, best first; and why each other box was not taken.
pub fn place(world: &World<'_>, want: &Want<'_>, count: usize) -> (Vec<BoxName>, Vec<String>) {
    let mut fit = Vec::new();
    let mut refusals = Vec::new();
    for name in world.intent.members.keys().filter(|name| !want.taken.contains(*name)) {
        match FILTERS.iter().try_for_each(|filter| filter(world, name, want)) {
            Ok(()) => fit.push(name.clone()),
            Err(why) => refusals.push(why),
        }
    }
    fit.sort_by_cached_key(|name| {
        (Reverse(world.room(name, want.pool)), legs_on(world.intent, name), name.clone())
    });
    fit.truncate(count);
    (fit, refusals)
}

/// The box that votes without a replica: the one with the fewest legs among those that could.
pub fn place_voter(world: &World<'_>, a: &Assignment, drbd: DrbdVersion) -> Option<BoxName> {
    let free = |name: &&BoxName| {
        !a.legs.contains_key(*name)
            && world.alive.contains(*name)
            && world.drbd(name).is_some_and(|v| v.is_9() == drbd.is_9())
            && !world.intent.leaves.values().any(|l| &l.on == *name && l.id == a.id)
    };
    world
        .intent
        .members
        .keys()
        .filter(free)
        .min_by_key(|name| (legs_on(world.intent, name), (*name).clone()))
        .cloned()
}

fn legs_on(intent: &Intent, name: &BoxName) -> usize {
    intent.assignments.values().filter(|a| a.legs.contains_key(name)).count()
}
