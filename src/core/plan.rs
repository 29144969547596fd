//! What this box has to do now: from what is wanted and what is, the steps of each resource. Pure.
//!
//! Unknown facts and orders that are not current never lead to a step that makes, promotes or removes anything.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    claim::Standing,
    conf,
    drbd::{ConnectionState, Device, DiskState, DrbdVersion, ReplicationState, Resource, Role},
    facts::{Lv, Report, Vg},
    intent::{Assignment, Leave, Leg},
    mutant,
    names::{BoxName, PoolName, VolumeId},
    place::World,
    size::Size,
    step::{Job, LvRef, SeedHow, Step},
};

/// Everything that this box needs to take its part of the plan.
pub struct Here<'a> {
    /// All boxes.
    pub world: World<'a>,
    /// This one.
    pub me: &'a BoxName,
    /// Its facts.
    pub report: &'a Report,
    /// The intent is the leader's word of now, not an old one from the own disk. Without it, existing legs are only
    /// brought up.
    pub current: bool,
    /// This box's LVs by whose they are and which life of the leg, where many are looked up.
    pub lvs: Option<Lvs<'a>>,
}

/// See [`Here::lvs`].
pub type Lvs<'a> = BTreeMap<(&'a VolumeId, u32), Vec<(&'a PoolName, &'a Lv)>>;

impl<'a> Here<'a> {
    /// The same, for who looks many LVs up.
    pub fn for_many(self) -> Self {
        let mut lvs = Lvs::new();
        for (pool, vg) in self.report.vgs.known().into_iter().flatten() {
            vg.lvs.iter().for_each(|lv| lvs.entry((&lv.id, lv.generation)).or_default().push((pool, lv)));
        }
        Self { lvs: Some(lvs), ..self }
    }

    /// The LVs of one life of this box's leg.
    fn lvs_of(&self, id: &VolumeId, generation: u32) -> Vec<(&'a PoolName, &'a Lv)> {
        if let Some(lvs) = &self.lvs {
            return lvs.get(&(id, generation)).cloned().unwrap_or_default();
        }
        let all = self.report.vgs.known().into_iter().flatten();
        let all = all.flat_map(|(pool, vg)| vg.lvs.iter().map(move |lv| (pool, lv)));
        all.filter(|(_, lv)| &lv.id == id && lv.generation == generation).collect()
    }
}

/// What is to be done about one resource, and what else is made from the same facts.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its lane; no steps when there is nothing to do now.
    pub job: Job,
    /// Leaves that this box has nothing left of.
    pub cleared: Vec<String>,
    /// What is next depends on what other boxes have, too.
    pub minds_others: bool,
    /// Something of it changes that DRBD sends no events for.
    pub counts: bool,
}

impl Part {
    /// It is as it should be, and stays so until something changes.
    pub fn is_at_rest(&self) -> bool {
        self.job.steps.is_empty() && self.cleared.is_empty() && !self.minds_others && !self.counts
    }
}

/// This box's part of one resource: `leaves` are those of it on this box, by key, `a` is its assignment, if it has a leg
/// here, and `crc` the checksum of the .res file there should be. Removals come before additions.
pub fn plan(
    here: &Here<'_>,
    resource: &str,
    leaves: &[(&String, &Leave)],
    a: Option<(&Assignment, &Leg)>,
    crc: u32,
) -> Part {
    let job = Job { lane: lane(resource), steps: Vec::new() };
    let mut part = Part { job, cleared: Vec::new(), minds_others: false, counts: false };
    for (key, leave) in leaves.iter().filter(|_| here.current) {
        let Some(steps) = take_leave(here, leave, a.is_some()) else { continue };
        if steps.is_empty() && may_be_cleared(here, leave) {
            part.cleared.push((*key).clone());
        }
        part.job.steps.extend(steps);
    }
    if let Some((a, leg)) = a {
        if part.job.steps.is_empty() {
            part.job.steps = build(here, a, leg, crc);
        }
        let facts = here.report.resource(resource);
        part.minds_others = !a.born
            || leaves_elsewhere(here, a).next().is_some()
            || facts.is_some_and(|r| r.devices.values().any(|d| is_small(a, d)));
        part.counts = facts.is_some_and(|r| counts(here, a, r));
    }
    part
}

/// It grows, or syncs on 8.4.
fn counts(here: &Here<'_>, a: &Assignment, resource: &Resource) -> bool {
    let events_tell = here.report.drbd_version.is_some_and(DrbdVersion::is_9);
    let grows = resource.devices.values().any(|d| d.size_kib > 0 && is_small(a, d));
    let mut peers = resource.peers.values().flat_map(|p| p.devices.values());
    grows || !events_tell && peers.any(|d| d.replication.has_progress())
}

fn is_small(a: &Assignment, device: &Device) -> bool {
    device.size_kib.saturating_mul(1024) < a.size.bytes()
}

/// The lane of a resource.
pub fn lane(resource: &str) -> String {
    format!("volumes/{resource}")
}

/// The disks that were handed over and are not claimed yet, in order of lanes.
pub fn claims(here: &Here<'_>) -> Vec<Job> {
    let mut jobs = BTreeMap::new();
    let Some(disks) = here.report.disks.known().filter(|_| here.current) else { return Vec::new() };
    for wish in here.world.intent.disks.values().filter(|w| &w.on == here.me) {
        let mut with_ident = disks.iter().filter(|(_, d)| d.ident == wish.ident);
        let (Some((name, disk)), None) = (with_ident.next(), with_ident.next()) else { continue };
        if disk.standing == Standing::Blank || mutant::is("claim what is not blank") {
            let step = Step::ClaimDisk {
                pool: wish.pool.clone(),
                device: disk.device.clone(),
                ident: disk.ident.clone(),
            };
            jobs.insert(format!("nodes/{}/disks/{name}", here.me), vec![step]);
        }
    }
    jobs.into_iter().map(|(lane, steps)| Job { lane, steps }).collect()
}

/// A volume group that is not there may come back with its disk, and the LV with it: unless the operator took all its
/// disks away from the pool.
fn may_be_cleared(here: &Here<'_>, leave: &Leave) -> bool {
    let vgs = here.report.vgs.known();
    leave.leg.pool.as_ref().is_none_or(|pool| {
        vgs.is_some_and(|vgs| vgs.contains_key(pool)) || here.world.pool_is_gone(here.me, here.report, pool)
    })
}

/// What is left to be done for it; None where that cannot be told. `named_anew`: this box has a leg of a resource of
/// that name.
fn take_leave(here: &Here<'_>, leave: &Leave, named_anew: bool) -> Option<Vec<Step>> {
    let report = here.report;
    let (resources, conf) = (report.drbd.known()?, report.conf.known()?);
    report.vgs.known()?;
    let mut steps = Vec::new();
    let up = resources.get(&leave.resource).filter(|r| r.devices.values().any(|d| d.minor == leave.minor));
    let removed = !here.world.intent.assignments.contains_key(&leave.id);
    if removed && up.is_some_and(|up| up.peers.values().any(|peer| peer.role == Role::Primary)) {
        return None; // somebody opened it before it went: all replicas stay until it is closed
    }
    // While there is its file it may have come up since it was looked at.
    let file = conf.contains_key(&leave.resource) && !named_anew;
    if up.is_some() || file && !resources.contains_key(&leave.resource) {
        steps.push(Step::Down { resource: leave.resource.clone(), minor: leave.minor });
    }
    if file && !mutant::is("leave the file behind") {
        steps.push(Step::RemoveConf { resource: leave.resource.clone() });
    }
    let lv = here.lvs_of(&leave.id, leave.leg.generation).into_iter().next();
    steps.extend(lv.map(|(pool, lv)| Step::RemoveLv { lv: lv_ref(pool, lv) }));
    Some(steps)
}

fn lv_ref(pool: &PoolName, lv: &Lv) -> LvRef {
    LvRef {
        pool: pool.clone(),
        name: lv.name.clone(),
        id: lv.id.clone(),
        device_nr: lv.device_nr,
        generation: lv.generation,
    }
}

fn build(here: &Here<'_>, a: &Assignment, leg: &Leg, crc: u32) -> Vec<Step> {
    let report = here.report;
    let (Some(resources), Some(conf), Some(drbd)) =
        (report.drbd.known(), report.conf.known(), report.drbd_version)
    else {
        return Vec::new();
    };
    let Some(mut steps) = build_lv(here, a, leg, drbd) else { return Vec::new() };
    // Growing an LV comes last: where there is no room for it, the rest must not wait for it.
    let grow = steps.pop_if(|step| matches!(step, Step::GrowLv { .. }));
    let file = conf.get(&a.resource);
    let stale = file.is_none_or(|file| file.crc != crc);
    // The kernel may know nothing of what the file says: adjust failed, or was never begun.
    let behind = stale || here.current && file.is_some_and(|file| !file.adjusted);
    let resource = resources.get(&a.resource);
    let device = resource.and_then(|r| r.devices.get(&0));
    if device.is_some_and(|d| d.minor != a.minor) {
        return Vec::new(); // another volume had the name: its leave takes it down first
    }
    let name = a.resource.clone();
    if stale && resource.is_some() && !here.current {
        return Vec::new(); // what runs may well be newer than what the own disk says
    }
    if behind && resource.is_some() && leaves_elsewhere(here, a).any(|leave| is_up_there(here, leave)) {
        return Vec::new(); // it may be Primary there: its links stay until it is down
    }
    if stale {
        let text = conf::render(a, &here.world.intent.members, drbd);
        steps.push(Step::WriteConf { resource: name.clone(), text });
    }
    if behind || resource.is_none_or(|r| differs(here, a, leg, r, drbd)) {
        steps.push(Step::Adjust { resource: name });
        return steps;
    }
    if steps.is_empty()
        && here.current
        && let (Some(resource), Some(device)) = (resource, device)
    {
        // The role comes before the size: DRBD may refuse a size for as long as it likes.
        steps.extend(
            seed(here, a, device, resource)
                .or_else(|| role(here, a, device, resource, drbd))
                .or(grow)
                .or_else(|| resize(here, a, device, resource, drbd)),
        );
    }
    steps
}

/// Legs of the resource that other boxes take down.
fn leaves_elsewhere<'a>(here: &Here<'a>, a: &'a Assignment) -> impl Iterator<Item = &'a Leave> + use<'a> {
    here.world.intent.leaves.values().filter(|l| l.id == a.id && !a.legs.contains_key(&l.on))
}

fn is_up_there(here: &Here<'_>, leave: &Leave) -> bool {
    let there = here.world.current(&leave.on).and_then(|report| report.resource(&leave.resource));
    there.is_some_and(|r| r.devices.values().any(|d| d.minor == leave.minor))
}

/// The steps that a leg's LV needs; None where it is not known, or not to be made now.
fn build_lv(here: &Here<'_>, a: &Assignment, leg: &Leg, drbd: DrbdVersion) -> Option<Vec<Step>> {
    let Some(pool) = &leg.pool else { return Some(Vec::new()) };
    let vg = here.report.vgs.known()?.get(pool)?;
    let wanted = conf::lv_size_for(a.size, drbd);
    let name = conf::lv_name(&a.resource, 0);
    let mut lvs = here.lvs_of(&a.id, leg.generation).into_iter();
    let Some((_, lv)) = lvs.find(|(in_pool, lv)| *in_pool == pool && lv.device_nr == 0) else {
        if !here.current || vg.lvs.iter().any(|other| other.name == name) {
            return None;
        }
        let lv =
            LvRef { pool: pool.clone(), name, id: a.id.clone(), device_nr: 0, generation: leg.generation };
        let create = Step::CreateLv {
            lv: lv.clone(),
            volume: a.resource.clone(),
            size: wanted,
            pv: one_disk(vg, wanted),
        };
        return Some(vec![create, Step::CreateMd { lv, minor: a.minor }]);
    };
    let this = lv_ref(pool, lv);
    match (lv.fresh, lv.size < wanted) {
        (true, _) if !here.current => None,
        // The volume became larger before anything was on this LV: it begins with the size that the others have.
        (true, true) => {
            let grow = Step::GrowLv { lv: this.clone(), size: wanted };
            Some(vec![grow, Step::CreateMd { lv: this, minor: a.minor }])
        }
        (true, false) => Some(vec![Step::CreateMd { lv: this, minor: a.minor }]),
        (false, true) if here.current && grow_is_sound(here, a) => {
            Some(vec![Step::GrowLv { lv: this, size: wanted }])
        }
        (false, _) => Some(Vec::new()),
    }
}

/// An LV with metadata is made larger only under an attached replica: what is at its end then moves with the resize. And
/// only of a resource that is born: replicas are declared equal by what was zeroed, and the new part is not.
fn grow_is_sound(here: &Here<'_>, a: &Assignment) -> bool {
    let device = here.report.resource(&a.resource).and_then(|r| r.devices.get(&0));
    a.born
        && device.is_some_and(|d| {
            matches!(
                d.disk,
                DiskState::UpToDate | DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent
            )
        })
}

/// The PV with the most room, if the LV fits on it: a dead disk then takes the fewest volumes along.
fn one_disk(vg: &Vg, size: Size) -> Option<String> {
    let fitting = vg.pvs.iter().filter(|(_, free)| **free >= size);
    fitting
        .max_by_key(|(device, free)| (**free, Reverse((*device).clone())))
        .map(|(device, _)| device.clone())
}

/// What the kernel has is not what the .res file says: something is missing, left over, or was given up.
fn differs(here: &Here<'_>, a: &Assignment, leg: &Leg, resource: &Resource, drbd: DrbdVersion) -> bool {
    let Some(device) = resource.devices.get(&0) else { return true };
    if leg.pool.is_some() && device.disk == DiskState::Diskless {
        return true;
    }
    if leg.pool.is_none() && device.disk != DiskState::Diskless {
        return true;
    }
    if mutant::is("adjust at every start") && !here.current {
        return true;
    }
    let given_up = resource.peers.values().any(|p| p.connection == ConnectionState::StandAlone);
    // Two without a replica have no connection: see `conf`.
    let linked = |l: &Leg| l.pool.is_some() || leg.pool.is_some();
    let others = a.legs.iter().filter(|(name, l)| *name != here.me && linked(l));
    let others: Vec<u8> = others.map(|(_, l)| l.node_id).collect();
    let same_peers = if drbd.is_9() {
        resource.peers.len() == others.len() && others.iter().all(|id| resource.peers.contains_key(id))
    } else {
        !resource.peers.is_empty() // where there is no other replica, the .res file names nobody
    };
    given_up || !same_peers
}

/// The link to another box's leg, as this box's kernel sees it.
fn link<'r>(resource: &'r Resource, leg: &Leg, drbd_9: bool) -> Option<&'r super::drbd::Peer> {
    if drbd_9 { resource.peers.get(&leg.node_id) } else { resource.peers.values().next() }
}

fn seed(here: &Here<'_>, a: &Assignment, device: &Device, resource: &Resource) -> Option<Step> {
    if a.born || a.seed.as_ref() != Some(here.me) || device.disk != DiskState::Inconsistent {
        return None;
    }
    let drbd_9 = here.report.drbd_version?.is_9();
    let mut seen = resource.peers.values();
    if seen.any(|p| p.role == Role::Primary || p.devices.values().any(|d| d.disk.has_data())) {
        return None; // there is a copy already: this one was made anew since
    }
    let mine = a.legs.get(here.me)?;
    let mut all_zero = here.report.lv(mine.pool.as_ref()?, &a.id, mine.generation)?.zeroed;
    let mut all_connected = true;
    for (name, leg) in a.legs.iter().filter(|(name, leg)| *name != here.me && leg.pool.is_some()) {
        let connected = link(resource, leg, drbd_9).is_some_and(|p| {
            p.connection == ConnectionState::Connected
                && p.devices.get(&0).is_some_and(|d| d.disk == DiskState::Inconsistent)
        });
        let report = here.world.current(name);
        let lv = report.zip(leg.pool.as_ref()).and_then(|(r, pool)| r.lv(pool, &a.id, leg.generation));
        let told = report.and_then(|r| r.resource(&a.resource)?.devices.get(&0));
        if told.is_some_and(|d| d.minor == a.minor && d.disk.has_data()) {
            return None; // the same, and not linked
        }
        let failing = report.is_some_and(|r| r.trouble.contains_key(&lane(&a.resource)));
        let pool_gone = report.zip(leg.pool.as_ref());
        let pool_gone = pool_gone.is_some_and(|(r, pool)| here.world.pool_is_gone(name, r, pool));
        if report.is_some() && !failing && !pool_gone && (!connected || lv.is_none_or(|lv| lv.fresh)) {
            return None; // it is about to come, or to say what it has
        }
        all_connected &= connected;
        all_zero &= lv.is_some_and(|lv| lv.zeroed);
    }
    let others = a.diskful().count() > 1;
    let all_zero = all_zero || mutant::is("call equal what was not zeroed");
    let how = if others && all_connected && all_zero { SeedHow::ClearBitmap } else { SeedHow::Force };
    Some(Step::Seed { resource: a.resource.clone(), how })
}

/// One box makes DRBD take the larger LVs: where it is Primary, else the first with a replica.
fn resize(
    here: &Here<'_>,
    a: &Assignment,
    device: &Device,
    resource: &Resource,
    drbd: DrbdVersion,
) -> Option<Step> {
    if mutant::is("never resize") || !a.born || !is_small(a, device) || device.disk != DiskState::UpToDate {
        return None;
    }
    let wanted = conf::lv_size_for(a.size, drbd);
    for (name, leg) in &a.legs {
        let Some(pool) = &leg.pool else { continue };
        let lv = here.world.current(name)?.lv(pool, &a.id, leg.generation)?;
        if lv.size < wanted {
            return None;
        }
        if name == here.me {
            continue;
        }
        let peer = link(resource, leg, drbd.is_9())?;
        let replication = peer.devices.get(&0).map(|d| d.replication);
        if peer.connection != ConnectionState::Connected || replication != Some(ReplicationState::Established)
        {
            return None;
        }
    }
    // One that has the device open without a replica cannot do it.
    let replicas = a.legs.iter().filter(|(name, leg)| *name != here.me && leg.pool.is_some());
    let mut links = replicas.filter_map(|(_, leg)| link(resource, leg, drbd.is_9()));
    let peer_primary = links.any(|p| p.role == Role::Primary);
    let mine = match (resource.role == Role::Primary, peer_primary) {
        (true, _) => true,
        (false, true) => false,
        (false, false) => a.diskful().next() == Some(here.me),
    };
    mine.then(|| Step::Resize { resource: a.resource.clone() })
}

/// DRBD 8.4: Primary is who was told to be.
fn role(
    here: &Here<'_>,
    a: &Assignment,
    device: &Device,
    resource: &Resource,
    drbd: DrbdVersion,
) -> Option<Step> {
    if drbd.is_9() || a.is_meta() || !a.born {
        return None;
    }
    let wanted = here.world.intent.volume_of(a)?.primary.as_ref() == Some(here.me);
    let another = resource.peers.values().any(|p| p.role == Role::Primary);
    match (wanted, resource.role == Role::Primary) {
        // DRBD refuses a second one: the other has to be Secondary first.
        (true, false) if device.disk == DiskState::UpToDate && !another => {
            Some(Step::Promote { resource: a.resource.clone() })
        }
        (false, true) => Some(Step::Demote { resource: a.resource.clone() }),
        (true, _) | (false, false) => None,
    }
}
