//! Promises of two or three boxes to each other. Each runs in all of them at once; `meet` keeps them in step.

use holdfast::core::{
    drbd::{ConnectionState, DiskState, Peer, PeerDevice, ReplicationState, Resource, Role},
    intent::Assignment,
    size::Size,
    step::{LvRef, SeedHow, Step, StepClass},
};

use super::{
    Bench,
    help::{
        DB, MIB, MINOR, SIZE, adjust, assignment, claim, create, create_md, db_lv, demote, device,
        device_size, disk, down, found, grow, lv, lv_ref, lv_size, promote, refused, remove, remove_conf,
        resize, standing, take, text, twice, twice_when_closed, until, vg, write_conf,
    },
};

/// Another volume of the same boxes.
const LATE: &str = "late";
const LATE_MINOR: u32 = 1001;
const LATE_SIZE: Size = Size(8 * MIB);

/// Which of the boxes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It has a replica, and makes the first copy.
    First,
    /// It has the other replica.
    Second,
    /// It votes, with DRBD 9.
    Client,
    /// It has no leg: the third with DRBD 8.4.
    Onlooker,
}

impl Part {
    pub fn is_diskful(self) -> bool {
        matches!(self, Part::First | Part::Second)
    }
}

/// One box among the others.
pub struct Boxes<'a> {
    b: &'a dyn Bench,
    pub part: Part,
}

impl<'a> Boxes<'a> {
    pub fn new(b: &'a dyn Bench) -> Self {
        let legs = assignment(b, DB, MINOR, b.members().len()).legs;
        assert!(legs.len() >= 2, "it takes two");
        let part = match legs.get(&b.me()).map(|leg| leg.node_id) {
            Some(0) => Part::First,
            Some(1) => Part::Second,
            Some(_) => Part::Client,
            None => Part::Onlooker,
        };
        println!("{} is {part:?}, DRBD {}", b.me(), b.drbd());
        Self { b, part }
    }

    fn assignment(&self, resource: &str, minor: u32) -> Assignment {
        assignment(self.b, resource, minor, self.b.members().len())
    }

    fn is(&self, part: Part) -> bool {
        self.part == part
    }

    fn has_leg(&self) -> bool {
        self.part != Part::Onlooker
    }

    /// What this box does; the others wait in `place` until it is done.
    fn only(&self, part: Part, place: &str, act: impl FnOnce()) {
        if self.is(part) {
            act();
        }
        self.b.meet(place);
    }

    /// How this box sees the replica of another.
    fn sees(&self, resource: &Resource, other: Part) -> Option<(Peer, PeerDevice)> {
        let node_id = if other == Part::First { 0 } else { 1 };
        let peer =
            if self.b.drbd().is_9() { resource.peers.get(&node_id) } else { resource.peers.values().next() };
        peer.map(|peer| (peer.clone(), peer.devices.get(&0).cloned().unwrap_or_default()))
    }

    /// The other's replica as this box sees it, connected and at rest.
    fn sees_disk(&self, name: &str, other: Part, disk: DiskState) -> bool {
        let resource = found(self.b, name);
        self.sees(&resource, other).is_some_and(|(peer, device)| {
            peer.connection == ConnectionState::Connected
                && device.disk == disk
                && device.replication == ReplicationState::Established
        })
    }

    /// All have both replicas UpToDate and connected.
    fn whole(&self, name: &str, place: &str) {
        let b = self.b;
        let others = [Part::First, Part::Second].into_iter().filter(|part| *part != self.part);
        for other in others.filter(|_| self.has_leg()) {
            until(b, "the other replica is UpToDate", || self.sees_disk(name, other, DiskState::UpToDate));
        }
        if self.part.is_diskful() {
            until(b, "UpToDate", || device(&found(b, name)).disk == DiskState::UpToDate);
        }
        b.meet(place);
    }

    fn make_replica(&self, lv: &LvRef, resource: &str, minor: u32, size: Size) {
        let size = lv_size(self.b, size);
        twice(self.b, Step::CreateLv { lv: lv.clone(), volume: resource.into(), size, pv: None });
        twice(self.b, Step::CreateMd { lv: lv.clone(), minor });
    }

    fn bring_up(&self, resource: &str, minor: u32) {
        let text = text(self.b, &self.assignment(resource, minor));
        twice(self.b, write_conf(resource, text));
        twice(self.b, adjust(resource));
    }
}

fn seed(resource: &str, how: SeedHow) -> Step {
    Step::Seed { resource: resource.into(), how }
}

pub fn replicas_find_each_other_and_are_declared_equal(all: &Boxes<'_>) {
    let b = all.b;
    if all.part.is_diskful() {
        let disk = disk(b, &b.disks()[0]);
        twice(b, claim(&disk.device, disk.ident));
        until(b, "claimed", || {
            matches!(standing(b, &disk.device), holdfast::core::claim::Standing::Claimed(_))
        });
        all.make_replica(&db_lv(), DB, MINOR, SIZE);
    }
    if all.has_leg() {
        all.bring_up(DB, MINOR);
    }
    b.meet("up");
    let other = if all.is(Part::First) { Part::Second } else { Part::First };
    if all.has_leg() {
        until(b, "connected", || all.sees_disk(DB, other, DiskState::Inconsistent));
        refused(b, promote(DB), StepClass::Refused);
    }
    b.meet("connected");
    all.only(Part::First, "seeded", || {
        // Where the disks do not zero, that they are equal is not true, and plan would not say so. Nothing is read here.
        println!("   zeroed: {}", lv(b, "db.0").unwrap().zeroed);
        twice(b, seed(DB, SeedHow::ClearBitmap));
    });
    all.whole(DB, "declared equal");
    match all.part {
        Part::First | Part::Second => twice(b, seed(DB, SeedHow::Force)),
        Part::Client => {
            let mine = found(b, DB);
            assert_eq!((device(&mine).disk, device(&mine).client), (DiskState::Diskless, true));
            refused(b, seed(DB, SeedHow::Force), StepClass::Refused);
        }
        Part::Onlooker => {}
    }
    if all.has_leg() {
        assert_eq!(found(b, DB).role, Role::Secondary);
    }
}

pub fn only_one_at_a_time_is_primary(all: &Boxes<'_>) {
    let b = all.b;
    all.only(Part::First, "the first is Primary", || {
        twice(b, promote(DB));
        assert_eq!(found(b, DB).role, Role::Primary);
    });
    if all.has_leg() && !all.is(Part::First) {
        until(b, "told of it", || {
            all.sees(&found(b, DB), Part::First).is_some_and(|(peer, _)| peer.role == Role::Primary)
        });
        refused(b, promote(DB), StepClass::Refused);
        assert!(b.open(MINOR, true).is_err());
        twice(b, demote(DB));
        assert_eq!(found(b, DB).role, Role::Secondary);
    }
    b.meet("nobody else is");
    all.only(Part::First, "nobody is", || {
        assert_eq!(found(b, DB).role, Role::Primary);
        twice_when_closed(b, demote(DB));
    });
}

/// A client has no disk of its own and reads and writes through the others.
pub fn what_one_wrote_the_other_reads(all: &Boxes<'_>) {
    let b = all.b;
    let clients = all.assignment(DB, MINOR).legs.len() - 2;
    let turns = [Part::First, Part::Second].into_iter().chain(std::iter::repeat_n(Part::Client, clients));
    for (number, part) in (1..).zip(turns.chain([Part::First])) {
        all.only(part, "the next one", || {
            twice(b, promote(DB));
            assert_eq!(b.read(MINOR), number - 1);
            b.write(MINOR, number);
            twice_when_closed(b, demote(DB));
        });
    }
}

pub fn a_device_grows_once_all_its_lvs_have(all: &Boxes<'_>) {
    let b = all.b;
    let larger = Size(SIZE.bytes() * 2);
    let before = all.has_leg().then(|| device_size(b, MINOR));
    all.only(Part::Second, "one LV is larger", || twice(b, grow(&db_lv(), lv_size(b, larger))));
    all.only(Part::First, "tried too early", || {
        twice(b, promote(DB));
        b.write(MINOR, 5);
        // What it answers is its business: the size tells.
        drop(take(b, &resize(DB)));
        assert_eq!(Some(device_size(b, MINOR)), before);
    });
    all.only(Part::First, "both are", || twice(b, grow(&db_lv(), lv_size(b, larger))));
    all.only(Part::First, "grown", || {
        until(b, "grown", || {
            drop(take(b, &resize(DB)));
            device_size(b, MINOR) >= larger
        });
    });
    if all.has_leg() {
        until(b, "grown here, too", || device_size(b, MINOR) >= larger);
    }
    all.whole(DB, "what is new is in sync");
    all.only(Part::First, "used no longer", || {
        twice(b, resize(DB));
        assert_eq!(b.read(MINOR), 5);
        twice_when_closed(b, demote(DB));
    });
}

/// 8.4 wants a Primary for that, and must have none after.
pub fn a_device_that_nobody_uses_grows(all: &Boxes<'_>) {
    let b = all.b;
    let larger = Size(SIZE.bytes() * 3);
    all.only(Part::Second, "one LV is larger again", || twice(b, grow(&db_lv(), lv_size(b, larger))));
    all.only(Part::First, "both are again", || twice(b, grow(&db_lv(), lv_size(b, larger))));
    all.only(Part::First, "grown, used by nobody", || {
        assert_eq!(found(b, DB).role, Role::Secondary);
        take(b, &resize(DB)).unwrap();
        until(b, "grown", || device_size(b, MINOR) >= larger);
        until(b, "Primary no longer", || found(b, DB).role == Role::Secondary);
    });
    if all.has_leg() {
        until(b, "grown here, too", || device_size(b, MINOR) >= larger);
    }
    all.whole(DB, "what is new again is in sync");
}

pub fn a_box_that_was_down_is_brought_up_to_date(all: &Boxes<'_>) {
    let b = all.b;
    all.only(Part::Second, "the second is down", || {
        twice_when_closed(b, down(DB, MINOR));
        assert_eq!(b.resource(DB), None);
    });
    all.only(Part::First, "written meanwhile", || {
        until(b, "it is seen to be away", || {
            let now = found(b, DB);
            let link = all.sees(&now, Part::Second);
            link.is_none_or(|(peer, _)| peer.connection != ConnectionState::Connected)
        });
        twice(b, promote(DB));
        b.write(MINOR, 6);
    });
    all.only(Part::Second, "the second is back", || twice(b, adjust(DB)));
    all.whole(DB, "brought up to date");
    all.only(Part::First, "used no longer", || twice_when_closed(b, demote(DB)));
    all.only(Part::Second, "read there", || {
        twice(b, promote(DB));
        assert_eq!(b.read(MINOR), 6);
        twice_when_closed(b, demote(DB));
    });
}

/// And so goes the volume.
pub fn one_box_goes_while_the_other_is_used(all: &Boxes<'_>) {
    let b = all.b;
    let user = all.is(Part::First).then(|| {
        twice(b, promote(DB));
        b.open(MINOR, true).unwrap()
    });
    b.meet("in use");
    all.only(Part::Second, "the second is gone", || {
        twice_when_closed(b, down(DB, MINOR));
        twice(b, remove_conf(DB));
        twice_when_closed(b, remove(&db_lv()));
        assert_eq!(lv(b, "db.0"), None);
    });
    all.only(Part::First, "the first goes on", || {
        refused(b, down(DB, MINOR), StepClass::Busy);
        b.write(MINOR, 7);
        assert_eq!(b.read(MINOR), 7);
        assert_eq!(device(&found(b, DB)).disk, DiskState::UpToDate);
    });
    drop(user);
    if all.has_leg() && !all.is(Part::Second) {
        twice_when_closed(b, down(DB, MINOR));
        twice(b, remove_conf(DB));
        assert_eq!(b.resource(DB), None);
    }
    if all.is(Part::First) {
        twice_when_closed(b, remove(&db_lv()));
        assert_eq!(vg(b).free, vg(b).size);
    }
}

/// The first copy is made by force and used before the other replica is there; it takes all from it.
pub fn a_replica_that_comes_later_is_filled(all: &Boxes<'_>) {
    let b = all.b;
    let lv = lv_ref("late.0");
    if all.part.is_diskful() {
        all.make_replica(&lv, LATE, LATE_MINOR, LATE_SIZE);
    }
    // With DRBD 9 two of three are a majority, and the client is one of them.
    if matches!(all.part, Part::First | Part::Client) {
        all.bring_up(LATE, LATE_MINOR);
    }
    b.meet("one replica is up");
    all.only(Part::First, "used alone", || {
        twice(b, seed(LATE, SeedHow::Force));
        twice(b, promote(LATE));
        b.write(LATE_MINOR, 8);
    });
    all.only(Part::Second, "the other comes", || {
        all.bring_up(LATE, LATE_MINOR);
        // Never the other way around: what is here counts for nothing while the other has data.
        until(b, "it has met the first", || {
            let now = found(b, LATE);
            let first = all.sees(&now, Part::First);
            first.is_some_and(|(peer, device)| {
                peer.role == Role::Primary && device.disk == DiskState::UpToDate
            })
        });
        if let Err(error) = take(b, &seed(LATE, SeedHow::Force)) {
            assert_eq!(error.class, StepClass::Refused);
        }
        assert_eq!(found(b, LATE).role, Role::Secondary);
    });
    all.whole(LATE, "filled");
    all.only(Part::First, "used no longer", || twice_when_closed(b, demote(LATE)));
    all.only(Part::Second, "read there", || {
        twice(b, promote(LATE));
        assert_eq!(b.read(LATE_MINOR), 8);
        twice_when_closed(b, demote(LATE));
    });
    if all.has_leg() {
        twice_when_closed(b, down(LATE, LATE_MINOR));
        twice(b, remove_conf(LATE));
    }
    if all.part.is_diskful() {
        twice_when_closed(b, remove(&lv));
        twice(b, create(&lv, LATE_SIZE));
        twice(b, create_md(&lv));
        twice(b, remove(&lv));
    }
}
