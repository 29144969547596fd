//! DRBD on this box: the .res files of our resources, their metadata, and the acts on resources in the kernel.
//!
//! Why: each act looks first, in the kernel and in the file, whether the resource is the one that is meant; a name alone
//! may belong to someone else by now. drbdadm is given the one file (`-c`), so that another file that cannot be parsed,
//! or another resource's fault, does not stop this one.
//! What must not go in: which act is due (core), LVs (edge/lvm.rs), the stream of events (edge/drbd_events.rs).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use super::{
    drbd_events::{Model, parse_line},
    outcome::{needs_primary, refused, step_error, system_error},
    run::{Cmd, Programs, RunError, Tool, run},
};
use crate::core::{
    conf,
    drbd::{self, ConnectionState, Counters, DiskState, DrbdVersion, Resource, Role},
    facts::{ConfFile, Known},
    step::{SeedHow, StepClass, StepError},
};

/// A change of state that all peers have to agree to takes as long as the slowest (twopc-timeout: 30 s), and adjust is
/// many processes.
const DEADLINE: Duration = Duration::from_secs(60);
/// Where drbdadm finds files by itself.
const FOLDER: &str = "/etc/drbd.d";
/// By resource: the checksum of the file that adjust brought the kernel to. It goes with the kernel, at a reboot.
const NOTES: &str = "/run/holdfast/adjusted";
/// udev looks at a device that was just Primary, or just unmounted; then `secondary` is refused for a moment.
const DEMOTE_TRIES: u32 = 10;
const DEMOTE_PAUSE: Duration = Duration::from_millis(300);

/// The module that is loaded, if one is.
pub fn module_version() -> Option<DrbdVersion> {
    DrbdVersion::parse_proc_drbd(&fs::read_to_string("/proc/drbd").ok()?)
}

/// Sizes from sysfs and, with 8.4, progress from what `/proc/drbd` says, by minor. A device that goes meanwhile is left out.
fn counters(proc_drbd: &str) -> BTreeMap<u32, Counters> {
    let left = drbd::parse_out_of_sync(proc_drbd);
    let mut found = BTreeMap::new();
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(minor) = name.strip_prefix("drbd").and_then(|n| n.parse().ok()) else { continue };
        let sectors = fs::read_to_string(format!("/sys/block/{name}/size")).ok();
        let Some(sectors) = sectors.and_then(|text| text.trim().parse::<u64>().ok()) else { continue };
        // sysfs counts in 512 bytes, whatever the device's sector is.
        found.insert(minor, Counters { size_kib: sectors / 2, out_of_sync_kib: left.get(&minor).copied() });
    }
    found
}

/// DRBD on this box.
pub struct Drbd {
    programs: Arc<Programs>,
    folder: PathBuf,
    notes: PathBuf,
    /// Notes that could not be written.
    kept: Mutex<BTreeMap<String, u32>>,
}

impl Drbd {
    /// With DRBD's programs as found at start, and files where its tools look for them.
    pub fn new(programs: Arc<Programs>) -> Self {
        Self { programs, folder: PathBuf::from(FOLDER), notes: PathBuf::from(NOTES), kept: Mutex::default() }
    }

    /// What DRBD sends no events for, by minor.
    pub fn counters(&self) -> BTreeMap<u32, Counters> {
        counters(&self.proc_drbd().unwrap_or_default())
    }

    fn proc_drbd(&self) -> Option<String> {
        let said = fs::read_to_string("/proc/drbd").ok()?;
        if let Some(recorder) = self.programs.recorder() {
            recorder.proc_drbd(&said);
        }
        Some(said)
    }

    /// The module that is loaded now.
    fn version(&self) -> Option<DrbdVersion> {
        DrbdVersion::parse_proc_drbd(&self.proc_drbd()?)
    }

    fn is_9(&self) -> bool {
        self.version().is_some_and(DrbdVersion::is_9)
    }

    /// Our .res files by resource.
    pub fn conf(&self) -> Known<BTreeMap<String, ConfFile>> {
        let all = || -> io::Result<BTreeMap<String, ConfFile>> {
            let mut found = BTreeMap::new();
            for entry in fs::read_dir(&self.folder)? {
                let path = entry?.path();
                let resource = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".res"));
                let Some(resource) = resource else { continue };
                if let Some(text) = ours(&path)? {
                    let crc = conf::crc(&text);
                    found.insert(
                        resource.to_owned(),
                        ConfFile { crc, adjusted: self.adjusted(resource, crc) },
                    );
                }
            }
            Ok(found)
        };
        all().map_or_else(|e| Known::Unknown(format!("{}: {e}", self.folder.display())), Known::Known)
    }

    /// Puts the file in place, whole or not at all. A file that is not ours stays.
    pub fn write_conf(&self, resource: &str, text: &str) -> Result<(), StepError> {
        let path = self.path(resource);
        let failed = |error: io::Error| system_error(&path.display().to_string(), &error);
        let there = path.try_exists().map_err(failed)?;
        match ours(&path).map_err(failed)? {
            None if there => return Err(refused(format!("{} is not ours: left alone", path.display()))),
            Some(old) if old == text => return Ok(()),
            None | Some(_) => {}
        }
        self.forget_note(resource).map_err(failed)?;
        replace(&path, text).map_err(failed)
    }

    /// Removes the file, if it is ours.
    pub fn remove_conf(&self, resource: &str) -> Result<(), StepError> {
        let path = self.path(resource);
        let failed = |error: io::Error| system_error(&path.display().to_string(), &error);
        if ours(&path).map_err(failed)?.is_none() {
            return Ok(());
        }
        self.forget_note(resource).map_err(failed)?;
        fs::remove_file(&path).and_then(|()| sync_folder(&path)).map_err(failed)
    }

    /// What adjust noted: it brought the kernel to the text with this checksum, in this life of the kernel.
    fn adjusted(&self, resource: &str, crc: u32) -> bool {
        let noted = fs::read_to_string(self.notes.join(resource));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(resource).copied();
        kept == Some(crc) || noted.is_ok_and(|text| text == crc.to_string())
    }

    fn note(&self, resource: &str, crc: u32) {
        let path = self.notes.join(resource);
        let written = fs::create_dir_all(&self.notes).and_then(|()| fs::write(&path, crc.to_string()));
        if let Err(error) = written {
            log::warn!("{}: {error}", path.display());
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.to_owned(), crc);
        }
    }

    fn forget_note(&self, resource: &str) -> io::Result<()> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
        match fs::remove_file(self.notes.join(resource)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes metadata for a just created replica on `device`, whatever was there.
    pub fn create_md(&self, minor: u32, device: &str) -> Result<(), StepError> {
        let version = self.version().ok_or_else(|| refused("DRBD's module is not loaded: modprobe drbd"))?;
        let cmd = self.programs.cmd(Tool::Drbdmeta, DEADLINE);
        let cmd = cmd.args(["--force", &minor.to_string()]);
        let cmd = if version.is_9() {
            cmd.args(["v09", device, "internal", "create-md", &conf::PEER_SLOTS_9.to_string()])
        } else {
            cmd.args(["v08", device, "internal", "create-md"])
        };
        call(&cmd)
    }

    /// Brings the kernel to what the file says.
    pub fn adjust(&self, resource: &str) -> Result<(), StepError> {
        let text = self.file(resource)?;
        let wanted = minor_of(&text).ok_or_else(|| refused(format!("{resource}.res names no minor")))?;
        if let Some(found) = self.look(resource)? {
            // adjust would take the old minor away from under its users, who get I/O errors.
            let other = found.devices.values().find(|device| device.minor != wanted);
            if let Some(other) = other {
                let minor = other.minor;
                let text = format!("{resource} has minor {minor} in the kernel, not {wanted}: left alone");
                return Err(refused(text));
            }
        }
        call(&self.drbdadm(resource).args(["adjust", resource]))?;
        self.note(resource, conf::crc(&text));
        Ok(())
    }

    /// Makes the first copy UpToDate, if no copy is known that counts more.
    pub fn seed(&self, resource: &str, how: SeedHow) -> Result<(), StepError> {
        let found = self.needed(resource)?;
        let mine = found.devices.get(&0).map(|device| device.disk).unwrap_or_default();
        if mine == DiskState::UpToDate {
            return Ok(());
        }
        if mine != DiskState::Inconsistent {
            return Err(refused(format!("{resource} is {mine} here, not a replica that was just made")));
        }
        let volumes = found.peers.values().filter_map(|peer| peer.devices.get(&0));
        if let Some(peer) = volumes.map(|volume| volume.disk).find(|disk| disk.has_data()) {
            return Err(refused(format!("{resource} is {peer} on a peer: the data is taken from there")));
        }
        match how {
            SeedHow::ClearBitmap => {
                let volume = format!("{resource}/0");
                call(&self.drbdadm(resource).args(["new-current-uuid", "--clear-bitmap", &volume]))
            }
            SeedHow::Force => {
                call(&self.drbdadm(resource).args(["primary", "--force", resource]))?;
                self.step_down(resource)
            }
        }
    }

    /// After a promotion of our own. That somebody uses it already is no error: then it is Primary rightly.
    fn step_down(&self, resource: &str) -> Result<(), StepError> {
        match self.demote_patiently(resource) {
            Err(error) if error.class == StepClass::Busy => {
                log::info!("{resource} is in use already and stays Primary here");
                Ok(())
            }
            result => result,
        }
    }

    /// Makes it Primary here.
    pub fn promote(&self, resource: &str) -> Result<(), StepError> {
        if self.needed(resource)?.role == Role::Primary {
            return Ok(());
        }
        call(&self.drbdadm(resource).args(["primary", resource]))
    }

    /// Makes it Secondary here; Busy while it is open.
    pub fn demote(&self, resource: &str) -> Result<(), StepError> {
        self.file(resource)?;
        call(&self.drbdadm(resource).args(["secondary", resource]))
    }

    /// The same where nobody but udev should have it open: Busy only if it still is after some tries.
    pub fn demote_patiently(&self, resource: &str) -> Result<(), StepError> {
        for _ in 1..DEMOTE_TRIES {
            match self.demote(resource) {
                Err(error) if error.class == StepClass::Busy => sleep(DEMOTE_PAUSE),
                result => return result,
            }
        }
        self.demote(resource)
    }

    /// Takes over larger LVs. DRBD does so only when all of them are larger; the size that is observed then tells.
    pub fn resize(&self, resource: &str) -> Result<(), StepError> {
        let text = self.file(resource)?;
        let cmd = self.drbdadm(resource);
        let cmd = if text.contains(conf::NOBODY) {
            // 8.4 keeps the old size while it has not heard the other replica's; here there is none to hear of.
            cmd.args(["--", "--assume-peer-has-space", "resize", resource])
        } else {
            cmd.args(["resize", resource])
        };
        match call(&cmd) {
            Err(error) if needs_primary(&error) => self.resize_as_primary(resource, &cmd),
            result => result,
        }
    }

    /// 8.4 resizes nothing that is Primary nowhere: here it is for that moment, if all replicas can be asked.
    fn resize_as_primary(&self, resource: &str, cmd: &Cmd) -> Result<(), StepError> {
        let found = self.needed(resource)?;
        if found.role == Role::Primary {
            return call(cmd); // somebody made it so meanwhile, and wants it so
        }
        if found.peers.values().any(|peer| peer.connection != ConnectionState::Connected) {
            return Err(refused(format!(
                "{resource} is Primary nowhere and not connected: it is not resized"
            )));
        }
        call(&self.drbdadm(resource).args(["primary", resource]))?;
        let resized = call(cmd);
        self.step_down(resource).and(resized)
    }

    /// Takes it out of the kernel, if it has this minor and nothing has it open.
    pub fn down(&self, resource: &str, minor: u32) -> Result<(), StepError> {
        let Some(found) = self.look(resource)? else { return Ok(()) };
        if let Some(other) = found.devices.values().find(|device| device.minor != minor) {
            let text = format!("{resource} has minor {} now, not {minor}: left alone", other.minor);
            return Err(refused(text));
        }
        if self.path(resource).exists() {
            self.file(resource)?;
        }
        // First what an opener refuses, so that a device in use keeps its links.
        if found.role == Role::Primary {
            let object = if self.is_9() { resource.to_owned() } else { minor.to_string() };
            call(&self.drbdsetup().args(["secondary", &object]))?;
        }
        if self.is_9() {
            // down in the middle of a resync has been seen to hang in the kernel; not without links.
            for node_id in found.peers.keys() {
                if let Err(error) =
                    call(&self.drbdsetup().args(["disconnect", resource, &node_id.to_string()]))
                {
                    log::debug!("{}", error.text);
                }
            }
        }
        call(&self.drbdsetup().args(["down", resource]))
    }

    /// What the kernel has under that name.
    fn look(&self, resource: &str) -> Result<Option<Resource>, StepError> {
        let cmd = self.drbdsetup().args(["events2", "--now", resource]);
        let output = match run(&cmd) {
            Ok(output) => output,
            Err(error) => {
                let error = step_error(&error);
                return if error.class == StepClass::Gone { Ok(None) } else { Err(error) };
            }
        };
        let mut model = Model::default();
        for line in output.stdout.lines() {
            model.apply(&parse_line(line).map_err(refused)?);
        }
        Ok(model.resources().get(resource).cloned())
    }

    fn needed(&self, resource: &str) -> Result<Resource, StepError> {
        self.file(resource)?;
        let text = format!("the kernel has no resource {resource}");
        self.look(resource)?.ok_or(StepError { class: StepClass::Gone, text })
    }

    /// The text of our file for it: without one, a resource of that name is not ours.
    fn file(&self, resource: &str) -> Result<String, StepError> {
        let path = self.path(resource);
        let text = ours(&path).map_err(|e| system_error(&path.display().to_string(), &e))?;
        text.ok_or_else(|| StepError {
            class: StepClass::Gone,
            text: format!("{} is not there or not ours", path.display()),
        })
    }

    fn path(&self, resource: &str) -> PathBuf {
        self.folder.join(format!("{resource}.res"))
    }

    fn drbdadm(&self, resource: &str) -> Cmd {
        let path = self.path(resource).display().to_string();
        self.programs.cmd(Tool::Drbdadm, DEADLINE).args(["-c", &path])
    }

    fn drbdsetup(&self) -> Cmd {
        self.programs.cmd(Tool::Drbdsetup, DEADLINE)
    }
}

fn call(cmd: &Cmd) -> Result<(), StepError> {
    run(cmd).map(drop).map_err(|error: RunError| step_error(&error))
}

/// The file's text if it begins with our mark; None if there is no file or another's.
fn ours(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok().filter(|text| text.starts_with(conf::MARK))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn minor_of(text: &str) -> Option<u32> {
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix("device minor "));
    lines.next()?.strip_suffix(';')?.parse().ok()
}

/// Written beside, synced, renamed. The name ends so that drbdadm's `*.res` does not match it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("res.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // It carries the links' secret.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
