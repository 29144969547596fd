//! The boxes of a running lab: which have power, which disks they have, and how they get and lose both.

use crate::frame::Kind;
use crate::identity::{SYSTEM_SERIAL, Setup, address, name};
use crate::link::Link;
use crate::machine::{Places, SLOTS, Start};
use crate::paths::Paths;
use crate::request::Config;
use crate::system;
use crate::vm::Vm;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CARD_SLOT: usize = 1;
const SYSTEM_SLOT: usize = 2;
const DATA_SLOTS: std::ops::RangeInclusive<usize> = 3..=SLOTS;
/// Emulated, with other boxes booting at the same time.
const COLD_BOOT_LIMIT: Duration = Duration::from_secs(240);
const RESTORE_LIMIT: Duration = Duration::from_secs(60);
const SETUP_LIMIT: Duration = Duration::from_secs(90);
const DISK_LIMIT_S: u32 = 30;

#[derive(Debug, Clone)]
struct Disk {
    serial: String,
    bytes: u64,
    slot: usize,
}

/// One box, with or without power.
struct State {
    vm: Option<Vm>,
    is_frozen: bool,
    disks: Vec<Disk>,
}

/// All boxes.
pub struct Boxes {
    paths: Paths,
    config: Config,
    boxes: Vec<Mutex<State>>,
}

impl Boxes {
    /// Boxes without power, each with its blank disks.
    pub fn new(paths: Paths, config: Config) -> Result<Boxes> {
        let mut boxes = Vec::new();
        fs::create_dir_all(paths.boxes().join("disks"))?;
        for number in 1..=config.boxes {
            let mut disks = Vec::new();
            for (index, slot) in DATA_SLOTS.take(config.disks).enumerate() {
                let serial = format!("{}-d{}", name(number), index + 1);
                File::create(paths.disk(&serial))?.set_len(config.disk_bytes)?;
                disks.push(Disk { serial, bytes: config.disk_bytes, slot });
            }
            fs::create_dir_all(paths.of_box(&name(number)))?;
            boxes.push(Mutex::new(State { vm: None, is_frozen: false, disks }));
        }
        Ok(Boxes { paths, config, boxes })
    }

    /// The number of boxes.
    pub fn count(&self) -> usize {
        self.boxes.len()
    }

    fn state(&self, number: usize) -> Result<MutexGuard<'_, State>> {
        let state = self.boxes.get(number.wrapping_sub(1));
        let state = state
            .with_context(|| format!("there is no {}: the lab has {} boxes", name(number), self.count()))?;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        // A box that switched itself off is off.
        if state.vm.as_mut().is_some_and(|vm| !vm.is_running()) {
            state.vm = None;
            state.is_frozen = false;
        }
        Ok(state)
    }

    /// The channel to a box that has power and is not frozen.
    pub fn link(&self, number: usize) -> Result<Arc<Link>> {
        let mut state = self.state(number)?;
        Ok(Arc::clone(&awake(&mut state, number)?.link))
    }

    /// Gives a box power and waits until it can be used.
    pub fn power_on(&self, number: usize, is_cold: bool) -> Result<()> {
        let mut state = self.state(number)?;
        if state.vm.is_some() {
            bail!("{} has power already", name(number));
        }
        let folder = self.paths.of_box(&name(number));
        let system = folder.join("system.raw");
        if !system.exists() {
            system::make(&self.paths, number, self.count(), self.config.daemon.as_deref(), &system)?;
        }
        let places = Places::new(&self.config.run, &folder, &name(number));
        let start = if is_cold { Start::Cold } else { Start::Restored(&self.config.template) };
        let mut vm = Vm::start(&self.config.machine, &places, start)?;
        vm.plug_card(CARD_SLOT, number, &self.config.run)?;
        vm.plug_disk(SYSTEM_SLOT, SYSTEM_SERIAL, &system)?;
        if is_cold {
            self.plug_all(&mut vm, &state.disks)?;
        }
        vm.resume()?;
        vm.link.ping(if is_cold { COLD_BOOT_LIMIT } else { RESTORE_LIMIT })?;
        let setup = serde_json::to_vec(&setup()?)?;
        vm.link.call(Kind::Setup, setup, SETUP_LIMIT)?.checked("setting the box up")?;
        if !is_cold {
            self.plug_all(&mut vm, &state.disks)?;
        }
        for disk in &state.disks {
            wait_for_disk(&vm.link, &disk.serial)?;
        }
        start_enabled(&vm.link)?;
        state.vm = Some(vm);
        Ok(())
    }

    fn plug_all(&self, vm: &mut Vm, disks: &[Disk]) -> Result<()> {
        disks
            .iter()
            .try_for_each(|disk| vm.plug_disk(disk.slot, &disk.serial, &self.paths.disk(&disk.serial)))
    }

    /// Pulls the plug.
    pub fn power_off(&self, number: usize) -> Result<()> {
        let mut state = self.state(number)?;
        state.is_frozen = false;
        match state.vm.take() {
            Some(vm) => drop(vm),
            None => bail!("{} has no power", name(number)),
        }
        Ok(())
    }

    /// Takes the power from all, for good.
    pub fn end(&self) {
        for state in &self.boxes {
            state.lock().unwrap_or_else(PoisonError::into_inner).vm = None;
        }
    }

    /// Stops or resumes a box's time.
    pub fn freeze(&self, number: usize, is_frozen: bool) -> Result<()> {
        let mut state = self.state(number)?;
        let Some(vm) = state.vm.as_mut() else { bail!("{} has no power", name(number)) };
        if is_frozen {
            vm.stop()?
        } else {
            vm.resume()?
        }
        state.is_frozen = is_frozen;
        Ok(())
    }

    /// Plugs a disk in and gives its serial: a new one, a copy of a file, or one that was pulled before.
    pub fn add_disk(
        &self,
        number: usize,
        bytes: u64,
        serial: Option<String>,
        from: Option<&Path>,
    ) -> Result<String> {
        if let Some(serial) = &serial
            && let Some(other) = self.owner(serial)?
        {
            bail!("{} has a disk {serial} already", name(other));
        }
        let mut state = self.state(number)?;
        let is_free = |slot: &usize| state.disks.iter().all(|disk| disk.slot != *slot);
        let slot = DATA_SLOTS
            .clone()
            .find(is_free)
            .with_context(|| format!("{} has no room for a disk", name(number)))?;
        let serial = serial.unwrap_or_else(|| self.fresh_serial(number));
        let file = self.paths.disk(&serial);
        let is_new = !file.exists();
        prepare_file(&file, bytes, from)?;
        let plugged = match state.vm {
            Some(_) => awake(&mut state, number).and_then(|vm| {
                vm.plug_disk(slot, &serial, &file)?;
                wait_for_disk(&vm.link, &serial)
            }),
            None => Ok(()),
        };
        if let Err(error) = plugged {
            if is_new {
                fs::remove_file(&file)?;
            }
            return Err(error);
        }
        state.disks.push(Disk { serial: serial.clone(), bytes, slot });
        Ok(serial)
    }

    /// Pulls a disk out; its file stays, for it may be plugged in again.
    pub fn pull_disk(&self, number: usize, serial: &str) -> Result<()> {
        let mut state = self.state(number)?;
        let position = state.disks.iter().position(|disk| disk.serial == serial);
        let position = position.with_context(|| format!("{} has no disk {serial}", name(number)))?;
        let slot = state.disks[position].slot;
        if state.vm.is_some() {
            awake(&mut state, number)?.unplug_disk(slot)?;
        }
        state.disks.remove(position);
        Ok(())
    }

    fn owner(&self, serial: &str) -> Result<Option<usize>> {
        for number in 1..=self.count() {
            if self.state(number)?.disks.iter().any(|disk| disk.serial == serial) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn fresh_serial(&self, number: usize) -> String {
        let mut index = 1;
        loop {
            let serial = format!("{}-d{index}", name(number));
            if !self.paths.disk(&serial).exists() {
                return serial;
            }
            index += 1;
        }
    }

    /// One line about a box, for people.
    pub fn describe(&self, number: usize) -> Result<String> {
        let state = self.state(number)?;
        let power = match (&state.vm, state.is_frozen) {
            (None, _) => "off",
            (Some(_), true) => "frozen",
            (Some(_), false) => "on",
        };
        let disks: Vec<String> =
            state.disks.iter().map(|disk| format!("{} ({} MiB)", disk.serial, disk.bytes >> 20)).collect();
        Ok(format!("{:<6} {:<7} {:<10} {}", name(number), power, address(number), disks.join(", ")))
    }
}

fn awake(state: &mut State, number: usize) -> Result<&mut Vm> {
    if state.is_frozen {
        bail!("{} is frozen", name(number));
    }
    state.vm.as_mut().with_context(|| format!("{} has no power", name(number)))
}

fn setup() -> Result<Setup> {
    let mut seed = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let clock_us = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    Ok(Setup { clock_us, seed })
}

/// Makes the file of a disk as large as asked; what is in it stays.
fn prepare_file(file: &PathBuf, bytes: u64, from: Option<&Path>) -> Result<()> {
    let known = fs::metadata(file).ok();
    if let Some(from) = from {
        if known.is_some() {
            bail!(
                "a disk with this serial was pulled and keeps its data: choose another serial, or leave --from out"
            );
        }
        let copied = Command::new("cp").arg("--sparse=always").arg(from).arg(file).output()?;
        if !copied.status.success() {
            bail!("{}", String::from_utf8_lossy(&copied.stderr).trim());
        }
    }
    let has = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if has > bytes {
        if known.is_none() {
            fs::remove_file(file)?;
        }
        bail!("a disk of {bytes} bytes cannot hold the {has} bytes that are to be on it");
    }
    File::options().create(true).append(true).open(file)?.set_len(bytes)?;
    Ok(())
}

/// Until udev has made the link that everything in the box goes by.
fn wait_for_disk(link: &Arc<Link>, serial: &str) -> Result<()> {
    let look = format!(
        "for i in $(seq {}); do [ -e /dev/disk/by-id/virtio-{serial} ] && exit; sleep 0.1; done; exit 1",
        DISK_LIMIT_S * 10
    );
    link.run(&look, Duration::from_secs(u64::from(DISK_LIMIT_S) * 2))?
        .checked(&format!("waiting for disk {serial}"))?;
    Ok(())
}

/// A restored box has booted before it knew its own /etc: what is enabled there is started now, as a boot would have.
fn start_enabled(link: &Arc<Link>) -> Result<()> {
    let start = "cd /lab/system/etc/upper/systemd/system 2>/dev/null || exit 0
        for unit in *.wants/*; do [ -L \"$unit\" ] && set -- \"$@\" \"${unit##*/}\"; done
        [ $# -eq 0 ] || systemctl start --no-block \"$@\"";
    link.run(start, SETUP_LIMIT)?.checked("starting the box's services")?;
    Ok(())
}
