//! The leader's part: which boxes have which legs of every resource. Wishes and reports in, a transaction out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    drbd::{ConnectionState, Device, DiskState, DrbdVersion},
    intent::{
        Assignment, Change, Intent, Leave, Leg, META_MINOR, META_NAME, META_PORT, META_SIZE, MINOR_FIRST,
        PORT_FIRST, Place, Record, Txn, Volume,
    },
    mutant,
    names::{BoxName, PoolName, VolumeId},
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

/// Everything that should be decided now, for all resources. Empty when nothing is to be changed.
///
/// What cannot be placed is left as it is; `refusals` tells why, by volume.
pub fn assign(world: &World<'_>, me: &BoxName) -> (Txn, BTreeMap<String, String>) {
    let Some(drbd) = world.drbd(me) else { return (Txn::new(), BTreeMap::new()) };
    let mut intent = world.intent.clone();
    let mut txn = Txn::new();
    let mut refusals = BTreeMap::new();
    let mut take = |intent: &mut Intent, changes: Txn| {
        intent.apply(&changes);
        txn.extend(changes);
    };
    take(&mut intent, finished_leaves(world));
    let names: Vec<_> = intent.volumes.keys().cloned().collect();
    for name in names {
        let changes = assign_volume(&World { intent: &intent, ..*world }, &intent.volumes[&name], drbd);
        match changes {
            Ok(changes) => take(&mut intent, changes),
            Err(refusal) => drop(refusals.insert(format!("volumes/{name}"), refusal.text)),
        }
    }
    let changes = assign_meta(&World { intent: &intent, ..*world }, drbd);
    take(&mut intent, changes);
    (txn, refusals)
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
    let leaves = if may_join { mind_voter(world, &mut a, drbd) } else { Vec::new() };
    choose_seed(&mut a);
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
    let mut a = old.clone();
    a.born = a.born || has_up_to_date(world, &a);
    if !is_whole(world, old, drbd) {
        return changed(Some(old), a, Vec::new());
    }
    let replicas = META_REPLICAS.min(replicas_max(drbd)).min(a.diskful().count() + 1);
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
            let mut others = a.legs.values().map(|l| l.node_id).filter(|id| *id != leg.node_id);
            up && (!drbd.is_9() || others.all(|id| linked(&id)))
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
            voters.iter().filter_map(|name| a.legs.remove(name).map(|leg| leave(a, name, leg))).collect()
        }
        (true, false) | (false, true) => Vec::new(),
    }
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

fn choose_seed(a: &mut Assignment) {
    if a.seed.as_ref().is_none_or(|seed| !a.legs.contains_key(seed)) {
        let first = a.diskful().next().cloned();
        a.seed = first;
    }
}

/// Leaves whose box says that it has nothing left of them.
fn finished_leaves(world: &World<'_>) -> Txn {
    let leaves = world.intent.leaves.iter();
    let gone = leaves.filter(|(key, l)| world.current(&l.on).is_some_and(|r| r.left.contains(*key)));
    gone.map(|(key, _)| Change::Delete(key.clone())).collect()
}
