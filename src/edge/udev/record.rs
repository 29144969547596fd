//! One disk as udev and the kernel have it, owned and plain: udev's own objects belong to one thread.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::core::{
    claim::{Disk, Opinion, Standing},
    names::{DiskIdent, DiskName},
    size::Size,
};

/// Whole devices that are no disks: virtual, or on top of others, or with media that come and go.
const NO_DISKS: [&str; 12] =
    ["dm-", "drbd", "loop", "ram", "zram", "sr", "fd", "md", "nbd", "zd", "mtdblock", "rbd"];

/// Whether the kernel's name is one of a device that is never taken.
pub fn is_no_disk(name: &str) -> bool {
    NO_DISKS.iter().any(|start| {
        // `md0` is one, `mdisk` would be none; `dm-0` has the hyphen in the name.
        name.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: DiskName,
    pub device: String,
    /// `MAJOR:MINOR`
    pub number: String,
    pub size: Size,
    pub read_only: bool,
    pub removable: bool,
    pub rotational: bool,
    pub model: String,
    pub partitions: Vec<String>,
    pub holders: Vec<String>,
    /// udevd has run its rules on it.
    pub initialized: bool,
    /// Everything in udev's database.
    pub properties: BTreeMap<String, String>,
}

/// All disks, in order of name.
pub fn all() -> io::Result<Vec<Record>> {
    let mut enumerator = udev::Enumerator::new()?;
    enumerator.match_subsystem("block")?;
    enumerator.match_property("DEVTYPE", "disk")?;
    let mut records: Vec<_> = enumerator.scan_devices()?.filter_map(|device| Record::of(&device)).collect();
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

impl Record {
    /// None: not a disk, without a medium, or gone meanwhile.
    fn of(device: &udev::Device) -> Option<Self> {
        let name = device.sysname().to_str()?;
        if is_no_disk(name) {
            return None;
        }
        let text = |attribute: &str| {
            let value = device.attribute_value(attribute)?.to_str()?;
            Some(value.trim().to_owned())
        };
        let flag = |attribute| text(attribute).is_some_and(|value| value == "1");
        let number = device.devnum()?;
        // sysfs counts in 512 bytes, whatever the disk's own sectors are.
        let size = Size(text("size")?.parse::<u64>().ok()?.checked_mul(512)?);
        if size == Size(0) {
            return None;
        }
        let properties = device.properties().map(|property| {
            let value = property.value().to_string_lossy().into_owned();
            (property.name().to_string_lossy().into_owned(), value)
        });
        Some(Self {
            name: DiskName::new(name).ok()?,
            device: device.devnode()?.to_str()?.to_owned(),
            number: format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number)),
            size,
            // Unknown counts as read-only.
            read_only: text("ro").is_none_or(|value| value != "0"),
            removable: flag("removable"),
            rotational: flag("queue/rotational"),
            model: text("device/model").unwrap_or_default(),
            partitions: children(device.syspath(), Some("partition")),
            holders: children(&device.syspath().join("holders"), None),
            initialized: device.is_initialized(),
            properties: properties.collect(),
        })
    }

    fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn serial(&self) -> Option<&str> {
        self.property("ID_SERIAL_SHORT").or_else(|| self.property("ID_SERIAL"))
    }

    /// What stays the same of it: what the disk says of itself, or with neither its slot.
    pub fn ident(&self) -> DiskIdent {
        let own = self.property("ID_WWN").or_else(|| self.property("ID_SERIAL")).map(str::to_owned);
        let slot = || self.property("ID_PATH").map(|path| format!("path:{path}"));
        DiskIdent::new(&own.or_else(slot).unwrap_or_else(|| format!("name:{}", self.name)))
    }

    /// udev's view of its content.
    pub fn opinion(&self) -> Opinion {
        if !self.initialized {
            return Opinion::Unsure("udev has no record of it".to_owned());
        }
        if self.property("ID_FS_AMBIVALENT").is_some() {
            return Opinion::Found("ambiguous".to_owned());
        }
        match self.property("ID_FS_TYPE").or_else(|| self.property("ID_PART_TABLE_TYPE")) {
            Some(what) => Opinion::Found(what.to_owned()),
            None if self.property("DM_MULTIPATH_DEVICE_PATH") == Some("1") => {
                Opinion::Found("a path of a multipath device".to_owned())
            }
            None => Opinion::Clean,
        }
    }

    /// The fact about it.
    pub fn disk(&self, standing: Standing) -> Disk {
        let model = self.property("ID_MODEL").map(str::to_owned);
        Disk {
            device: self.device.clone(),
            ident: self.ident(),
            size: self.size,
            model: model.unwrap_or_else(|| self.model.clone()),
            serial: self.serial().unwrap_or_default().to_owned(),
            path: self.property("ID_PATH").unwrap_or_default().to_owned(),
            rotational: self.rotational,
            standing,
        }
    }
}

/// Names in a folder of sysfs, of those that have the file `with`.
fn children(folder: &Path, with: Option<&str>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let paths = paths.filter(|path: &PathBuf| with.is_none_or(|file| path.join(file).exists()));
    let mut names: Vec<_> = paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// Those that have a folder for each device in use: ext4, xfs, erofs, f2fs and others.
fn file_systems() -> BTreeMap<String, String> {
    let kinds = fs::read_dir("/sys/fs").into_iter().flatten().flatten();
    let kinds = kinds.filter_map(|kind| Some((kind.path(), kind.file_name().into_string().ok()?)));
    kinds
        .flat_map(|(path, kind)| children(&path, None).into_iter().map(move |name| (name, kind.clone())))
        .collect()
}

/// What is mounted or swapped on.
pub struct Uses {
    mountinfo: String,
    swaps: String,
    /// `/sys/fs/TYPE/NAME` by name: what the kernel's file systems run on, also where no mount point shows it, as below an
    /// overlay or in another mount namespace.
    file_systems: BTreeMap<String, String>,
}

impl Uses {
    /// As it is now.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            mountinfo: fs::read_to_string("/proc/self/mountinfo")?,
            swaps: fs::read_to_string("/proc/swaps")?,
            file_systems: file_systems(),
        })
    }

    fn out_of_sight(&self, record: &Record) -> Option<String> {
        self.file_systems.get(record.name.as_str()).map(|kind| format!("mounted as {kind}, out of sight"))
    }

    /// Where the disk itself (not a partition) is mounted, or `swap`.
    pub fn of(&self, record: &Record) -> Option<String> {
        // proc_pid_mountinfo(5): id, parent, major:minor, root, mount point.
        let mounts = self.mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut mounts = mounts.filter(|fields| fields.get(2) == Some(&record.number.as_str()));
        let swap = || {
            let mut swaps = self.swaps.lines().filter_map(|line| line.split_whitespace().next());
            swaps.any(|device| device == record.device).then(|| "swap".to_owned())
        };
        mounts
            .next()
            .and_then(|fields| fields.get(4).map(|place| format!("mounted on {place}")))
            .or_else(swap)
            .or_else(|| self.out_of_sight(record))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(properties: &[(&str, &str)]) -> Record {
        Record {
            name: DiskName::new("vdb").unwrap(),
            device: "/dev/vdb".into(),
            number: "254:16".into(),
            size: Size(1 << 30),
            read_only: false,
            removable: false,
            rotational: true,
            model: String::new(),
            partitions: Vec::new(),
            holders: Vec::new(),
            initialized: true,
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn a_disk_is_told_by_what_it_says_of_itself_else_by_its_slot() {
        let all = [("ID_WWN", "0x5"), ("ID_SERIAL", "S"), ("ID_PATH", "pci-1"), ("ID_SERIAL_SHORT", "s")];
        let idents: Vec<_> = (0..4).map(|n| record(&all[n..3]).ident().to_string()).collect();
        assert_eq!(idents, ["0x5", "S", "path:pci-1", "name:vdb"]);
        assert_eq!(record(&all).disk(Standing::Blank).serial, "s");
        assert_eq!(record(&[("ID_SERIAL", "")]).ident().to_string(), "name:vdb");
    }

    #[test]
    fn udev_says_clean_only_of_what_it_has_looked_at() {
        assert_eq!(record(&[("ID_SERIAL", "S")]).opinion(), Opinion::Clean);
        let found = |what: &str| Opinion::Found(what.into());
        assert_eq!(record(&[("ID_FS_TYPE", "ext4")]).opinion(), found("ext4"));
        assert_eq!(record(&[("ID_PART_TABLE_TYPE", "gpt")]).opinion(), found("gpt"));
        assert_eq!(record(&[("ID_FS_AMBIVALENT", "a b")]).opinion(), found("ambiguous"));
        let mut early = record(&[]);
        early.initialized = false;
        assert!(matches!(early.opinion(), Opinion::Unsure(_)));
    }

    #[test]
    fn mounts_and_swap_are_seen() {
        let uses = |mountinfo: &str, swaps: &str| Uses {
            mountinfo: mountinfo.into(),
            swaps: swaps.into(),
            file_systems: BTreeMap::from([("vdz".into(), "erofs".into())]),
        };
        let mount = "36 35 254:16 / /mnt rw,noatime master:1 - ext3 /dev/root rw\nbroken\n";
        let swap = "Filename\tType\tSize\n/dev/vdb partition 1 0 -2\n";
        assert_eq!(uses(mount, "").of(&record(&[])), Some("mounted on /mnt".into()));
        assert_eq!(uses("", swap).of(&record(&[])), Some("swap".into()));
        assert_eq!(uses("36 35 254:17 / /mnt rw", "/dev/vdb1 x").of(&record(&[])), None);
        let root = Record { name: DiskName::new("vdz").unwrap(), ..record(&[]) };
        assert_eq!(uses("", "").of(&root), Some("mounted as erofs, out of sight".into()));
    }

    #[test]
    fn virtual_devices_are_no_disks() {
        for name in ["dm-0", "drbd1000", "loop7", "md127", "sr0", "zram0"] {
            assert!(is_no_disk(name), "{name}");
        }
        for name in ["sda", "vdb", "nvme0n1", "mmcblk0", "srx", "fdisk"] {
            assert!(!is_no_disk(name), "{name}");
        }
    }

    #[test]
    fn listing_this_machines_disks_changes_nothing_and_does_not_fail() {
        for record in all().unwrap() {
            assert!(record.device.starts_with("/dev/"), "{record:?}");
        }
    }
}
