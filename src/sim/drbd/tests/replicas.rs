use super::*;

#[test]
fn a_write_is_answered_when_all_have_it() {
    for (version, diskful) in [(NINE, 3), (EIGHT, 2)] {
        let mut lab = Lab::ready(version, diskful, 0);
        let first = lab.primary(1);
        let second = lab.k.write(1, DB).unwrap();
        assert!(lab.k.descends(second, first) && !lab.k.descends(first, second));
        (1..=diskful).for_each(|n| assert_eq!(lab.content(n), second));
        assert_eq!(lab.k.read(1, DB), Ok(second));
    }
}

#[test]
fn a_client_reads_and_writes_by_its_peers() {
    let mut lab = Lab::ready(NINE, 2, 1);
    let version = lab.primary(3);
    assert_eq!((lab.content(1), lab.content(2)), (version, version));
    assert_eq!(lab.k.read(3, DB), Ok(version));
    lab.k.power_off(1);
    assert_eq!(lab.k.write(3, DB), Err(IoError::Frozen), "it waits for the silent one");
    lab.run(8000);
    let version = lab.k.write(3, DB).unwrap();
    let version = lab.k.write(3, DB).map(|next| (next, lab.k.descends(next, version))).unwrap();
    assert!(version.1);
    assert_eq!((lab.content(2), lab.k.read(3, DB)), (version.0, Ok(version.0)));
    lab.k.power_off(2);
    lab.run(8000);
    assert_eq!((lab.k.write(3, DB), lab.quorum(3)), (Err(IoError::Io), false));
}

#[test]
fn a_dead_disk_is_gone_round_and_catches_up() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 2, 0);
        let first = lab.primary(1);
        lab.k.fail_backing(lab.disks[&1]);
        assert_eq!((lab.disk(1), lab.look(1).devices[&0].client), (DiskState::Diskless, false));
        assert_eq!(lab.volume(2, 1).disk, DiskState::Diskless);
        let second = lab.k.write(1, DB).unwrap();
        assert_eq!((lab.content(1), lab.content(2), lab.k.read(1, DB)), (first, second, Ok(second)));
        assert_eq!(class(lab.up(1)), StepClass::Refused, "it is still dead");
        lab.k.mend_backing(lab.disks[&1]);
        lab.up(1).unwrap();
        assert_eq!(lab.disk(1), DiskState::Inconsistent, "what it held is old");
        assert_eq!(lab.k.read(1, DB), Ok(second));
        let third = lab.k.write(1, DB).unwrap();
        lab.run(2000);
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.content(1), third);
    }
}

#[test]
fn a_dead_disk_alone_fails_io() {
    let mut lab = Lab::ready(NINE, 1, 0);
    lab.primary(1);
    lab.k.fail_backing(lab.disks[&1]);
    assert_eq!((lab.k.write(1, DB), lab.k.read(1, DB)), (Err(IoError::Io), Err(IoError::Io)));
}

#[test]
fn an_added_replica_is_synced_while_the_others_are_in_use() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 1, 0);
        lab.primary(1);
        lab.add_leg(2, true);
        lab.new_disk(2);
        lab.up(1).unwrap();
        lab.k.write(1, DB).unwrap();
        lab.up(2).unwrap();
        lab.run(1000);
        assert_eq!(lab.volume(1, 2).replication, ReplicationState::SyncSource);
        let last = lab.k.write(1, DB).unwrap();
        lab.run(6000);
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.content(2), last);
        lab.a.legs.remove(&box_name(2));
        lab.k.down(2, DB, 1000).unwrap();
        lab.up(1).unwrap();
        lab.k.write(1, DB).unwrap();
        assert_eq!(lab.look(1).peers.len(), usize::from(!version.is_9()), "8.4 has its nobody");
    }
}

#[test]
fn two_absent_peers_at_once_cost_a_primary_its_quorum_so_the_second_is_refused() {
    let mut lab = Lab::ready(NINE, 1, 0);
    lab.primary(1);
    lab.add_leg(2, true);
    lab.add_leg(3, true);
    let refusal = lab.up(1).unwrap_err();
    assert!(refusal.text.contains("(-25) No quorum"), "{refusal}");
    assert_eq!((lab.link(1, 2), lab.link(1, 3)), (ConnectionState::Connecting, ConnectionState::StandAlone));
    assert!(lab.quorum(1));
    lab.k.write(1, DB).unwrap();
    lab.new_disk(2);
    lab.up(2).unwrap();
    lab.run(1000);
    lab.up(1).unwrap();
    lab.new_disk(3);
    lab.up(3).unwrap();
    lab.up(2).unwrap();
    lab.run(20_000);
    lab.all_equal(&[1, 2, 3]);
    assert!([1, 2, 3].into_iter().all(|n| lab.quorum(n)));
}

#[test]
fn a_secondary_with_two_absent_peers_has_no_quorum() {
    let mut lab = Lab::ready(NINE, 1, 0);
    lab.add_leg(2, true);
    lab.add_leg(3, true);
    lab.up(1).unwrap();
    lab.k.power_off(1);
    lab.up(1).unwrap();
    assert!(!lab.quorum(1));
    assert!(lab.k.promote(1, DB).unwrap_err().text.contains("(-25)"));
    lab.a.legs.retain(|name, _| *name == box_name(1));
    lab.k.power_off(1);
}

#[test]
fn a_leg_turns_diskless_and_back() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(1);
    lab.add_leg(3, false);
    lab.up(3).unwrap();
    assert_eq!((lab.disk(3), lab.look(3).devices[&0].client), (DiskState::Diskless, true));
    lab.up(1).unwrap();
    lab.up(2).unwrap();
    assert!(lab.volume(1, 3).client);
    lab.add_leg(3, true);
    lab.new_disk(3);
    assert!(lab.up(3).unwrap_err().text.contains("(-10)"), "the peers think that it has no disk");
    lab.up(1).unwrap();
    lab.up(2).unwrap();
    lab.up(3).unwrap();
    assert_eq!(lab.disk(3), DiskState::Inconsistent);
    lab.run(20_000);
    lab.all_equal(&[1, 2, 3]);
    assert!(!lab.volume(1, 3).client);
}

#[test]
fn a_sync_that_is_broken_off_goes_on_where_it_was() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::new(version, 2, 0);
        lab.up(1).unwrap();
        lab.up(2).unwrap();
        lab.run(1000);
        lab.k.seed(1, DB, SeedHow::Force).unwrap();
        lab.run(3000);
        lab.wire(1, 2, false);
        lab.run(20_000);
        assert_eq!(lab.disk(2), DiskState::Inconsistent);
        assert!(lab.k.promote(2, DB).is_err());
        lab.wire(1, 2, true);
        lab.run(1000);
        assert_eq!(lab.volume(2, 1).replication, ReplicationState::SyncTarget);
        lab.run(3000);
        lab.all_equal(&[1, 2]);
    }
}

#[test]
fn of_two_sources_one_waits() {
    let mut lab = Lab::ready(NINE, 2, 0);
    lab.add_leg(3, true);
    lab.new_disk(3);
    (1..=3).for_each(|n| lab.up(n).unwrap());
    lab.run(1000);
    assert_eq!(lab.volume(3, 1).replication, ReplicationState::SyncTarget);
    assert_eq!(lab.volume(3, 2).replication, ReplicationState::PausedSyncT);
    assert_eq!(lab.volume(3, 2).resync_suspended, "dependency");
    assert_eq!(lab.volume(2, 3).replication, ReplicationState::PausedSyncS);
    lab.k.power_off(1);
    lab.run(7000);
    assert_eq!(lab.volume(3, 2).replication, ReplicationState::SyncTarget);
    lab.run(8000);
    lab.all_equal(&[2, 3]);
    lab.up(1).unwrap();
    lab.run(3000);
    lab.all_equal(&[1, 2, 3]);
}
