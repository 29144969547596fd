//! LVM's report on this box: every volume group with its disks and volumes, from one call.
//!
//! Why one call: vgs, pvs and lvs one after the other would describe three moments, and cost three scans of all disks.
//! What must not go in: running LVM, and any judgement. A report that cannot be read is an error, never an empty report:
//! whoever believed that there is no volume group would make one.
//! Format: `lvm fullreport --reportformat json --units b --nosuffix` of LVM 2.03.16, where every value is a string.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// For `--config` of every LVM call. DRBD devices are never scanned: what lies on them belongs to the users, and opening one
/// could promote it. (No accepting pattern may be added: it would let them in by another of their names.) Logical volumes are not
/// scanned for the same reason. LVM's own backup of a group's metadata in /etc is not written at each change, which costs an
/// fsync; vgcfgbackup makes it when it is wanted.
pub const CONFIG: &str =
    r#"devices { global_filter=["r|^/dev/drbd|"] scan_lvs=0 } backup { backup=0 archive=0 }"#;

/// Arguments of the one call of `lvm` whose standard output `VgReport::parse` reads. Its reports of segments are not wanted,
/// and without a choice of fields they would have all.
pub const ARGS: [&str; 26] = [
    "fullreport",
    "--config",
    CONFIG,
    "--reportformat",
    "json",
    "--units",
    "b",
    "--nosuffix",
    "--configreport",
    "vg",
    "-o",
    "vg_name,vg_tags,vg_size,vg_free,vg_extent_size,vg_missing_pv_count",
    "--configreport",
    "pv",
    "-o",
    "pv_name,pv_free,pv_missing",
    "--configreport",
    "lv",
    "-o",
    "lv_name,lv_size,lv_tags,lv_active,lv_device_open",
    "--configreport",
    "seg",
    "-o",
    "lv_uuid",
    "--configreport",
    "pvseg",
];

/// All volume groups of a box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VgReport {
    /// By name.
    pub vgs: BTreeMap<String, Vg>,
    /// Names that more than one group bears (copied disks): nothing can be known or done by such a name.
    pub ambiguous: BTreeSet<String>,
}

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vg {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// All extents together.
    pub size_bytes: u64,
    /// Free extents together, those of missing disks included.
    pub free_bytes: u64,
    /// Sizes are rounded up to this.
    pub extent_bytes: u64,
    /// How many of its disks are not there.
    pub missing_pvs: u32,
    /// Its disks, the missing ones too.
    pub pvs: Vec<Pv>,
    /// Its volumes, without LVM's hidden ones.
    pub lvs: Vec<Lv>,
}

/// A disk in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pv {
    /// Path of the device; `[unknown]` if it is missing.
    pub device: String,
    /// Free extents together.
    pub free_bytes: u64,
    /// The device is not there.
    pub missing: bool,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lv {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// It has a device node.
    pub active: bool,
    /// Something holds it open, or LVM cannot tell.
    pub open: bool,
}

impl VgReport {
    /// Reads the report. The error is a sentence.
    pub fn parse(json: &str) -> Result<VgReport, String> {
        let whole: Whole = serde_json::from_str(json).map_err(|error| unreadable(&error.to_string()))?;
        let mut report = VgReport::default();
        for section in whole.report {
            let vg = section.read().map_err(|why| unreadable(&why))?;
            let Some(vg) = vg else { continue };
            let name = vg.name.clone();
            if report.ambiguous.contains(&name) || report.vgs.insert(name.clone(), vg).is_some() {
                report.vgs.remove(&name);
                report.ambiguous.insert(name);
            }
        }
        Ok(report)
    }
}

#[derive(Deserialize)]
struct Whole {
    report: Vec<Section>,
}

/// What was read instead may be quoted in `why`, and may be long.
fn unreadable(why: &str) -> String {
    let start: String = why.chars().take(300).collect();
    format!("LVM's report cannot be read: {start}")
}

/// One group's tables.
#[derive(Deserialize)]
struct Section {
    vg: Option<Vec<VgRow>>,
    pv: Option<Vec<PvRow>>,
    lv: Option<Vec<LvRow>>,
}

// Fields as LVM calls them. One that is missing, or there twice, is an error; those that nobody asks for are passed over.

#[derive(Deserialize)]
struct VgRow {
    vg_name: String,
    vg_tags: String,
    vg_size: String,
    vg_free: String,
    vg_extent_size: String,
    vg_missing_pv_count: String,
}

#[derive(Deserialize)]
struct PvRow {
    pv_name: String,
    pv_free: String,
    pv_missing: String,
}

#[derive(Deserialize)]
struct LvRow {
    lv_name: String,
    lv_size: String,
    lv_tags: String,
    lv_active: String,
    lv_device_open: String,
}

impl Section {
    /// LVM prints all tables of a group, also those without rows. Disks that are in no group have a section of their own
    /// (None), without the tables of groups and of volumes; nothing else is a section.
    fn read(&self) -> Result<Option<Vg>, String> {
        match (self.vg.as_deref(), &self.pv, &self.lv) {
            (Some([vg]), Some(pvs), Some(lvs)) => group(vg, pvs, lvs).map(Some),
            (None, Some(_), None) => Ok(None),
            (_, None, _) => Err("a section has no table of disks".to_owned()),
            (Some([_]), _, None) => Err("a group has no table of volumes".to_owned()),
            (Some(vgs), _, _) => Err(format!("a section has {} groups", vgs.len())),
            (None, _, Some(_)) => Err("a section has volumes and no group".to_owned()),
        }
    }
}

fn group(vg: &VgRow, pvs: &[PvRow], lvs: &[LvRow]) -> Result<Vg, String> {
    Ok(Vg {
        name: vg.vg_name.clone(),
        tags: tags(&vg.vg_tags),
        size_bytes: number("vg_size", &vg.vg_size)?,
        free_bytes: number("vg_free", &vg.vg_free)?,
        extent_bytes: number("vg_extent_size", &vg.vg_extent_size)?,
        missing_pvs: number("vg_missing_pv_count", &vg.vg_missing_pv_count)?,
        pvs: pvs.iter().map(PvRow::read).collect::<Result<_, _>>()?,
        lvs: lvs.iter().map(LvRow::read).collect::<Result<_, _>>()?,
    })
}

impl PvRow {
    fn read(&self) -> Result<Pv, String> {
        Ok(Pv {
            device: self.pv_name.clone(),
            free_bytes: number("pv_free", &self.pv_free)?,
            missing: !self.pv_missing.is_empty(),
        })
    }
}

impl LvRow {
    fn read(&self) -> Result<Lv, String> {
        let active = self.lv_active == "active";
        Ok(Lv {
            name: self.lv_name.clone(),
            size_bytes: number("lv_size", &self.lv_size)?,
            tags: tags(&self.lv_tags),
            active,
            // LVM also says `unknown` of every volume that is not active, and of such a one nothing can be open.
            open: self.lv_device_open == "open" || (active && !self.lv_device_open.is_empty()),
        })
    }
}

fn number<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{field} {text:?} is not a number"))
}

fn tags(text: &str) -> BTreeSet<String> {
    text.split(',').filter(|tag| !tag.is_empty()).map(str::to_string).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
