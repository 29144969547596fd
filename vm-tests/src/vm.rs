//! One QEMU process: started, plugged, stopped, and killed with whoever started it.

use crate::identity::{mac, mac_text};
use crate::link::Link;
use crate::machine::{Machine, Places, Start};
use crate::qmp::Qmp;
use crate::switch::{box_socket, switch_socket};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);
/// A guest lets go of a disk within a second, also under emulation; a busy one within a few.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);

/// A running machine. Dropped, it is killed.
pub struct Vm {
    child: Child,
    qmp: Qmp,
    /// The channel to its agent.
    pub link: Arc<Link>,
}

impl Vm {
    /// Starts QEMU and waits until it can be spoken to. The machine stands still until `resume`.
    pub fn start(machine: &Machine, places: &Places, start: Start<'_>) -> Result<Vm> {
        for socket in [&places.qmp, &places.agent] {
            remove_if_there(socket)?;
        }
        let log =
            File::create(&places.log).with_context(|| format!("cannot make {}", places.log.display()))?;
        let mut command = dying_with_parent("qemu-system-x86_64");
        command.args(machine.arguments(places, start)).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = spawn(command).context("cannot start QEMU")?;
        match speak(&mut child, places) {
            Ok((qmp, link)) => Ok(Vm { child, qmp, link }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(&places.log).unwrap_or_default();
                Err(error.context(format!("QEMU did not start: {}", said.trim())))
            }
        }
    }

    /// Lets the machine's time go on.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute("cont", json!({})).map(drop)
    }

    /// Stops the machine's time.
    pub fn stop(&mut self) -> Result<()> {
        self.qmp.execute("stop", json!({})).map(drop)
    }

    /// Puts box `number`'s card into `slot`, wired to the switch in `run`.
    pub fn plug_card(&mut self, slot: usize, number: usize, run: &Path) -> Result<()> {
        let local = box_socket(run, number);
        remove_if_there(&local)?;
        let remote = switch_socket(run, number);
        self.qmp.execute(
            "netdev_add",
            json!({ "type": "dgram", "id": "net0",
                "local": { "type": "unix", "path": local }, "remote": { "type": "unix", "path": remote } }),
        )?;
        self.qmp.execute(
            "device_add",
            json!({ "driver": "virtio-net-pci", "id": "nic0", "netdev": "net0", "bus": slot_name(slot),
                "mac": mac_text(mac(number)), "romfile": "" }),
        )?;
        Ok(())
    }

    /// Puts a disk into `slot`. A killed QEMU loses nothing that the guest had written, so flushes are for nothing;
    /// errors are the guest's to see.
    pub fn plug_disk(&mut self, slot: usize, serial: &str, file: &Path) -> Result<()> {
        self.qmp.execute(
            "blockdev-add",
            json!({ "driver": "raw", "node-name": node_name(slot), "discard": "unmap", "detect-zeroes": "off",
                "cache": { "no-flush": true },
                "file": { "driver": "file", "filename": file, "discard": "unmap", "cache": { "no-flush": true } } }),
        )?;
        let plugged = self.qmp.execute(
            "device_add",
            json!({ "driver": "virtio-blk-pci", "id": device_name(slot), "drive": node_name(slot),
                "bus": slot_name(slot), "serial": serial, "werror": "report", "rerror": "report" }),
        );
        if plugged.is_err() {
            self.qmp.execute("blockdev-del", json!({ "node-name": node_name(slot) }))?;
        }
        plugged.map(drop)
    }

    /// Takes the disk in `slot` out, whatever the guest does with it.
    pub fn unplug_disk(&mut self, slot: usize) -> Result<()> {
        let device = device_name(slot);
        self.qmp.execute("device_del", json!({ "id": device }))?;
        let is_gone = |event: &Value| {
            event.get("event").and_then(Value::as_str) == Some("DEVICE_DELETED")
                && event.pointer("/data/device").and_then(Value::as_str) == Some(device.as_str())
        };
        self.qmp.wait_event(is_gone, UNPLUG_LIMIT).context("the box did not let go of the disk")?;
        self.qmp.execute("blockdev-del", json!({ "node-name": node_name(slot) })).map(drop)
    }

    /// Writes the state of the stopped machine to a file.
    pub fn save(&mut self, file: &Path) -> Result<()> {
        self.qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 1u64 << 40 }))?;
        self.qmp.execute("migrate", json!({ "uri": format!("exec:cat > '{}'", file.display()) }))?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let progress = self.qmp.execute("query-migrate", json!({}))?;
            match progress.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("QEMU could not save the machine: {progress}"),
                Some(_) | None if Instant::now() > deadline => bail!("saving the machine took too long"),
                Some(_) | None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn slot_name(slot: usize) -> String {
    format!("slot{slot}")
}

fn device_name(slot: usize) -> String {
    format!("disk{slot}")
}

fn node_name(slot: usize) -> String {
    format!("node{slot}")
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn speak(child: &mut Child, places: &Places) -> Result<(Qmp, Arc<Link>)> {
    let deadline = Instant::now() + START_LIMIT;
    let mut qmp = loop {
        match Qmp::connect(&places.qmp) {
            Ok(qmp) => break qmp,
            Err(error) => {
                if child.try_wait()?.is_some() {
                    bail!("it ended at once");
                }
                if Instant::now() > deadline {
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    };
    let link = Link::connect(&places.agent)?;
    while qmp.status()? == "inmigrate" {
        if Instant::now() > deadline {
            bail!("restoring took too long");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok((qmp, link))
}

/// A command whose process is killed when this program ends, however it ends.
pub fn dying_with_parent(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Starts a process from a thread that never ends: the signal that `dying_with_parent` asks for is sent when the thread
/// that started the process ends, not when the program does.
pub fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, queue) = channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        });
        requests
    });
    let (answer, child) = channel();
    spawner.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
