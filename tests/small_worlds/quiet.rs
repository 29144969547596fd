//! From every small state whose facts are known, a machine on which each step does what it says comes to rest within
//! [`ROUNDS`]: then all is right, or it waits for something that is not this box's to do, and does nothing meanwhile.
//!
//! The machine is one box. The others stay as they are, but their kernels answer: links come up where both sides want
//! them, and copies sync. The leader notes what is born and what is gone.

use std::{collections::BTreeMap, sync::Arc};

use holdfast::core::{
    conf,
    drbd::{ConnectionState, Device, DiskState, ReplicationState, Resource, Role},
    facts::{Known, Lv, Report, Vg},
    intent::*,
    names::{BoxName, PoolName},
    plan::Part,
    size::Size,
    step::{LvRef, SeedHow, Step},
};

use crate::{
    checks::{Case, check, is_right},
    every::Every,
    ground::*,
    plans::{ALONE, CONNECTING, GOOD, PLAIN, TO_PRIMARY, list, link, orders, there},
};

/// The longest way: take the old one down, build, be told that it is born, grow, resize, become Primary; and one to see
/// that nothing is left to do.
const ROUNDS: usize = 6;

/// What may be waited for, with an empty plan.
const WAITS: [&str; 13] = [
    "the leader's word",
    "whoever uses it on another box, before it is removed here",
    "a disk that is away",
    "whoever made an LV of that name",
    "the leave of an LV of another life",
    "whoever has a resource of that name, or uses it still",
    "another box that makes the first copy",
    "another box that makes its replica",
    "an operator: a copy has data, and it was never seen UpToDate",
    "a box with good data",
    "another box, before the device can grow",
    "another box that makes the device grow",
    "the other Primary",
];

/// What is tried again and again, with the pauses of `lanes`, because only trying tells, and its error is what is shown.
const TRIES: [&str; 1] = ["an LV that is not active"];

struct Machine {
    me: BoxName,
    name: String,
    w: Wanted,
    seen: Seen,
    /// Its LV was made in this run.
    new: bool,
}

impl Machine {
    fn new(w: &Wanted, facts: &Facts) -> Self {
        let me = boxes()[ME].clone();
        Self { me, name: w.nth.name(&w.order), seen: Seen::new(w, facts), w: w.clone(), new: false }
    }

    fn mine(&mut self) -> &mut Report {
        Arc::make_mut(self.seen.reports.get_mut(&self.me).unwrap())
    }

    fn a(&self) -> Option<Assignment> {
        self.w.intent.assignment_of(&self.name).cloned()
    }

    fn with_case<T>(&self, look: impl FnOnce(&Case<'_>) -> T) -> (Part, T) {
        let here = self.seen.here(&self.w.intent, &self.me);
        let part = part(&here, &self.name, self.w.crc);
        let looked = look(&Case { here: &here, resource: &self.name, part: &part });
        (part, looked)
    }

    /// One plan, its steps, and what follows by itself. None when nothing was to do and nothing changed.
    fn round(&mut self) -> Option<Vec<Step>> {
        let (part, checked) = self.with_case(check);
        if let Err(why) = checked {
            panic!("{why}\nplan: {:#?}\n{:#?}\n{:#?}", part.job.steps, self.w.intent, self.seen.reports);
        }
        for step in &part.job.steps {
            if self.step(step).is_none() {
                break;
            }
        }
        part.cleared.iter().for_each(|key| self.w.intent.apply(&[Change::Delete(key.clone())]));
        let changed = self.goes_on();
        (changed || !part.job.steps.is_empty() || !part.cleared.is_empty()).then_some(part.job.steps)
    }

    fn vg(&mut self, pool: &PoolName) -> Option<&mut Vg> {
        match &mut self.mine().vgs {
            Known::Known(vgs) => vgs.get_mut(pool),
            Known::Unknown(_) => None,
        }
    }

    fn lv(&mut self, lv: &LvRef) -> Option<&mut Lv> {
        let same = |l: &&mut Lv| l.name == lv.name && l.id == lv.id && l.generation == lv.generation;
        self.vg(&lv.pool)?.lvs.iter_mut().find(same)
    }

    fn conf(&mut self) -> Option<&mut BTreeMap<String, u32>> {
        match &mut self.mine().conf {
            Known::Known(conf) => Some(conf),
            Known::Unknown(_) => None,
        }
    }

    fn resources(&mut self) -> Option<&mut BTreeMap<String, Resource>> {
        match &mut self.mine().drbd {
            Known::Known(resources) => Some(resources),
            Known::Unknown(_) => None,
        }
    }

    fn up(&mut self) -> Option<&mut Resource> {
        let name = self.name.clone();
        self.resources()?.get_mut(&name)
    }

    fn device(&mut self) -> Option<&mut Device> {
        self.up()?.devices.get_mut(&0)
    }

    /// None where it fails.
    fn step(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::ClaimDisk { .. } => return None,
            Step::CreateLv { lv, size, .. } => {
                self.new = true;
                let made = Lv {
                    name: lv.name.clone(),
                    id: lv.id.clone(),
                    device_nr: 0,
                    generation: lv.generation,
                    size: *size,
                    fresh: true,
                    zeroed: false,
                    active: true,
                };
                self.vg(&lv.pool)?.lvs.push(made);
            }
            Step::CreateMd { lv, .. } => {
                self.new = true;
                let there = self.lv(lv)?;
                (there.fresh, there.zeroed) = (false, true);
            }
            Step::GrowLv { lv, size } => self.lv(lv)?.size = *size,
            Step::WriteConf { resource, text } => drop(self.conf()?.insert(resource.clone(), conf::crc(text))),
            Step::Adjust { .. } => self.adjust()?,
            Step::Seed { how, .. } => {
                self.device()?.disk = DiskState::UpToDate;
                if *how == SeedHow::ClearBitmap {
                    self.sync();
                }
            }
            Step::Promote { .. } => self.up()?.role = Role::Primary,
            Step::Demote { .. } => self.up()?.role = Role::Secondary,
            Step::Resize { .. } => self.device()?.size_kib = self.a()?.size.0 / 1024,
            Step::Down { resource, .. } => drop(self.resources()?.remove(resource)?),
            Step::RemoveConf { resource } => drop(self.conf()?.remove(resource)?),
            Step::RemoveLv { lv } => {
                self.lv(lv)?;
                self.vg(&lv.pool)?.lvs.retain(|l| l.name != lv.name);
            }
        }
        Some(())
    }

    fn adjust(&mut self) -> Option<()> {
        let a = self.a()?;
        let leg = a.legs.get(&self.me)?.clone();
        let name = self.name.clone();
        self.conf()?.get(&name)?;
        if self.device().is_some_and(|d| d.minor != a.minor) {
            return None;
        }
        let attached = self.device().map(|d| d.disk).filter(|d| *d != DiskState::Diskless);
        let (full, small) = sizes_kib(&self.w.order);
        let (disk, size_kib) = match (&leg.pool, attached) {
            (None, _) => (DiskState::Diskless, full),
            (Some(_), Some(disk)) => (disk, self.device()?.size_kib),
            (Some(pool), None) => {
                let report = &self.seen.reports[&self.me];
                let lv = report.lv(pool, &a.id, leg.generation).filter(|lv| lv.active && !lv.fresh)?;
                let large = lv.size >= conf::lv_size_for(a.size, version(self.w.order.major));
                let disk = if a.born && !self.new { DiskState::UpToDate } else { DiskState::Inconsistent };
                (disk, if large && (self.new || !self.w.order.grown) { full } else { small })
            }
        };
        let resource = Resource { name: name.clone(), role: Role::Secondary, ..Resource::default() };
        let resource = self.resources()?.entry(name).or_insert(resource);
        let device = resource.devices.entry(0).or_default();
        (device.minor, device.disk, device.size_kib) = (a.minor, disk, size_kib);
        let ids: Vec<u8> = link_ids(&self.w.order).into_iter().flatten().collect();
        let LinkIs::There(connection, replication, disk, role) = CONNECTING else { return None };
        let resource = self.up()?;
        resource.peers.retain(|id, p| ids.contains(id) && p.connection != ConnectionState::StandAlone);
        for id in ids {
            resource.peers.entry(id).or_insert(peer(connection, replication, disk, role));
        }
        Some(())
    }

    /// Which of the other boxes is behind a link, if its word is current and its kernel has the resource.
    fn behind(&self, id: u8) -> Option<(BoxName, DiskState)> {
        let a = self.a()?;
        let found = a.legs.iter().find(|(name, leg)| {
            **name != self.me && if self.w.order.major >= 9 { leg.node_id == id } else { leg.pool.is_some() }
        });
        let (name, _) = found?;
        let report = self.seen.reports.get(name).filter(|_| self.seen.alive.contains(name))?;
        Some((name.clone(), report.resource(&self.name)?.devices.get(&0)?.disk))
    }

    /// Links come up, states pass, copies sync, the leader notes what is born; whether anything changed.
    fn goes_on(&mut self) -> bool {
        let a = self.a();
        let mut changed = false;
        let own = self.device().map(|d| d.minor) == a.as_ref().map(|a| a.minor);
        if own && let Some(a) = a {
            let answers: BTreeMap<u8, Option<DiskState>> =
                (0..3).map(|id| (id, self.behind(id).map(|(_, disk)| disk))).collect();
            let resource = self.up().unwrap();
            let before = resource.clone();
            for (id, p) in &mut resource.peers {
                let Some(volume) = p.devices.get_mut(&0) else { continue };
                let answer = answers.get(id).copied().flatten();
                if let Some(disk) = answer.filter(|_| p.connection != ConnectionState::StandAlone) {
                    (p.connection, volume.disk) = (ConnectionState::Connected, disk);
                }
                if p.connection == ConnectionState::Connected {
                    volume.replication = ReplicationState::Established;
                }
            }
            let device = resource.devices.get_mut(&0).unwrap();
            device.disk = match device.disk {
                DiskState::Attaching | DiskState::Negotiating if a.born => DiskState::Outdated,
                DiskState::Attaching | DiskState::Negotiating => DiskState::Inconsistent,
                DiskState::Detaching | DiskState::Failed => DiskState::Diskless,
                disk => disk,
            };
            self.sync();
            let good = self.device().is_some_and(|d| d.disk == DiskState::UpToDate);
            let good = good || answers.values().any(|disk| *disk == Some(DiskState::UpToDate));
            if good && a.diskful().any(|name| name == &self.me) && !a.born {
                self.w.intent.apply(&[Change::Put(Record::Assignment(Assignment { born: true, ..a }))]);
                changed = true;
            }
            changed |= self.up().is_some_and(|now| *now != before);
        }
        changed
    }

    /// What is connected to good data gets it.
    fn sync(&mut self) {
        let stale = [DiskState::Inconsistent, DiskState::Outdated, DiskState::Consistent];
        let resource = self.up().unwrap();
        let connected = |p: &&mut holdfast::core::drbd::Peer| p.connection == ConnectionState::Connected;
        let has = |p: &mut holdfast::core::drbd::Peer, disk| p.devices.get(&0).is_some_and(|d| d.disk == disk);
        let source = resource.peers.values_mut().filter(connected).any(|p| has(p, DiskState::UpToDate));
        let device = resource.devices.get_mut(&0).unwrap();
        if source && stale.contains(&device.disk) {
            device.disk = DiskState::UpToDate;
        }
        if device.disk != DiskState::UpToDate {
            return;
        }
        let mut synced = Vec::new();
        for (id, p) in resource.peers.iter_mut().filter(|(_, p)| p.connection == ConnectionState::Connected) {
            let volume = p.devices.entry(0).or_default();
            if stale.contains(&volume.disk) {
                volume.disk = DiskState::UpToDate;
                synced.push(*id);
            }
        }
        for (name, _) in synced.into_iter().filter_map(|id| self.behind(id)).collect::<Vec<_>>() {
            let resource_name = self.name.clone();
            let report = Arc::make_mut(self.seen.reports.get_mut(&name).unwrap());
            if let Known::Known(all) = &mut report.drbd {
                let device = all.get_mut(&resource_name).and_then(|r| r.devices.get_mut(&0));
                device.unwrap().disk = DiskState::UpToDate;
            }
        }
    }
}

/// Why a box at rest is not done.
fn waits_for(case: &Case<'_>) -> Option<&'static str> {
    let (report, intent) = (case.here.report, case.here.world.intent);
    let (vgs, drbd) = (report.vgs.known()?, report.drbd.known()?);
    let up = drbd.get(case.resource);
    let primary = |r: &Resource| r.peers.values().any(|p| p.role == Role::Primary);
    if !case.here.current {
        return Some(WAITS[0]);
    }
    for leave in intent.leaves.values() {
        let own = up.filter(|r| r.devices.values().any(|d| d.minor == leave.minor));
        if own.is_some_and(primary) && !intent.assignments.contains_key(&leave.id) {
            return Some(WAITS[1]);
        }
        if leave.leg.pool.as_ref().is_some_and(|pool| !vgs.contains_key(pool)) {
            return Some(WAITS[2]);
        }
    }
    let a = intent.assignment_of(case.resource)?;
    let leg = a.legs.get(case.here.me)?;
    if up.and_then(|r| r.devices.get(&0)).is_some_and(|d| d.minor != a.minor) {
        return Some(WAITS[5]);
    }
    if let Some(pool) = &leg.pool {
        let Some(vg) = vgs.get(pool) else { return Some(WAITS[2]) };
        let named = vg.lvs.iter().find(|lv| lv.name == conf::lv_name(case.resource, 0))?;
        if named.id != a.id {
            return Some(WAITS[3]);
        }
        if named.generation != leg.generation {
            return Some(WAITS[4]);
        }
    }
    let (resource, device) = (up?, up?.devices.get(&0)?);
    let replicas = || a.legs.iter().filter(|(name, l)| *name != case.here.me && l.pool.is_some());
    let link = |l: &Leg| {
        let nine = report.drbd_version.is_some_and(|v| v.is_9());
        if nine { resource.peers.get(&l.node_id) } else { resource.peers.values().next() }
    };
    if !a.born {
        let disk_seen = |l: &Leg| link(l).and_then(|p| p.devices.get(&0)).map(|d| d.disk);
        let new = |l: &Leg| disk_seen(l) == Some(DiskState::Inconsistent);
        let comes = |(name, l): (&BoxName, &Leg)| case.here.world.current(name).is_some() && !new(l);
        let data = |(_, l): (&BoxName, &Leg)| disk_seen(l).is_some_and(DiskState::has_data);
        return match a.seed.as_ref() == Some(case.here.me) {
            false => Some(WAITS[6]),
            true if replicas().any(data) || primary(resource) => Some(WAITS[8]),
            true => replicas().any(comes).then_some(WAITS[7]),
        };
    }
    if leg.pool.is_some() && device.disk != DiskState::UpToDate {
        let good = |p: &holdfast::core::drbd::Peer| {
            p.connection == ConnectionState::Connected && p.devices.get(&0).is_some_and(|d| d.disk == DiskState::UpToDate)
        };
        return (!resource.peers.values().any(good)).then_some(WAITS[9]);
    }
    let told = intent.volume_of(a).is_some_and(|v| v.primary.as_ref() == Some(case.here.me));
    let drbd_84 = report.drbd_version.is_some_and(|v| !v.is_9());
    if device.size_kib * 1024 < a.size.0 {
        let wanted = conf::lv_size_for(a.size, report.drbd_version?);
        let ready = |(name, l): (&BoxName, &Leg)| {
            let lv = case.here.world.current(name).and_then(|r| r.lv(l.pool.as_ref()?, &a.id, l.generation));
            let linked = link(l).is_some_and(|p| p.connection == ConnectionState::Connected);
            linked && lv.is_some_and(|lv| lv.size >= wanted)
        };
        if !replicas().all(ready) {
            return Some(WAITS[10]);
        }
        let used = |(_, l): (&BoxName, &Leg)| link(l).is_some_and(|p| p.role == Role::Primary);
        let another = replicas().any(used) || a.diskful().next() != Some(case.here.me);
        return (another && resource.role != Role::Primary).then_some(WAITS[11]);
    }
    (drbd_84 && told && primary(resource)).then_some(WAITS[12])
}

/// The leader's word is current, and it still waits for this box to say that something is gone.
fn owes(case: &Case<'_>) -> bool {
    case.here.current && !case.here.world.intent.leaves.is_empty()
}

/// What is only tried: exactly this one step, over and over.
fn tries(case: &Case<'_>) -> Option<&'static str> {
    let a = case.here.world.intent.assignment_of(case.resource)?;
    let leg = a.legs.get(case.here.me)?;
    let lv = case.here.report.lv(leg.pool.as_ref()?, &a.id, leg.generation)?;
    let only = matches!(&case.part.job.steps[..], [Step::Adjust { .. }]);
    (only && !lv.active).then_some(TRIES[0])
}

fn others(order: &Order, kind: OtherIs) -> [OtherIs; 2] {
    let seats = order.seats.unwrap_or([Seat::No; 3]);
    [seats[0], seats[2]].map(|seat| match (seat, kind) {
        (Seat::Voter, OtherIs::There { .. }) => there(LvIs::Absent, Some(DiskState::Diskless)),
        _ => kind,
    })
}

#[test]
fn every_state_comes_to_rest_or_waits_for_something_that_has_a_name() {
    use DiskState::{Attaching, Consistent, Diskless, Failed, Inconsistent, Negotiating, Outdated, UpToDate};
    let (mut states, mut plans, mut longest) = (0, 0, 0);
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for order in orders() {
        let w = Wanted::new(Nth(0), order);
        let up = |minor, disk, role| KernelIs::Up { minor, disk, role, full: !order.grown };
        let (no, yes) = (Role::Secondary, Role::Primary);
        let mut kernels = vec![KernelIs::Absent, KernelIs::NoDevice, up(Whose::Other, UpToDate, no)];
        for role in [no, yes] {
            kernels.push(up(Whose::Old, UpToDate, role));
            for disk in list(&[Diskless, Inconsistent, UpToDate], &[Attaching, Diskless, Inconsistent, UpToDate, Failed, Negotiating, Outdated, Consistent]) {
                kernels.push(up(Whose::Own, *disk, role));
            }
        }
        let alike: &[OtherIs] = if order.born {
            &[OtherIs::Away, there(LvIs::Zeroed, Some(UpToDate)), there(LvIs::Small, Some(UpToDate))]
        } else {
            &[OtherIs::Away, there(LvIs::Zeroed, Some(Inconsistent)), there(LvIs::Absent, None)]
        };
        let mut every = Every::default();
        while every.more() {
            let facts = Facts {
                current: every.of(list(&[true], &[false, true])),
                lv: every.of(list(
                    &[LvIs::NoVg, LvIs::Absent, LvIs::Fresh, LvIs::Zeroed, LvIs::Small, LvIs::Inactive, LvIs::Foreign, LvIs::OtherLife, LvIs::Old],
                    &[LvIs::NoVg, LvIs::Absent, LvIs::Fresh, LvIs::FreshSmall, LvIs::Zeroed, LvIs::NotZeroed, LvIs::Small, LvIs::Inactive, LvIs::Foreign, LvIs::OtherLife, LvIs::Old, LvIs::OtherPool],
                )),
                conf: every.of(list(&[ConfIs::Absent, ConfIs::Right], &[ConfIs::Absent, ConfIs::Right, ConfIs::Stale])),
                kernel: every.of(&kernels),
                links: every.of(&[[CONNECTING; 2], [TO_PRIMARY; 2], [ALONE, link(UpToDate)]]),
                surplus: all_surplus(&mut every),
                others: others(&order, every.of(alike)),
                ..GOOD
            };
            let mut machine = Machine::new(&w, &facts);
            let mut rounds = 0;
            let mut last = None;
            while rounds < ROUNDS {
                plans += 1;
                last = machine.round();
                if last.is_none() {
                    break;
                }
                rounds += 1;
            }
            states += 1;
            let (part, why) = machine.with_case(|case| match &last {
                None if is_right(case) && !owes(case) => Some("right"),
                None => waits_for(case),
                Some(_) => tries(case),
            });
            if let Some(why) = why {
                *found.entry(why).or_default() += 1;
            } else {
                panic!(
                    "invariant 11: after {rounds} rounds neither right nor waiting\n{order:?}\n{facts:?}\nplan: {:?}\n{:?}\n{:?}",
                    part.job.steps, machine.w.intent.assignments, machine.seen.reports[&machine.me]
                );
            }
            longest = longest.max(if last.is_none() { rounds } else { 0 });
        }
    }
    println!("quiet: {states} states, {plans} plans, at rest after {longest} rounds at most: {found:#?}");
    assert_eq!(longest + 1, ROUNDS, "the bound is as small as holds");
    let names = WAITS.iter().chain(&TRIES);
    let dead: Vec<_> = names.filter(|name| !found.contains_key(*name) && (crate::plans::all() || **name != WAITS[0])).collect();
    assert!(dead.is_empty(), "nothing waits for {dead:?} any more: take it off the list");
}

fn all_surplus(every: &mut Every) -> bool {
    every.of(list(&[false], &[false, true]))
}

#[test]
fn the_size_that_is_small_is_smaller() {
    let (full, small) = sizes_kib(&Order { grown: true, ..PLAIN });
    assert!(small < full && Size(full * 1024) == GROWN && Size(small * 1024) == SMALL);
}
