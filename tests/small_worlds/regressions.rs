//! What walking small worlds found, one state each.

use holdfast::core::{
    drbd::{ConnectionState, DiskState, ReplicationState, Role},
    step::Step,
};

use crate::{
    ground::*,
    plans::plan_and_check,
    states::{CONNECTING, DISK, GOOD, PLAIN, TO_PRIMARY, VOTE, link, there},
};

fn planned(order: Order, facts: Facts) -> Vec<String> {
    plan_and_check(&Wanted::new(Nth(0), order), &facts).iter().map(Step::to_string).collect()
}

/// `primary` was planned every half minute for as long as the other stayed Primary, and DRBD refused it each time.
#[test]
fn nobody_is_promoted_while_another_is_primary() {
    let order = Order { major: 8, seats: Some([DISK, DISK, Seat::No]), primary: Told::Me, ..PLAIN };
    assert_eq!(planned(order, Facts { links: [TO_PRIMARY; 2], ..GOOD }), [""; 0]);
    assert_eq!(planned(order, GOOD), ["make db Primary"]);
}

/// A box whose disk was replaced before anyone noted that the volume was born made its empty copy the first once more,
/// if the other box's daemon was away, or its lane in trouble and the link down.
#[test]
fn no_first_copy_is_made_while_another_box_has_data() {
    let order = Order { seats: Some([DISK, DISK, Seat::No]), born: false, seed: ME, ..PLAIN };
    let up = |disk| KernelIs::Up { minor: Whose::Own, disk, role: Role::Secondary, full: true };
    let facts = Facts { kernel: up(DiskState::Inconsistent), ..GOOD };
    let trouble = |disk| OtherIs::There { lv: LvIs::Zeroed, disk: Some(disk), trouble: true };
    let away = Facts { others: [OtherIs::Away; 2], ..facts };
    let failing = |disk| Facts { others: [trouble(disk), OtherIs::Away], links: [CONNECTING; 2], ..facts };
    for disk in [DiskState::UpToDate, DiskState::Outdated, DiskState::Consistent] {
        assert_eq!(planned(order, Facts { links: [link(disk); 2], ..away }), [""; 0]);
        assert_eq!(planned(order, failing(disk)), [""; 0]);
    }
    let first = ["make this copy of db the first"];
    assert_eq!(planned(order, Facts { links: [CONNECTING; 2], ..away }), first);
    assert_eq!(planned(order, failing(DiskState::Inconsistent)), first);
}

/// A volume that was open on the box of its voter did not grow until it was closed: the voter cannot resize, and the
/// replicas left it to the Primary.
#[test]
fn a_volume_that_is_open_on_its_voter_grows() {
    let order = Order { seats: Some([VOTE, DISK, DISK]), grown: true, seed: ME, ..PLAIN };
    let open = LinkIs::There(
        ConnectionState::Connected,
        ReplicationState::Established,
        DiskState::Diskless,
        Role::Primary,
    );
    let up =
        KernelIs::Up { minor: Whose::Own, disk: DiskState::UpToDate, role: Role::Secondary, full: false };
    let others =
        [there(LvIs::Absent, Some(DiskState::Diskless)), there(LvIs::Zeroed, Some(DiskState::UpToDate))];
    assert_eq!(
        planned(order, Facts { kernel: up, links: [open, link(DiskState::UpToDate)], others, ..GOOD }),
        ["resize db"]
    );
}

/// Two legs without a replica have no connection in the .res file, and were adjusted for ever to have one.
#[test]
fn two_legs_without_a_replica_need_no_link() {
    let order = Order { seats: Some([DISK, VOTE, VOTE]), ..PLAIN };
    let up = KernelIs::Up { minor: Whose::Own, disk: DiskState::Diskless, role: Role::Secondary, full: true };
    let facts = Facts { lv: LvIs::Absent, kernel: up, ..GOOD };
    assert_eq!(
        planned(order, Facts { links: [link(DiskState::UpToDate), LinkIs::Missing], ..facts }),
        [""; 0]
    );
}
