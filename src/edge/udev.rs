//! The box's disks: udev's record of each, the kernel's facts, and an own probe, put together for `core::claim`.
//!
//! Why: a disk is taken by what several who know say, so all of them are asked: udev's database, sysfs, the mounts, LVM
//! and the device itself. Probing costs a process and a read from every disk, so the answer is kept as long as udev's
//! record of the disk does not change; before a disk is claimed it is asked again.
//! A missed event cannot hurt, since every look is at all disks.
//! What must not go in: whether a disk is blank (core/claim.rs).

mod monitor;
mod record;

pub use monitor::Monitor;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use record::{Record, Uses};

use super::{blkid, outcome::refused, run::Programs};
use crate::core::{
    claim::{Disk, Evidence, Opinion, Standing, standing},
    facts::Known,
    names::{DiskIdent, DiskName, PoolName},
    step::{StepClass, StepError},
};

/// The pool of each device that LVM knows as a PV; None: somebody else's volume group.
pub type PvPools = BTreeMap<String, Option<PoolName>>;

/// The disks of this box.
pub struct Disks {
    programs: Arc<Programs>,
    /// What the own probe said, by device node, and of which record of udev's.
    probes: Mutex<BTreeMap<String, (Record, Opinion)>>,
}

impl Disks {
    /// With blkid as found at start.
    pub fn new(programs: Arc<Programs>) -> Self {
        Self { programs, probes: Mutex::default() }
    }

    /// All disks. LVM is asked for `pvs` only if some disk is a PV.
    pub fn look(&self, pvs: impl FnOnce() -> Result<PvPools, StepError>) -> Known<BTreeMap<DiskName, Disk>> {
        let all = || {
            let records = record::all().map_err(|e| format!("udev's devices cannot be listed: {e}"))?;
            let uses = Uses::read().map_err(|e| format!("what is mounted cannot be read: {e}"))?;
            let some_pv = records.iter().any(|record| record.opinion() == Opinion::Found(PV.to_owned()));
            let pvs = if some_pv { pvs().map_err(|error| error.text)? } else { PvPools::new() };
            self.forget_all_but(&records);
            let disks = records.iter().map(|record| {
                let evidence = self.evidence(record, &uses, &pvs, false);
                (record.name.clone(), record.disk(standing(&evidence)))
            });
            Ok(disks.collect())
        };
        all().map_or_else(Known::Unknown, Known::Known)
    }

    /// Looks at one disk with nothing remembered: Ok if it is that disk still, and blank.
    pub fn must_be_blank(&self, device: &str, ident: &DiskIdent) -> Result<(), StepError> {
        let records = record::all().map_err(|e| refused(format!("udev's devices cannot be listed: {e}")))?;
        let gone =
            || StepError { class: StepClass::Gone, text: format!("there is no disk {device} any more") };
        let record = records.iter().find(|record| record.device == device).ok_or_else(gone)?;
        if record.ident() != *ident {
            return Err(refused(format!("{device} is now the disk {}, not {ident}", record.ident())));
        }
        if let Some(twin) = records.iter().find(|other| other.ident() == *ident && other.device != device) {
            return Err(refused(format!("{device} and {} both call themselves {ident}", twin.device)));
        }
        let uses = Uses::read().map_err(|e| refused(format!("what is mounted cannot be read: {e}")))?;
        let standing = standing(&self.evidence(record, &uses, &PvPools::new(), true));
        if standing == Standing::Blank {
            return Ok(());
        }
        Err(refused(format!("{device} is not blank: {standing}")))
    }

    fn evidence(&self, record: &Record, uses: &Uses, pvs: &PvPools, anew: bool) -> Evidence {
        let mut evidence = Evidence {
            size: record.size,
            read_only: record.read_only,
            removable: record.removable,
            udev: record.opinion(),
            probe: Opinion::Unsure("not asked: it is in use".to_owned()),
            partitions: record.partitions.clone(),
            holders: record.holders.clone(),
            mounted: uses.of(record),
            open_error: None,
            pv_of: pvs.get(&record.device).cloned().flatten(),
        };
        let in_use = !evidence.partitions.is_empty() || evidence.mounted.is_some();
        if evidence.pv_of.is_some() || (in_use && !anew) {
            return evidence;
        }
        evidence.probe = self.probe(record, anew);
        // Only where it matters: an exclusive open, however short, can be in the way of someone else's.
        if (&evidence.udev, &evidence.probe) == (&Opinion::Clean, &Opinion::Clean) {
            evidence.open_error = blkid::exclusive(&record.device);
        }
        evidence
    }

    fn probe(&self, record: &Record, anew: bool) -> Opinion {
        let probes = || self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if !anew
            && let Some((of, opinion)) = probes().get(&record.device)
            && of == record
        {
            return opinion.clone();
        }
        let opinion = blkid::probe(&self.programs, &record.device);
        match opinion {
            Opinion::Unsure(_) => drop(probes().remove(&record.device)),
            Opinion::Clean | Opinion::Found(_) => {
                probes().insert(record.device.clone(), (record.clone(), opinion.clone()));
            }
        }
        opinion
    }

    fn forget_all_but(&self, records: &[Record]) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|device, _| records.iter().any(|record| record.device == *device));
    }
}

/// udev's and blkid's word for a PV.
const PV: &str = "LVM2_member";
