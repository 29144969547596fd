//! The lists: which seats, words and phases there are, and one of each kind where all would be too many.

use holdfast::core::drbd::{ConnectionState as C, DiskState as D, ReplicationState as R, Role};

use crate::{every::Every, ground::*};

/// Whether the long lists are walked.
pub fn all() -> bool {
    std::env::var("HOLDFAST_SMALL").is_ok_and(|word| word == "all")
}

/// The long list, or the short one.
pub fn list<T: Copy>(short: &'static [T], long: &'static [T]) -> &'static [T] {
    if all() { long } else { short }
}

pub const NO: Seat = Seat::No;
pub const DISK: Seat = Seat::Replica;
pub const VOTE: Seat = Seat::Voter;

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
pub const CONNECTIONS: [C; 11] = [
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
pub const REPLICATIONS: [R; 16] = [
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
pub const ROLES: [Role; 4] = [Role::Secondary, Role::Primary, Role::Unknown, Role::Other];

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
pub const ALIKE: [[LinkIs; 2]; 4] =
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

pub const LVS: [LvIs; 13] = [
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
pub const CONFS: [ConfIs; 5] =
    [ConfIs::Unknown, ConfIs::Absent, ConfIs::Right, ConfIs::Written, ConfIs::Stale];

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
            (Some([_, _, NO]), DISK | VOTE, 9) => {
                &[Goes::Nothing, Goes::Old(DISK), Goes::Old(VOTE), Goes::Elsewhere]
            }
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
            let replica = |n: &usize| seats.is_some_and(|s| s[*n] == DISK);
            let phases: Vec<_> = [
                (false, false, ME),
                (false, false, 0),
                (false, false, 2),
                (true, false, ME),
                (true, true, ME),
            ]
            .map(|(born, grown, seed)| {
                (born, grown, if born && !replica(&seed) { 2 - usize::from(replica(&0)) * 2 } else { seed })
            })
            .into_iter()
            .filter(|(_, _, seed)| replica(seed))
            .collect();
            let (born, grown, seed) = every.of(&phases);
            let generation = if goes == Goes::Nothing && mine == DISK { every.of(&[1, 2]) } else { 1 };
            let primary = if major == 8 && born {
                every.of(&[Told::Nobody, Told::Me, Told::Another])
            } else {
                Told::Nobody
            };
            order = Order { meta, born, grown, seed, generation, primary, ..order };
        }
        found.push(order);
    }
    found
}
