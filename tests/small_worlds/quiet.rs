//! From every small state whose facts are known, a machine on which each step does what it says comes to rest within
//! [`ROUNDS`]: then all is right, or it waits for something that is not this box's to do, and does nothing meanwhile.

use std::collections::BTreeMap;

use holdfast::core::{
    conf,
    drbd::{ConnectionState, DiskState, Peer, Resource, Role},
    intent::*,
    names::BoxName,
    size::Size,
    step::Step,
};

use crate::{
    checks::{Case, adjusted_to, is_right},
    every::Every,
    ground::*,
    machine::Machine,
    states::*,
};

/// The longest way: take the old one down, build, be told that it is born, grow, resize, become Primary; and one to see
/// that nothing is left to do.
const ROUNDS: usize = 6;

/// What may be waited for, with an empty plan.
const WAITS: [&str; 14] = [
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
    "another box that takes its leg down",
];

/// What is tried again and again, with the pauses of `lanes`, because only trying tells, and its error is what is shown.
const TRIES: [&str; 1] = ["an LV that is not active"];

/// Why a box at rest is not done.
fn waits_for(case: &Case<'_>) -> Option<&'static str> {
    let (report, intent) = (case.here.report, case.here.world.intent);
    let (vgs, drbd) = (report.vgs.known()?, report.drbd.known()?);
    let up = drbd.get(case.resource);
    let primary = |r: &Resource| r.peers.values().any(|p| p.role == Role::Primary);
    if !case.here.current {
        return Some(WAITS[0]);
    }
    for leave in intent.leaves.values().filter(|l| &l.on == case.here.me) {
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
    let elsewhere = intent.leaves.values().any(|l| l.id == a.id && !a.legs.contains_key(&l.on));
    if elsewhere
        && up.is_some()
        && report.conf.known()?.get(case.resource)
            != Some(&adjusted_to(&conf::render(a, &intent.members, report.drbd_version?)))
    {
        return Some(WAITS[13]);
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
        let good = |p: &Peer| {
            p.connection == ConnectionState::Connected
                && p.devices.get(&0).is_some_and(|d| d.disk == DiskState::UpToDate)
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
    case.here.current && case.here.world.intent.leaves.values().any(|l| &l.on == case.here.me)
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
            for disk in list(
                &[Diskless, Inconsistent, UpToDate],
                &[Attaching, Diskless, Inconsistent, UpToDate, Failed, Negotiating, Outdated, Consistent],
            ) {
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
                    &[
                        LvIs::NoVg,
                        LvIs::Absent,
                        LvIs::Fresh,
                        LvIs::Zeroed,
                        LvIs::Small,
                        LvIs::Inactive,
                        LvIs::Foreign,
                        LvIs::OtherLife,
                        LvIs::Old,
                    ],
                    &LVS[1..], // all but the unknown one
                )),
                conf: every.of(list(
                    &[ConfIs::Absent, ConfIs::Right],
                    &[ConfIs::Absent, ConfIs::Right, ConfIs::Written, ConfIs::Stale],
                )),
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
    let dead: Vec<_> =
        names.filter(|name| !found.contains_key(*name) && (all() || **name != WAITS[0])).collect();
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
