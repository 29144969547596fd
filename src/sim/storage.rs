//! The disks of one model box and the LVM on them: what a power cut leaves as it is.
//!
//! Disks go into slots (sdb, sdc...) and keep their identity when they change slots. A volume group is there while one
//! of its disks is; an LV can be used while all disks below it are. Whether a disk may be claimed is for the real
//! `claim::standing` to say, from evidence made here.

use std::collections::BTreeMap;

use crate::core::{
    claim::{Disk, Evidence, Opinion, Standing, standing},
    conf,
    facts::{Lv, Vg},
    names::{DiskIdent, DiskName, PoolName},
    size::Size,
    step::{LvRef, StepClass, StepError},
};

use super::drbd::{BackingId, Kernels};

/// LVM's extent.
const EXTENT: u64 = 4 << 20;
/// What LVM keeps for itself on a PV.
const PV_HEAD: u64 = 1 << 20;

/// What a drive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeroes.
    Blank,
    /// What somebody else put there, in blkid's word.
    Foreign(String),
    /// A PV of this pool.
    Pv(PoolName),
}

/// A drive, whether it is plugged in or lies on a shelf.
#[derive(Clone, Debug)]
pub struct Drive {
    /// What stays the same of it.
    pub ident: DiskIdent,
    /// All of it.
    pub size: Size,
    /// What it holds.
    pub content: Content,
    /// Everything that is read or written fails.
    pub failed: bool,
    /// Where it is plugged in.
    pub slot: Option<DiskName>,
    /// Somebody uses it just now: how.
    pub in_use: Option<String>,
    /// It holds this since then.
    pub since_ms: u64,
}

impl Drive {
    fn works(&self) -> bool {
        self.slot.is_some() && !self.failed
    }

    fn pv_bytes(&self) -> u64 {
        self.size.bytes().saturating_sub(PV_HEAD) / EXTENT * EXTENT
    }

    /// `/dev/NAME`; empty while it is not plugged in.
    pub fn device(&self) -> String {
        self.slot.as_ref().map(|slot| format!("/dev/{slot}")).unwrap_or_default()
    }
}

/// An LV in a group of ours.
#[derive(Clone, Debug)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// Its tags; None: made by hand, not ours.
    pub tags: Option<LvRef>,
    /// In bytes, whole extents.
    pub size: Size,
    /// Just made, no metadata yet.
    pub fresh: bool,
    /// Read as zeroes when its metadata was made.
    pub zeroed: bool,
    /// Which drives it lies on, by number, and how many bytes on each.
    pub on: Vec<(usize, u64)>,
    /// It has a device node.
    pub active: bool,
    /// Somebody besides DRBD has it open.
    pub held: bool,
    /// What it holds.
    pub backing: BackingId,
    /// It is there since then.
    pub since_ms: u64,
}

/// All drives of a box and the groups on them.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// By number; a drive never goes away, it is only unplugged.
    pub drives: Vec<Drive>,
    /// LVs by pool. Which drives belong to a pool, they say themselves.
    pub groups: BTreeMap<PoolName, Vec<LogicalVolume>>,
    /// The time, as the world last said.
    pub now_ms: u64,
}

pub(super) fn failed(class: StepClass, text: impl Into<String>) -> StepError {
    StepError { class, text: text.into() }
}

fn refused<T>(text: impl Into<String>) -> Result<T, StepError> {
    Err(failed(StepClass::Refused, text))
}

impl Storage {
    /// Puts a new drive into a slot. False: the slot is taken.
    pub fn plug(&mut self, slot: &DiskName, ident: DiskIdent, size: Size, content: Content) -> bool {
        if self.in_slot(slot).is_some() {
            return false;
        }
        let slot = Some(slot.clone());
        let since_ms = self.now_ms;
        self.drives.push(Drive { ident, size, content, failed: false, slot, in_use: None, since_ms });
        true
    }

    /// The drive in a slot.
    pub fn in_slot(&self, slot: &DiskName) -> Option<usize> {
        self.drives.iter().position(|d| d.slot.as_ref() == Some(slot))
    }

    /// Something happened to drives: what lies on those that do not work is failed, the rest is not.
    pub fn drives_changed(&self, kernels: &mut Kernels) {
        for lv in self.groups.values().flatten() {
            if self.usable(lv) {
                kernels.mend_backing(lv.backing);
            } else {
                kernels.fail_backing(lv.backing);
            }
        }
    }

    /// The drive's content is gone, and with it what LVs had on it.
    pub fn wipe(&mut self, drive: usize, kernels: &mut Kernels) {
        if let Some(d) = self.drives.get_mut(drive) {
            (d.content, d.since_ms) = (Content::Blank, self.now_ms);
        }
        for group in self.groups.values_mut() {
            group.retain(|lv| {
                let stays = lv.on.iter().all(|(on, _)| *on != drive);
                if !stays {
                    kernels.fail_backing(lv.backing);
                    kernels.drop_backing(lv.backing);
                }
                stays
            });
        }
    }

    /// All disks below it work.
    pub fn usable(&self, lv: &LogicalVolume) -> bool {
        lv.on.iter().all(|(on, _)| self.drives.get(*on).is_some_and(Drive::works))
    }

    fn pvs<'s>(&'s self, pool: &'s PoolName) -> impl Iterator<Item = (usize, &'s Drive)> {
        let of_pool = move |d: &Drive| matches!(&d.content, Content::Pv(p) if p == pool);
        self.drives.iter().enumerate().filter(move |(_, d)| of_pool(d))
    }

    /// The pool's group is there.
    pub fn there(&self, pool: &PoolName) -> bool {
        self.pvs(pool).any(|(_, d)| d.works())
    }

    fn free_on(&self, drive: usize) -> u64 {
        let used: u64 = self
            .groups
            .values()
            .flatten()
            .flat_map(|lv| &lv.on)
            .filter(|(on, _)| *on == drive)
            .map(|(_, bytes)| *bytes)
            .sum();
        self.drives.get(drive).map_or(0, |d| d.pv_bytes().saturating_sub(used))
    }

    /// What the box's LVM reports of our groups.
    pub fn look_vgs(&self) -> BTreeMap<PoolName, Vg> {
        let mut found = BTreeMap::new();
        for pool in self.groups.keys().filter(|pool| self.there(pool)) {
            let (mut size, mut pvs, mut missing) = (0, BTreeMap::new(), 0);
            for (number, drive) in self.pvs(pool) {
                size += drive.pv_bytes();
                if drive.works() {
                    pvs.insert(drive.device(), Size(self.free_on(number)));
                } else {
                    missing += 1;
                }
            }
            let lvs = self.groups.get(pool).into_iter().flatten().filter_map(|lv| self.lv_facts(lv));
            found.insert(
                pool.clone(),
                Vg {
                    size: Size(size),
                    free: Size(pvs.values().map(|free: &Size| free.bytes()).sum()),
                    extent: Size(EXTENT),
                    pvs,
                    missing_pvs: missing,
                    lvs: lvs.collect(),
                },
            );
        }
        found
    }

    fn lv_facts(&self, lv: &LogicalVolume) -> Option<Lv> {
        let tags = lv.tags.as_ref()?;
        Some(Lv {
            name: lv.name.clone(),
            id: tags.id.clone(),
            device_nr: tags.device_nr,
            generation: tags.generation,
            size: lv.size,
            fresh: lv.fresh,
            zeroed: lv.zeroed,
            active: lv.active && self.usable(lv),
        })
    }

    /// What the box's udev and probe report of whole disks.
    pub fn look_disks(&self) -> BTreeMap<DiskName, Disk> {
        let plugged = self.drives.iter().filter_map(|drive| Some((drive.slot.clone()?, drive)));
        plugged.map(|(slot, drive)| (slot, disk(drive))).collect()
    }

    /// The LV of that path, as /dev has it.
    pub fn by_path(&self, path: &str) -> Option<BackingId> {
        let in_group = |(pool, lvs): (&PoolName, &Vec<LogicalVolume>)| {
            let lv = lvs.iter().find(|lv| conf::lv_path(pool, &lv.name) == path)?;
            (self.there(pool) && lv.active && self.usable(lv)).then_some(lv.backing)
        };
        self.groups.iter().find_map(in_group)
    }

    // ---- steps

    /// Makes a drive a PV.
    pub fn claim(&mut self, pool: &PoolName, device: &str, ident: &DiskIdent) -> Result<(), StepError> {
        let Some(drive) = self.drives.iter_mut().find(|d| d.slot.is_some() && d.device() == device) else {
            return Err(failed(StepClass::Gone, format!("{device} is not there")));
        };
        if drive.content == Content::Pv(pool.clone()) {
            return Ok(());
        }
        let seen = disk(drive);
        if &seen.ident != ident || seen.standing != Standing::Blank {
            return refused(format!("{device} is {} now, and was to be blank: left alone", seen.standing));
        }
        (drive.content, drive.since_ms) = (Content::Pv(pool.clone()), self.now_ms);
        self.groups.entry(pool.clone()).or_default();
        Ok(())
    }

    /// Makes an LV, or finds it made.
    pub fn create(
        &mut self,
        lv: &LvRef,
        size: Size,
        pv: Option<&str>,
        kernels: &mut Kernels,
    ) -> Result<(), StepError> {
        if !self.there(&lv.pool) {
            return refused(format!("there is no volume group of pool {}", lv.pool));
        }
        let lvs = self.groups.get(&lv.pool);
        if lvs.is_some_and(|lvs| lvs.iter().any(|there| there.name == lv.name)) {
            self.find(lv)?.active = true;
            return Ok(());
        }
        let size = Size(size.bytes().next_multiple_of(EXTENT));
        let on = self.allocate(&lv.pool, size.bytes(), pv)?;
        let made = LogicalVolume {
            name: lv.name.clone(),
            tags: Some(lv.clone()),
            size,
            fresh: true,
            zeroed: false,
            on,
            active: true,
            held: false,
            backing: kernels.new_backing(size),
            since_ms: self.now_ms,
        };
        self.groups.entry(lv.pool.clone()).or_default().push(made);
        Ok(())
    }

    fn allocate(
        &self,
        pool: &PoolName,
        bytes: u64,
        pv: Option<&str>,
    ) -> Result<Vec<(usize, u64)>, StepError> {
        let (mut left, mut on) = (bytes, Vec::new());
        for (number, drive) in self.pvs(pool).filter(|(_, d)| d.works()) {
            if pv.is_some_and(|pv| pv != drive.device()) {
                continue;
            }
            let take = left.min(self.free_on(number));
            if take > 0 {
                on.push((number, take));
            }
            left -= take;
        }
        if left > 0 { refused(format!("insufficient free space in pool {pool}")) } else { Ok(on) }
    }

    fn find(&mut self, lv: &LvRef) -> Result<&mut LogicalVolume, StepError> {
        if !self.there(&lv.pool) {
            return refused(format!("there is no volume group of pool {}: its disks may be away", lv.pool));
        }
        let found = self.groups.get_mut(&lv.pool).and_then(|lvs| lvs.iter_mut().find(|l| l.name == lv.name));
        let Some(found) = found else {
            return Err(failed(StepClass::Gone, format!("there is no LV {}", lv.name)));
        };
        match &found.tags {
            Some(tags) if same(tags, lv) => Ok(found),
            _ => refused(format!("LV {} has other tags: left alone", lv.name)),
        }
    }

    /// Writes metadata on a fresh LV. `zeroes`: these disks give zeroes cheaply.
    pub fn create_md(&mut self, lv: &LvRef, zeroes: bool, kernels: &mut Kernels) -> Result<(), StepError> {
        let found = self.find(lv)?;
        if !found.fresh {
            return Ok(());
        }
        if found.held {
            return Err(failed(StepClass::Busy, format!("LV {} is open", lv.name)));
        }
        found.active = true;
        kernels.create_md(found.backing)?;
        (found.fresh, found.zeroed) = (false, zeroes);
        Ok(())
    }

    /// Makes an LV larger.
    pub fn grow(&mut self, lv: &LvRef, size: Size, kernels: &mut Kernels) -> Result<(), StepError> {
        let there = self.find(lv)?.size;
        let size = Size(size.bytes().next_multiple_of(EXTENT));
        let more = size.bytes().saturating_sub(there.bytes());
        if more == 0 {
            return Ok(());
        }
        let on = self.allocate(&lv.pool, more, None)?;
        let found = self.find(lv)?;
        found.size = size;
        found.on.extend(on);
        kernels.grow_backing(found.backing, size);
        Ok(())
    }

    /// Removes an LV that nothing uses.
    pub fn remove(&mut self, lv: &LvRef, kernels: &mut Kernels) -> Result<(), StepError> {
        let (backing, held) = match self.find(lv) {
            Err(error) if error.class == StepClass::Gone => return Ok(()),
            found => found.map(|found| (found.backing, found.held))?,
        };
        if held || kernels.replica(backing).is_some_and(|r| r.attached.is_some()) {
            return Err(failed(StepClass::Busy, format!("LV {} is open", lv.name)));
        }
        kernels.drop_backing(backing);
        if let Some(lvs) = self.groups.get_mut(&lv.pool) {
            lvs.retain(|there| there.backing != backing);
        }
        Ok(())
    }
}

fn same(a: &LvRef, b: &LvRef) -> bool {
    (&a.id, a.device_nr, a.generation) == (&b.id, b.device_nr, b.generation)
}

fn disk(drive: &Drive) -> Disk {
    let (opinion, pv_of) = match &drive.content {
        Content::Blank => (Opinion::Clean, None),
        Content::Foreign(what) => (Opinion::Found(what.clone()), None),
        Content::Pv(pool) => (Opinion::Found("LVM2_member".to_owned()), Some(pool.clone())),
    };
    let unread = || Opinion::Unsure("Input/output error".to_owned());
    let evidence = Evidence {
        size: drive.size,
        read_only: false,
        removable: false,
        udev: if drive.failed { unread() } else { opinion.clone() },
        probe: if drive.failed { unread() } else { opinion },
        partitions: Vec::new(),
        holders: Vec::new(),
        mounted: drive.in_use.clone(),
        open_error: None,
        pv_of: pv_of.filter(|_| !drive.failed),
    };
    Disk {
        device: drive.device(),
        ident: drive.ident.clone(),
        size: drive.size,
        model: "model disk".to_owned(),
        serial: drive.ident.to_string(),
        path: String::new(),
        rotational: false,
        standing: standing(&evidence),
    }
}
