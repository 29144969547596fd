//! What the leader grants and decides, in all small worlds of `wishes`.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::core::{
    admit::admit,
    assign::{Tip, assign},
    conf,
    intent::*,
    names::VolumeId,
    size::Size,
    wish::{Request, Wish},
};

use crate::{
    every::Every,
    ground::{boxes, version},
    states::all,
    wishes::*,
};

fn require(holds: bool, invariant: u8, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("invariant {invariant}: {text}")) }
}

/// What has to hold of every change that is decided.
fn check(before: &Small, after: &Small, removes: bool) -> Result<(), String> {
    numbers_are_unique(&after.intent)?;
    for (id, old) in &before.intent.assignments {
        let Some(new) = after.intent.assignments.get(id) else {
            require(removes, 1, "an assignment goes, and nobody removed its volume")?;
            for (on, leg) in &old.legs {
                let leave = after.intent.leaves.values().find(|l| &l.id == id && &l.on == on);
                let told = leave.is_some_and(|l| (l.minor, l.port, &l.leg) == (old.minor, old.port, leg));
                require(told, 1, "a leg goes, and its box is not told")?;
            }
            continue;
        };
        keeps_what_it_is(old, new, &after.intent)?;
    }
    for (id, new) in &after.intent.assignments {
        let old = before.intent.assignments.get(id);
        legs_are_where_they_may_be(before, new, old)?;
    }
    for (name, old) in &before.intent.volumes {
        let new = after.intent.volumes.get(name);
        let shrinks = new.is_some_and(|new| new.size < old.size && old.id == new.id);
        require(!shrinks, 9, "a volume shrinks")?;
    }
    Ok(())
}

fn numbers_are_unique(intent: &Intent) -> Result<(), String> {
    let mut owners: BTreeMap<u32, &VolumeId> = BTreeMap::new();
    let assigned = intent.assignments.values().map(|a| (a.minor, a.port, &a.id));
    for (minor, port, id) in assigned.chain(intent.leaves.values().map(|l| (l.minor, l.port, &l.id))) {
        require(owners.insert(minor, id).is_none_or(|other| other == id), 6, "two volumes with one minor")?;
        let right = id.as_str() == VolumeId::META || u32::from(port - PORT_FIRST) == minor - MINOR_FIRST;
        require(
            right && (id.as_str() == VolumeId::META) == (port == META_PORT),
            6,
            "a port that is not its minor's",
        )?;
    }
    for a in intent.assignments.values() {
        let leaving = intent.leaves.values().filter(|l| l.id == a.id).map(|l| l.leg.node_id);
        let ids: Vec<u8> = a.legs.values().map(|l| l.node_id).chain(leaving).collect();
        require(ids.iter().collect::<BTreeSet<_>>().len() == ids.len(), 6, "two legs with one node id")?;
        require(ids.iter().all(|id| *id < 32), 6, "a node id that DRBD does not know")?;
    }
    Ok(())
}

fn keeps_what_it_is(old: &Assignment, new: &Assignment, after: &Intent) -> Result<(), String> {
    let same = (old.minor, old.port, &old.resource, &old.secret)
        == (new.minor, new.port, &new.resource, &new.secret);
    require(same, 6, "a number or a secret changes")?;
    require(new.size >= old.size, 9, "an assignment shrinks")?;
    require(new.born || !old.born, 1, "what is born is not any more")?;
    for (on, leg) in &old.legs {
        let now = new.legs.get(on);
        if leg.pool.is_some() {
            require(now == Some(leg), 1, "a replica is taken away")?;
        }
        match now {
            Some(now) => require(now.node_id == leg.node_id, 6, "a node id changes")?,
            None => {
                let told = after.leaves.values().any(|l| l.id == old.id && &l.on == on && &l.leg == leg);
                require(told, 1, "a voter goes, and its box is not told")?;
            }
        }
    }
    Ok(())
}

fn legs_are_where_they_may_be(
    before: &Small,
    new: &Assignment,
    old: Option<&Assignment>,
) -> Result<(), String> {
    let diskful = new.diskful().count();
    let voters = new.legs.len() - diskful;
    require(diskful >= 1 && voters <= 1, 0, "no replica, or two voters")?;
    require(
        new.seed.as_ref().is_some_and(|s| new.diskful().any(|d| d == s)),
        1,
        "a seed that is no replica",
    )?;
    require(before.major >= 9 || (diskful <= 2 && voters == 0), 0, "more than DRBD 8.4 can do")?;
    for (on, leg) in &new.legs {
        require(before.intent.members.contains_key(on), 0, "a leg on no box")?;
        let there = old.and_then(|old| old.legs.get(on));
        if there.is_some_and(|l| l.pool.is_some() || leg.pool.is_none()) {
            continue;
        }
        let leaves = before.intent.leaves.values().any(|l| l.id == new.id && &l.on == on);
        require(!leaves, 1, "a leg on a box that still removes its old one")?;
        require(before.world().current(on).is_some(), 2, "a leg on a box that is away")?;
        let Some(pool) = &leg.pool else { continue };
        let room = before.world().room(on, pool);
        let needed = conf::lv_size_for(new.size, version(before.major));
        require(
            room.is_some_and(|room| room >= needed),
            2,
            "a replica where there is no room, or none knows",
        )?;
    }
    Ok(())
}

/// All that the leader decides by itself; the second time there is nothing left to decide.
fn settle(small: &Small, show: &dyn Fn(&str) -> String) -> Small {
    let me = &boxes()[0];
    let mut tip = Tip::new(small.intent.clone());
    let (txn, _) = assign(&mut tip, &small.reports, &small.alive, me);
    let after = small.with(&txn);
    assert_eq!(after.intent, tip.intent, "{}", show("invariant 4: the tip is not what was decided"));
    if let Err(why) = check(small, &after, false) {
        panic!("{}\n{txn:#?}", show(&why));
    }
    let (again, _) = assign(&mut tip, &small.reports, &small.alive, me);
    assert!(again.is_empty(), "{}\nfirst: {txn:#?}\nthen: {again:#?}", show("invariant 11: decided again"));
    let (anew, _) = assign(&mut Tip::new(after.intent.clone()), &small.reports, &small.alive, me);
    assert!(anew.is_empty(), "{}\n{anew:#?}", show("invariant 11: decided again, from all"));
    after
}

#[test]
fn what_is_decided_keeps_what_there_is_and_comes_to_an_end() {
    let (mut states, mut decided) = (0, 0);
    for major in [8, 9] {
        for phase in phases(major) {
            let mut every = Every::default();
            while every.more() {
                let boxes_are = box_state(&mut every);
                let meta = MetaIs { born: every.flag(), up: every.flag() };
                let mut small = Small::new(major, phase, boxes_are, meta);
                let volume = small.intent.volumes.get(&db()).cloned();
                if let Some(volume) = volume.filter(|volume| volume.size.is_some()) {
                    let replicas = Some(every.of(&[1, 2, 3, 7]));
                    // Smaller than what is assigned: no wish does that, and still nothing shrinks.
                    let size = Some(every.of(&[SIZE, Size(SIZE.0 / 2), Size(SIZE.0 * 2)]));
                    small.put(Record::Volume(Volume { replicas, size, ..volume }));
                }
                let show = |why: &str| {
                    let volume = small.intent.volumes.get(&db());
                    format!("{why}\nDRBD {major} {phase:?} {boxes_are:?} {meta:?}\n{volume:?}")
                };
                let after = settle(&small, &show);
                states += 1;
                decided += u64::from(after.intent != small.intent);
            }
        }
    }
    println!("assign: {states} states, {decided} of them with something to decide");
    assert!(decided > 0 && decided < states);
}

#[test]
fn what_is_granted_holds_and_what_is_refused_says_why() {
    let (mut asked, mut granted, mut nothing) = (0, 0, 0);
    let wishes = wishes();
    let me = &boxes()[0];
    for major in [8, 9] {
        for phase in phases(major) {
            for (n, boxes_are) in box_states().into_iter().enumerate() {
                let small = Small::new(major, phase, boxes_are, MetaIs { born: true, up: true });
                for (m, wish) in wishes.iter().enumerate() {
                    if !all() && (n + m) % 3 != 0 {
                        continue; // each wish still meets each phase, and each third of the boxes' states
                    }
                    asked += 1;
                    let request = Request { seed: "d".repeat(64), wish: wish.clone() };
                    let show = |why: &str| format!("{why}\nDRBD {major} {phase:?} {boxes_are:?} {wish:?}");
                    let txn = match admit(&small.world(), me, &request) {
                        Ok(txn) => txn,
                        Err(refusal) => {
                            let said = refusal.text.len() > 10;
                            assert!(said, "{}", show("invariant 3: refused without a reason"));
                            continue;
                        }
                    };
                    if txn.is_empty() {
                        nothing += 1;
                        continue;
                    }
                    granted += 1;
                    let after = small.with(&txn);
                    let removes = matches!(wish, Wish::RemoveVolume(_));
                    if let Err(why) = check(&small, &after, removes) {
                        panic!("{}\n{txn:#?}", show(&why));
                    }
                    let again = admit(&after.world(), me, &request);
                    assert!(
                        again.iter().all(Vec::is_empty),
                        "{}\n{again:#?}",
                        show("invariant 3: granted twice")
                    );
                    settle(&after, &show);
                }
            }
        }
    }
    println!("admit: {asked} wishes, {granted} granted, {nothing} were so already");
    assert!(granted > 0 && nothing > 0 && granted + nothing < asked);
}
