use super::*;

#[test]
fn a_file_of_the_other_dialect_or_broken_does_nothing() {
    for (version, other) in [(NINE, EIGHT), (EIGHT, NINE)] {
        let mut lab = Lab::new(version, 2, 0);
        lab.version = other;
        let foreign = lab.text();
        lab.version = version;
        let broken = lab.text().replacen('}', "", 1);
        for text in [foreign.as_str(), &broken, "", "resource", "resource x { gizmo 1; }", "resource \"x"] {
            assert_eq!(class(lab.up_with(1, text)), StepClass::Refused, "{text}");
        }
        assert_eq!(lab.k.look(1, DB), None);
        let text = lab.text();
        assert_eq!(class(lab.k.adjust(1, &text, &number, "elsewhere", &|_| None)), StepClass::Gone);
    }
}

#[test]
fn adjust_fails_where_the_lv_or_its_metadata_is_missing() {
    let mut lab = Lab::new(NINE, 2, 0);
    let bare = lab.k.new_backing(Size(2 * GIB));
    let own = lab.disks.insert(1, bare).unwrap();
    assert_eq!(class(lab.up(1)), StepClass::Refused, "no metadata");
    assert_eq!(lab.disk(1), DiskState::Diskless);
    assert!(!lab.look(1).devices[&0].client);
    lab.disks.remove(&1);
    assert_eq!(class(lab.up(1)), StepClass::Gone, "no LV");
    lab.disks.insert(1, own);
    lab.up(1).unwrap();
    assert_eq!(lab.disk(1), DiskState::Inconsistent);
    lab.up(1).unwrap();
    assert!(lab.k.create_md(own).unwrap_err().text.contains("is configured"));
    lab.a.minor = 1001;
    assert_eq!(class(lab.up(1)), StepClass::Refused, "the minor never changes");
    assert_eq!(lab.look(1).devices[&0].minor, 1000);
}

#[test]
fn a_minor_is_one_resources() {
    let mut lab = Lab::ready(NINE, 2, 0);
    let text = lab.text().replace("\"db\"", "\"web\"");
    assert!(lab.up_with(1, &text).unwrap_err().text.contains("(161)"));
    assert_eq!(lab.k.look_all(1).keys().collect::<Vec<_>>(), [DB]);
}

#[test]
fn two_ends_connect_only_if_they_mean_each_other() {
    let mut lab = Lab::new(NINE, 2, 0);
    lab.up(1).unwrap();
    lab.run(5000);
    assert_eq!(lab.link(1, 2), ConnectionState::Connecting);
    lab.a.port = 7001;
    lab.up(2).unwrap();
    lab.run(5000);
    assert_eq!((lab.link(1, 2), lab.link(2, 1)), (ConnectionState::Connecting, ConnectionState::Connecting));
    lab.a.secret = "0022".to_owned();
    lab.a.port = 7000;
    lab.up(2).unwrap();
    lab.run(5000);
    assert_eq!((lab.link(1, 2), lab.link(2, 1)), (ConnectionState::StandAlone, ConnectionState::StandAlone));
    lab.up(1).unwrap();
    lab.up(2).unwrap();
    lab.run(1000);
    assert_eq!((lab.link(1, 2), lab.link(2, 1)), (ConnectionState::Connected, ConnectionState::Connected));
}

#[test]
fn the_first_copy_is_made_once_and_only_among_just_created_ones() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::new(version, 2, 0);
        lab.up(1).unwrap();
        if !version.is_9() {
            let refusal = lab.k.seed(1, DB, SeedHow::ClearBitmap).unwrap_err();
            assert!(refusal.text.contains("(151) Need to be StandAlone"), "{refusal}");
        }
        assert_eq!(class(lab.k.seed(2, DB, SeedHow::Force)), StepClass::Gone);
        lab.up(2).unwrap();
        lab.run(1000);
        assert_eq!(lab.volume(1, 2).replication, ReplicationState::Established);
        assert_eq!(lab.volume(1, 2).disk, DiskState::Inconsistent);
        assert!(lab.k.promote(1, DB).unwrap_err().text.contains("(-2)"));
        assert_eq!(lab.k.open(1, DB), Err(OpenError::ReadOnly));
        lab.k.seed(1, DB, SeedHow::ClearBitmap).unwrap();
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.volume(2, 1).replication, ReplicationState::Established);
        lab.k.seed(2, DB, SeedHow::ClearBitmap).unwrap();
        lab.primary(2);
        lab.all_equal(&[1, 2]);
    }
}

#[test]
fn a_forced_first_copy_is_synced_from() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::new(version, 2, 0);
        lab.up(1).unwrap();
        lab.up(2).unwrap();
        lab.run(1000);
        lab.k.seed(1, DB, SeedHow::Force).unwrap();
        assert_eq!((lab.role(1), lab.disk(1)), (Role::Secondary, DiskState::UpToDate));
        assert_eq!(lab.disk(2), DiskState::Inconsistent);
        assert_eq!(lab.volume(1, 2).replication, ReplicationState::SyncSource);
        assert_eq!(lab.volume(2, 1).replication, ReplicationState::SyncTarget);
        assert!(lab.k.seed(2, DB, SeedHow::Force).unwrap_err().text.contains("taken from there"));
        let first = lab.primary(1);
        lab.run(3000);
        let told = lab.volume(1, 2).done_hundredths;
        assert_eq!(told.is_some(), version.is_9());
        let left = lab.k.counters(2)[&1000].out_of_sync_kib;
        assert!(left.is_none_or(|left| left > 0 && left < (GIB >> 10)));
        lab.run(4000);
        lab.all_equal(&[1, 2]);
        assert_eq!(lab.content(2), first);
        assert_eq!(lab.k.counters(2)[&1000].out_of_sync_kib, left.map(|_| 0));
    }
}

#[test]
fn only_one_is_primary_and_only_while_it_is_open() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(3);
    assert_eq!((lab.role(3), lab.disk(3)), (Role::Primary, DiskState::Diskless));
    assert_eq!(lab.k.open(1, DB), Err(OpenError::ReadOnly));
    assert!(lab.k.promote(2, DB).unwrap_err().text.contains("(-1)"));
    assert_eq!(class(lab.k.demote(3, DB)), StepClass::Busy);
    assert_eq!(class(lab.k.down(3, DB, 1000)), StepClass::Busy);
    assert_eq!(lab.role(3), Role::Primary);
    lab.k.close(3, DB);
    assert_eq!(lab.role(3), Role::Secondary, "it was made Primary by opening");
    lab.k.promote(1, DB).unwrap();
    lab.k.open(1, DB).unwrap();
    lab.k.close(1, DB);
    assert_eq!(lab.role(1), Role::Primary, "it was made Primary by command");
    lab.k.demote(1, DB).unwrap();
    assert_eq!(lab.k.primaries(DB).count(), 0);
}

#[test]
fn eight_four_and_the_meta_resource_are_promoted_by_command_only() {
    let mut eight = Lab::ready(EIGHT, 2, 0);
    let mut meta = Lab::ready(NINE, 2, 0);
    let text = meta.text().replace("auto-promote yes", "auto-promote no");
    meta.up_with(1, &text).unwrap();
    for lab in [&mut eight, &mut meta] {
        assert_eq!(lab.k.open(1, DB), Err(OpenError::ReadOnly));
        assert_eq!(lab.k.write(1, DB), Err(IoError::Io));
        lab.k.promote(1, DB).unwrap();
        lab.k.open(1, DB).unwrap();
        lab.k.write(1, DB).unwrap();
        lab.k.close(1, DB);
        assert_eq!(lab.role(1), Role::Primary);
    }
    assert!(eight.k.force_secondary(1, DB).is_err());
}

#[test]
fn a_forced_step_down_fails_what_is_open() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.primary(1);
    lab.k.force_secondary(1, DB).unwrap();
    let look = lab.look(1);
    assert_eq!((look.role, look.force_io_failures), (Role::Secondary, true));
    assert_eq!((lab.k.write(1, DB), lab.k.read(1, DB)), (Err(IoError::Io), Err(IoError::Io)));
    assert_eq!(class(lab.k.promote(1, DB)), StepClass::Busy);
    lab.primary(2);
    lab.k.close(2, DB);
    lab.k.close(1, DB);
    assert!(!lab.look(1).force_io_failures);
    lab.primary(1);
}

#[test]
fn down_is_for_the_right_minor_and_leaves_nothing() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 2, 0);
        lab.primary(1);
        assert_eq!(class(lab.k.down(2, DB, 1001)), StepClass::Refused);
        lab.k.down(2, DB, 1000).unwrap();
        lab.k.down(2, DB, 1000).unwrap();
        assert_eq!(lab.k.look(2, DB), None);
        assert_eq!(lab.link(1, 2), ConnectionState::Connecting);
        assert!(lab.k.take_changed().contains(&(2, DB.to_owned())));
        assert_eq!(lab.k.replica(lab.disks[&2]).unwrap().attached, None);
        lab.k.write(1, DB).unwrap();
        lab.up(2).unwrap();
        lab.run(2000);
        lab.all_equal(&[1, 2]);
    }
}

#[test]
fn a_device_grows_when_all_replicas_have() {
    for (version, names) in [(NINE, [1, 2]), (EIGHT, [1, 2])] {
        let mut lab = Lab::ready(version, 2, 0);
        lab.primary(1);
        let old = lab.k.counters(1)[&1000].size_kib;
        assert!((GIB >> 10..(GIB >> 10) + 5000).contains(&old), "{old}");
        let larger = conf::lv_size_for(Size(2 * GIB), version);
        lab.k.grow_backing(lab.disks[&1], larger);
        lab.k.resize(1, DB).unwrap();
        assert_eq!(lab.k.counters(1)[&1000].size_kib, old, "rc 0 and no change");
        lab.k.grow_backing(lab.disks[&2], larger);
        lab.up(1).unwrap();
        assert_eq!(lab.k.counters(1)[&1000].size_kib, old, "adjust does not");
        lab.k.take_changed();
        lab.k.resize(2, DB).unwrap();
        for n in names {
            assert!(lab.k.counters(n)[&1000].size_kib >= 2 * (GIB >> 10));
        }
        assert_eq!(lab.look(1).devices[&0].size_kib, old, "no event tells it");
        assert_eq!(
            lab.volume(1, 2).replication,
            ReplicationState::SyncSource,
            "the new part, from the Primary"
        );
        assert!(lab.k.resize(1, DB).unwrap_err().text.contains("(130)"));
        lab.run(8000);
        lab.all_equal(&[1, 2]);
        lab.k.close(1, DB);
        let _ = lab.k.demote(1, DB);
        assert!(lab.look(1).devices[&0].size_kib > old, "the next line about the device does");
    }
}

#[test]
fn what_nobody_uses_grows_too_and_is_primary_nowhere_after() {
    for version in [NINE, EIGHT] {
        let mut lab = Lab::ready(version, 2, 0);
        let larger = conf::lv_size_for(Size(2 * GIB), version);
        lab.k.grow_backing(lab.disks[&1], larger);
        lab.k.grow_backing(lab.disks[&2], larger);
        if version == EIGHT {
            let error = lab.k.resize_as_it_is(1, DB).unwrap_err();
            assert_eq!(error.class, StepClass::Refused);
            assert!(
                error.text.contains("exit code 10: Failure: (131) Need one Primary node to resize."),
                "{error}"
            );
        }
        lab.k.resize(1, DB).unwrap();
        assert!(lab.k.counters(2)[&1000].size_kib >= (2 * GIB) >> 10);
        assert_eq!((lab.look(1).role, lab.look(2).role), (Role::Secondary, Role::Secondary));
        lab.run(9000);
        lab.all_equal(&[1, 2]);
    }
}

#[test]
fn a_single_replica_of_8_4_grows_without_its_nobody() {
    let mut lab = Lab::ready(EIGHT, 1, 0);
    assert_eq!(lab.look(1).peers[&0].connection, ConnectionState::Connecting);
    lab.primary(1);
    lab.k.grow_backing(lab.disks[&1], conf::lv_size_for(Size(2 * GIB), EIGHT));
    lab.k.resize(1, DB).unwrap();
    assert!(lab.k.counters(1)[&1000].size_kib >= 2 * (GIB >> 10));
    lab.k.write(1, DB).unwrap();
}

#[test]
fn a_reconnect_with_both_legs_larger_grows_the_device() {
    let mut lab = Lab::ready(NINE, 2, 0);
    let larger = conf::lv_size_for(Size(2 * GIB), NINE);
    lab.wire(1, 2, false);
    lab.run(8000);
    lab.k.grow_backing(lab.disks[&1], larger);
    lab.k.grow_backing(lab.disks[&2], larger);
    lab.wire(1, 2, true);
    lab.run(2000);
    assert!(lab.k.counters(2)[&1000].size_kib >= 2 * (GIB >> 10));
}

#[test]
fn events_tell_only_what_changed() {
    let mut lab = Lab::ready(NINE, 2, 1);
    lab.k.take_changed();
    lab.up(1).unwrap();
    lab.run(60_000);
    assert_eq!(lab.k.take_changed(), []);
    assert_eq!(lab.k.next_wake_ms(), None);
    lab.primary(1);
    let mut told = lab.k.take_changed();
    told.sort();
    assert_eq!(told, [1, 2, 3].map(|n| (n, DB.to_owned())));
    lab.k.write(1, DB).unwrap();
    assert_eq!(lab.k.take_changed(), []);
    assert_eq!(lab.k.look_all(1).len(), 1);
    assert_eq!(lab.k.look_all(4).len(), 0);
}
