//! Does the store keep what it acknowledged, when the power goes?
//!
//! Fault model. A loop device with ext4 stands for the disk. A child process commits numbered transactions
//! and prints each number once its commit has returned. At a random moment the file system is shut down by
//! EXT4_IOC_SHUTDOWN with NOLOGFLUSH: from then on nothing reaches the device, neither data in the page cache
//! nor the journal's running transaction, as if the power had gone. After umount, mount (the journal is
//! replayed) and opening the store, all that was acknowledged must be there and no transaction half. What the
//! disk itself would lose of its own cache is not modelled. The same is tried with kill -9, which loses
//! nothing from the page cache, and on a full disk.
//!
//! Needs root and a loop device; says SKIPPED otherwise. HOLDFAST_CUTS=N tries N cuts instead of those that
//! fit the time.
#![allow(clippy::unwrap_used, missing_docs)]

use holdfast::edge::store::{Op, Records, Store};
use nix::mount::{MsFlags, mount, umount};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Cuts of a normal run, unless the time ends before.
const CUTS: u32 = 20;
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// So many transactions until a key is written again: old values are there to be mixed up with.
const SLOTS: u64 = 40;
const CHILD_DIR: &str = "HOLDFAST_POWER_CUT_CHILD_DIR";

/// Transaction `n`: two keys that must always agree, a counter, sometimes a long record, sometimes one that
/// goes.
fn transaction(n: u64) -> Vec<Op> {
    let padded = |length: usize| format!("{n}:{}", "x".repeat(length)).into_bytes();
    let mut ops = vec![
        Op::Put(format!("left/{}", n % SLOTS), padded(200)),
        Op::Put(format!("right/{}", n % SLOTS), padded(30)),
        Op::Put("last".into(), n.to_string().into_bytes()),
    ];
    if n.is_multiple_of(50) {
        ops.push(Op::Put("long".into(), padded(9_000)));
    }
    let gone = "every-other".to_owned();
    ops.push(if n.is_multiple_of(2) { Op::Put(gone, padded(0)) } else { Op::Delete(gone) });
    ops
}

/// What the store must hold after transactions 1 to `last`.
fn expected(last: u64) -> Records {
    let mut records = Records::new();
    // All that is older has been written over.
    let from = (last.saturating_sub(SLOTS.max(50)) + 1).max(1);
    for op in (from..=last).flat_map(transaction) {
        match op {
            Op::Put(key, payload) => drop(records.insert(key, payload)),
            Op::Delete(key) => drop(records.remove(&key)),
        }
    }
    records
}

/// The number of the last transaction in the store, having checked that it holds exactly 1 to that one.
fn check(dir: &Path) -> Result<u64, String> {
    let (store, records) = Store::open(dir).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    let last = records.get("last").map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
    if records == expected(last) {
        Ok(last)
    } else {
        Err(format!("transaction {last} or one before is half there"))
    }
}

/// Not a test of its own: the child that the other tests start.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let (mut store, records) = Store::open(Path::new(&dir)).unwrap();
    let last: u64 = records.get("last").map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
    let mut out = std::io::stdout();
    writeln!(out, "\nopen").unwrap();
    for n in last + 1.. {
        if store.commit(&transaction(n)).is_err() {
            break;
        }
        writeln!(out, "ack {n}").unwrap();
    }
    std::process::exit(0);
}

/// Starts a writer, lets it work for `time` after its store is open, calls `stop`, and returns the last
/// acknowledged number.
fn write_until(dir: &Path, time: Duration, stop: impl FnOnce(&mut Child)) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (opened, is_open) = channel();
    let reader = std::thread::spawn(move || {
        let mut acked = 0;
        for line in lines.map_while(Result::ok) {
            if line == "open" {
                let _ = opened.send(());
            }
            acked = line.strip_prefix("ack ").map_or(acked, |n| n.parse().unwrap());
        }
        acked
    });
    is_open.recv_timeout(Duration::from_secs(20)).expect("the writer opens its store");
    std::thread::sleep(time);
    stop(&mut child);
    // It sees its disk fail and ends; a store that hangs over that is killed, which changes nothing on the
    // disk.
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn random_ms(below: u64) -> Duration {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    Duration::from_millis(u64::from_ne_bytes(bytes) % below)
}

/// An ext4 file system on a loop device.
struct Disk {
    base: PathBuf,
    device: String,
}

impl Disk {
    fn new(name: &str, size_bytes: u64) -> Result<Disk, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("not root".into());
        }
        let base = std::env::temp_dir().join(format!("holdfast-cut-{}-{name}", std::process::id()));
        fs::create_dir_all(base.join("mnt")).map_err(|error| error.to_string())?;
        let image = base.join("image");
        File::create(&image).and_then(|file| file.set_len(size_bytes)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()])?;
        let device = run("losetup", &["--find", "--show", image.to_str().unwrap()])?;
        let disk = Disk { base, device };
        disk.mount()?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.base.join("mnt")
    }

    fn mount(&self) -> Result<(), String> {
        mount(Some(self.device.as_str()), &self.path(), Some("ext4"), MsFlags::empty(), None::<&str>)
            .map_err(|error| format!("mount: {error}"))
    }

    fn cut_power(&self) {
        shut_down(&File::open(self.path()).unwrap());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount(&self.path());
        let _ = run("losetup", &["--detach", &self.device]);
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program}: {}", text(&output.stderr)))
    }
}

mod ioctl {
    #![allow(unsafe_code)]
    // EXT4_IOC_SHUTDOWN of the kernel's fs/ext4/ext4.h: _IOR('X', 125, __u32), although the number is read by
    // it.
    nix::ioctl_read!(ext4_shutdown, b'X', 125, u32);
}

/// Shuts down the ext4 file system that `dir` is on, without writing the journal out.
#[allow(unsafe_code)] // The ioctl has no safe wrapper; the number outlives the call.
fn shut_down(dir: &File) {
    let mut no_log_flush: u32 = 2; // EXT4_GOING_FLAGS_NOLOGFLUSH
    unsafe { ioctl::ext4_shutdown(dir.as_raw_fd(), &mut no_log_flush) }.unwrap();
}

/// Past the test harness, which would hide what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "power_cut: {line}");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let disk = match Disk::new("power", 64 << 20) {
        Ok(disk) => disk,
        Err(why) => return say(&format!("SKIPPED: {why}")),
    };
    let asked: Option<u32> = std::env::var("HOLDFAST_CUTS").ok().and_then(|n| n.parse().ok());
    let (started, dir) = (Instant::now(), disk.path().join("store"));
    let (mut cuts, mut total) = (0, 0);
    while cuts < asked.unwrap_or(CUTS) && (asked.is_some() || started.elapsed() < TIME_LIMIT) {
        let acked = write_until(&dir, random_ms(400), |_| disk.cut_power());
        umount(&disk.path()).unwrap();
        disk.mount().unwrap();
        cuts += 1;
        match check(&dir) {
            Ok(last) => {
                assert!(last >= acked.max(total), "cut {cuts}: {acked} was acknowledged, {last} is there");
                // More than the one that was being committed was never under way.
                assert!(acked == 0 || last <= acked + 1, "cut {cuts}: {last} is there after {acked}");
                total = last;
            }
            Err(error) => panic!("cut {cuts}, after {acked} was acknowledged: {error}"),
        }
    }
    say(&format!("{cuts} power cuts, {total} commits, none lost or half"));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = std::env::temp_dir().join(format!("holdfast-kill-{}", std::process::id()));
    let mut total = 0;
    for kill in 1..=10 {
        let acked = write_until(&dir, random_ms(150), |child| child.kill().unwrap());
        let last = check(&dir).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        assert!(last >= acked.max(total), "kill {kill}: {acked} was acknowledged, {last} is there");
        total = last;
    }
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_store_on_a_full_disk_still_opens() {
    let disk = match Disk::new("full", 16 << 20) {
        Ok(disk) => disk,
        Err(why) => return say(&format!("SKIPPED: {why}")),
    };
    let dir = disk.path().join("store");
    let (mut store, _) = Store::open(&dir).unwrap();
    (1..=30).for_each(|n| store.commit(&transaction(n)).unwrap());
    store.close().unwrap();
    let mut filler = File::create(disk.path().join("filler")).unwrap();
    for block in [1 << 16, 512, 1] {
        while filler.write_all(&vec![1; block]).is_ok() {}
    }
    let _ = filler.sync_all();
    assert_eq!(check(&dir), Ok(30));
    assert!(!dir.join("reserve").exists(), "it took the reserve");
    fs::remove_file(disk.path().join("filler")).unwrap();
    assert_eq!(check(&dir), Ok(30));
    assert!(dir.join("reserve").exists(), "it is there again");
}
