//! The system disk of a box: who it is, the daemon as installed, and all that must outlive a power cut.
//! An ext4 file system, so it never looks blank. image/init and agent/setup.rs mount its parts.

use crate::identity::{address, hosts, machine_id, name};
use crate::paths::Paths;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SYSTEM_DISK_SIZE: &str = "512M";
/// Directories of which the changes are kept, as overlays.
const LAYERED: [&str; 3] = ["etc", "var", "root"];

/// One file that an installation of holdfast puts into a box.
#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    /// On the host.
    pub from: PathBuf,
    /// In the box.
    pub to: PathBuf,
    /// Its mode.
    pub mode: u32,
}

/// What an installation consists of: the daemon, its units, its udev rules, whichever of them exist now.
pub fn installation(paths: &Paths, daemon: Option<&Path>) -> Result<Vec<Installed>> {
    let mut files = Vec::new();
    if let Some(daemon) = daemon {
        let to = PathBuf::from("/usr/local/sbin/holdfast");
        files.push(Installed { from: daemon.into(), to, mode: 0o755 });
    }
    let units = ["service", "socket", "target", "timer", "mount", "path"];
    for (folder, kinds, to) in
        [("systemd", &units[..], "/etc/systemd/system"), ("udev-rules", &["rules"][..], "/etc/udev/rules.d")]
    {
        let Ok(entries) = fs::read_dir(paths.repo.join(folder)) else { continue };
        for entry in entries {
            let from = entry?.path();
            let is_wanted =
                from.extension().and_then(|kind| kind.to_str()).is_some_and(|kind| kinds.contains(&kind));
            if let (true, Some(file)) = (is_wanted, from.file_name()) {
                files.push(Installed { to: Path::new(to).join(file), mode: 0o644, from });
            }
        }
    }
    files.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(files)
}

/// Makes the system disk of box `number` among `boxes`.
pub fn make(paths: &Paths, number: usize, boxes: usize, daemon: Option<&Path>, disk: &Path) -> Result<()> {
    let stage = disk.with_extension("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    for part in LAYERED {
        fs::create_dir_all(stage.join(part).join("upper"))?;
        fs::create_dir_all(stage.join(part).join("work"))?;
    }
    fs::set_permissions(stage.join("root/upper"), fs::Permissions::from_mode(0o700))?;
    for folder in ["holdfast", "local/sbin", "local/bin", "etc/upper/lab"] {
        fs::create_dir_all(stage.join(folder))?;
    }
    let etc = stage.join("etc/upper");
    fs::write(etc.join("hostname"), name(number) + "\n")?;
    fs::write(etc.join("hosts"), hosts(boxes))?;
    fs::write(etc.join("machine-id"), machine_id(number) + "\n")?;
    fs::write(etc.join("lab/address"), address(number) + "/24\n")?;
    for file in installation(paths, daemon)? {
        let to = staged(&stage, &file.to)?;
        fs::create_dir_all(to.parent().unwrap_or(&stage))?;
        fs::copy(&file.from, &to).with_context(|| format!("cannot copy {}", file.from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(file.mode))?;
    }
    let output = Command::new("mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "system",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            "-d",
        ])
        .args([stage.as_os_str(), disk.as_os_str(), SYSTEM_DISK_SIZE.as_ref()])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("cannot run mke2fs")?;
    fs::remove_dir_all(&stage)?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Where a path of the box lies on its system disk.
fn staged(stage: &Path, path: &Path) -> Result<PathBuf> {
    if let Ok(rest) = path.strip_prefix("/usr/local") {
        return Ok(stage.join("local").join(rest));
    }
    for part in LAYERED {
        if let Ok(rest) = path.strip_prefix(format!("/{part}")) {
            return Ok(stage.join(part).join("upper").join(rest));
        }
    }
    bail!("{} is not on a system disk", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
    use super::*;

    #[test]
    fn what_is_installed_lands_where_the_box_mounts_it() {
        let stage = Path::new("/stage");
        let at = |path: &str| staged(stage, Path::new(path));
        assert_eq!(at("/usr/local/sbin/holdfast").unwrap(), Path::new("/stage/local/sbin/holdfast"));
        assert_eq!(at("/etc/udev/rules.d/a").unwrap(), Path::new("/stage/etc/upper/udev/rules.d/a"));
        assert!(at("/usr/bin/holdfast").is_err());
    }
}
