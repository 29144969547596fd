//! LVM's report on this box: every volume group with its disks and volumes, from one call.
//!
//! Why one call: vgs, pvs and lvs one after the other would describe three moments, and cost three scans of all disks.
//! What must not go in: running LVM, and any judgement. A report that cannot be read is an error, never an empty report:
//! whoever believed that there is no volume group would make one.
//! Format: `lvm fullreport --reportformat json --units b --nosuffix` of LVM 2.03.16, where every value is a string.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// For `--config` of every LVM call. DRBD devices are never scanned: what lies on them belongs to the users, and opening one
/// could promote it. (No accepting pattern may be added: it would let them in by another of their names.) Logical volumes are not
/// scanned for the same reason. LVM's own backup of a group's metadata in /etc is not written at each change, which costs an
/// fsync; vgcfgbackup makes it when it is wanted.
pub const CONFIG: &str =
    r#"devices { global_filter=["r|^/dev/drbd|"] scan_lvs=0 } backup { backup=0 archive=0 }"#;

/// Arguments of the one call of `lvm` whose standard output `VgReport::parse` reads.
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
    "vg_name,vg_uuid,vg_tags,vg_size,vg_free,vg_extent_size,vg_missing_pv_count",
    "--configreport",
    "pv",
    "-o",
    "pv_name,pv_uuid,pv_size,pv_free,pv_missing,pv_tags",
    "--configreport",
    "lv",
    "-o",
    "lv_name,lv_uuid,lv_size,lv_tags,lv_active,lv_device_open,lv_attr",
    "--configreport",
    "seg",
    "-o",
    "lv_uuid,devices",
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
    /// LVM's id of it.
    pub uuid: String,
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
    /// LVM's id of it.
    pub uuid: String,
    /// What LVM can use of it.
    pub size_bytes: u64,
    /// Of that, what is free.
    pub free_bytes: u64,
    /// The device is not there.
    pub missing: bool,
    /// Its tags.
    pub tags: BTreeSet<String>,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lv {
    /// Its name.
    pub name: String,
    /// LVM's id of it.
    pub uuid: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// It has a device node.
    pub active: bool,
    /// Something holds it open, or LVM cannot tell.
    pub open: bool,
    /// The devices it lies on, in the order of its parts, each once; `[unknown]` is a missing one.
    pub devices: Vec<String>,
    /// LVM's ten letters, see lvs(8).
    pub attr: String,
}

impl VgReport {
    /// Reads the report. The error is a sentence.
    pub fn parse(json: &str) -> Result<VgReport, String> {
        let whole: Whole =
            serde_json::from_str(json).map_err(|error| format!("LVM's report cannot be read: {error}"))?;
        let mut report = VgReport::default();
        for section in whole.report {
            // Disks that are in no group have a section of their own, without a group.
            let Some(row) = section.vg.first() else { continue };
            let vg = section.read(row).map_err(|why| format!("LVM's report cannot be read: {why}"))?;
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

/// One group's tables.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Section {
    vg: Vec<Row>,
    pv: Vec<Row>,
    lv: Vec<Row>,
    seg: Vec<Row>,
}

impl Section {
    fn read(&self, vg: &Row) -> Result<Vg, String> {
        Ok(Vg {
            name: vg.text("vg_name")?,
            uuid: vg.text("vg_uuid")?,
            tags: vg.tags("vg_tags")?,
            size_bytes: vg.number("vg_size")?,
            free_bytes: vg.number("vg_free")?,
            extent_bytes: vg.number("vg_extent_size")?,
            missing_pvs: vg.number("vg_missing_pv_count")?,
            pvs: self.pv.iter().map(Row::pv).collect::<Result<_, _>>()?,
            lvs: self.lv.iter().map(|row| self.lv(row)).collect::<Result<_, _>>()?,
        })
    }

    fn lv(&self, row: &Row) -> Result<Lv, String> {
        let uuid = row.text("lv_uuid")?;
        let mut devices: Vec<String> = Vec::new();
        for segment in &self.seg {
            if segment.text("lv_uuid")? != uuid {
                continue;
            }
            for place in segment.text("devices")?.split(',').filter(|place| !place.is_empty()) {
                // `/dev/vdb(12)` is from extent 12 on.
                let device = place.split_once('(').map_or(place, |(device, _)| device);
                if !devices.iter().any(|known| known == device) {
                    devices.push(device.to_string());
                }
            }
        }
        let active = row.text("lv_active")? == "active";
        let open = row.text("lv_device_open")?;
        Ok(Lv {
            name: row.text("lv_name")?,
            uuid,
            size_bytes: row.number("lv_size")?,
            tags: row.tags("lv_tags")?,
            active,
            // LVM also says `unknown` of every volume that is not active, and of such a one nothing can be open.
            open: open == "open" || (active && !open.is_empty()),
            devices,
            attr: row.text("lv_attr")?,
        })
    }
}

/// Fields by name; those that nobody asks for are passed over.
#[derive(Deserialize)]
struct Row(BTreeMap<String, Value>);

impl Row {
    fn pv(&self) -> Result<Pv, String> {
        Ok(Pv {
            device: self.text("pv_name")?,
            uuid: self.text("pv_uuid")?,
            size_bytes: self.number("pv_size")?,
            free_bytes: self.number("pv_free")?,
            missing: !self.text("pv_missing")?.is_empty(),
            tags: self.tags("pv_tags")?,
        })
    }

    fn text(&self, field: &str) -> Result<String, String> {
        let value = self.0.get(field).and_then(Value::as_str);
        value.map(str::to_string).ok_or_else(|| format!("no {field}"))
    }

    fn number<T: std::str::FromStr>(&self, field: &str) -> Result<T, String> {
        let text = self.text(field)?;
        text.parse().map_err(|_| format!("{field} {text:?} is not a number"))
    }

    fn tags(&self, field: &str) -> Result<BTreeSet<String>, String> {
        let text = self.text(field)?;
        Ok(text.split(',').filter(|tag| !tag.is_empty()).map(str::to_string).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
