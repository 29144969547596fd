use super::*;

#[test]
fn a_silent_peer_is_noticed_in_time_and_sooner_if_asked() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.k.power_off(1);
    lab.run(5000);
    assert_eq!(lab.link(2, 1), ConnectionState::Connected);
    lab.run(2000);
    assert_eq!(lab.link(2, 1), ConnectionState::Connecting);
    lab.up(1).unwrap();
    lab.run(1000);
    assert_eq!(lab.link(2, 1), ConnectionState::Connected);
    lab.primary(1);
    lab.k.power_off(1);
    assert_eq!(class(lab.k.promote(2, DB)), StepClass::Refused);
    assert_eq!(lab.k.answers_ms(2, DB), Some(lab.now + 500));
    lab.run(500);
    lab.k.promote(2, DB).unwrap();
}

#[test]
fn a_short_cut_is_not_noticed() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(1);
    lab.wire(1, 2, false);
    lab.run(1000);
    assert_eq!(lab.k.write(1, DB), Err(IoError::Frozen));
    let unanswered = lab.k.used(1, DB).unwrap().unanswered;
    lab.wire(1, 2, true);
    assert_eq!(lab.k.write(1, DB).ok(), unanswered, "the same write is answered");
    assert_eq!(lab.content(2), unanswered.unwrap());
    assert_eq!(lab.link(1, 2), ConnectionState::Connected);
}

#[test]
fn a_survivor_takes_over_and_the_crashed_primary_follows() {
    for (version, diskful, diskless) in [(NINE, 2, 1), (NINE, 3, 0), (NINE, 2, 0), (EIGHT, 2, 0)] {
        let mut lab = Lab::ready(version, diskful, diskless);
        let acked = lab.primary(1);
        let torn = lab.k.write_torn(1, DB, &|n| n == 1).unwrap();
        lab.k.power_off(1);
        lab.run(8000);
        let version = lab.primary(2);
        assert!(lab.k.descends(version, acked) && !lab.k.descends(version, torn));
        lab.up(1).unwrap();
        lab.run(3000);
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.content(1), version);
    }
}

#[test]
fn survivors_agree_on_a_torn_write() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(1);
    let torn = lab.k.write_torn(1, DB, &|n| n == 2).unwrap();
    lab.k.power_off(1);
    assert_ne!(lab.content(3), torn);
    lab.run(8000);
    assert_eq!((lab.content(2), lab.content(3)), (torn, torn));
    lab.up(1).unwrap();
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
}

#[test]
fn all_crash_and_the_last_primary_has_the_data() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 2, 0);
        lab.primary(1);
        let torn = lab.k.write_torn(1, DB, &|n| n == 1).unwrap();
        lab.k.power_off(1);
        lab.k.power_off(2);
        lab.up(2).unwrap();
        lab.up(1).unwrap();
        lab.run(3000);
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.content(2), torn, "nobody can tell that it was not acknowledged");
    }
}

#[test]
fn the_minority_has_no_quorum_and_its_writes_fail() {
    let mut lab = Lab::ready(NINE, 3, 0);
    let acked = lab.primary(1);
    lab.cut_off(1, false);
    assert_eq!(lab.k.write(1, DB), Err(IoError::Frozen));
    lab.run(8000);
    assert_eq!((lab.role(1), lab.quorum(1), lab.disk(1)), (Role::Primary, false, DiskState::UpToDate));
    assert_eq!((lab.k.write(1, DB), lab.k.read(1, DB)), (Err(IoError::Io), Err(IoError::Io)));
    assert_ne!(lab.content(1), acked, "what was not acknowledged is on its disk");
    let next = lab.primary(2);
    lab.cut_off(1, true);
    lab.run(10_000);
    assert_eq!(
        lab.link(2, 1),
        ConnectionState::Connecting,
        "a Primary does not become a target, and tries again"
    );
    lab.k.force_secondary(1, DB).unwrap();
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
    assert_eq!((lab.content(1), lab.quorum(1)), (next, true));
}

#[test]
fn suspended_io_goes_on_or_is_forced_down() {
    let mut lab = Lab::ready(NINE, 3, 0);
    let text = lab.text().replace("on-no-quorum io-error", "on-no-quorum suspend-io");
    let text = text.replace("options {", "options {\n on-suspended-primary-outdated force-secondary;");
    lab.up_with(1, &text).unwrap();
    lab.primary(1);
    lab.cut_off(1, false);
    lab.run(8000);
    assert_eq!(lab.look(1).suspended, "quorum");
    assert!(lab.k.used(1, DB).unwrap().suspended_since_ms.is_some());
    assert_eq!((lab.k.write(1, DB), lab.k.read(1, DB)), (Err(IoError::Frozen), Err(IoError::Frozen)));
    lab.cut_off(1, true);
    lab.run(2000);
    lab.k.write(1, DB).unwrap();
    lab.all_equal(&[1, 2, 3]);
    lab.cut_off(1, false);
    lab.run(8000);
    lab.primary(2);
    lab.cut_off(1, true);
    lab.run(5000);
    assert_eq!((lab.role(1), lab.look(1).force_io_failures), (Role::Secondary, true));
    lab.all_equal(&[1, 2, 3]);
}

#[test]
fn a_tie_breaker_keeps_quorum_and_never_makes_it() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(1);
    lab.k.power_off(3);
    lab.run(8000);
    lab.k.write(1, DB).unwrap();
    lab.k.power_off(2);
    lab.run(8000);
    assert_eq!((lab.quorum(1), lab.k.write(1, DB)), (false, Err(IoError::Io)));
    lab.up(3).unwrap();
    lab.run(2000);
    assert_eq!((lab.quorum(1), lab.quorum(3)), (false, false));
    lab.up(2).unwrap();
    lab.run(3000);
    assert!(lab.quorum(1) && lab.quorum(3));
    lab.all_equal(&[1, 2]);
    // The other way round it holds: the diskful peer first, then the tie-breaker.
    lab.k.power_off(2);
    lab.run(8000);
    lab.k.write(1, DB).unwrap();
    lab.k.power_off(3);
    lab.run(8000);
    assert!(lab.quorum(1));
    lab.k.write(1, DB).unwrap();
}

#[test]
fn both_at_once_are_too_many() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(1);
    lab.k.power_off(2);
    lab.k.power_off(3);
    lab.run(8000);
    assert!(!lab.quorum(1));
}

#[test]
fn after_a_power_cut_of_all_both_replicas_are_needed_unless_one_had_left() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(1);
    (1..=3).for_each(|n| lab.k.power_off(n));
    lab.up(1).unwrap();
    lab.up(3).unwrap();
    lab.run(3000);
    assert_eq!((lab.disk(1), lab.quorum(1), lab.quorum(3)), (DiskState::UpToDate, false, false));
    assert!(lab.k.promote(1, DB).unwrap_err().text.contains("(-25)"));
    lab.up(2).unwrap();
    lab.run(3000);
    assert!(lab.quorum(1) && lab.quorum(2));
    lab.primary(1);
    lab.k.down(2, DB, 1000).unwrap();
    assert_eq!(lab.volume(1, 2).disk, DiskState::Outdated);
    assert!(!lab.k.replica(lab.disks[&2]).unwrap().up_to_date);
    lab.k.power_off(1);
    lab.k.power_off(3);
    lab.up(1).unwrap();
    assert!(lab.quorum(1), "the other is known to be outdated");
    lab.primary(1);
}

#[test]
fn a_stale_copy_alone_does_not_come_up() {
    let mut lab = Lab::ready(NINE, 3, 0);
    let old = lab.primary(1);
    lab.k.power_off(3);
    lab.run(8000);
    let new = lab.k.write(1, DB).unwrap();
    lab.k.power_off(1);
    lab.k.power_off(2);
    lab.up(3).unwrap();
    lab.run(3000);
    assert!(!lab.quorum(3) && lab.content(3) == old);
    lab.up(2).unwrap();
    lab.run(3000);
    lab.all_equal(&[2, 3]);
    assert_eq!(lab.content(3), new);
}

#[test]
fn who_sees_the_primary_only_by_others_is_outdated() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(1);
    lab.wire(1, 3, false);
    lab.run(8000);
    assert_eq!((lab.disk(3), lab.volume(1, 3).disk), (DiskState::Outdated, DiskState::DUnknown));
    assert_eq!(lab.volume(2, 3).disk, DiskState::Outdated);
    let next = lab.k.write(1, DB).unwrap();
    assert_ne!(lab.content(3), next);
    assert!(lab.k.promote(3, DB).unwrap_err().text.contains("(-1)"));
    lab.wire(1, 3, true);
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
    lab.wire(1, 3, false);
    lab.run(8000);
    lab.wire(1, 3, true);
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
}

#[test]
fn without_quorum_two_cut_off_boxes_split_their_brain() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 2, 0);
        let mine = lab.primary(1);
        lab.wire(1, 2, false);
        lab.run(8000);
        let mine = lab.k.write(1, DB).map(|next| (lab.k.descends(next, mine), next)).unwrap().1;
        let theirs = lab.primary(2);
        assert!(!lab.k.descends(mine, theirs) && !lab.k.descends(theirs, mine));
        lab.k.close(2, DB);
        lab.k.demote(2, DB).unwrap();
        lab.wire(1, 2, true);
        lab.run(3000);
        if version.is_9() {
            assert_eq!(
                (lab.link(1, 2), lab.link(2, 1)),
                (ConnectionState::StandAlone, ConnectionState::StandAlone)
            );
        } else {
            assert!(lab.look(1).peers.is_empty() && lab.look(2).peers.is_empty());
        }
        assert_eq!((lab.disk(1), lab.disk(2)), (DiskState::UpToDate, DiskState::UpToDate));
        lab.up(1).unwrap();
        lab.up(2).unwrap();
        lab.run(3000);
        assert_eq!((lab.content(1), lab.content(2)), (mine, theirs), "nothing decides by itself");
    }
}

#[test]
fn eight_four_gives_up_a_link_that_would_make_a_primary_the_target() {
    let mut lab = Lab::ready(EIGHT, 2, 0);
    lab.primary(1);
    lab.wire(1, 2, false);
    lab.run(8000);
    // Box 1 lost its peer's data and so has a generation of its own; box 2 has not.
    lab.k.close(1, DB);
    lab.k.demote(1, DB).unwrap();
    lab.k.promote(2, DB).unwrap();
    lab.wire(1, 2, true);
    lab.run(3000);
    assert!(lab.look(1).peers.is_empty() && lab.look(2).peers.is_empty());
    lab.k.power_off(2);
}

#[test]
fn replicas_with_nothing_in_common_do_not_connect() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::new(version, 2, 0);
        for n in [1, 2] {
            lab.up(n).unwrap();
            lab.k.seed(n, DB, SeedHow::Force).unwrap();
        }
        lab.run(3000);
        if version.is_9() {
            assert_eq!(lab.link(1, 2), ConnectionState::StandAlone);
        } else {
            assert!(lab.look(1).peers.is_empty());
        }
        assert_eq!((lab.disk(1), lab.disk(2)), (DiskState::UpToDate, DiskState::UpToDate));
    }
}

#[test]
fn a_replica_that_was_away_for_long_is_told_by_history() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(1);
    lab.k.power_off(3);
    lab.run(8000);
    lab.k.write(1, DB).unwrap();
    // Box 1 goes, box 2 goes on alone with nobody: no quorum. So box 1 comes back and box 2 is the Primary then.
    lab.k.close(1, DB);
    lab.k.power_off(1);
    lab.run(8000);
    lab.up(1).unwrap();
    lab.run(3000);
    let last = lab.primary(2);
    lab.up(3).unwrap();
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
    assert_eq!(lab.content(3), last);
}
