//! The command line of QEMU: one machine for template, restored boxes and cold ones, since a saved state fits only the
//! machine it was saved from. Network card and disks are never on it: they are plugged in, each box its own.

use crate::agent::PORT_NAME;
use crate::identity::ROOT_SERIAL;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Slots for things that are plugged in: the card, the system disk, data disks.
pub const SLOTS: usize = 16;
const MEMORY_MIB: &str = "512";
/// Measured to shorten an emulated boot by a third. apparmor and selinux go together: without the first the other starts.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet net.ifnames=0 mitigations=off random.trust_cpu=on \
    cryptomgr.notests nokaslr apparmor=0 selinux=0 audit=0 tsc=reliable no_timer_check";

/// How guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accel {
    /// On the processor.
    Kvm,
    /// Emulated.
    Tcg,
}

/// What all boxes of a lab have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The initramfs with the agent in it.
    pub initrd: PathBuf,
    /// The root file system.
    pub root: PathBuf,
    /// How guests run.
    pub accel: Accel,
}

/// Where one QEMU puts its sockets and logs.
#[derive(Debug, Clone)]
pub struct Places {
    /// QMP's socket.
    pub qmp: PathBuf,
    /// The agent's port.
    pub agent: PathBuf,
    /// What the guest says on its serial console.
    pub console: PathBuf,
    /// What QEMU itself says.
    pub log: PathBuf,
}

impl Places {
    /// Sockets in `run`, logs in `logs`, both by `name`.
    pub fn new(run: &Path, logs: &Path, name: &str) -> Places {
        Places {
            qmp: run.join(format!("{name}.qmp")),
            agent: run.join(format!("{name}.agent")),
            console: logs.join("console.log"),
            log: logs.join("qemu.log"),
        }
    }
}

/// How the machine comes to life.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// From the kernel up, once it is told to go on.
    Cold,
    /// From this saved state.
    Restored(&'a Path),
}

impl Accel {
    /// QEMU's options for it. The translation cache of emulation is bounded: it would take a gigabyte a box.
    pub fn arguments(self) -> [&'static str; 2] {
        match self {
            Accel::Kvm => ["-accel", "kvm"],
            Accel::Tcg => ["-accel", "tcg,thread=multi,tb-size=256"],
        }
    }
}

impl Machine {
    /// The arguments of qemu-system-x86_64.
    pub fn arguments(&self, places: &Places, start: Start<'_>) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| words.extend([option.into(), value]);
        let [accel, accel_value] = self.accel.arguments();
        add(accel, accel_value.into());
        add("-machine", "q35".into());
        add("-cpu", "max".into());
        add("-smp", "1".into());
        add("-m", MEMORY_MIB.into());
        add("-kernel", self.vmlinuz.clone().into());
        add("-initrd", self.initrd.clone().into());
        add("-append", KERNEL_ARGUMENTS.into());
        add("-chardev", with_path("file,id=console,append=on,path=", &places.console));
        add("-serial", "chardev:console".into());
        add("-qmp", with_path("unix:", &places.qmp).appended(",server=on,wait=off"));
        let root = json!({ "driver": "raw", "node-name": "root", "read-only": true,
            "file": { "driver": "file", "filename": self.root } });
        add("-blockdev", root.to_string().into());
        add("-device", format!("virtio-blk-pci,drive=root,serial={ROOT_SERIAL}").into());
        add("-device", "virtio-serial-pci".into());
        add("-chardev", with_path("socket,id=agent,server=on,wait=off,path=", &places.agent));
        add("-device", format!("virtserialport,chardev=agent,name={PORT_NAME}").into());
        for slot in 1..=SLOTS {
            add("-device", format!("pcie-root-port,id=slot{slot},chassis={slot},slot={slot}").into());
        }
        match start {
            Start::Cold => words.push("-S".into()),
            Start::Restored(state) => add("-incoming", with_path("exec:cat '", state).appended("'")),
        }
        words.extend(["-nodefaults", "-no-user-config", "-display", "none"].map(OsString::from));
        words
    }
}

trait Appended {
    fn appended(self, tail: &str) -> OsString;
}

impl Appended for OsString {
    fn appended(mut self, tail: &str) -> OsString {
        self.push(tail);
        self
    }
}

fn with_path(head: &str, path: &Path) -> OsString {
    let mut text = OsString::from(head);
    text.push(path);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_and_box_are_the_same_machine() {
        let machine =
            Machine { vmlinuz: "/v".into(), initrd: "/i".into(), root: "/r".into(), accel: Accel::Tcg };
        let places = Places::new(Path::new("/run"), Path::new("/logs"), "box1");
        let cold = machine.arguments(&places, Start::Cold);
        let restored = machine.arguments(&places, Start::Restored(Path::new("/state")));
        let without = |words: Vec<OsString>, cut: &[&str]| -> Vec<OsString> {
            words.into_iter().filter(|word| !cut.iter().any(|other| word == other)).collect()
        };
        assert_eq!(without(cold, &["-S"]), without(restored, &["-incoming", "exec:cat '/state'"]));
    }
}
