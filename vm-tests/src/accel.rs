//! Can guests run on the processor here? Only a guest that really ran is believed: /dev/kvm may open and guests hang.

use crate::machine::Accel;
use crate::paths::{Key, Paths};
use crate::vm::{dying_with_parent, spawn};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The probe guest needs well under a second of a real processor.
const PROBE_LIMIT: Duration = Duration::from_secs(8);
/// What image/init says when it is asked to.
const PROBE_ANSWER: &str = "lab-probe-ok";

/// Decides, once per start of the host, kernel and QEMU.
pub fn ensure(paths: &Paths, vmlinuz: &Path, initrd: &Path) -> Result<Accel> {
    match env::var("LAB_ACCEL").ok().as_deref() {
        Some("kvm") => return Ok(Accel::Kvm),
        Some("tcg") => return Ok(Accel::Tcg),
        Some("auto" | "") | None => {}
        Some(other) => bail!("LAB_ACCEL={other}: it is kvm, tcg or auto"),
    }
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accel::Tcg);
    }
    let host = fs::read("/proc/sys/kernel/random/boot_id").context("cannot tell this start of the host")?;
    let key = Key::default().add(host).add(qemu_version()?).add_path(vmlinuz)?.finish();
    let answer = paths.cache.join("accel");
    let known = fs::read_to_string(&answer).unwrap_or_default();
    if known == format!("{key} kvm") {
        return Ok(Accel::Kvm);
    }
    if known == format!("{key} tcg") {
        return Ok(Accel::Tcg);
    }
    let runs = probe(&paths.state.join("probe.log"), vmlinuz, initrd)?;
    let (accel, word) = if runs { (Accel::Kvm, "kvm") } else { (Accel::Tcg, "tcg") };
    if !runs {
        eprintln!("lab: /dev/kvm is there but a guest does not run on it: boxes are emulated");
    }
    fs::write(answer, format!("{key} {word}"))?;
    Ok(accel)
}

/// What `qemu-system-x86_64 --version` says.
pub fn qemu_version() -> Result<String> {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().context("cannot run QEMU")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn probe(log: &Path, vmlinuz: &Path, initrd: &Path) -> Result<bool> {
    fs::write(log, "")?;
    let mut command = dying_with_parent("qemu-system-x86_64");
    command.args(Accel::Kvm.arguments()).args(["-machine", "q35", "-cpu", "max", "-m", "256"]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-append",
        "console=ttyS0 quiet lab.probe",
    ]);
    command.arg("-kernel").arg(vmlinuz).arg("-initrd").arg(initrd);
    command.arg("-serial").arg(format!("file:{}", log.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guest = spawn(command).context("cannot start QEMU")?;
    let answered = wait_for_answer(&mut guest, log);
    let _ = guest.kill();
    guest.wait()?;
    Ok(answered)
}

fn wait_for_answer(guest: &mut Child, log: &Path) -> bool {
    let deadline = Instant::now() + PROBE_LIMIT;
    while Instant::now() < deadline {
        let has_ended = !matches!(guest.try_wait(), Ok(None));
        if fs::read_to_string(log).is_ok_and(|said| said.contains(PROBE_ANSWER)) {
            return true;
        }
        if has_ended {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}
