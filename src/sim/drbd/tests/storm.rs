//! Everything at random, and what must hold all the same.

use super::*;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// One run; what was acknowledged is never lost while a majority decides. Disks die only where that is not asked for: a
/// write is acknowledged by a majority of boxes, and some of these may have no disk, or an outdated one, then. (With a
/// client as Primary a cut between two boxes is enough for that; so DRBD has quorum-minimum-redundancy.)
fn storm(seed: u64, version: DrbdVersion, diskful: usize, diskless: usize, majority: bool, steps: usize) {
    let boxes = diskful + diskless;
    let mut lab = Lab::ready(version, diskful, diskless);
    let mut dice = Dice(seed * 2 + 0x9e37_79b9_7f4a_7c15);
    let mut up = vec![true; boxes + 1];
    let mut acked = Version::ZERO;
    let mut log = Vec::new();
    for _ in 0..steps {
        let n = 1 + dice.below(boxes);
        let m = 1 + dice.below(boxes);
        let what = dice.below(20);
        log.push((lab.now, what, n, m));
        match what {
            0 if n != m => lab.wire(n, m, false),
            1 | 2 if n != m => lab.wire(n, m, true),
            3 => {
                lab.k.power_off(n);
                up[n] = false;
            }
            4 | 5 => {
                let _ = lab.up(n);
                up[n] = true;
            }
            6 => {
                if lab.k.write_torn(n, DB, &|other| (other + m).is_multiple_of(2)).is_some() {
                    lab.k.power_off(n);
                    up[n] = false;
                }
            }
            7 if !majority && dice.below(4) == 0 => {
                if let Some(id) = lab.disks.get(&n) {
                    lab.k.fail_backing(*id);
                    lab.k.mend_backing(*id);
                }
            }
            8 if up[n] => {
                if !version.is_9() {
                    let _ = lab.k.promote(n, DB);
                }
                let _ = lab.k.open(n, DB);
            }
            9 => {
                while lab.k.used(n, DB).is_some_and(|used| used.openers > 0) {
                    lab.k.close(n, DB);
                }
                let _ = lab.k.demote(n, DB);
            }
            10 if dice.below(4) == 0 && lab.k.down(n, DB, 1000).is_ok() => up[n] = false,
            11..=13 => {
                let ms = [20, 300, 2000, 9000][dice.below(4)];
                lab.run(ms);
            }
            _ => {
                if let Ok(version) = lab.k.write(n, DB) {
                    let follows = lab.k.descends(version, acked);
                    assert!(follows || !majority, "seed {seed}: {version:?} forgot {acked:?}\n{log:?}");
                    acked = version;
                }
                if let Ok(seen) = lab.k.read(n, DB) {
                    let primary =
                        lab.role(n) == Role::Primary && !lab.k.used(n, DB).unwrap().force_io_failures;
                    // One that does not know yet that it is cut off reads what it has.
                    let cut_off = lab.k.answers_ms(n, DB) > Some(lab.now);
                    let fresh = !primary || cut_off || lab.k.descends(seen, acked);
                    assert!(fresh || !majority, "seed {seed}: read {seen:?} after {acked:?}\n{log:?}");
                }
            }
        }
        assert!(!majority || lab.k.primaries(DB).filter(|n| lab.quorum(*n)).count() <= 2, "{seed}");
        if std::env::var("STORM").is_ok() {
            trace(&lab, boxes, (what, n, m));
        }
        lab.k.take_changed();
    }
    heal(&mut lab, boxes);
    if !majority {
        return; // brains may be split
    }
    for n in 1..=diskful {
        assert_eq!(lab.disk(n), DiskState::UpToDate, "seed {seed}: box{n} {:#?}\n{log:?}", lab.look(n));
        assert_eq!(lab.content(n), lab.content(1), "seed {seed}: box{n}\n{log:?}");
        assert!(lab.k.descends(lab.content(n), acked), "seed {seed}: box{n}\n{log:?}");
    }
}

/// `STORM=1` shows the way to a failure.
fn trace(lab: &Lab, boxes: usize, step: (usize, usize, usize)) {
    eprintln!("{} {step:?}", lab.now);
    for n in 1..=boxes {
        if let Some(md) = lab.k.world.disks.md(lab.disks.get(&n).copied()) {
            let slots: Vec<_> = md.slots.iter().map(|s| (s.id, s.bitmap, s.dirty_kib)).collect();
            eprintln!("  disk{n} {} {slots:?} {:?} {}", md.current, md.history, md.crashed);
        }
        let Some(look) = lab.k.look(n, DB) else { continue };
        let peers = look.peers.iter().map(|(id, p)| {
            let d = &p.devices[&0];
            format!(" {id}:{}/{}/{}/{}", p.connection, p.role, d.disk, d.replication)
        });
        let content = lab.disks.get(&n).map(|id| lab.k.content(*id).unwrap().0);
        eprintln!(
            "  box{n} {} {} quorum:{:?} {content:?} {:?}{}",
            look.role,
            look.devices[&0].disk,
            look.devices[&0].quorum,
            lab.k.used(n, DB).unwrap().unanswered,
            peers.collect::<String>()
        );
    }
}

fn heal(lab: &mut Lab, boxes: usize) {
    for _ in 0..3 {
        for n in 1..=boxes {
            (1..=boxes).filter(|m| *m != n).for_each(|m| lab.wire(n, m, true));
            while lab.k.used(n, DB).is_some_and(|used| used.openers > 0) {
                lab.k.close(n, DB);
            }
            let _ = lab.up(n);
            let _ = lab.k.demote(n, DB);
        }
        lab.run(20_000);
        if std::env::var("STORM").is_ok() {
            trace(lab, boxes, (99, 0, 0));
        }
    }
}

/// The seeds of a test, or the one that `STORM` names.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("STORM").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        Ok(Err(_)) | Err(_) => 0..count,
    }
}

#[test]
fn what_three_replicas_acknowledged_is_never_lost() {
    seeds(40).for_each(|seed| storm(seed, NINE, 3, 0, true, 300));
}

#[test]
fn what_two_and_a_tie_breaker_acknowledged_is_never_lost() {
    seeds(40).for_each(|seed| storm(seed, NINE, 2, 1, true, 300));
}

#[test]
fn whatever_dies_nothing_hangs_or_panics() {
    for seed in seeds(40) {
        storm(seed, NINE, 2, 0, false, 300);
        storm(seed, NINE, 3, 1, false, 300);
        storm(seed, EIGHT, 2, 0, false, 300);
    }
}
