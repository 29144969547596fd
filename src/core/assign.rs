//! The leader's part: which boxes have which legs of every resource. Wishes and reports in, a transaction out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    drbd::{ConnectionState, Device, DiskState, DrbdVersion, Role},
    facts::Report,
    intent::{
        Assignment, Change, Intent, Leave, Leg, META_MINOR, META_NAME, META_PORT, META_SIZE, MINOR_FIRST,
        PORT_FIRST, Place, Record, Txn, Volume,
    },
    mutant,
    names::{BoxName, PoolName, VolumeId, VolumeName},
    place::{Want, World, place, place_voter},
    refusal::{Errno, Refusal},
    size::Size,
};

/// Replicas of the meta resource at most (DRBD 9); with 8.4 it is what 8.4 can do.
pub const META_REPLICAS: usize = 3;
/// What DRBD 8.4 can do.
pub const REPLICAS_84: usize = 2;
/// What DRBD 9 is set up for: seven peers' bitmaps are reserved in the metadata.
pub const REPLICAS_9: usize = 7;

/// How many replicas a resource may have under this DRBD.
pub fn replicas_max(drbd: DrbdVersion) -> usize {
    if drbd.is_9() { REPLICAS_9 } else { REPLICAS_84 }
}

/// The leader's newest intent, and about which of its volumes there may be something to decide.
#[derive(Clone, Debug)]
pub struct Tip {
    /// With all commits that are on their way.
    pub intent: Intent,
    /// All volumes but those that are settled: see [`is_settled`].
    open: BTreeSet<VolumeName>,
}

impl Tip {
    /// Nothing is known to be settled yet.
    pub fn new(intent: Intent) -> Self {
        Self { open: intent.volumes.keys().cloned().collect(), intent }
    }

    /// Takes the changes of `txn` over.
    pub fn apply(&mut self, txn: &[Change]) {
        txn.iter().for_each(|change| self.reopen(change));
        self.intent.apply(txn);
    }

    /// What is settled may not be after this.
    fn reopen(&mut self, change: &Change) {
        match change {
            Change::Put(Record::Volume(volume)) => drop(self.open.insert(volume.name.clone())),
            Change::Put(Record::Assignment(a)) => self.reopen_volume(&a.id),
            Change::Put(Record::Member(_) | Record::Pool(_) | Record::Group(_)) => self.reopen_all(),
            Change::Put(Record::Leave(_) | Record::Disk(_) | Record::Cluster(_) | Record::Stamp(_)) => {}
            Change::Delete(key) => match key.split_once('/') {
                Some(("assignment", id)) => {
                    VolumeId::parse(id).iter().for_each(|id| self.reopen_volume(id));
                }
                Some(("member" | "pool" | "group", _)) => self.reopen_all(),
                Some(_) | None => {}
            },
        }
    }

    fn reopen_volume(&mut self, id: &VolumeId) {
        let volume = self.intent.assignments.get(id).and_then(|a| self.intent.volume_of(a));
        self.open.extend(volume.map(|v| v.name.clone()));
    }

    fn reopen_all(&mut self) {
        self.open = self.intent.volumes.keys().cloned().collect();
    }
}

/// Decides everything that should be decided now, for all resources. The changes are in `tip` then, and returned; there
/// are none when nothing is to be changed.
///
/// What cannot be placed is left as it is; the second map tells why, by volume.
pub fn assign(
    tip: &mut Tip,
    reports: &BTreeMap<BoxName, Arc<Report>>,
    alive: &BTreeSet<BoxName>,
    me: &BoxName,
) -> (Txn, BTreeMap<String, String>) {
    let Tip { intent, open } = tip;
    let mut refusals = BTreeMap::new();
    let Some(drbd) = (World { intent, reports, alive }).drbd(me) else { return (Txn::new(), refusals) };
    let mut txn = finished_leaves(&World { intent, reports, alive });
    intent.apply(&txn);
    open.retain(|name| intent.volumes.get(name).is_some_and(|v| !is_settled(intent, v, drbd)));
    for name in &*open {
        let Some(volume) = intent.volumes.get(name) else { continue };
        match assign_volume(&World { intent, reports, alive }, volume, drbd) {
            Ok(changes) => {
                intent.apply(&changes);
                txn.extend(changes);
            }
            Err(refusal) => drop(refusals.insert(format!("volumes/{name}"), refusal.text)),
        }
    }
    let changes = assign_meta(&World { intent, reports, alive }, drbd);
    intent.apply(&changes);
    txn.extend(changes);
    (txn, refusals)
}

/// No volume is taken for settled about which something would be decided.
pub fn is_right(
    tip: &Tip,
    reports: &BTreeMap<BoxName, Arc<Report>>,
    alive: &BTreeSet<BoxName>,
    me: &BoxName,
) -> bool {
    let (mut tip, mut anew) = (tip.clone(), Tip::new(tip.intent.clone()));
    assign(&mut tip, reports, alive, me) == assign(&mut anew, reports, alive, me)
}

/// Whatever boxes may report, [`assign_volume`] changes nothing.
fn is_settled(intent: &Intent, volume: &Volume, drbd: DrbdVersion) -> bool {
    let Some(size) = volume.size else { return true };
    let Some(a) = intent.assignments.get(&volume.id) else { return false };
    let replicas = usize::from(intent.replicas_of(volume)).min(replicas_max(drbd));
    let seeded = a.seed.as_ref().is_some_and(|seed| a.legs.contains_key(seed));
    a.size >= size && seeded && intent.pool_of(volume).is_some() && is_complete(intent, a, replicas, drbd)
}

/// Born, and it has all replicas and the voter that it can have.
fn is_complete(intent: &Intent, a: &Assignment, replicas: usize, drbd: DrbdVersion) -> bool {
    let diskful = a.diskful().count();
    let voted = a.legs.len() > diskful;
    let everywhere = || intent.members.keys().all(|name| a.legs.contains_key(name));
    let voter = if diskful.is_multiple_of(2) { voted || everywhere() } else { !voted };
    a.born && diskful >= replicas && (voter || !drbd.is_9())
}

/// What one volume needs to be decided: its first assignment, a larger size, further legs, that it is born.
pub fn assign_volume(world: &World<'_>, volume: &Volume, drbd: DrbdVersion) -> Result<Txn, Refusal> {
    let Some(size) = volume.size else { return Ok(Txn::new()) };
    let pool = world.intent.pool_of(volume).ok_or_else(|| {
        Refusal::new(
            Errno::NotFound,
            format!("{}: its group {} is gone; write another into group", volume.name, volume.group),
        )
    })?;
    let old = world.intent.assignments.get(&volume.id);
    let mut a = match old {
        Some(a) => a.clone(),
        None => first_assignment(world.intent, volume, size)?,
    };
    a.size = a.size.max(size);
    a.born = a.born || has_up_to_date(world, &a);
    let only = match &volume.place {
        Place::Auto => None,
        Place::Boxes(boxes) => Some(boxes),
    };
    let mut replicas = usize::from(world.intent.replicas_of(volume)).min(replicas_max(drbd));
    let may_join = old.is_none() || is_whole(world, &a, drbd);
    if old.is_some() {
        replicas = replicas.min(a.diskful().count() + usize::from(may_join));
    }
    let missing = add_replicas(world, &mut a, &pool, only, replicas, drbd);
    if let (None, Some(why)) = (old, missing) {
        return Err(Refusal::new(Errno::NoSpace, format!("{} cannot be placed: {why}", volume.name)));
    }
    // A voter comes and goes by itself: each new leg has to be there before the next change.
    let joins = old.is_some_and(|old| a.diskful().count() > old.diskful().count());
    let mut leaves = if may_join && !joins { mind_voter(world, &mut a, drbd) } else { Vec::new() };
    choose_seed(world, &mut a);
    if mutant::is("drop a leg that is needed") && a.born && old.is_some_and(|old| !old.born) {
        let dropped = a.diskful().last().cloned();
        let gone = dropped.and_then(|name| Some((a.legs.remove(&name)?, name)));
        leaves.extend(gone.map(|(leg, name)| leave(&a, &name, leg)));
    }
    Ok(changed(old, a, leaves))
}

fn first_assignment(intent: &Intent, volume: &Volume, size: Size) -> Result<Assignment, Refusal> {
    let leaving =
        intent.leaves.values().map(|l| l.minor).filter(|_| !mutant::is("give away minors that leave"));
    let used: BTreeSet<u32> = intent.assignments.values().map(|a| a.minor).chain(leaving).collect();
    let last = MINOR_FIRST + u32::from(META_PORT - PORT_FIRST);
    let minor = (MINOR_FIRST..last).find(|m| !used.contains(m)).ok_or_else(|| {
        Refusal::new(
            Errno::NoSpace,
            format!(
                "{} cannot be made: all ports from {PORT_FIRST} to {} are taken",
                volume.name,
                META_PORT - 1
            ),
        )
    })?;
    let port = PORT_FIRST + u16::try_from(minor - MINOR_FIRST).unwrap_or(u16::MAX);
    Ok(Assignment {
        id: volume.id.clone(),
        resource: volume.name.to_string(),
        secret: volume.secret.clone(),
        minor,
        port,
        size,
        born: false,
        seed: None,
        legs: BTreeMap::new(),
    })
}

/// The assignment of a cluster's first meta resource: one leg on the box that founds it.
pub fn found_meta(me: &BoxName, pool: &PoolName, secret: String) -> Assignment {
    let leg = Leg { node_id: 0, pool: Some(pool.clone()), generation: 1 };
    Assignment {
        id: VolumeId::meta(),
        resource: META_NAME.to_owned(),
        secret,
        minor: META_MINOR,
        port: META_PORT,
        size: META_SIZE,
        born: false,
        seed: Some(me.clone()),
        legs: BTreeMap::from([(me.clone(), leg)]),
    }
}

fn assign_meta(world: &World<'_>, drbd: DrbdVersion) -> Txn {
    let Some(old) = world.intent.meta() else { return Txn::new() };
    let Some(pool) = old.legs.values().find_map(|leg| leg.pool.clone()) else { return Txn::new() };
    let replicas = META_REPLICAS.min(replicas_max(drbd));
    if is_complete(world.intent, old, replicas, drbd) {
        return Txn::new();
    }
    let mut a = old.clone();
    a.born = a.born || has_up_to_date(world, &a);
    if !is_whole(world, &a, drbd) {
        return changed(Some(old), a, Vec::new());
    }
    let replicas = replicas.min(a.diskful().count() + 1);
    add_replicas(world, &mut a, &pool, None, replicas, drbd);
    // A voter comes after the replicas that could still come: each new leg has to be there before the next.
    let leaves = if a.legs.len() > old.legs.len() { Vec::new() } else { mind_voter(world, &mut a, drbd) };
    changed(Some(old), a, leaves)
}

/// All legs are there, UpToDate and connected to each other. Only then may another join: on DRBD 9 a new one that is not
/// there yet counts for the quorum, and with a second one away the Primary would lose it.
fn is_whole(world: &World<'_>, a: &Assignment, drbd: DrbdVersion) -> bool {
    a.born
        && a.legs.iter().all(|(name, leg)| {
            let resource = world.current(name).and_then(|r| r.resource(&a.resource));
            let Some(resource) = resource else { return false };
            let good =
                |d: &Device| d.minor == a.minor && (leg.pool.is_none() || d.disk == DiskState::UpToDate);
            let up = resource.devices.get(&0).is_some_and(good);
            let linked =
                |id: &u8| resource.peers.get(id).is_some_and(|p| p.connection == ConnectionState::Connected);
            // Two without a replica have no connection: see `conf`.
            let minds = |l: &&Leg| l.node_id != leg.node_id && (l.pool.is_some() || leg.pool.is_some());
            let mut others = a.legs.values().filter(minds);
            up && (!drbd.is_9() || others.all(|l| linked(&l.node_id)))
        })
}

fn changed(old: Option<&Assignment>, new: Assignment, leaves: Vec<Leave>) -> Txn {
    let mut txn: Txn = leaves.into_iter().map(|l| Change::Put(Record::Leave(l))).collect();
    if old != Some(&new) {
        txn.push(Change::Put(Record::Assignment(new)));
    }
    txn
}

fn has_up_to_date(world: &World<'_>, a: &Assignment) -> bool {
    a.diskful().any(|name| {
        let resource = world.current(name).and_then(|r| r.resource(&a.resource));
        let device = resource.and_then(|r| r.devices.get(&0));
        device.is_some_and(|d| d.minor == a.minor && d.disk == DiskState::UpToDate)
    })
}

/// Adds diskful legs until there are `replicas`; a voter's box may become a replica's. What is missing and why: None
/// when nothing is.
fn add_replicas(
    world: &World<'_>,
    a: &mut Assignment,
    pool: &PoolName,
    only: Option<&BTreeSet<BoxName>>,
    replicas: usize,
    drbd: DrbdVersion,
) -> Option<String> {
    let taken: BTreeSet<BoxName> = a.diskful().cloned().collect();
    let lacking = replicas.saturating_sub(taken.len());
    if lacking == 0 {
        return None;
    }
    let want = Want { id: &a.id, taken: &taken, only, size: a.size, pool, drbd };
    let (boxes, refusals) = place(world, &want, lacking);
    for name in &boxes {
        let node_id = match a.legs.get(name) {
            Some(voter) => voter.node_id,
            None => free_node_id(world.intent, a),
        };
        a.legs.insert(name.clone(), Leg { node_id, pool: Some(pool.clone()), generation: 1 });
    }
    (boxes.len() < lacking).then(|| {
        let found = boxes.len() + taken.len();
        let why =
            if refusals.is_empty() { "there are no further boxes".to_owned() } else { refusals.join("; ") };
        format!("{found} of {replicas} replicas find room: {why}")
    })
}

fn free_node_id(intent: &Intent, a: &Assignment) -> u8 {
    let leaving = intent.leaves.values().filter(|l| l.id == a.id).map(|l| l.leg.node_id);
    let used: BTreeSet<u8> = a.legs.values().map(|l| l.node_id).chain(leaving).collect();
    (0..u8::MAX).find(|id| !used.contains(id)).unwrap_or(u8::MAX)
}

/// DRBD 9: an even number of replicas gets a diskless voter where there is a box for it; an odd one needs none.
fn mind_voter(world: &World<'_>, a: &mut Assignment, drbd: DrbdVersion) -> Vec<Leave> {
    if !drbd.is_9() || a.legs.is_empty() {
        return Vec::new();
    }
    let voters: Vec<BoxName> =
        a.legs.iter().filter(|(_, l)| l.pool.is_none()).map(|(n, _)| n.clone()).collect();
    let even = a.diskful().count().is_multiple_of(2);
    match (even, voters.is_empty()) {
        (true, true) => {
            if let Some(name) = place_voter(world, a, drbd) {
                let node_id = free_node_id(world.intent, a);
                a.legs.insert(name, Leg { node_id, pool: None, generation: 1 });
            }
            Vec::new()
        }
        (false, false) => {
            let idle = voters.iter().filter(|name| is_idle(world, a, name)).collect::<Vec<_>>();
            idle.into_iter().filter_map(|name| a.legs.remove(name).map(|leg| leave(a, name, leg))).collect()
        }
        (true, false) | (false, true) => Vec::new(),
    }
}

/// A box without a replica can use the device all the same; then it goes on voting.
fn is_idle(world: &World<'_>, a: &Assignment, name: &BoxName) -> bool {
    let Some(drbd) = world.current(name).and_then(|report| report.drbd.known()) else { return false };
    let Some(resource) = drbd.get(&a.resource) else { return true };
    resource.role == Role::Secondary && resource.devices.values().all(|d| d.open != Some(true))
}

/// The order to take a leg down and remove it.
pub fn leave(a: &Assignment, on: &BoxName, leg: Leg) -> Leave {
    Leave {
        id: a.id.clone(),
        resource: a.resource.clone(),
        minor: a.minor,
        port: a.port,
        on: on.clone(),
        leg,
    }
}

/// The box that makes the first copy. Another only if that one's pool is gone for good: one that does not answer, or
/// whose disks are late, may have made its copy, and it may be in use.
fn choose_seed(world: &World<'_>, a: &mut Assignment) {
    let report_and_pool = |name: &BoxName| world.current(name).zip(a.legs.get(name)?.pool.as_ref());
    let gone =
        |name: &BoxName| report_and_pool(name).is_some_and(|(r, pool)| world.pool_is_gone(name, r, pool));
    let has_pool = |name: &BoxName| {
        report_and_pool(name).is_some_and(|(r, pool)| r.vgs.known().is_some_and(|vgs| vgs.contains_key(pool)))
    };
    let seed = match a.seed.as_ref().filter(|seed| a.legs.contains_key(*seed)) {
        Some(seed) if a.born || !gone(seed) => return,
        Some(_) => a.diskful().find(|name| has_pool(name)).cloned(),
        None => a.diskful().next().cloned(),
    };
    a.seed = seed.or_else(|| a.seed.take());
}

/// Leaves whose box says that it has nothing left of them.
fn finished_leaves(world: &World<'_>) -> Txn {
    let leaves = world.intent.leaves.iter();
    let gone = leaves.filter(|(key, l)| world.current(&l.on).is_some_and(|r| r.left.contains(*key)));
    gone.map(|(key, _)| Change::Delete(key.clone())).collect()
}
