//! Makes a freshly restored box the one it should be: entropy, clock, system disk, name, address.
//! A box restored from the template is a copy of all others until then. Who it is stands on its own system disk, so
//! that a box which boots from scratch finds the same (image/init mounts the same parts then).

use crate::identity::{SYSTEM_SERIAL, Setup};
use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::sethostname;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long plugged-in hardware may take to appear. Well above what emulation needs.
const HARDWARE_LIMIT: Duration = Duration::from_secs(30);
const SYSTEM_MOUNT: &str = "/lab/system";

/// Takes on the identity on the system disk. Does nothing twice.
pub fn become_box(request: &[u8]) -> Result<()> {
    let setup: Setup = serde_json::from_slice(request).context("the request to become a box is nonsense")?;
    reseed(&setup.seed)?;
    let micros = i64::try_from(setup.clock_us)?;
    let now = TimeSpec::new(micros / 1_000_000, micros % 1_000_000 * 1000);
    clock_settime(ClockId::CLOCK_REALTIME, now).context("cannot set the clock")?;
    let mounted = Path::new(SYSTEM_MOUNT).join("etc").exists();
    if !mounted {
        mount_system()?;
    }
    let name = fs::read_to_string("/etc/hostname").context("the system disk names no box")?;
    sethostname(name.trim()).context("cannot set the host name")?;
    network()?;
    // Warnings of the kernel belong on the console; more would slow the box down.
    fs::write("/proc/sys/kernel/printk", "5").context("cannot set the console's log level")?;
    if !mounted {
        // What was read from the template's /etc and /var is read again. systemd needs no reload to find new units: it
        // looks at its directories' times.
        call("udevadm", &["control", "--reload"])?;
        call("systemctl", &["restart", "systemd-journald"])?;
    }
    Ok(())
}

/// Gives the network card the address that the system disk tells.
pub fn network() -> Result<()> {
    let address = fs::read_to_string("/etc/lab/address").context("the system disk tells no address")?;
    wait_for("a network card", || Path::new("/sys/class/net/eth0").exists().then_some(()))?;
    let batch = format!("link set lo up\naddr replace {} dev eth0\nlink set eth0 up\n", address.trim());
    let mut ip =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("cannot run ip")?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    if !ip.wait()?.success() {
        bail!("ip could not set the address {}", address.trim());
    }
    Ok(())
}

fn mount_system() -> Result<()> {
    let device = wait_for("the system disk", || find_disk(SYSTEM_SERIAL))?;
    let none: Option<&str> = None;
    mount(Some(&device), SYSTEM_MOUNT, Some("ext4"), MsFlags::empty(), none)
        .with_context(|| format!("cannot mount the system disk {}", device.display()))?;
    for part in ["etc", "var", "root"] {
        let at = format!("/{part}");
        let layers =
            format!("lowerdir={at},upperdir={SYSTEM_MOUNT}{at}/upper,workdir={SYSTEM_MOUNT}{at}/work");
        mount(Some(part), at.as_str(), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
            .with_context(|| format!("cannot lay the system disk over {at}"))?;
    }
    for (part, at) in [("local", "/usr/local"), ("holdfast", "/var/lib/holdfast")] {
        let from = Path::new(SYSTEM_MOUNT).join(part);
        mount(Some(&from), at, none, MsFlags::MS_BIND, none).with_context(|| format!("cannot mount {at}"))?;
    }
    Ok(())
}

fn find_disk(serial: &str) -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        if fs::read_to_string(entry.path().join("serial")).is_ok_and(|found| found.trim() == serial) {
            let device = Path::new("/dev").join(entry.file_name());
            return device.exists().then_some(device);
        }
    }
    None
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + HARDWARE_LIMIT;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what} did not appear within {} s", HARDWARE_LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn call(program: &str, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Boxes restored from one template hold the same random state and would make the same UUIDs. This kernel does not
/// notice a restore by itself, so the pool gets a fresh seed and the generator is told to take it at once.
#[allow(unsafe_code, reason = "two ioctls that no safe wrapper exists for")]
fn reseed(seed: &[u8; 32]) -> Result<()> {
    use std::os::fd::AsRawFd;

    /// `struct rand_pool_info` of linux/random.h, with room for one seed.
    #[repr(C)]
    struct RandPoolInfo {
        entropy_bits: i32,
        size_bytes: i32,
        seed: [u8; 32],
    }
    // The kernel's macro gives the size of two ints whatever follows them.
    nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 0x03, 8), RandPoolInfo);
    nix::ioctl_none!(reseed_crng, b'R', 0x07);

    let random = fs::OpenOptions::new().write(true).open("/dev/random").context("cannot open /dev/random")?;
    let info = RandPoolInfo { entropy_bits: 256, size_bytes: 32, seed: *seed };
    // SAFETY: the descriptor is open, `info` lives through the call and is laid out as the kernel expects it.
    unsafe { add_entropy(random.as_raw_fd(), &info) }.context("cannot add entropy")?;
    // SAFETY: the descriptor is open; the call takes no argument.
    unsafe { reseed_crng(random.as_raw_fd()) }.context("cannot reseed the random generator")?;
    Ok(())
}
