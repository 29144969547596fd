//! Plans from all small states. Each test's product is complete within what it lists; what it holds still is said there.

use holdfast::core::{
    drbd::{ConnectionState, DiskState, ReplicationState, Role},
    planned::Planned,
    step::Job,
};

use crate::{
    checks::{Case, check},
    every::Every,
    ground::*,
};

use ConnectionState as C;
use DiskState as D;
use ReplicationState as R;

/// Whether the long lists are walked.
pub fn all() -> bool {
    std::env::var("HOLDFAST_SMALL").is_ok_and(|word| word == "all")
}

/// The long list, or the short one.
pub fn list<T: Copy>(short: &'static [T], long: &'static [T]) -> &'static [T] {
    if all() { long } else { short }
}

const NO: Seat = Seat::No;
const DISK: Seat = Seat::Replica;
const VOTE: Seat = Seat::Voter;

/// Who can have what. DRBD 8.4 knows two replicas and no voters.
pub const SEATS_9: [[Seat; 3]; 8] = [
    [NO, DISK, NO],
    [DISK, DISK, NO],
    [NO, DISK, DISK],
    [DISK, DISK, VOTE],
    [DISK, DISK, DISK],
    [DISK, VOTE, DISK],
    [VOTE, DISK, VOTE],
    [DISK, VOTE, VOTE],
];
pub const SEATS_84: [[Seat; 3]; 3] = [[NO, DISK, NO], [DISK, DISK, NO], [NO, DISK, DISK]];

pub const DISKS: [D; 11] = [
    D::Diskless,
    D::Attaching,
    D::Detaching,
    D::Failed,
    D::Negotiating,
    D::Inconsistent,
    D::Outdated,
    D::DUnknown,
    D::Consistent,
    D::UpToDate,
    D::Other,
];
const CONNECTIONS: [C; 11] = [
    C::StandAlone,
    C::Disconnecting,
    C::Unconnected,
    C::Timeout,
    C::BrokenPipe,
    C::NetworkFailure,
    C::ProtocolError,
    C::TearDown,
    C::Connecting,
    C::Connected,
    C::Other,
];
const REPLICATIONS: [R; 16] = [
    R::Off,
    R::Established,
    R::StartingSyncS,
    R::StartingSyncT,
    R::WFBitMapS,
    R::WFBitMapT,
    R::WFSyncUUID,
    R::SyncSource,
    R::SyncTarget,
    R::VerifyS,
    R::VerifyT,
    R::PausedSyncS,
    R::PausedSyncT,
    R::Ahead,
    R::Behind,
    R::Other,
];
const ROLES: [Role; 4] = [Role::Secondary, Role::Primary, Role::Unknown, Role::Other];

pub const fn link(disk: D) -> LinkIs {
    LinkIs::There(C::Connected, R::Established, disk, Role::Secondary)
}

pub const CONNECTING: LinkIs = LinkIs::There(C::Connecting, R::Off, D::DUnknown, Role::Unknown);
pub const ALONE: LinkIs = LinkIs::There(C::StandAlone, R::Off, D::DUnknown, Role::Unknown);
pub const TO_PRIMARY: LinkIs = LinkIs::There(C::Connected, R::Established, D::UpToDate, Role::Primary);

/// One link by classes.
pub const LINKS: [LinkIs; 14] = [
    LinkIs::Missing,
    ALONE,
    CONNECTING,
    link(D::Inconsistent),
    link(D::UpToDate),
    link(D::Outdated),
    link(D::Consistent),
    link(D::Diskless),
    TO_PRIMARY,
    LinkIs::There(C::Connected, R::Established, D::Inconsistent, Role::Primary),
    LinkIs::There(C::Connected, R::Established, D::Diskless, Role::Primary),
    LinkIs::There(C::Connected, R::SyncSource, D::Inconsistent, Role::Secondary),
    LinkIs::There(C::Connected, R::SyncTarget, D::UpToDate, Role::Secondary),
    LinkIs::There(C::Other, R::Other, D::Other, Role::Other),
];

/// Both links the same.
const ALIKE: [[LinkIs; 2]; 4] =
    [[CONNECTING; 2], [link(D::UpToDate); 2], [link(D::Inconsistent); 2], [TO_PRIMARY; 2]];

pub const fn there(lv: LvIs, disk: Option<D>) -> OtherIs {
    OtherIs::There { lv, disk, trouble: false }
}

/// One other box by classes.
pub const OTHERS: [OtherIs; 10] = [
    OtherIs::Away,
    there(LvIs::Unknown, None),
    there(LvIs::Absent, None),
    there(LvIs::Fresh, None),
    there(LvIs::Zeroed, Some(D::Inconsistent)),
    there(LvIs::NotZeroed, Some(D::Inconsistent)),
    there(LvIs::Small, Some(D::UpToDate)),
    there(LvIs::Zeroed, Some(D::UpToDate)),
    OtherIs::There { lv: LvIs::Zeroed, disk: Some(D::Inconsistent), trouble: true },
    OtherIs::There { lv: LvIs::Zeroed, disk: Some(D::UpToDate), trouble: true },
];

const LVS: [LvIs; 13] = [
    LvIs::Unknown,
    LvIs::NoVg,
    LvIs::Absent,
    LvIs::Fresh,
    LvIs::FreshSmall,
    LvIs::Zeroed,
    LvIs::NotZeroed,
    LvIs::Small,
    LvIs::Inactive,
    LvIs::Foreign,
    LvIs::OtherLife,
    LvIs::Old,
    LvIs::OtherPool,
];
const CONFS: [ConfIs; 4] = [ConfIs::Unknown, ConfIs::Absent, ConfIs::Right, ConfIs::Stale];

pub const PLAIN: Order = Order {
    major: 9,
    meta: false,
    seats: None,
    born: true,
    seed: 0,
    grown: false,
    generation: 1,
    primary: Told::Nobody,
    goes: Goes::Nothing,
};

/// A replica that is in order.
pub const GOOD: Facts = Facts {
    version_known: true,
    current: true,
    lv: LvIs::Zeroed,
    conf: ConfIs::Right,
    kernel: KernelIs::Up { minor: Whose::Own, disk: D::UpToDate, role: Role::Secondary, full: true },
    links: [link(D::UpToDate), link(D::UpToDate)],
    surplus: false,
    others: [there(LvIs::Zeroed, Some(D::UpToDate)), there(LvIs::Zeroed, Some(D::UpToDate))],
};

/// Every phase that a volume can be in, seen from box2.
pub fn orders() -> Vec<Order> {
    let (mut every, mut found) = (Every::default(), Vec::new());
    while every.more() {
        let major = every.of(&[9, 8]);
        let seats: Vec<Option<[Seat; 3]>> = match major {
            9 => SEATS_9.map(Some).into_iter().chain([None, Some([DISK, NO, DISK])]).collect(),
            _ => SEATS_84.map(Some).into_iter().chain([None, Some([DISK, NO, DISK])]).collect(),
        };
        let seats = every.of(&seats);
        let mine = seats.map_or(NO, |s| s[ME]);
        let goes: &[Goes] = match (seats, mine, major) {
            (_, DISK | VOTE, 9) => &[Goes::Nothing, Goes::Old(DISK), Goes::Old(VOTE)],
            (_, DISK | VOTE, _) => &[Goes::Nothing, Goes::Old(DISK)],
            (_, NO, 9) => &[Goes::Nothing, Goes::This(DISK), Goes::This(VOTE), Goes::Old(DISK)],
            (_, NO, _) => &[Goes::Nothing, Goes::This(DISK), Goes::Old(DISK)],
        };
        let goes = every.of(goes);
        let mut order = Order { major, seats, goes, ..PLAIN };
        if mine != NO {
            let meta = goes == Goes::Nothing && every.flag();
            // Unborn with the seed here or elsewhere; born; born and made larger.
            let (born, grown, seed) = every.of(&[(false, false, ME), (false, false, 0), (true, false, 0), (true, true, 0)]);
            let generation = if goes == Goes::Nothing && mine == DISK { every.of(&[1, 2]) } else { 1 };
            let primary = if major == 8 && born { every.of(&[Told::Nobody, Told::Me, Told::Another]) } else { Told::Nobody };
            order = Order { meta, born, grown, seed, generation, primary, ..order };
            if order.seats.is_some_and(|s| s[order.seed] != DISK) {
                continue; // the seed is always a replica
            }
        }
        found.push(order);
    }
    found
}

/// One state through `plan` and all checks.
pub fn plan_and_check(w: &Wanted, facts: &Facts) -> Vec<holdfast::core::step::Step> {
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
                links: every.of(list(&ALIKE[2..], &ALIKE)),
                surplus: false,
                others: if order.born { GOOD.others } else { [there(LvIs::Zeroed, Some(D::Inconsistent)); 2] },
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
    for mut order in orders() {
        let plain = order.goes == Goes::Nothing && order.generation == 1 && !order.meta && order.primary != Told::Another;
        if !plain || order.seats.is_none_or(|s| s[ME] == NO) || order.born && !order.grown {
            continue;
        }
        order.meta = false;
        let w = Wanted::new(Nth(0), order);
        let seats = order.seats.unwrap();
        // A box without a replica has nothing to tell, and who has no leg has no link.
        let others = |n: usize| if seats[n] == DISK { &OTHERS[..] } else { &OTHERS[..1] };
        let second = order.major == 8 || seats[2] == NO || seats[ME] == VOTE && seats[2] == VOTE;
        let mut every = Every::default();
        while every.more() {
            let facts = Facts {
                current: true,
                lv: every.of(if order.born { &[LvIs::Zeroed, LvIs::Small] } else { &[LvIs::Zeroed, LvIs::NotZeroed] }),
                kernel: KernelIs::Up {
                    minor: Whose::Own,
                    disk: every.of(list(&[D::Inconsistent, D::UpToDate], &[D::Inconsistent, D::UpToDate, D::Outdated])),
                    role: every.of(&[Role::Secondary, Role::Primary]),
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
                kernel: KernelIs::Up { minor: Whose::Own, disk, role: every.of(&[Role::Secondary, Role::Primary]), full: false },
                links: [peer, LinkIs::Missing],
                others: if order.born { GOOD.others } else { [there(LvIs::Zeroed, Some(D::Inconsistent)); 2] },
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
                    &[KernelIs::Absent, KernelIs::Up { minor: Whose::Other, disk: D::UpToDate, role: Role::Secondary, full: true }],
                    &[KernelIs::Absent, KernelIs::Up { minor: Whose::Old, disk: D::UpToDate, role: Role::Secondary, full: true }],
                )),
                ..GOOD
            };
            kinds.push((w.clone(), facts));
        }
        for disk in [D::Inconsistent, D::UpToDate] {
            let others = if order.born { GOOD.others } else { [there(LvIs::Zeroed, Some(D::Inconsistent)); 2] };
            let role = if order.primary == Told::Nobody { Role::Primary } else { Role::Secondary };
            kinds.push((w.clone(), Facts { kernel: up(disk, role), links: [link(disk); 2], others, ..GOOD }));
        }
    }
    kinds
}

fn jobs(seen: &Seen, intent: &holdfast::core::intent::Intent) -> Vec<Job> {
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
            let kinds: Vec<(Wanted, Seen)> = kinds(nth, major).into_iter().map(|(w, f)| (w.clone(), Seen::new(&w, &f))).collect();
            kinds.into_iter().map(|(w, seen)| (jobs(&seen, &w.intent), w, seen)).collect::<Vec<_>>()
        };
        let (ones, others) = (ready(Nth(0)), ready(Nth(1)));
        for (n, (jobs_one, w_one, seen_one)) in ones.iter().enumerate() {
            for (m, (jobs_other, w_other, seen_other)) in others.iter().enumerate() {
                if !all() && (n + m) % 4 != 0 {
                    continue; // each state still meets each fourth of the other's, and every kind of order
                }
                let (intent, seen) = together((w_one, seen_one), (w_other, seen_other));
                let both: Vec<Job> = jobs_one.iter().chain(jobs_other).cloned().collect();
                let found = jobs(&seen, &intent);
                assert_eq!(found, both, "invariant 0: {:#?}\n{:#?}", w_one.order, w_other.order);
                let lanes: std::collections::BTreeSet<_> = found.iter().map(|j| &j.lane).collect();
                assert_eq!(lanes.len(), found.len(), "invariant 0: two jobs in one lane");
                pairs += 1;
            }
        }
    }
    println!("pairs: {pairs} pairs of states");
}

/// Two worlds laid over each other.
fn together(one: (&Wanted, &Seen), other: (&Wanted, &Seen)) -> (holdfast::core::intent::Intent, Seen) {
    let mut intent = one.0.intent.clone();
    intent.apply(&other.0.intent.whole());
    let mut seen = one.1.clone();
    for (name, theirs) in &other.1.reports {
        let report = std::sync::Arc::make_mut(seen.reports.get_mut(name).unwrap());
        let theirs = holdfast::core::facts::Report::clone(theirs);
        let add = |vgs: &mut holdfast::core::facts::Known<_>| {
            if let (holdfast::core::facts::Known::Known(mine), Some(more)) = (vgs, theirs.vgs.known()) {
                let mine: &mut std::collections::BTreeMap<_, holdfast::core::facts::Vg> = mine;
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

fn extend<V: Clone>(
    mine: &mut holdfast::core::facts::Known<std::collections::BTreeMap<String, V>>,
    more: &holdfast::core::facts::Known<std::collections::BTreeMap<String, V>>,
) {
    if let (holdfast::core::facts::Known::Known(mine), Some(more)) = (mine, more.known()) {
        mine.extend(more.clone());
    }
}
