//! Plans from all small states. Each test's product is complete within what it lists; what it holds still is said there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holdfast::core::{
    drbd::{DiskState as D, Role},
    facts::Known,
    intent::Intent,
    planned::Planned,
    step::{Job, Step},
};

use crate::{
    checks::{Case, check},
    every::Every,
    ground::*,
    states::*,
};

/// One state through `plan` and all checks.
pub fn plan_and_check(w: &Wanted, facts: &Facts) -> Vec<Step> {
    let seen = Seen::new(w, facts);
    let me = &boxes()[ME];
    let here = seen.here(&w.intent, me);
    let name = w.nth.name(&w.order);
    let planned = part(&here, &name, w.crc);
    let case = Case { here: &here, resource: &name, part: &planned };
    let fail = |why: &str| panic!("{why}\n{:#?}\n{facts:#?}\nplan: {:#?}", w.order, planned.job.steps);
    if let Err(why) = check(&case) {
        fail(&why);
    }
    if planned != part(&here, &name, w.crc) {
        fail("invariant 11: the same facts give another plan");
    }
    if !planned.minds_others {
        let mut alone = seen.clone();
        alone.alive.retain(|name| name == me);
        let alone = part(&alone.here(&w.intent, me), &name, w.crc);
        if alone.job != planned.job {
            fail("invariant 11: it would not be planned anew although another box's report counts");
        }
    }
    planned.job.steps
}

fn report(what: &str, states: u64, planned: u64) {
    println!("{what}: {states} states, {planned} of them with something to do");
    assert!(planned > 0 && planned < states, "{what}: nothing was tried");
}

/// All orders against all of this box's own facts; the others as they are when all goes well.
#[test]
fn whatever_this_box_finds_it_makes_and_removes_only_what_it_should() {
    let (mut states, mut planned) = (0, 0);
    for order in orders() {
        let w = Wanted::new(Nth(0), order);
        // What the links are like matters here only to what leaves; the other tests are about links.
        let alike =
            if order.goes == Goes::Nothing { list(&ALIKE[1..2], &ALIKE) } else { list(&ALIKE[2..], &ALIKE) };
        let mut every = Every::default();
        while every.more() {
            let kernel = match every.of(&[0, 1, 2, 3]) {
                0 => KernelIs::Unknown,
                1 => KernelIs::Absent,
                2 => KernelIs::NoDevice,
                _ => KernelIs::Up {
                    minor: every.of(&[Whose::Own, Whose::Old, Whose::Other]),
                    disk: every.of(list(&[D::Diskless, D::Inconsistent, D::UpToDate, D::Other], &DISKS)),
                    role: every.of(&[Role::Secondary, Role::Primary]),
                    full: !order.grown || every.flag(),
                },
            };
            let facts = Facts {
                version_known: true,
                current: every.flag(),
                lv: every.of(&LVS),
                conf: every.of(&CONFS),
                kernel,
                links: every.of(alike),
                surplus: false,
                others: if order.born {
                    GOOD.others
                } else {
                    [there(LvIs::Zeroed, Some(D::Inconsistent)); 2]
                },
            };
            states += 1;
            planned += u64::from(!plan_and_check(&w, &facts).is_empty());
        }
    }
    report("one box", states, planned);
}

/// Nothing is known of DRBD's version: nothing is built.
#[test]
fn without_a_module_nothing_is_built() {
    let (mut states, mut planned) = (0, 0);
    for order in orders() {
        let w = Wanted::new(Nth(0), order);
        let mut every = Every::default();
        while every.more() {
            let facts = Facts {
                version_known: every.flag(),
                current: every.flag(),
                lv: every.of(&LVS),
                conf: every.of(&CONFS),
                kernel: every.of(&[KernelIs::Unknown, KernelIs::Absent, GOOD.kernel]),
                ..GOOD
            };
            states += 1;
            planned += u64::from(!plan_and_check(&w, &facts).is_empty());
        }
    }
    report("module", states, planned);
}

/// All links and all other boxes, where they count: the first copy, and growing.
#[test]
fn whatever_the_others_do_the_first_copy_and_the_larger_size_come_only_when_they_may() {
    let (mut states, mut planned) = (0, 0);
    for order in orders() {
        let plain = order.goes == Goes::Nothing
            && order.generation == 1
            && !order.meta
            && order.primary != Told::Another;
        if !plain || order.seats.is_none_or(|s| s[ME] == NO) || order.born && !order.grown {
            continue;
        }
        let w = Wanted::new(Nth(0), order);
        let seats = order.seats.unwrap();
        // A box without a replica has nothing to tell, and who has no leg has no link.
        let others = |n: usize| if seats[n] == DISK { &OTHERS[..] } else { &OTHERS[..1] };
        let disks = list(
            if order.born { &[D::UpToDate] } else { &[D::Inconsistent] },
            &[D::Inconsistent, D::UpToDate, D::Outdated],
        );
        let roles = list(if order.born { &ROLES[..2] } else { &ROLES[..1] }, &ROLES[..2]);
        let second = order.major == 8 || seats[2] == NO || seats[ME] == VOTE && seats[2] == VOTE;
        let mut every = Every::default();
        while every.more() {
            let facts = Facts {
                current: true,
                lv: every.of(if order.born {
                    &[LvIs::Zeroed, LvIs::Small]
                } else {
                    &[LvIs::Zeroed, LvIs::NotZeroed]
                }),
                kernel: KernelIs::Up {
                    minor: Whose::Own,
                    disk: every.of(disks),
                    role: every.of(roles),
                    full: false,
                },
                links: [every.of(&LINKS), every.of(if second { &LINKS[..1] } else { &LINKS[..] })],
                surplus: all() && every.flag(),
                others: [every.of(others(0)), every.of(others(2))],
                ..GOOD
            };
            states += 1;
            planned += u64::from(!plan_and_check(&w, &facts).is_empty());
        }
    }
    report("links", states, planned);
}

/// Every word that DRBD can say of a link, with every word of the own disk.
#[test]
fn no_word_of_drbd_s_is_taken_for_another() {
    let (mut states, mut planned) = (0, 0);
    let unborn = Order { seats: Some([DISK, DISK, NO]), born: false, seed: ME, ..PLAIN };
    let grown = Order { grown: true, ..Order { born: true, ..unborn } };
    let mut told = vec![unborn, grown];
    told.extend([unborn, grown].map(|order| Order { major: 8, ..order }));
    told.push(Order { major: 8, primary: Told::Me, ..grown });
    for order in told {
        let w = Wanted::new(Nth(0), order);
        let mut every = Every::default();
        while every.more() {
            let connection = every.of(&CONNECTIONS);
            let replication = every.of(&REPLICATIONS);
            let peer = LinkIs::There(connection, replication, every.of(&DISKS), every.of(&ROLES));
            let disk = every.of(list(&[D::Inconsistent, D::UpToDate], &DISKS));
            let facts = Facts {
                kernel: KernelIs::Up {
                    minor: Whose::Own,
                    disk,
                    role: every.of(&[Role::Secondary, Role::Primary]),
                    full: false,
                },
                links: [peer, LinkIs::Missing],
                others: if order.born {
                    GOOD.others
                } else {
                    [there(LvIs::Zeroed, Some(D::Inconsistent)); 2]
                },
                ..GOOD
            };
            states += 1;
            planned += u64::from(!plan_and_check(&w, &facts).is_empty());
        }
    }
    report("words", states, planned);
}

/// The states of one volume that stand for their kind.
fn kinds(nth: Nth, major: u8) -> Vec<(Wanted, Facts)> {
    let up = |disk, role| KernelIs::Up { minor: Whose::Own, disk, role, full: false };
    let mut kinds = Vec::new();
    for order in orders().into_iter().filter(|o| o.major == major && !o.meta && o.generation == 1) {
        let w = Wanted::new(nth, order);
        let mut every = Every::default();
        while every.more() {
            let facts = Facts {
                lv: every.of(&[LvIs::Absent, LvIs::Fresh, LvIs::Zeroed, LvIs::Old]),
                conf: every.of(list(&[ConfIs::Right], &[ConfIs::Right, ConfIs::Absent])),
                kernel: every.of(list(
                    &[
                        KernelIs::Absent,
                        KernelIs::Up {
                            minor: Whose::Other,
                            disk: D::UpToDate,
                            role: Role::Secondary,
                            full: true,
                        },
                    ],
                    &[
                        KernelIs::Absent,
                        KernelIs::Up {
                            minor: Whose::Old,
                            disk: D::UpToDate,
                            role: Role::Secondary,
                            full: true,
                        },
                    ],
                )),
                ..GOOD
            };
            kinds.push((w.clone(), facts));
        }
        for disk in [D::Inconsistent, D::UpToDate] {
            let others =
                if order.born { GOOD.others } else { [there(LvIs::Zeroed, Some(D::Inconsistent)); 2] };
            let role = if order.primary == Told::Nobody { Role::Primary } else { Role::Secondary };
            kinds.push((w.clone(), Facts { kernel: up(disk, role), links: [link(disk); 2], others, ..GOOD }));
        }
    }
    kinds
}

fn jobs(seen: &Seen, intent: &Intent) -> Vec<Job> {
    let mut planned = Planned::default();
    planned.renew(seen.here(intent, &boxes()[ME]));
    planned.jobs().cloned().collect()
}

/// What two volumes need together is what each needs, lane by lane.
#[test]
fn two_volumes_know_nothing_of_each_other() {
    let mut pairs = 0;
    for major in [8, 9] {
        let ready = |nth| {
            let kinds: Vec<(Wanted, Seen)> =
                kinds(nth, major).into_iter().map(|(w, f)| (w.clone(), Seen::new(&w, &f))).collect();
            kinds.into_iter().map(|(w, seen)| (jobs(&seen, &w.intent), w, seen)).collect::<Vec<_>>()
        };
        let (ones, others) = (ready(Nth(0)), ready(Nth(1)));
        for (n, (jobs_one, w_one, seen_one)) in ones.iter().enumerate() {
            for (m, (jobs_other, w_other, seen_other)) in others.iter().enumerate() {
                if !all() && (n + m) % 8 != 0 {
                    continue; // each state still meets each eighth of the other's, and every kind of order
                }
                let (intent, seen) = together((w_one, seen_one), (w_other, seen_other));
                let both: Vec<Job> = jobs_one.iter().chain(jobs_other).cloned().collect();
                let found = jobs(&seen, &intent);
                assert_eq!(found, both, "invariant 0: {:#?}\n{:#?}", w_one.order, w_other.order);
                let lanes: BTreeSet<_> = found.iter().map(|j| &j.lane).collect();
                assert_eq!(lanes.len(), found.len(), "invariant 0: two jobs in one lane");
                pairs += 1;
            }
        }
    }
    println!("pairs: {pairs} pairs of states");
}

/// Two worlds laid over each other.
fn together(one: (&Wanted, &Seen), other: (&Wanted, &Seen)) -> (Intent, Seen) {
    let mut intent = one.0.intent.clone();
    intent.apply(&other.0.intent.whole());
    let mut seen = one.1.clone();
    for (name, theirs) in &other.1.reports {
        let report = Arc::make_mut(seen.reports.get_mut(name).unwrap());
        let theirs = holdfast::core::facts::Report::clone(theirs);
        let add = |vgs: &mut Known<_>| {
            if let (Known::Known(mine), Some(more)) = (vgs, theirs.vgs.known()) {
                let mine: &mut BTreeMap<_, holdfast::core::facts::Vg> = mine;
                for (pool, vg) in more {
                    mine.get_mut(pool).unwrap().lvs.extend(vg.lvs.iter().cloned());
                }
            }
        };
        add(&mut report.vgs);
        extend(&mut report.drbd, &theirs.drbd);
        extend(&mut report.conf, &theirs.conf);
    }
    (intent, seen)
}

fn extend<V: Clone>(mine: &mut Known<BTreeMap<String, V>>, more: &Known<BTreeMap<String, V>>) {
    if let (Known::Known(mine), Some(more)) = (mine, more.known()) {
        mine.extend(more.clone());
    }
}
