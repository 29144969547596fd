//! LVM: looking at the pools' volume groups, and making, growing and removing logical volumes in them.
//!
//! Why: everything that may destroy data goes by tags, and these are asked of LVM right before, not believed from an
//! earlier look. A volume group is ours if it is called `holdfast-POOL` and has the tag `holdfast`; a logical volume is
//! ours if it has all of its tags. Nothing else is written.
//! LVM's writing commands on one volume group wait for each other inside LVM, with its own lock and a process each; a
//! mutex per group here makes them wait without a process.
//! What must not go in: what lies on a logical volume (edge/drbd.rs, edge/zero.rs), whether a disk is blank (edge/udev.rs).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    lvm_report::{self, VgReport},
    outcome::{refused, step_error, system_error},
    run::{Cmd, Programs, RunError, Tool, run},
    zero,
};
use crate::core::{
    conf,
    facts::{Known, Lv, Vg},
    names::{PoolName, VolumeId},
    size::Size,
    step::{LvRef, StepClass, StepError},
};

/// LVM scans all disks; on an emulated machine under load it takes 20 s, and a dying disk takes longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// The tag of every volume group of ours.
const VG_TAG: &str = "holdfast";
const VOLUME: &str = "holdfast.volume=";
const ID: &str = "holdfast.id=";
const DEVICE: &str = "holdfast.device=";
const GENERATION: &str = "holdfast.generation=";
const FRESH: &str = "holdfast.fresh";
const ZEROED: &str = "holdfast.zeroed";

/// LVM on this box.
pub struct Lvm {
    programs: Arc<Programs>,
    locks: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// Groups that were seen to be ours: a name is not looked up again for each new LV.
    ours: Mutex<BTreeSet<String>>,
}

impl Lvm {
    /// With LVM's program as found at start.
    pub fn new(programs: Arc<Programs>) -> Self {
        Self { programs, locks: Mutex::default(), ours: Mutex::default() }
    }

    /// The pools' volume groups with the LVs that are ours.
    pub fn vgs(&self) -> Known<BTreeMap<PoolName, Vg>> {
        match self.report() {
            Ok(report) => facts(&report),
            Err(error) => Known::Unknown(error.text),
        }
    }

    /// The pool of each device that is a PV of ours, and of each that is a PV of someone else's (None).
    pub fn pools_by_device(&self) -> Result<BTreeMap<String, Option<PoolName>>, StepError> {
        let report = self.report()?;
        let pools = report.vgs.values().flat_map(|vg| {
            let pool = pool_of(vg);
            vg.pvs.iter().filter(|pv| !pv.missing).map(move |pv| (pv.device.clone(), pool.clone()))
        });
        Ok(pools.collect())
    }

    /// Makes `device` a PV of the pool's group, which is made if there is none. Without `-y`: LVM itself asks about
    /// signatures that it finds, and nobody says yes. `check` is asked last of all: the turn and the report may take
    /// minutes, in which another disk may have come by that name.
    pub fn claim(
        &self,
        pool: &PoolName,
        device: &str,
        check: impl FnOnce() -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let vg = conf::vg_name(pool);
        let lock = self.lock(&vg);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let report = self.report()?;
        match report.vgs.get(&vg) {
            _ if report.ambiguous.contains(&vg) => Err(ambiguous(&vg)),
            None => check().and_then(|()| self.lvm("vgcreate").args(["--addtag", VG_TAG, &vg, device]).run()),
            Some(found) if pool_of(found).is_none() => Err(foreign(&vg)),
            Some(found) if found.pvs.iter().any(|pv| pv.device == device) => Ok(()),
            Some(_) => check().and_then(|()| self.lvm("vgextend").args([&vg, device]).run()),
        }
    }

    /// Makes the LV, or activates it if it is there with these very tags.
    pub fn create(&self, lv: &LvRef, volume: &str, size: Size, pv: Option<&str>) -> Result<(), StepError> {
        let vg = conf::vg_name(&lv.pool);
        let lock = self.lock(&vg);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_ours(&vg)? {
            return Err(foreign(&vg));
        }
        // Neither zeroing nor wiping by lvcreate: create_md overwrites both ends, and more where that is cheap.
        let mut cmd = self.lvm("lvcreate").args(["-y", "-Wn", "-Zn", "-n", &lv.name, "-L", &size_arg(size)]);
        for tag in tags(lv).iter().chain([&format!("{VOLUME}{volume}"), &FRESH.to_owned()]) {
            cmd = cmd.args(["--addtag", tag]);
        }
        let result = cmd.arg(&vg).args(pv.iter().copied()).run();
        match result {
            Err(error) if error.text.contains("already exists") => self.reuse(lv),
            result => result,
        }
    }

    fn reuse(&self, lv: &LvRef) -> Result<(), StepError> {
        let found = self.find(lv)?;
        if found.active { Ok(()) } else { self.activate(lv) }
    }

    fn activate(&self, lv: &LvRef) -> Result<(), StepError> {
        self.lvm("lvchange").args(["-ay", &full_name(lv)]).run()
    }

    /// Refuses any LV but a fresh one; then zeroes it if that is cheap, lets `make` write metadata, and takes the fresh
    /// mark off. If anything of this is cut short it is still fresh, and all of it is done again.
    pub fn make_md(
        &self,
        lv: &LvRef,
        make: impl FnOnce(&str) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let found = self.find(lv)?;
        if !found.tags.contains(FRESH) {
            log::debug!("{} has its metadata", full_name(lv));
            return Ok(());
        }
        if found.open {
            return Err(busy(lv));
        }
        if !found.active {
            self.activate(lv)?;
        }
        let device = conf::lv_path(&lv.pool, &lv.name);
        let zeroed = zero::cheaply(Path::new(&device)).map_err(|e| system_error(&device, &e))?;
        make(&device)?;
        let vg = conf::vg_name(&lv.pool);
        let lock = self.lock(&vg);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let cmd = self.lvm("lvchange").args(["--deltag", FRESH]);
        let cmd = if zeroed { cmd.args(["--addtag", ZEROED]) } else { cmd };
        cmd.arg(&full_name(lv)).run()
    }

    /// Makes it at least so large.
    pub fn grow(&self, lv: &LvRef, size: Size) -> Result<(), StepError> {
        let vg = conf::vg_name(&lv.pool);
        let lock = self.lock(&vg);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(lv)?.size_bytes >= size.bytes() {
            return Ok(());
        }
        self.lvm("lvextend").args(["-L", &size_arg(size), &full_name(lv)]).run()
    }

    /// Wipes both ends and removes it, if it is not open. One that is not there is removed already.
    pub fn remove(&self, lv: &LvRef) -> Result<(), StepError> {
        let vg = conf::vg_name(&lv.pool);
        let lock = self.lock(&vg);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match self.find(lv) {
            Err(error) if error.class == StepClass::Gone => return Ok(()),
            found => found?,
        };
        if found.open {
            return Err(busy(lv));
        }
        if !found.active {
            self.activate(lv)?;
        }
        let device = conf::lv_path(&lv.pool, &lv.name);
        // A stale DRBD signature in reused space would be taken for a replica's.
        zero::ends(Path::new(&device)).map_err(|e| system_error(&device, &e))?;
        self.lvm("lvremove").args(["-y", &full_name(lv)]).run()
    }

    /// The LV of that name, if its tags are these. Gone: there is none in a group that could be looked at.
    fn find(&self, lv: &LvRef) -> Result<lvm_report::Lv, StepError> {
        let vg = conf::vg_name(&lv.pool);
        let report = self.report()?;
        if report.ambiguous.contains(&vg) {
            return Err(ambiguous(&vg));
        }
        let gone = |text| StepError { class: StepClass::Gone, text };
        let Some(group) = report.vgs.get(&vg) else {
            return Err(refused(format!("there is no volume group {vg}: its disks may be away")));
        };
        if pool_of(group).is_none() {
            return Err(foreign(&vg));
        }
        let found = group.lvs.iter().find(|found| found.name == lv.name);
        let found = found.ok_or_else(|| gone(format!("there is no LV {}", full_name(lv))))?;
        match tags(lv).iter().find(|tag| !found.tags.contains(*tag)) {
            Some(tag) => Err(refused(format!("LV {} has no tag {tag}: left alone", full_name(lv)))),
            None => Ok(found.clone()),
        }
    }

    fn is_ours(&self, vg: &str) -> Result<bool, StepError> {
        let seen = self.ours.lock().unwrap_or_else(PoisonError::into_inner).contains(vg);
        Ok(seen || self.report()?.vgs.get(vg).is_some_and(|vg| pool_of(vg).is_some()))
    }

    fn report(&self) -> Result<VgReport, StepError> {
        let cmd = self.programs.cmd(Tool::Lvm, DEADLINE).args(lvm_report::ARGS);
        let output = run(&cmd).map_err(|error| step_error(&error))?;
        let report = VgReport::parse(&output.stdout).map_err(refused)?;
        let ours = report.vgs.values().filter(|vg| pool_of(vg).is_some()).map(|vg| vg.name.clone()).collect();
        *self.ours.lock().unwrap_or_else(PoisonError::into_inner) = ours;
        Ok(report)
    }

    fn lock(&self, vg: &str) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(vg.to_owned()).or_default())
    }

    fn lvm(&self, command: &str) -> Call {
        Call(self.programs.cmd(Tool::Lvm, DEADLINE).args([command, "--config", lvm_report::CONFIG]))
    }
}

/// A writing command: what it prints is of no interest if it succeeds.
struct Call(Cmd);

impl Call {
    fn arg(self, arg: &str) -> Self {
        Self(self.0.arg(arg))
    }

    fn args<'a>(self, args: impl IntoIterator<Item = &'a str>) -> Self {
        Self(self.0.args(args))
    }

    fn run(self) -> Result<(), StepError> {
        run(&self.0).map(drop).map_err(|error: RunError| {
            let error = step_error(&error);
            // The same in every call, and longer than the rest of the sentence.
            let text = error.text.replace(&format!(" --config '{}'", lvm_report::CONFIG), "");
            StepError { text, ..error }
        })
    }
}

fn size_arg(size: Size) -> String {
    format!("{}b", size.bytes())
}

fn full_name(lv: &LvRef) -> String {
    format!("{}/{}", conf::vg_name(&lv.pool), lv.name)
}

fn foreign(vg: &str) -> StepError {
    refused(format!("the volume group {vg} is not there, or has no tag {VG_TAG}: left alone"))
}

fn ambiguous(vg: &str) -> StepError {
    refused(format!("there are several volume groups called {vg} (a copied disk?): left alone"))
}

fn busy(lv: &LvRef) -> StepError {
    StepError { class: StepClass::Busy, text: format!("LV {} is open", full_name(lv)) }
}

/// The tags that say whose an LV is.
fn tags(lv: &LvRef) -> [String; 3] {
    [format!("{ID}{}", lv.id), format!("{DEVICE}{}", lv.device_nr), format!("{GENERATION}{}", lv.generation)]
}

/// The pool that a group is of, if it is ours.
fn pool_of(vg: &lvm_report::Vg) -> Option<PoolName> {
    let pool = vg.name.strip_prefix("holdfast-")?;
    if vg.tags.contains(VG_TAG) { PoolName::new(pool).ok() } else { None }
}

fn facts(report: &VgReport) -> Known<BTreeMap<PoolName, Vg>> {
    if let Some(vg) = report.ambiguous.iter().find(|vg| vg.starts_with("holdfast-")) {
        return Known::Unknown(ambiguous(vg).text);
    }
    Known::Known(report.vgs.values().filter_map(|vg| Some((pool_of(vg)?, vg_facts(vg)))).collect())
}

fn vg_facts(vg: &lvm_report::Vg) -> Vg {
    let pvs = vg.pvs.iter().filter(|pv| !pv.missing);
    let pvs: BTreeMap<_, _> = pvs.map(|pv| (pv.device.clone(), Size(pv.free_bytes))).collect();
    Vg {
        size: Size(vg.size_bytes),
        // LVM counts the free space of missing disks too; nothing can be made there.
        free: Size(pvs.values().fold(0, |sum, free| sum.saturating_add(free.bytes()))),
        extent: Size(vg.extent_bytes),
        pvs,
        missing_pvs: vg.missing_pvs,
        lvs: vg.lvs.iter().filter_map(lv_facts).collect(),
    }
}

/// None: not ours.
fn lv_facts(lv: &lvm_report::Lv) -> Option<Lv> {
    let tag = |start: &str| lv.tags.iter().find_map(|tag| tag.strip_prefix(start));
    Some(Lv {
        name: lv.name.clone(),
        id: VolumeId::parse(tag(ID)?)?,
        device_nr: tag(DEVICE)?.parse().ok()?,
        generation: tag(GENERATION)?.parse().ok()?,
        size: Size(lv.size_bytes),
        fresh: lv.tags.contains(FRESH),
        zeroed: lv.tags.contains(ZEROED),
        active: lv.active,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vg(name: &str, tags: &[&str], lvs: Vec<lvm_report::Lv>) -> lvm_report::Vg {
        let pv = |device: &str, missing| lvm_report::Pv { device: device.into(), free_bytes: 40, missing };
        lvm_report::Vg {
            name: name.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size_bytes: 200,
            free_bytes: 80,
            extent_bytes: 4,
            missing_pvs: 1,
            pvs: vec![pv("/dev/vdb", false), pv("[unknown]", true)],
            lvs,
        }
    }

    fn lv(name: &str, tags: &[&str]) -> lvm_report::Lv {
        lvm_report::Lv {
            name: name.into(),
            size_bytes: 60,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            active: true,
            open: false,
        }
    }

    fn report(vgs: Vec<lvm_report::Vg>) -> VgReport {
        VgReport {
            vgs: vgs.into_iter().map(|vg| (vg.name.clone(), vg)).collect(),
            ambiguous: BTreeSet::new(),
        }
    }

    #[test]
    fn free_space_beyond_all_numbers_is_the_largest_one() {
        let mut huge = vg("holdfast-main", &["holdfast"], Vec::new());
        huge.pvs = ["/dev/vdb", "/dev/vdc"]
            .map(|device| lvm_report::Pv { device: device.into(), free_bytes: u64::MAX, missing: false })
            .into();
        assert_eq!(vg_facts(&huge).free, Size(u64::MAX));
    }

    #[test]
    fn only_groups_and_volumes_with_our_tags_are_ours() {
        let id = "holdfast.id=0123456789abcdef";
        let lvs = vec![
            lv("db.0", &[id, "holdfast.device=0", "holdfast.generation=2", "holdfast.fresh"]),
            lv("other", &["backup"]),
            lv("half", &[id, "holdfast.device=0"]),
            lv("odd", &["holdfast.id=x", "holdfast.device=0", "holdfast.generation=1"]),
        ];
        let vgs = vec![
            vg("holdfast-main", &["holdfast"], lvs),
            vg("holdfast-notours", &[], vec![]),
            vg("system", &["holdfast"], vec![]),
        ];
        let Known::Known(found) = facts(&report(vgs)) else { panic!("it is known") };
        assert_eq!(found.keys().map(ToString::to_string).collect::<Vec<_>>(), ["main"]);
        let main = found.values().next().unwrap();
        assert_eq!(main.lvs.iter().map(|lv| lv.name.as_str()).collect::<Vec<_>>(), ["db.0"]);
        assert!(main.lvs[0].fresh && !main.lvs[0].zeroed && main.lvs[0].generation == 2);
    }

    #[test]
    fn free_space_of_a_missing_disk_is_not_counted() {
        let Known::Known(found) = facts(&report(vec![vg("holdfast-main", &["holdfast"], vec![])])) else {
            panic!("it is known")
        };
        let main = found.values().next().unwrap();
        assert_eq!((main.free, main.missing_pvs, main.pvs.len()), (Size(40), 1, 1));
    }

    #[test]
    fn two_groups_of_one_name_make_all_unknown() {
        let mut twice = report(vec![]);
        twice.ambiguous.insert("holdfast-main".into());
        assert!(facts(&twice).known().is_none());
        let mut elsewhere = report(vec![]);
        elsewhere.ambiguous.insert("system".into());
        assert!(facts(&elsewhere).known().is_some());
    }
}
