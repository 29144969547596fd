//! This machine as a bench of the contracts: it is broken on purpose, so only ever inside a box.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process::Command,
    sync::{Arc, Condvar, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use holdfast::{
    core::{
        conf,
        drbd::{DrbdVersion, Resource},
        intent::Member,
        names::{BoxName, PoolName},
    },
    edge::{
        drbd::module_version,
        drbd_events::{EventStream, StreamEvent},
        run::{Programs, Recording, Tool},
    },
    host::{Host, RealHost},
};

use nix::fcntl::OFlag;

use crate::contract::{Bench, Held, Members, Spoil};

/// Nothing new for so long: the kernel has told all.
const QUIET: Duration = Duration::from_millis(600);
/// Where the first of the boxes waits for the others.
const MEETING_PORT: u16 = 7777;
/// What one box may take longer than another, where both are emulated.
const MEETING_LIMIT: Duration = Duration::from_secs(240);

/// A DOS partition table with one partition, by hand: a box need not have a partitioning program.
const PARTITION: &str = r"printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\0\001\0' | dd of=D bs=1 seek=446 status=none;
    printf '\125\252' | dd of=D bs=1 seek=510 status=none; blockdev --rereadpt D";

/// With `HOLDFAST_TEST_RECORD=DIR`, what the programs say is recorded there.
pub struct RealBench {
    host: RealHost,
    drbd: DrbdVersion,
    told: Arc<(Mutex<Told>, Condvar)>,
    meeting: Mutex<Option<Meeting>>,
    _stream: EventStream,
}

/// What the stream of events has told.
struct Told {
    resources: Option<BTreeMap<String, Resource>>,
    at: Instant,
}

impl RealBench {
    pub fn new() -> Self {
        let programs = Programs::resolve().unwrap();
        let programs = Arc::new(match std::env::var_os("HOLDFAST_TEST_RECORD") {
            Some(dir) => programs.recorded_by(Recording::open(Path::new(&dir)).unwrap().start().unwrap()),
            None => programs,
        });
        let drbd = module_version().expect("DRBD's module is loaded");
        let told = Arc::new((Mutex::new(Told { resources: None, at: Instant::now() }), Condvar::new()));
        let to = Arc::clone(&told);
        let (recorder, drbdsetup) = (programs.recorder().cloned(), programs.path(Tool::Drbdsetup));
        let stream = EventStream::recorded_by(recorder, drbdsetup, drbd, move |event| {
            let mut told = to.0.lock().unwrap();
            match event {
                StreamEvent::Facts(all) => told.resources = Some(all),
                StreamEvent::Changed(name, now) => {
                    let resources = told.resources.get_or_insert_default();
                    match now {
                        Some(resource) => drop(resources.insert(name, resource)),
                        None => drop(resources.remove(&name)),
                    }
                }
                StreamEvent::Lost(why) => {
                    println!("   events are lost: {why}");
                    told.resources = None;
                }
            }
            told.at = Instant::now();
            to.1.notify_all();
        });
        Self {
            host: RealHost::new(programs),
            drbd,
            told,
            meeting: Mutex::default(),
            _stream: stream.unwrap(),
        }
    }
}

/// A blank disk in a box, or more of them: `HOLDFAST_TEST_DISK=/dev/vdb,/dev/vdc`.
pub fn disks() -> Vec<String> {
    let text = std::env::var("HOLDFAST_TEST_DISK").expect("HOLDFAST_TEST_DISK is a blank disk");
    text.split(',').map(str::to_owned).collect()
}

pub fn sh(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Never makes a plain file where the device is gone.
fn drbd(minor: u32, write: bool) -> std::io::Result<File> {
    // What was written is on the disks when the call returns.
    let how = if write { OFlag::O_DSYNC.bits() } else { 0 };
    OpenOptions::new().read(true).write(write).custom_flags(how).open(format!("/dev/drbd{minor}"))
}

impl Bench for RealBench {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn drbd(&self) -> DrbdVersion {
        self.drbd
    }

    fn me(&self) -> BoxName {
        BoxName::new(sh("uname -n").trim()).unwrap()
    }

    fn members(&self) -> Members {
        let all = std::env::var("HOLDFAST_TEST_BOXES").expect("HOLDFAST_TEST_BOXES is NAME=ADDRESS,...");
        let member = |text: &str| {
            let (name, address) = text.split_once('=').unwrap();
            let (name, address) = (BoxName::new(name).unwrap(), address.parse().unwrap());
            (name.clone(), Member { name, public_key: String::new(), address })
        };
        all.split(',').map(member).collect()
    }

    fn disks(&self) -> Vec<String> {
        disks()
    }

    fn resource(&self, name: &str) -> Option<Resource> {
        let asked = Instant::now();
        let mut told = self.told.0.lock().unwrap();
        loop {
            // Also what was done right before has to have its time to be told.
            let quiet = told.at.max(asked) + QUIET;
            let wait = quiet.saturating_duration_since(Instant::now());
            if wait.is_zero() && told.resources.is_some() {
                break;
            }
            assert!(asked.elapsed() < Duration::from_secs(60), "DRBD's events never end, or never begin");
            told = self.told.1.wait_timeout(told, wait.max(Duration::from_millis(10))).unwrap().0;
        }
        told.resources.as_ref()?.get(name).cloned()
    }

    fn pause(&self) {
        sleep(Duration::from_millis(200));
    }

    fn spoil(&self, device: &str, how: Spoil) {
        let make = match how {
            Spoil::FileSystem => "mkfs.ext4 -q -F D",
            Spoil::PartitionTable => PARTITION,
            Spoil::Mounted => "mkfs.ext4 -q -F D && mount D /mnt",
            Spoil::Swap => "mkswap -q D && swapon D",
        };
        sh(&make.replace('D', device));
    }

    fn clean(&self, device: &str, how: Spoil) {
        let undo = match how {
            Spoil::FileSystem => "wipefs -qa D",
            Spoil::PartitionTable => "dd if=/dev/zero of=D bs=1M count=1 status=none; blockdev --rereadpt D",
            Spoil::Mounted => "umount /mnt; wipefs -qa D",
            Spoil::Swap => "swapoff D; wipefs -qa D",
        };
        // While udev looks at a device it does not hear what is written to it, so a signature that goes just then stays in
        // its record (until somebody writes again): it has to be done with the last look, and is asked for another.
        let undo = format!("set -e; udevadm settle; {undo}; udevadm trigger --settle D");
        sh(&undo.replace('D', device));
    }

    fn make_foreign_lv(&self, pool: &PoolName, name: &str) {
        sh(&format!("lvcreate -qq -an -Wn -Zn -n {name} -L 8M {}", conf::vg_name(pool)));
    }

    fn remove_foreign_lv(&self, pool: &PoolName, name: &str) {
        sh(&format!("lvremove -qq -y {}/{name}", conf::vg_name(pool)));
    }

    fn deactivate_lv(&self, pool: &PoolName, name: &str) {
        sh(&format!("udevadm settle; lvchange -qq -an {}/{name}", conf::vg_name(pool)));
    }

    fn hold_lv(&self, pool: &PoolName, name: &str) -> Held {
        Box::new(File::open(conf::lv_path(pool, name)).unwrap())
    }

    fn write_foreign_conf(&self, resource: &str) {
        std::fs::write(format!("/etc/drbd.d/{resource}.res"), "# Made by somebody else\n").unwrap();
    }

    fn remove_foreign_conf(&self, resource: &str) {
        std::fs::remove_file(format!("/etc/drbd.d/{resource}.res")).unwrap();
    }

    fn open(&self, minor: u32, write: bool) -> Result<Held, String> {
        match drbd(minor, write) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => {
                println!("   open /dev/drbd{minor}{}: {error}", if write { " to write" } else { "" });
                Err(error.to_string())
            }
        }
    }

    fn write(&self, minor: u32, number: u64) {
        let mut block = [0; 4096];
        block[..8].copy_from_slice(&number.to_le_bytes());
        drbd(minor, true).unwrap().write_all_at(&block, 0).unwrap();
    }

    fn read(&self, minor: u32) -> u64 {
        let mut number = [0; 8];
        drbd(minor, false).unwrap().read_exact(&mut number).unwrap();
        u64::from_le_bytes(number)
    }

    fn meet(&self, place: &str) {
        let mut meeting = self.meeting.lock().unwrap();
        meeting.get_or_insert_with(|| Meeting::new(&self.members(), &self.me())).at(place);
    }

    fn tidy(&self, pool: &PoolName) {
        let vg = conf::vg_name(pool);
        sh(&format!("vgremove -qq -y {vg}"));
        for device in self.disks() {
            sh(&format!("wipefs -qa {device}"));
        }
    }
}

/// The first box hears the others say where they are, and tells them when all are there. Who fails hangs up.
enum Meeting {
    Host(Vec<BufReader<TcpStream>>),
    Guest(BufReader<TcpStream>),
}

impl Meeting {
    fn new(members: &Members, me: &BoxName) -> Self {
        let (first, host) = members.first_key_value().unwrap();
        let address = SocketAddr::new(host.address, MEETING_PORT);
        if me == first {
            let listener = TcpListener::bind(address).unwrap();
            let guests = (1..members.len()).map(|_| Self::with(listener.accept().unwrap().0)).collect();
            return Meeting::Host(guests);
        }
        let started = Instant::now();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_secs(3)) {
                Ok(stream) => return Meeting::Guest(Self::with(stream)),
                Err(error) => assert!(started.elapsed() < MEETING_LIMIT, "{address}: {error}"),
            }
            sleep(Duration::from_millis(200));
        }
    }

    fn with(stream: TcpStream) -> BufReader<TcpStream> {
        stream.set_read_timeout(Some(MEETING_LIMIT)).unwrap();
        BufReader::new(stream)
    }

    fn at(&mut self, place: &str) {
        let hear = |stream: &mut BufReader<TcpStream>| {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap_or_else(|e| panic!("nobody comes to {place:?}: {e}"));
            assert_eq!(line.trim_end(), place, "another box is elsewhere, or failed");
        };
        let say = |stream: &BufReader<TcpStream>| stream.get_ref().write_all(format!("{place}\n").as_bytes());
        match self {
            Meeting::Host(guests) => {
                guests.iter_mut().for_each(hear);
                guests.iter().for_each(|guest| say(guest).unwrap());
            }
            Meeting::Guest(host) => {
                say(host).unwrap();
                hear(host);
            }
        }
    }
}
