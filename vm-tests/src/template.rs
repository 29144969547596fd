//! The saved state that boxes start from: one box booted once, its tools run once, stopped and written to a file.
//! It has no card and no disk of its own, no holdfast and no name: all copies would share them.

use crate::accel::qemu_version;
use crate::machine::{Machine, Places, Start};
use crate::paths::{Key, Paths};
use crate::vm::Vm;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// 15 s on an idle machine with two cores, emulated.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
const PRIME_LIMIT: Duration = Duration::from_secs(120);
const TEMPLATES_KEPT: usize = 8;
/// Loads what a box uses, has the tools read once, and gives memory back so that the file stays small.
const PRIME: &str = "
    systemctl is-system-running --wait >/dev/null
    modprobe -a dm_mod dm_snapshot dm_thin_pool fuse drbd || exit 1
    if modinfo drbd_transport_tcp >/dev/null 2>&1; then modprobe drbd_transport_tcp || exit 1; fi
    lvm version >/dev/null 2>&1; lvs >/dev/null 2>&1; drbdadm --version >/dev/null; drbdsetup status >/dev/null
    udevadm settle; ip link >/dev/null; systemctl is-enabled holdfast >/dev/null 2>&1
    sync; echo 3 >/proc/sys/vm/drop_caches
";

/// The saved state for this machine, made if it is missing. `image` is the key of what the machine boots from.
pub fn ensure(paths: &Paths, machine: &Machine, image: &str) -> Result<PathBuf> {
    let nowhere = Places::new(Path::new("/"), Path::new("/"), "template");
    let mut key = Key::default();
    key.add(image).add(qemu_version()?).add_path(&machine.initrd)?.add(PRIME);
    for word in machine.arguments(&nowhere, Start::Cold) {
        key.add(word.as_encoded_bytes());
    }
    let folder = paths.cache.join(format!("template-{}", key.finish()));
    let state = folder.join("state");
    if !state.exists() {
        eprintln!("lab: booting one box to start all others from");
        let begin = Instant::now();
        fs::create_dir_all(&folder)?;
        let run = nix::unistd::mkdtemp(Path::new("/tmp/lab-template.XXXXXX"))
            .context("cannot make a directory in /tmp")?;
        let made = make(machine, &Places::new(&run, &folder, "template"), &folder.join("state.new"));
        fs::remove_dir_all(run)?;
        made.with_context(|| format!("see {}", folder.join("console.log").display()))?;
        fs::rename(folder.join("state.new"), &state)?;
        paths.prune_cache("template-", TEMPLATES_KEPT)?;
        eprintln!("lab: that took {} s", begin.elapsed().as_secs());
    }
    Ok(state)
}

fn make(machine: &Machine, places: &Places, state: &Path) -> Result<()> {
    let mut vm = Vm::start(machine, places, Start::Cold)?;
    vm.resume()?;
    vm.link.ping(BOOT_LIMIT).context("the first box did not boot")?;
    vm.link.run(PRIME, PRIME_LIMIT)?.checked("preparing the first box")?;
    vm.stop()?;
    vm.save(state)
}
