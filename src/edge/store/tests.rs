#![allow(clippy::unwrap_used)]

use super::*;
use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A directory of its own for one test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("holdfast-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn reopened(&self) -> Records {
        let (store, records) = Store::open(&self.0).unwrap();
        store.close().unwrap();
        records
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(key: &str, payload: &str) -> Op {
    Op::Put(key.into(), payload.into())
}

fn records(pairs: &[(&str, &str)]) -> Records {
    pairs.iter().map(|(key, payload)| ((*key).to_owned(), payload.as_bytes().to_vec())).collect()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let place = Place::new("reopen");
    let (mut store, before) = Store::open(&place.0).unwrap();
    assert!(before.is_empty());
    store.commit(&[put("a", "1"), put("b", "2"), Op::Delete("none".into())]).unwrap();
    store.commit(&[put("a", "3"), Op::Delete("b".into()), put("c", "4"), put("c", "5")]).unwrap();
    store.commit(&[]).unwrap();
    store.close().unwrap();
    assert_eq!(place.reopened(), records(&[("a", "3"), ("c", "5")]));
}

#[test]
fn long_records_shrink_grow_and_go_without_a_trace() {
    let place = Place::new("long");
    let (mut store, _) = Store::open(&place.0).unwrap();
    let long = "x".repeat(MAX_PAYLOAD_BYTES);
    for payload in ["", &long, "short", &long[..10_000]] {
        store.commit(&[put("k", payload), put("k2", "beside"), put("k/1", "beside")]).unwrap();
    }
    assert!(matches!(store.commit(&[put("k", &(long + "x"))]), Err(StoreError::TooLong { .. })));
    store.close().unwrap();
    let expected = records(&[("k", &"x".repeat(10_000)), ("k/1", "beside"), ("k2", "beside")]);
    assert_eq!(place.reopened(), expected);
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&["k", "k/1", "k2"].map(|key| Op::Delete(key.into()))).unwrap();
    store.close().unwrap();
    assert!(place.reopened().is_empty());
    let blobs = fs::read_dir(place.0.join("db/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "nothing went into files that are never synced");
}

#[test]
fn a_refused_commit_changes_nothing_and_the_next_one_works() {
    let place = Place::new("refused");
    let (mut store, _) = Store::open(&place.0).unwrap();
    assert!(matches!(store.commit(&[put("a", "1"), put("b b", "2")]), Err(StoreError::BadKey { .. })));
    store.commit(&[put("c", "3")]).unwrap();
    store.close().unwrap();
    assert_eq!(place.reopened(), records(&[("c", "3")]));
}

#[test]
fn a_store_that_failed_once_is_dead() {
    let place = Place::new("dead");
    let (mut store, _) = Store::open(&place.0).unwrap();
    // /dev/null cannot be synced: the simplest disk that fails.
    store.data = File::open("/dev/null").unwrap();
    assert!(matches!(store.commit(&[put("a", "1")]), Err(StoreError::Io { doing: "sync", .. })));
    store.data = File::open(&store.data_path).unwrap();
    let error = store.commit(&[put("a", "2")]).unwrap_err();
    assert!(matches!(&error, StoreError::Dead { since } if since.contains("sync")), "{error}");
    assert!(matches!(store.commit(&[]), Err(StoreError::Dead { .. })));
}

#[test]
fn a_second_opening_is_refused_and_is_no_reason_to_rebuild() {
    let place = Place::new("lock");
    let (store, _) = Store::open(&place.0).unwrap();
    write_export(&place.0, &Records::new()).unwrap();
    assert!(matches!(Store::open_or_rebuild(&place.0), Err(StoreError::Io { .. })));
    store.close().unwrap();
    assert!(place.0.join("db").exists() && !place.0.join("db.broken-1").exists());
}

#[test]
fn a_wrong_record_fails_the_opening_by_name() {
    let place = Place::new("wrong");
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&[put("volume/a", "1"), put("volume/b", "2")]).unwrap();
    store.close().unwrap();
    tamper(&place.0, "volume/b", |frame| {
        let mut frame = frame.unwrap();
        *frame.last_mut().unwrap() ^= 1;
        Some(frame)
    })
    .unwrap();
    let error = Store::open(&place.0).err().unwrap();
    assert!(matches!(&error, StoreError::BadRecord { key, .. } if key == "volume/b"), "{error}");
}

#[test]
fn a_lost_record_and_a_returned_old_one_are_found() {
    let place = Place::new("seal");
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&[put("a", "old"), put("b", "2")]).unwrap();
    store.close().unwrap();
    let (mut old, mut new) = (None, None);
    tamper(&place.0, "a", |frame| {
        old = frame.clone();
        frame
    })
    .unwrap();
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&[put("a", "new")]).unwrap();
    store.close().unwrap();
    tamper(&place.0, "a", |frame| {
        new = frame;
        old
    })
    .unwrap();
    assert!(matches!(Store::open(&place.0), Err(StoreError::Damaged { .. })), "an old value");
    tamper(&place.0, "a", |_| None).unwrap();
    assert!(matches!(Store::open(&place.0), Err(StoreError::Damaged { .. })), "no value");
    tamper(&place.0, "a", |_| new).unwrap();
    assert_eq!(place.reopened(), records(&[("a", "new"), ("b", "2")]));
}

#[test]
fn a_half_written_snapshot_is_deleted_before_opening() {
    let place = Place::new("snapshot");
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&[put("a", "1")]).unwrap();
    store.close().unwrap();
    fs::write(place.0.join("db/snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    assert_eq!(place.reopened(), records(&[("a", "1")]));
}

/// A store with one record, exported twice; the newest export has "new", the one before "old".
fn exported(place: &Place) {
    let (mut store, _) = Store::open(&place.0).unwrap();
    store.commit(&[put("a", "new")]).unwrap();
    store.close().unwrap();
    write_export(&place.0, &records(&[("a", "old")])).unwrap();
    write_export(&place.0, &records(&[("a", "new")])).unwrap();
}

fn break_data(place: &Place) {
    fs::write(place.0.join("db/db"), vec![0xA5; 4096]).unwrap();
}

#[test]
fn a_damaged_store_is_put_aside_and_rebuilt_from_the_newest_good_export() {
    let place = Place::new("rebuild");
    exported(&place);
    break_data(&place);
    assert!(Store::open(&place.0).is_err_and(|error| error.is_damage()));
    let (store, found, rebuilt) = Store::open_or_rebuild(&place.0).unwrap();
    let rebuilt = rebuilt.unwrap();
    assert_eq!(found, records(&[("a", "new")]));
    assert_eq!(rebuilt.from, place.0.join("export.txt"));
    assert_eq!(rebuilt.broken, Some(place.0.join("db.broken-1")));
    store.close().unwrap();
    fs::write(place.0.join("export.txt"), "cut o").unwrap();
    for round in 2..=4 {
        break_data(&place);
        let (store, found, rebuilt) = Store::open_or_rebuild(&place.0).unwrap();
        assert_eq!(found, records(&[("a", "old")]));
        assert_eq!(rebuilt.unwrap().broken, Some(place.0.join(format!("db.broken-{round}"))));
        store.close().unwrap();
    }
    let kept: Vec<u64> = dir::broken_copies(&place.0).unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(kept, [3, 4]);
    let (store, _, rebuilt) = Store::open_or_rebuild(&place.0).unwrap();
    assert_eq!(rebuilt, None);
    store.close().unwrap();
}

#[test]
fn without_a_good_export_a_damaged_store_stays_as_it_is() {
    let place = Place::new("no-export");
    exported(&place);
    break_data(&place);
    for path in export_paths(&place.0) {
        fs::write(path, "holdfast export 1 records 0\ncrc32 00000000\n").unwrap();
    }
    assert!(Store::open_or_rebuild(&place.0).is_err_and(|error| error.is_damage()));
    assert!(place.0.join("db").exists() && !place.0.join("db.broken-1").exists());
}

#[test]
fn a_missing_store_beside_an_export_is_damage_not_a_new_store() {
    let place = Place::new("missing");
    exported(&place);
    fs::remove_dir_all(place.0.join("db")).unwrap();
    let error = Store::open(&place.0).err().unwrap();
    assert!(error.is_damage() && error.to_string().contains("export.txt"), "{error}");
    let (store, found, rebuilt) = Store::open_or_rebuild(&place.0).unwrap();
    assert_eq!((found, rebuilt.unwrap().broken), (records(&[("a", "new")]), None));
    store.close().unwrap();
    fs::remove_file(place.0.join("db/db")).unwrap();
    assert!(Store::open(&place.0).is_err_and(|error| error.is_damage()));
    fs::write(place.0.join("db/db"), "").unwrap();
    assert!(Store::open(&place.0).is_err_and(|error| error.is_damage()));
}

#[test]
fn a_rebuild_may_be_cut_short_anywhere() {
    let place = Place::new("cut-short");
    exported(&place);
    let new = build(&place.0, &records(&[("a", "rebuilt")])).unwrap();
    assert_eq!(place.reopened(), records(&[("a", "new")]), "not yet put aside: the old one stays");
    assert!(!new.exists());
    build(&place.0, &records(&[("a", "rebuilt")])).unwrap();
    dir::put_aside(&place.0).unwrap();
    assert_eq!(place.reopened(), records(&[("a", "rebuilt")]), "put aside: the new one is taken");
    dir::put_aside(&place.0).unwrap();
    dir::make_unfinished(&place.0).unwrap();
    assert!(Store::open(&place.0).is_err(), "a half-built one is never taken");
}

fn start(place: &Place) -> (StoreThread, Receiver<StoreEvent>) {
    let (sender, events) = channel();
    let thread = StoreThread::start(place.0.clone(), move |event| sender.send(event).unwrap()).unwrap();
    (thread, events)
}

fn next(events: &Receiver<StoreEvent>) -> StoreEvent {
    events.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn the_thread_answers_each_commit_in_order_and_stops() {
    let place = Place::new("thread");
    let (thread, events) = start(&place);
    assert!(matches!(next(&events), StoreEvent::Opened(Ok((found, None))) if found.is_empty()));
    for seq in 0..100 {
        let key = if seq == 50 { "not a key".to_owned() } else { format!("k/{seq}") };
        assert!(thread.commit(seq, vec![put(&key, "x")]));
    }
    for expected in 0..100 {
        match next(&events) {
            StoreEvent::Committed { seq, result } => {
                assert_eq!((seq, result.is_ok()), (expected, expected != 50), "{result:?}");
            }
            other @ (StoreEvent::Opened(_) | StoreEvent::Exported(_)) => panic!("{other:?}"),
        }
    }
    assert!(thread.export(records(&[("a", "1")])));
    assert!(matches!(next(&events), StoreEvent::Exported(Ok(()))));
    assert!(read_export(&place.0.join("export.txt")).unwrap().contains_key("a"));
    thread.stop().unwrap();
    assert_eq!(place.reopened().len(), 99);
}

#[test]
fn stopping_answers_what_still_waits_without_making_it() {
    let place = Place::new("stop");
    let (sender, events) = channel();
    let (go, gate) = channel::<()>();
    let thread = StoreThread::start(place.0.clone(), move |event| {
        sender.send(event).unwrap();
        let _ = gate.recv();
    })
    .unwrap();
    next(&events);
    assert!(thread.commit(1, vec![put("a", "1")]) && thread.commit(2, vec![put("b", "1")]));
    drop(thread);
    drop(go);
    for expected in [1, 2] {
        let event = next(&events);
        let stopped = matches!(&event, StoreEvent::Committed { seq, result: Err(StoreError::Stopped) } if *seq == expected);
        assert!(stopped, "{event:?}");
    }
    assert!(events.recv().is_err(), "the thread has ended");
    assert!(place.reopened().is_empty());
}

#[test]
fn a_thread_whose_store_does_not_open_answers_that_it_is_dead() {
    let place = Place::new("thread-dead");
    let (store, _) = Store::open(&place.0).unwrap();
    let (thread, events) = start(&place);
    assert!(matches!(next(&events), StoreEvent::Opened(Err(StoreError::Io { .. }))));
    assert!(thread.commit(7, vec![put("a", "1")]));
    assert!(matches!(next(&events), StoreEvent::Committed { seq: 7, result: Err(StoreError::Dead { .. }) }));
    thread.stop().unwrap();
    store.close().unwrap();
}

#[test]
fn a_closed_store_can_be_opened_at_once() {
    let place = Place::new("at-once");
    for round in 0..40 {
        let dir = place.0.join(round.to_string());
        for n in 0..3 {
            let (mut store, _) = Store::open(&dir).unwrap_or_else(|error| panic!("round {round}: {error}"));
            store.commit(&[put("n", &n.to_string())]).unwrap();
            store.close().unwrap();
        }
    }
}
