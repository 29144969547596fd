//! Commands carried out on a world, with what a person would see.

#![allow(clippy::wildcard_enum_match_arm)] // one command at a time is told apart

use std::collections::BTreeMap;

use crate::{
    core::{
        assign::found_meta,
        claim::Standing,
        drbd::{DrbdVersion, Role},
        intent::{Cluster, DiskWish, Group, META_NAME, Pool, PoolKind, Record},
        names::{DiskIdent, DiskName, GroupName, PoolName},
        node::Input,
        refusal::Refusal,
        size::Size,
        view::View,
        wish::Wish,
    },
    tree,
};

use super::{
    command::{Command, Verb},
    drbd::BoxId,
    machine::{Machine, MetaStore, Records},
    storage::Content,
    world::World,
};

/// An answer is waited for so long.
const ANSWER_MS: u64 = 15_000;
/// Quiet is waited for so long.
const QUIET_MS: u64 = 600_000;

/// A world and where a person is in it.
pub struct Session {
    /// The world.
    pub world: World,
    steps_shown: usize,
}

type Lines = Vec<String>;

/// A version of each of the two generations.
pub fn version(major: u8) -> DrbdVersion {
    if major >= 9 {
        DrbdVersion { major: 9, minor: 2, patch: 18 }
    } else {
        DrbdVersion { major: 8, minor: 4, patch: 11 }
    }
}

fn no(text: impl Into<String>) -> Lines {
    vec![text.into()]
}

impl Session {
    /// Three boxes of DRBD 9 until a command says otherwise.
    pub fn new() -> Self {
        Self { world: World::new(3, version(9), 1), steps_shown: 0 }
    }

    /// Carries it out; what there is to be seen.
    pub fn command(&mut self, command: &Command) -> Lines {
        match command {
            Command::Boxes(n, major, seed) => {
                if !(1..=16).contains(n) {
                    return no("there are 1 to 16 boxes");
                }
                *self = Self { world: World::new(*n, version(*major), *seed), steps_shown: 0 };
                Lines::new()
            }
            Command::Cluster(n, major, size, seed) => self.cluster(*n, *major, *size, *seed),
            Command::Run(ms) => {
                self.world.run(*ms);
                Lines::new()
            }
            Command::Quiet => self.quiet(),
            Command::Show(what) => self.show(what),
            Command::Do(at, verb) => self.in_tree(at.as_deref(), verb),
            Command::Mend => {
                self.world.mend();
                Lines::new()
            }
            other => match self.world.one(other) {
                Ok(lines) => lines,
                Err(why) => no(why),
            },
        }
    }

    fn cluster(&mut self, n: usize, major: u8, size: Size, seed: u64) -> Lines {
        let mut seen = self.command(&Command::Boxes(n, major, seed));
        let Ok(slot) = DiskName::new("sdb") else { return seen };
        let names: Vec<String> = self.world.boxes.iter().map(|m| m.name.to_string()).collect();
        for name in &names {
            seen.extend(self.command(&Command::Plug(name.clone(), slot.clone(), size, None)));
        }
        let Some((first, others)) = names.split_first() else { return seen };
        seen.extend(self.command(&Command::Init(first.clone(), slot.clone())));
        seen.extend(self.quiet());
        for name in others {
            seen.extend(self.command(&Command::Join(name.clone(), None)));
        }
        seen.extend(self.quiet());
        for name in others {
            let path = format!("nodes/{name}/disks/{slot}/pool");
            seen.extend(self.in_tree(None, &Verb::Write(path, "main".to_owned())));
        }
        seen.extend(self.quiet());
        self.steps_shown = self.world.steps.len();
        seen
    }

    fn quiet(&mut self) -> Lines {
        if self.world.run_until_quiet(QUIET_MS) {
            return Lines::new();
        }
        match &self.world.check.broken {
            Some(broken) => no(format!("invariant {} is broken: {}", broken.invariant, broken.text)),
            None => {
                let mut seen = no("it does not become quiet; planned are:");
                seen.extend(self.world.plans());
                seen
            }
        }
    }

    fn in_tree(&mut self, at: Option<&str>, verb: &Verb) -> Lines {
        let at = match at {
            None => self.world.anybody(),
            Some(name) => match self.world.find(name) {
                Some(at) => at,
                None => return no(format!("there is no box {name}")),
            },
        };
        let Some(view) = self.world.view(at) else { return no("its daemon does not run") };
        match verb {
            Verb::Cat(path) => return cat(&view, path),
            Verb::Ls(path) => return ls(&view, path),
            Verb::Mkdir(_) | Verb::Rmdir(_) | Verb::Write(..) | Verb::Mv(..) => {}
        }
        let ticket = match self.world.ask(at, verb) {
            Ok(ticket) => ticket,
            Err(refusal) => return no(refusal_line(&refusal)),
        };
        let limit = self.world.now_ms + ANSWER_MS;
        while !self.world.answers.contains_key(&ticket)
            && self.world.check.broken.is_none()
            && self.world.step(limit)
        {}
        match self.world.answers.get(&ticket) {
            Some(Ok(())) => Lines::new(),
            Some(Err(refusal)) => no(refusal_line(refusal)),
            None => no("no answer came"),
        }
    }

    fn show(&mut self, what: &str) -> Lines {
        match what {
            "volumes" => self.in_tree(None, &Verb::Cat("status".to_owned())),
            "health" => self.in_tree(None, &Verb::Cat("health".to_owned())),
            "plan" => self.world.plans(),
            "boxes" => self.world.boxes.iter().map(|m| box_line(m, &self.world)).collect(),
            "disks" => self.world.disk_lines(),
            "steps" => {
                let steps = self.world.steps.get(self.steps_shown..).unwrap_or_default().to_vec();
                self.steps_shown = self.world.steps.len();
                steps
            }
            _ => no("there is: show volumes, boxes, health, plan, steps, disks"),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

fn refusal_line(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.errno.name(), refusal.text)
}

fn cat(view: &View, path: &str) -> Lines {
    match tree::read(view, path) {
        Some(bytes) => String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect(),
        None => no(format!("{path}: no such file")),
    }
}

fn ls(view: &View, path: &str) -> Lines {
    match tree::list(view, path) {
        Some(entries) => entries.into_iter().map(|entry| entry.name).collect(),
        None => no(format!("{path}: no such directory")),
    }
}

fn box_line(machine: &Machine, world: &World) -> String {
    let power = if machine.on { "on" } else { "off" };
    let daemon = match &machine.mind {
        None => "no daemon".to_owned(),
        Some(mind) if mind.node.leads() => "leads".to_owned(),
        Some(mind) => match mind.node.view().leader {
            Some(leader) => format!("follows {leader}"),
            None => "has no leader".to_owned(),
        },
    };
    let at = world.find(machine.name.as_str()).unwrap_or(0);
    let used: Vec<String> = world
        .kernels
        .uses()
        .filter(|(on, _, used)| *on == at && used.role == Role::Primary)
        .map(|(_, resource, _)| resource.to_owned())
        .collect();
    let primary = if used.is_empty() { String::new() } else { format!(", Primary of {}", used.join(" ")) };
    format!("{}: {power}, {daemon}{primary}", machine.name)
}

impl World {
    /// The leader, or else a box whose daemon runs.
    fn anybody(&self) -> BoxId {
        let lives = || self.boxes.iter().position(|m| m.mind.is_some());
        self.leader().or_else(lives).unwrap_or(0)
    }

    /// What a box can show now.
    pub fn view(&self, at: BoxId) -> Option<View> {
        Some(self.boxes.get(at)?.node()?.view())
    }

    /// A verb in the tree of a box: its ticket, or the tree's refusal.
    pub fn ask(&mut self, at: BoxId, verb: &Verb) -> Result<u64, Refusal> {
        let Some(view) = self.view(at) else { return Ok(self.wish(at, "", Wish::SetToken(None))) };
        let (path, wish) = match verb {
            Verb::Mkdir(path) => (path, tree::mkdir(&view, path)),
            Verb::Rmdir(path) => (path, tree::rmdir(&view, path)),
            Verb::Write(path, value) => (path, tree::write(&view, path, format!("{value}\n").as_bytes(), 0)),
            Verb::Mv(from, to) => (from, Err(tree::rename(&view, from, to))),
            Verb::Cat(path) | Verb::Ls(path) => (path, Err(tree::fixed(path, "asked for"))),
        };
        let about = tree::about(path);
        match wish {
            Ok(wish) => Ok(self.wish(at, &about, wish)),
            Err(refusal) => {
                self.take(at, Input::Refused { about, refusal: refusal.clone() });
                Err(refusal)
            }
        }
    }

    fn named(&self, name: &str) -> Result<BoxId, String> {
        self.find(name).ok_or_else(|| format!("there is no box {name}"))
    }

    /// A command that is about boxes.
    pub(super) fn one(&mut self, command: &Command) -> Result<Lines, String> {
        match command {
            Command::Plug(at, slot, size, what) => {
                let at = self.named(at)?;
                let content = what.clone().map_or(Content::Blank, Content::Foreign);
                return self.plug(at, slot, *size, content);
            }
            Command::Init(at, slot) => return self.init(at, slot),
            Command::Join(at, via) => {
                let at = self.named(at)?;
                let via = via.as_deref().map_or(Ok(self.leader().unwrap_or(0)), |name| self.named(name))?;
                self.join(at, via);
            }
            Command::Ask(at, verb) => {
                let at = self.named(at)?;
                // Nobody waits for the answer; the checks see it.
                drop(self.ask(at, verb));
            }
            Command::Use(volume, at)
            | Command::Unuse(volume, at)
            | Command::Put(volume, at)
            | Command::Get(volume, at) => {
                let at = self.named(at)?;
                return self.data(command, volume, at);
            }
            Command::Crash(at) => self.crash(self.named(at)?),
            Command::Start(at) => self.start(self.named(at)?),
            Command::PowerOff(at) => self.power_off(self.named(at)?),
            Command::PowerOn(at) => self.power_on(self.named(at)?),
            Command::Cut(a, b) => {
                let (a, b) = (self.named(a)?, self.named(b)?);
                self.net.cut.extend([(a, b), (b, a)]);
                self.wires_changed = true;
            }
            Command::CutFrom(a, b) => {
                let (a, b) = (self.named(a)?, self.named(b)?);
                self.net.cut.insert((a, b));
                self.wires_changed = true;
            }
            Command::BreakDisk(at, slot) | Command::Pull(at, slot) | Command::Wipe(at, slot) => {
                let (at, slot) = (self.named(at)?, slot.clone());
                let now = self.now_ms;
                let storage = &mut self.boxes[at].storage;
                storage.now_ms = now;
                let drive = storage.in_slot(&slot).ok_or_else(|| format!("there is no disk {slot}"))?;
                match command {
                    Command::BreakDisk(..) => storage.drives[drive].failed = true,
                    Command::Pull(..) => storage.drives[drive].slot = None,
                    _ => storage.wipe(drive, &mut self.kernels),
                }
                self.drives_changed(at);
                if matches!(command, Command::Wipe(..)) {
                    self.excuse();
                }
            }
            Command::Replug(at, serial, slot) => {
                let at = self.named(at)?;
                let storage = &mut self.boxes[at].storage;
                if storage.in_slot(slot).is_some() {
                    return Err(format!("{slot} is taken"));
                }
                let ident = DiskIdent::new(serial);
                let drive = storage.drives.iter_mut().find(|d| d.ident == ident && d.slot.is_none());
                let drive = drive.ok_or_else(|| format!("there is no disk {serial} outside of its box"))?;
                (drive.slot, drive.failed) = (Some(slot.clone()), false);
                self.drives_changed(at);
            }
            Command::FailStep(at, fault) => {
                let at = self.named(at)?;
                self.boxes[at].fault = Some(*fault);
            }
            Command::Blind(at, eye) => self.blind(self.named(at)?, *eye, true),
            Command::Stale(at, ms) => {
                let at = self.named(at)?;
                self.boxes[at].stale_ms = *ms;
            }
            Command::Usurp(at) => self.usurp(self.named(at)?),
            Command::Boxes(..) | Command::Cluster(..) | Command::Do(..) | Command::Mend => {}
            Command::Run(_) | Command::Quiet | Command::Show(_) => {}
        }
        Ok(Lines::new())
    }

    fn plug(&mut self, at: BoxId, slot: &DiskName, size: Size, content: Content) -> Result<Lines, String> {
        self.drives_made += 1;
        let ident = DiskIdent::new(&format!("disk{}", self.drives_made));
        let now = self.now_ms;
        let storage = &mut self.boxes[at].storage;
        storage.now_ms = now;
        if !storage.plug(slot, ident, size, content) {
            return Err(format!("{slot} is taken"));
        }
        self.drives_changed(at);
        Ok(Lines::new())
    }

    /// What lies on them works or does not, and udev says that something changed.
    fn drives_changed(&mut self, at: BoxId) {
        self.boxes[at].storage.drives_changed(&mut self.kernels);
        for source in [crate::core::node::Source::Disks, crate::core::node::Source::Vgs] {
            self.ask_to_look(at, source, 0);
        }
    }

    /// Every disk of the box works again and is in a slot.
    pub(super) fn plug_back(&mut self, at: BoxId) {
        let slots = ["sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh"];
        let storage = &mut self.boxes[at].storage;
        for drive in 0..storage.drives.len() {
            let free =
                slots.iter().filter_map(|s| DiskName::new(*s).ok()).find(|s| storage.in_slot(s).is_none());
            let drive = &mut storage.drives[drive];
            drive.failed = false;
            drive.slot = drive.slot.take().or(free);
        }
        self.drives_changed(at);
    }

    /// `holdfast init`: the same records, and the daemon starts.
    fn init(&mut self, name: &str, slot: &DiskName) -> Result<Lines, String> {
        let at = self.named(name)?;
        let disks = self.boxes[at].storage.look_disks();
        let disk = disks.get(slot).filter(|d| d.standing == Standing::Blank);
        let disk = disk.ok_or_else(|| format!("{slot} of {name} is not there or not blank"))?;
        let member = self.member(at).ok_or("there is no such box")?;
        let invalid = |refusal: Refusal| refusal.text;
        let pool = PoolName::new("main").map_err(invalid)?;
        let records = [
            Record::Cluster(Cluster {
                id: "c0ffee0000000001".to_owned(),
                name: "model".to_owned(),
                link_key: "1".repeat(64),
                join_secret: "2".repeat(64),
                leader: member.name.clone(),
            }),
            Record::Pool(Pool { name: pool.clone(), kind: PoolKind::Lvm }),
            Record::Group(Group {
                name: GroupName::new("default").map_err(invalid)?,
                replicas: 2,
                pool: pool.clone(),
            }),
            Record::Disk(DiskWish {
                on: member.name.clone(),
                ident: disk.ident.clone(),
                name: slot.clone(),
                pool: pool.clone(),
            }),
            Record::Assignment(found_meta(&member.name, &pool, "5".repeat(32))),
            Record::Member(member),
        ];
        let machine = &mut self.boxes[at];
        machine.saved = Some(records.into_iter().map(|r| (r.key(), r)).collect::<BTreeMap<_, _>>());
        machine.founding = true;
        self.start(at);
        Ok(Lines::new())
    }

    /// All wires are whole, all sources can be seen, at once, and no fault waits.
    pub fn mend(&mut self) {
        self.net.cut.clear();
        self.wires_changed = true;
        for at in 0..self.boxes.len() {
            (self.boxes[at].fault, self.boxes[at].stale_ms) = (None, 0);
            for eye in std::mem::take(&mut self.boxes[at].blind) {
                self.boxes[at].blind.insert(eye);
                self.blind(at, eye, false);
            }
        }
    }

    /// A box takes itself for the leader, though it is not: it begins from what it knows itself.
    fn usurp(&mut self, at: BoxId) {
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        if !matches!(mind.store, MetaStore::Closed) {
            return;
        }
        let saved = mind.node.intent().records();
        let records: Records = saved.iter().map(|r| (r.key(), r.clone())).collect();
        self.check.begins(at, &records);
        let (queue, batch) = Default::default();
        mind.store = MetaStore::Open { records, queue, batch, writing: false, dead: false };
        self.take(at, Input::StoreOpened(Ok(saved)));
    }

    // ---- the operator's data

    fn data(&mut self, command: &Command, volume: &str, at: BoxId) -> Result<Lines, String> {
        if volume == META_NAME {
            return Err("that one is holdfast's own".to_owned());
        }
        // A removed volume's device may still have the name.
        let minor = self.kernels.look(at, volume).and_then(|r| r.devices.get(&0).map(|d| d.minor));
        let id = super::check::assignments(&self.check.durable)
            .find(|a| a.resource == volume && Some(a.minor) == minor)
            .map(|a| a.id.clone());
        let Some(id) = id else { return Err(format!("there is no device of {volume}")) };
        match command {
            Command::Use(..) => match self.kernels.open(at, volume) {
                Ok(()) => {}
                Err(error) => return Err(format!("open: {error:?}")),
            },
            Command::Unuse(..) => self.kernels.close(at, volume),
            Command::Put(..) => match self.kernels.write(at, volume) {
                Ok(content) => drop(self.check.written.insert(id, content)),
                Err(error) => return Err(format!("write: {error:?}")),
            },
            _ => {
                let content = self.kernels.read(at, volume).map_err(|error| format!("read: {error:?}"))?;
                let written = self.check.written.get(&id).copied().unwrap_or_default();
                if !self.kernels.descends(content, written) {
                    let text = format!("{volume} on {} reads without what was written", self.boxes[at].name);
                    self.check.fail(8, text.clone());
                    return Err(text);
                }
            }
        }
        Ok(Lines::new())
    }

    fn disk_lines(&self) -> Lines {
        let mut lines = Lines::new();
        for machine in &self.boxes {
            for (slot, disk) in machine.storage.look_disks() {
                lines.push(format!(
                    "{} {slot} {} {}: {}",
                    machine.name,
                    disk.serial,
                    disk.size.about(),
                    disk.standing
                ));
            }
            for (pool, vg) in machine.storage.look_vgs() {
                for lv in vg.lvs {
                    let fresh = if lv.fresh { ", fresh" } else { "" };
                    let active = if lv.active { "" } else { ", its disk is away" };
                    lines.push(format!(
                        "{} {pool}/{} {}{fresh}{active}",
                        machine.name,
                        lv.name,
                        lv.size.about()
                    ));
                }
            }
        }
        lines
    }
}
