//! What has to hold of every plan, whatever the state it was made from: one small function each. The number in a message
//! is that of the invariant in docs/architecture.md; 0 is what plans promise by themselves.

use holdfast::core::{
    conf,
    drbd::{ConnectionState, Device, DiskState, Peer, ReplicationState, Resource, Role},
    facts::{ConfFile, Lv, Report},
    intent::{Assignment, Leave, Leg},
    names::VolumeId,
    plan::{Here, Part},
    step::{LvRef, SeedHow, Step},
};

/// A plan and all that it was made from.
pub struct Case<'a> {
    pub here: &'a Here<'a>,
    pub resource: &'a str,
    pub part: &'a Part,
}

type Check = fn(&Case<'_>) -> Result<(), String>;

pub const CHECKS: [Check; 19] = [
    orders_that_may_be_old_only_bring_up,
    what_is_unknown_is_left_alone,
    only_who_has_a_part_acts,
    only_what_leaves_is_removed,
    only_what_leaves_is_taken_down,
    files_go_only_with_their_leg,
    metadata_is_made_on_fresh_lvs_only,
    lvs_are_made_only_where_the_name_is_free,
    what_is_another_s_is_left_alone,
    a_first_copy_is_made_once,
    copies_are_called_equal_only_if_they_are,
    lvs_grow_under_an_attached_replica_or_before_their_metadata,
    a_device_grows_when_all_can,
    primary_is_who_was_told,
    never_two_primaries,
    steps_come_in_an_order_that_works,
    no_step_undoes_another,
    what_is_right_is_left_alone,
    what_is_called_gone_is_gone,
];

/// The first check that fails, in words.
pub fn check(case: &Case<'_>) -> Result<(), String> {
    CHECKS.iter().try_for_each(|check| check(case))
}

fn require(holds: bool, invariant: u8, text: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("invariant {invariant}: {}", text())) }
}

impl<'a> Case<'a> {
    fn report(&self) -> &'a Report {
        self.here.report
    }

    fn steps(&self) -> &'a [Step] {
        &self.part.job.steps
    }

    fn each(&self, rule: impl Fn(&Step) -> Result<(), String>) -> Result<(), String> {
        self.steps().iter().try_for_each(rule)
    }

    fn leg(&self) -> Option<(&'a Assignment, &'a Leg)> {
        let mut all = self.here.world.intent.assignments.values().filter(|a| a.resource == self.resource);
        all.find_map(|a| Some((a, a.legs.get(self.here.me)?)))
    }

    fn leaves(&self) -> impl Iterator<Item = &'a Leave> {
        let (me, resource) = (self.here.me, self.resource);
        self.here.world.intent.leaves.values().filter(move |l| &l.on == me && l.resource == resource)
    }

    fn lv_named(&self, lv: &LvRef) -> Option<&'a Lv> {
        self.report().vgs.known()?.get(&lv.pool)?.lvs.iter().find(|there| there.name == lv.name)
    }

    fn running(&self) -> Option<(&'a Resource, &'a Device)> {
        let resource = self.report().resource(self.resource)?;
        Some((resource, resource.devices.get(&0)?))
    }

    /// The link to another box.
    fn link(&self, leg: &Leg) -> Option<&'a Peer> {
        let peers = &self.report().resource(self.resource)?.peers;
        if self.report().drbd_version?.is_9() { peers.get(&leg.node_id) } else { peers.values().next() }
    }

    /// The other boxes' replicas.
    fn other_replicas(&self, a: &'a Assignment) -> impl Iterator<Item = (&'a Leg, Option<&'a Report>)> {
        let here = self.here;
        let others = a.legs.iter().filter(|(name, leg)| *name != here.me && leg.pool.is_some());
        others.map(|(name, leg)| (leg, here.world.current(name)))
    }
}

fn resource_of(step: &Step) -> Option<&str> {
    match step {
        Step::WriteConf { resource, .. } | Step::Adjust { resource } | Step::Seed { resource, .. } => {
            Some(resource)
        }
        Step::Promote { resource } | Step::Demote { resource } | Step::Resize { resource } => Some(resource),
        Step::Down { resource, .. } | Step::RemoveConf { resource } => Some(resource),
        Step::ClaimDisk { .. } | Step::CreateLv { .. } | Step::CreateMd { .. } => None,
        Step::GrowLv { .. } | Step::RemoveLv { .. } => None,
    }
}

fn has_data(disk: DiskState) -> bool {
    [DiskState::UpToDate, DiskState::Consistent, DiskState::Outdated].contains(&disk)
}

fn orders_that_may_be_old_only_bring_up(case: &Case<'_>) -> Result<(), String> {
    let runs = case.report().resource(case.resource).is_some();
    case.each(|step| {
        let brings_up = match step {
            Step::Adjust { .. } => true,
            Step::WriteConf { .. } => !runs,
            _ => false,
        };
        require(case.here.current || brings_up, 4, || format!("{step}, from orders that may be old"))
    })
}

fn what_is_unknown_is_left_alone(case: &Case<'_>) -> Result<(), String> {
    let report = case.report();
    let vgs = report.vgs.known().is_some();
    let rest = report.drbd.known().is_some() && report.conf.known().is_some();
    let diskful = case.leg().is_some_and(|(_, leg)| leg.pool.is_some());
    case.each(|step| {
        let brings_up = matches!(step, Step::WriteConf { .. } | Step::Adjust { .. });
        let version =
            report.drbd_version.is_some() || !(brings_up || step.lv().is_some()) || is_removal(step);
        let known =
            rest && version && (vgs || brings_up && !diskful || is_about_the_kernel(step) && !diskful);
        require(known, 2, || format!("{step}, from facts that are not known"))
    })
}

fn is_removal(step: &Step) -> bool {
    matches!(step, Step::RemoveLv { .. } | Step::RemoveConf { .. } | Step::Down { .. })
}

fn is_about_the_kernel(step: &Step) -> bool {
    matches!(step, Step::Promote { .. } | Step::Demote { .. })
}

fn only_who_has_a_part_acts(case: &Case<'_>) -> Result<(), String> {
    let lane = format!("volumes/{}", case.resource);
    require(case.part.job.lane == lane, 0, || format!("lane {}", case.part.job.lane))?;
    let has_part = case.leg().is_some() || case.leaves().next().is_some();
    require(has_part || case.steps().is_empty(), 0, || "steps without a leg or a leave".to_owned())?;
    case.each(|step| {
        let own = resource_of(step).is_none_or(|r| r == case.resource)
            && step.lv().is_none_or(|lv| lv.name == conf::lv_name(case.resource, 0));
        require(own, 0, || format!("{step} in {lane}"))
    })
}

fn named(legs: impl Iterator<Item = (VolumeId, u32)>, lv: &LvRef) -> bool {
    let this = (lv.id.clone(), lv.generation);
    legs.into_iter().any(|leg| leg == this)
}

fn only_what_leaves_is_removed(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::RemoveLv { lv } = step else { return Ok(()) };
        let there = case.lv_named(lv).is_some_and(|l| l.id == lv.id && l.generation == lv.generation);
        require(there, 2, || format!("{step}, which is not there"))?;
        let leaves = named(case.leaves().map(|l| (l.id.clone(), l.leg.generation)), lv);
        require(leaves, 1, || format!("{step}, and no leave says so"))?;
        let kept = case.leg().map(|(a, leg)| (a.id.clone(), leg.generation));
        require(!named(kept.into_iter(), lv), 1, || format!("{step}, and an assignment names it"))
    })
}

fn only_what_leaves_is_taken_down(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::Down { resource, minor } = step else { return Ok(()) };
        let leave = case.leaves().find(|l| l.minor == *minor);
        require(leave.is_some(), 5, || format!("{step}, and no leave says so"))?;
        let kept = case.leg().is_some_and(|(a, _)| a.minor == *minor);
        require(!kept, 5, || format!("{step}, and an assignment names it"))?;
        let up = case.report().resource(resource);
        require(up.is_none_or(|r| r.devices.values().all(|d| d.minor == *minor)), 5, || {
            format!("{step}, which is another's")
        })?;
        let removed = leave.is_some_and(|l| !case.here.world.intent.assignments.contains_key(&l.id));
        let used = up.is_some_and(|r| r.peers.values().any(|p| p.role == Role::Primary));
        require(!removed || !used, 5, || format!("{step}, and a peer uses it"))
    })
}

fn files_go_only_with_their_leg(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| match step {
        Step::RemoveConf { .. } => {
            require(case.leaves().next().is_some(), 5, || format!("{step}, and no leave says so"))?;
            require(case.leg().is_none(), 5, || format!("{step}, and an assignment needs it"))
        }
        Step::WriteConf { text, .. } => {
            let Some((a, _)) = case.leg() else { return Err(format!("invariant 0: {step} without a leg")) };
            let version = case.report().drbd_version.ok_or("invariant 2: a file for no DRBD")?;
            let right = *text == conf::render(a, &case.here.world.intent.members, version);
            require(right, 0, || format!("{step} with another text"))?;
            let runs = case.report().resource(case.resource).is_some();
            let mut leaving =
                case.here.world.intent.leaves.values().filter(|l| l.id == a.id && &l.on != case.here.me);
            let used = leaving.any(|l| {
                let there = case.here.world.current(&l.on).and_then(|r| r.resource(&l.resource));
                there.is_some_and(|r| r.devices.values().any(|d| d.minor == l.minor))
            });
            require(!runs || !used, 5, || format!("{step}, and a box that leaves may use it still"))
        }
        _ => Ok(()),
    })
}

fn metadata_is_made_on_fresh_lvs_only(case: &Case<'_>) -> Result<(), String> {
    let mut made = None;
    case.each(|step| match step {
        Step::CreateLv { .. } | Step::CreateMd { .. } if case.leg().is_none() => {
            Err(format!("invariant 2: {step} without a leg"))
        }
        _ => Ok(()),
    })?;
    for step in case.steps() {
        match step {
            Step::CreateLv { lv, .. } => made = Some(lv),
            Step::CreateMd { lv, .. } => {
                let fresh = case
                    .lv_named(lv)
                    .is_some_and(|l| l.fresh && l.id == lv.id && l.generation == lv.generation);
                require(fresh || made == Some(lv), 1, || format!("{step}, which is not fresh"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn lvs_are_made_only_where_the_name_is_free(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::CreateLv { lv, size, .. } = step else { return Ok(()) };
        require(case.lv_named(lv).is_none(), 2, || format!("{step}, and the name is taken"))?;
        let vgs = case.report().vgs.known();
        require(vgs.is_some_and(|vgs| vgs.contains_key(&lv.pool)), 2, || format!("{step} in no VG"))?;
        let Some((a, leg)) = case.leg() else { return Err(format!("invariant 2: {step} without a leg")) };
        let right = lv.id == a.id && lv.generation == leg.generation && *size >= a.size;
        require(right, 9, || format!("{step}, not as assigned"))
    })
}

/// LVs of other volumes and lives, resources with another minor.
fn what_is_another_s_is_left_alone(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let lv = step.lv().and_then(|lv| Some((lv, case.lv_named(lv)?)));
        let same = lv.is_none_or(|(lv, there)| lv.id == there.id && lv.generation == there.generation);
        require(same, 2, || format!("{step}, which is another's LV"))?;
        let Some(resource) = case.report().resource(case.resource).filter(|_| !is_removal(step)) else {
            return Ok(());
        };
        let minor = case.leg().map(|(a, _)| a.minor);
        let own = resource.devices.values().all(|d| Some(d.minor) == minor);
        require(own, 5, || format!("{step} while the kernel has another's resource of that name"))
    })
}

fn a_first_copy_is_made_once(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::Seed { .. } = step else { return Ok(()) };
        let Some((a, leg)) = case.leg() else { return Err("invariant 1: a seed without a leg".to_owned()) };
        require(!a.born, 1, || "a seed of what is born".to_owned())?;
        require(a.seed.as_ref() == Some(case.here.me), 1, || "a seed on another box than chosen".to_owned())?;
        let mine = case.running().map(|(_, d)| d.disk);
        require(mine == Some(DiskState::Inconsistent), 1, || format!("a seed of a copy that is {mine:?}"))?;
        let lv = leg.pool.as_ref().and_then(|pool| case.report().lv(pool, &a.id, leg.generation));
        require(lv.is_some_and(|lv| !lv.fresh), 1, || "a seed without an LV".to_owned())?;
        for (leg, report) in case.other_replicas(a) {
            let seen = case.link(leg).and_then(|p| p.devices.get(&0)).is_some_and(|d| has_data(d.disk));
            let told = report.and_then(|r| r.resource(&a.resource)?.devices.get(&0));
            let told = told.is_some_and(|d| d.minor == a.minor && has_data(d.disk));
            require(!seen && !told, 1, || format!("{step}, and another box has data"))?;
        }
        Ok(())
    })
}

fn copies_are_called_equal_only_if_they_are(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::Seed { how: SeedHow::ClearBitmap, .. } = step else { return Ok(()) };
        let Some((a, leg)) = case.leg() else { return Err("invariant 1: a seed without a leg".to_owned()) };
        let zeroed = |report: &Report, leg: &Leg| {
            let lv = leg.pool.as_ref().and_then(|pool| report.lv(pool, &a.id, leg.generation));
            lv.is_some_and(|lv| lv.zeroed && !lv.fresh)
        };
        require(zeroed(case.report(), leg), 1, || "called equal, and this one is not zeroed".to_owned())?;
        for (leg, report) in case.other_replicas(a) {
            require(report.is_some_and(|r| zeroed(r, leg)), 1, || {
                "called equal, and one is not zeroed".to_owned()
            })?;
            let linked = case.link(leg).is_some_and(|p| {
                let disk = p.devices.get(&0).map(|d| d.disk);
                p.connection == ConnectionState::Connected && disk == Some(DiskState::Inconsistent)
            });
            require(linked, 1, || "called equal, and one is not there or not new".to_owned())?;
        }
        require(case.other_replicas(a).next().is_some(), 1, || "called equal to nothing".to_owned())
    })
}

fn lvs_grow_under_an_attached_replica_or_before_their_metadata(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::GrowLv { lv, size } = step else { return Ok(()) };
        let now = case.lv_named(lv).map(|l| l.size);
        require(now.is_some_and(|now| now < *size), 9, || format!("{step}, which is {now:?}"))?;
        let Some((a, _)) = case.leg() else { return Err(format!("invariant 9: {step} without a leg")) };
        let version = case.report().drbd_version.ok_or("invariant 2: an LV grows for no DRBD")?;
        require(*size == conf::lv_size_for(a.size, version), 9, || format!("{step}, not as assigned"))?;
        if case.lv_named(lv).is_some_and(|l| l.fresh) {
            let made =
                case.steps().iter().any(|step| matches!(step, Step::CreateMd { lv: of, .. } if of == lv));
            return require(made, 9, || format!("{step}, and no metadata follows"));
        }
        let attached =
            [DiskState::UpToDate, DiskState::Inconsistent, DiskState::Outdated, DiskState::Consistent];
        let disk = case.running().filter(|(_, d)| d.minor == a.minor).map(|(_, d)| d.disk);
        require(a.born && disk.is_some_and(|d| attached.contains(&d)), 9, || format!("{step} under {disk:?}"))
    })
}

fn a_device_grows_when_all_can(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let Step::Resize { .. } = step else { return Ok(()) };
        let Some((a, leg)) = case.leg() else { return Err(format!("invariant 9: {step} without a leg")) };
        let version = case.report().drbd_version.ok_or("invariant 2: a device grows for no DRBD")?;
        let wanted = conf::lv_size_for(a.size, version);
        let large = |report: &Report, leg: &Leg| {
            let lv = leg.pool.as_ref().and_then(|pool| report.lv(pool, &a.id, leg.generation));
            lv.is_some_and(|lv| lv.size >= wanted)
        };
        let small = case.running().is_some_and(|(_, d)| d.size_kib * 1024 < a.size.0);
        require(a.born && small, 9, || format!("{step} of what is not small"))?;
        require(large(case.report(), leg), 9, || format!("{step} over a small LV here"))?;
        for (leg, report) in case.other_replicas(a) {
            require(report.is_some_and(|r| large(r, leg)), 9, || {
                format!("{step} over a small LV elsewhere")
            })?;
            let link = case.link(leg).filter(|p| p.connection == ConnectionState::Connected);
            let replication = link.and_then(|p| p.devices.get(&0)).map(|d| d.replication);
            require(replication == Some(ReplicationState::Established), 7, || {
                format!("{step} without a link")
            })?;
        }
        Ok(())
    })
}

fn primary_is_who_was_told(case: &Case<'_>) -> Result<(), String> {
    case.each(|step| {
        let up = matches!(step, Step::Promote { .. });
        if !up && !matches!(step, Step::Demote { .. }) {
            return Ok(());
        }
        let drbd_9 = case.report().drbd_version.is_none_or(|v| v.is_9());
        let Some((a, _)) = case.leg() else { return Err(format!("invariant 5: {step} without a leg")) };
        require(!drbd_9 && !a.is_meta() && a.born, 5, || format!("{step} on DRBD 9, of meta or unborn"))?;
        let told = case.here.world.intent.volumes.values().find(|v| v.id == a.id).map(|v| v.primary.as_ref());
        let told = told.ok_or_else(|| format!("invariant 5: {step} of no volume"))? == Some(case.here.me);
        require(told == up, 5, || format!("{step}, against what was told"))?;
        let is = case.running().map(|(r, d)| (r.role == Role::Primary, d.disk));
        let fits = if up {
            is == Some((false, DiskState::UpToDate))
        } else {
            is.is_some_and(|(primary, _)| primary)
        };
        require(fits, 8, || format!("{step} of what is {is:?}"))
    })
}

fn never_two_primaries(case: &Case<'_>) -> Result<(), String> {
    let another = case
        .report()
        .resource(case.resource)
        .is_some_and(|r| r.peers.values().any(|p| p.role == Role::Primary));
    case.each(|step| {
        let promotes = matches!(step, Step::Promote { .. } | Step::Seed { how: SeedHow::Force, .. });
        require(!promotes || !another, 1, || format!("{step}, and a peer is Primary"))
    })
}

fn rank(step: &Step) -> u8 {
    match step {
        Step::Down { .. } => 1,
        Step::RemoveConf { .. } => 2,
        Step::RemoveLv { .. } => 3,
        Step::CreateLv { .. } => 4,
        Step::GrowLv { .. } => 5,
        Step::CreateMd { .. } => 6,
        Step::WriteConf { .. } => 7,
        Step::Adjust { .. } => 8,
        Step::Seed { .. } | Step::Promote { .. } | Step::Demote { .. } | Step::Resize { .. } => 9,
        Step::ClaimDisk { .. } => 10,
    }
}

/// Removals first, what lies below before what lies above, and no step twice.
fn steps_come_in_an_order_that_works(case: &Case<'_>) -> Result<(), String> {
    let sorted = case.steps().windows(2).all(|two| rank(&two[0]) < rank(&two[1]));
    require(sorted, 0, || "steps in an order that cannot work".to_owned())?;
    let writes = case.steps().iter().any(|s| rank(s) == 7);
    let adjusts = case.steps().iter().any(|s| rank(s) == 8);
    require(!writes || adjusts, 0, || "a file is written and not taken over".to_owned())
}

fn no_step_undoes_another(case: &Case<'_>) -> Result<(), String> {
    let has = |ranks: std::ops::RangeInclusive<u8>| case.steps().iter().any(|s| ranks.contains(&rank(s)));
    require(!(has(1..=3) && has(4..=9)), 0, || "something goes and comes in one plan".to_owned())?;
    let promotes = case.steps().iter().any(|s| matches!(s, Step::Promote { .. }));
    let demotes = case.steps().iter().any(|s| matches!(s, Step::Demote { .. }));
    require(!(promotes && demotes), 0, || "promoted and demoted in one plan".to_owned())
}

fn what_is_right_is_left_alone(case: &Case<'_>) -> Result<(), String> {
    require(!is_right(case) || case.steps().is_empty(), 11, || {
        "steps although all is as it should be".to_owned()
    })
}

/// A file with this text, and the kernel brought to it.
pub fn adjusted_to(text: &str) -> ConfFile {
    ConfFile { crc: conf::crc(text), adjusted: true }
}

/// A leave whose box says that nothing is left is forgotten, and its numbers are given away.
fn what_is_called_gone_is_gone(case: &Case<'_>) -> Result<(), String> {
    let report = case.report();
    for key in &case.part.cleared {
        let leave =
            case.here.world.intent.leaves.get(key).ok_or("invariant 6: a leave that there is not is gone")?;
        let (Some(vgs), Some(drbd), Some(conf)) =
            (report.vgs.known(), report.drbd.known(), report.conf.known())
        else {
            return Err("invariant 2: called gone from facts that are not known".to_owned());
        };
        let there = leave.leg.pool.as_ref().is_none_or(|pool| vgs.contains_key(pool));
        let mut lvs = vgs.values().flat_map(|vg| &vg.lvs);
        let lv = lvs.any(|lv| lv.id == leave.id && lv.generation == leave.leg.generation);
        let up =
            drbd.get(&leave.resource).is_some_and(|r| r.devices.values().any(|d| d.minor == leave.minor));
        // Where the name is in use again, so is the file.
        let file = case.leg().is_none() && conf.contains_key(&leave.resource);
        require(case.here.current && there && !lv && !up && !file, 6, || {
            format!("{key} is called gone and may not be")
        })?;
    }
    Ok(())
}

/// This box has all that it should have of the resource, and nothing else of it. Told from the records alone.
pub fn is_right(case: &Case<'_>) -> bool {
    let report = case.report();
    let (Some(vgs), Some(conf), Some(drbd)) = (report.vgs.known(), report.conf.known(), report.drbd.known())
    else {
        return false;
    };
    let lvs = || vgs.values().flat_map(|vg| &vg.lvs);
    let over = |l: &Leave| {
        let lv = lvs().any(|lv| lv.id == l.id && lv.generation == l.leg.generation);
        let up = drbd.get(&l.resource).is_some_and(|r| r.devices.values().any(|d| d.minor == l.minor));
        !lv && !up && (case.leg().is_some() || !conf.contains_key(&l.resource))
    };
    if !case.leaves().all(over) {
        return false;
    }
    let Some((a, leg)) = case.leg() else { return true };
    let (Some(version), Some((resource, device))) = (report.drbd_version, case.running()) else {
        return false;
    };
    let lv_right = leg.pool.as_ref().is_none_or(|pool| {
        let lv = report.lv(pool, &a.id, leg.generation);
        lv.is_some_and(|lv| !lv.fresh && lv.size >= conf::lv_size_for(a.size, version))
    });
    let file = adjusted_to(&conf::render(a, &case.here.world.intent.members, version));
    let disk = if leg.pool.is_some() { DiskState::UpToDate } else { DiskState::Diskless };
    let mut legs =
        a.legs.iter().filter(|(name, l)| *name != case.here.me && (l.pool.is_some() || leg.pool.is_some()));
    let linked = |p: Option<&Peer>| p.is_some_and(|p| p.connection != ConnectionState::StandAlone);
    let links = if version.is_9() {
        let count = legs.clone().count();
        resource.peers.len() == count && legs.all(|(_, l)| linked(resource.peers.get(&l.node_id)))
    } else {
        linked(resource.peers.values().next())
    };
    let large = leg.pool.is_none() || device.size_kib * 1024 >= a.size.0;
    let told = case.here.world.intent.volumes.values().find(|v| v.id == a.id).map(|v| v.primary.as_ref());
    let primary = resource.role == Role::Primary;
    let role = version.is_9() || told.is_none_or(|told| (told == Some(case.here.me)) == primary);
    let right = a.born && device.minor == a.minor && device.disk == disk;
    right && lv_right && conf.get(&a.resource) == Some(&file) && links && large && role
}
