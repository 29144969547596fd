//! Whole clusters of nodes in one thread, over a small model of LVM and DRBD: what an operator asks for comes to be, what
//! is refused changes nothing, and afterwards nothing is done any more.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdfast::core::{
    assign::found_meta,
    claim::{Disk, Standing},
    drbd::{
        ConnectionState, Counters, Device, DiskState, DrbdVersion, Peer, PeerDevice, ReplicationState,
        Resource, Role,
    },
    facts::{ConfFile, Known, Lv, Report, Vg},
    intent::*,
    message::Message,
    names::*,
    node::{Facts, Input, Node, Output, Source},
    refusal::{Errno, Refusal},
    size::Size,
    step::{Job, SeedHow, Step, StepClass, StepError},
    wish::{Or, Request, VolumeChange, Wish},
};

const GIB: u64 = 1 << 30;

struct Machine {
    node: Node,
    on: bool,
    disks: BTreeMap<DiskName, Disk>,
    vgs: BTreeMap<PoolName, Vg>,
    conf: BTreeMap<String, ConfFile>,
    drbd: BTreeMap<String, (Assignment, Role, DiskState, u64)>,
    saved: BTreeMap<String, Record>,
    mounted: bool,
}

struct Cluster {
    drbd: DrbdVersion,
    boxes: BTreeMap<BoxName, Machine>,
    /// Content of the meta resource.
    store: BTreeMap<String, Record>,
    links: BTreeSet<(BoxName, BoxName)>,
    cut: BTreeSet<(BoxName, BoxName)>,
    /// Boxes whose daemon has no links, while their DRBD has.
    deaf: BTreeSet<BoxName>,
    queue: VecDeque<(BoxName, Input)>,
    answers: BTreeMap<u64, Result<(), Refusal>>,
    steps: Vec<String>,
    /// Jobs of this box take their time, until they are let go.
    slow: Option<BoxName>,
    held: Vec<(Intent, Job)>,
    now_ms: u64,
    tickets: u64,
}

fn b(name: &str) -> BoxName {
    BoxName::new(name).unwrap()
}

fn vol(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

fn pool() -> PoolName {
    PoolName::new("main").unwrap()
}

fn size(text: &str) -> VolumeChange {
    VolumeChange { size: Some(Size::parse(text).unwrap()), ..Default::default() }
}

fn blank(name: &str, on: &str, bytes: u64) -> Disk {
    Disk {
        device: format!("/dev/{name}"),
        ident: DiskIdent::new(&format!("{on}-{name}")),
        size: Size(bytes),
        model: String::new(),
        serial: String::new(),
        path: String::new(),
        rotational: false,
        standing: Standing::Blank,
    }
}

fn member(n: usize) -> Member {
    let digit = char::from_digit(u32::try_from(n).unwrap(), 16).unwrap();
    Member {
        name: b(&format!("box{n}")),
        public_key: digit.to_string().repeat(64),
        address: format!("10.77.0.{n}").parse().unwrap(),
    }
}

impl Cluster {
    /// `n` boxes with a blank disk of 4G each; box1 founds the cluster, the others join.
    fn new(n: usize, major: u8) -> Self {
        let drbd = DrbdVersion { major, minor: 0, patch: 0 };
        let mut cluster = Cluster {
            drbd,
            boxes: BTreeMap::new(),
            store: BTreeMap::new(),
            links: BTreeSet::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            steps: Vec::new(),
            slow: None,
            held: Vec::new(),
            now_ms: 1,
            tickets: 0,
        };
        let intent = Intent::from_records([
            Record::Cluster(holdfast::core::intent::Cluster {
                id: "c".repeat(16),
                name: "test".into(),
                link_key: "0".repeat(64),
                join_secret: "0".repeat(64),
                leader: b("box1"),
            }),
            Record::Member(member(1)),
            Record::Pool(Pool { name: pool(), kind: PoolKind::Lvm }),
            Record::Group(Group { name: GroupName::new("default").unwrap(), replicas: 2, pool: pool() }),
            Record::Disk(DiskWish {
                on: b("box1"),
                ident: DiskIdent::new("box1-vdb"),
                name: DiskName::new("vdb").unwrap(),
                pool: pool(),
            }),
            Record::Assignment(found_meta(&b("box1"), &pool(), "5".repeat(32))),
        ]);
        cluster.power_on("box1", &intent, true);
        cluster.settle();
        assert!(cluster.boxes[&b("box1")].node.leads());
        for i in 2..=n {
            cluster.wish("box1", Wish::Join(member(i))).unwrap();
            let intent = Intent::clone(cluster.boxes[&b("box1")].node.intent());
            cluster.power_on(&format!("box{i}"), &intent, false);
        }
        cluster.settle();
        for i in 2..=n {
            cluster.hand_over(&format!("box{i}"), "vdb").unwrap();
        }
        cluster.settle();
        cluster
    }

    fn hand_over(&mut self, on: &str, disk: &str) -> Result<(), Refusal> {
        self.wish("box1", Wish::SetDiskPool(b(on), DiskName::new(disk).unwrap(), Some(pool())))
    }

    fn power_on(&mut self, name: &str, intent: &Intent, founding: bool) {
        let report = Report { drbd_version: Some(self.drbd), since_s: 1, ..Report::default() };
        let node = Node::new(b(name), intent.clone(), founding, report, self.now_ms);
        let disks = BTreeMap::from([(DiskName::new("vdb").unwrap(), blank("vdb", name, 4 * GIB))]);
        let fresh = Machine {
            node,
            on: true,
            disks,
            vgs: BTreeMap::new(),
            conf: BTreeMap::new(),
            drbd: BTreeMap::new(),
            saved: intent.records().into_iter().map(|r| (r.key(), r)).collect(),
            mounted: false,
        };
        self.boxes.insert(b(name), fresh);
        self.look_at_all(name);
    }

    /// The plug is pulled; the disks keep what is on them.
    fn power_off(&mut self, name: &str) {
        let machine = self.boxes.get_mut(&b(name)).unwrap();
        machine.on = false;
        machine.drbd.clear();
        machine.mounted = false;
        self.queue.retain(|(to, _)| to != &b(name));
        self.settle();
    }

    /// It comes back from its own store alone.
    fn power_back(&mut self, name: &str) {
        let report = Report { drbd_version: Some(self.drbd), since_s: 1, ..Report::default() };
        let now = self.now_ms;
        let machine = self.boxes.get_mut(&b(name)).unwrap();
        let intent = Intent::from_records(machine.saved.values().cloned());
        machine.node = Node::new(b(name), intent, false, report, now);
        machine.on = true;
        self.look_at_all(name);
        self.settle();
    }

    fn look_at_all(&mut self, name: &str) {
        for source in [Source::Disks, Source::Vgs, Source::Conf] {
            self.observe(&b(name), source, 0);
        }
        let all = self.resources(&b(name));
        self.queue.push_back((b(name), Input::Facts(Facts::Drbd(Known::Known(all)))));
    }

    fn observe(&mut self, name: &BoxName, source: Source, request: u64) {
        let machine = &self.boxes[name];
        let facts = match source {
            Source::Disks => Facts::Disks(Known::Known(machine.disks.clone())),
            Source::Vgs => Facts::Vgs(Known::Known(machine.vgs.clone())),
            Source::Conf => Facts::Conf(Known::Known(machine.conf.clone())),
            Source::Counters => {
                let count = |d: &(Assignment, Role, DiskState, u64)| {
                    (d.0.minor, Counters { size_kib: d.3, out_of_sync_kib: None })
                };
                Facts::Counters(machine.drbd.values().map(count).collect())
            }
        };
        self.queue.push_back((name.clone(), Input::Facts(facts)));
        self.queue.push_back((name.clone(), Input::Looked(source, request)));
    }

    /// Asks, and waits for the answer.
    fn wish(&mut self, at: &str, wish: Wish) -> Result<(), Refusal> {
        self.tickets += 1;
        let ticket = self.tickets;
        let request = Request { seed: format!("{ticket:016x}{ticket:048x}"), wish };
        self.queue.push_back((b(at), Input::Wish { ticket, about: "test".into(), request }));
        for _ in 0..100 {
            self.round();
            if let Some(answer) = self.answers.remove(&ticket) {
                return answer;
            }
        }
        panic!("no answer within 10 s");
    }

    /// Rounds until nothing happens for a second: reports are not sent at once.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..2_000 {
            let before = self.steps.len();
            let idle = self.round();
            let plans: usize = self.boxes.values().filter(|m| m.on).map(|m| m.node.view().plan.len()).sum();
            quiet = if idle && before == self.steps.len() && plans == 0 { quiet + 1 } else { 0 };
            if quiet == 10 {
                return;
            }
            if self.steps.len() > 5_000 {
                break;
            }
        }
        let plans: Vec<_> = self.boxes.values().filter(|m| m.on).flat_map(|m| m.node.view().plan).collect();
        let last = &self.steps[self.steps.len().saturating_sub(20)..];
        panic!("never quiet; plans: {plans:#?}; last steps: {last:#?}");
    }

    /// 100 ms go by: links come and go, all events are taken, DRBD goes on.
    fn round(&mut self) -> bool {
        self.now_ms += 100;
        self.mend_links();
        let mut idle = true;
        while let Some((name, input)) = self.queue.pop_front() {
            idle = false;
            self.take(&name, input);
        }
        self.drbd_goes_on();
        for name in self.boxes.keys().cloned().collect::<Vec<_>>() {
            self.take(&name, Input::Tick);
            assert!(
                self.boxes[&name].node.is_right(),
                "what plans are made from changed and was not noticed"
            );
        }
        idle && self.queue.is_empty()
    }

    fn mend_links(&mut self) {
        let names: Vec<_> = self.boxes.keys().cloned().collect();
        for x in &names {
            for y in names.iter().filter(|y| *y != x) {
                let knows = |m: &Machine, other| m.node.intent().members.contains_key(other);
                let up = self.boxes[x].on
                    && self.boxes[y].on
                    && knows(&self.boxes[x], y)
                    && knows(&self.boxes[y], x)
                    && !self.cut.contains(&(x.clone(), y.clone()))
                    && !self.deaf.contains(x)
                    && !self.deaf.contains(y);
                let link = (x.clone(), y.clone());
                if up && self.links.insert(link.clone()) {
                    self.queue.push_back((x.clone(), Input::LinkUp(y.clone())));
                } else if !up && self.links.remove(&link) {
                    self.queue.push_back((x.clone(), Input::LinkDown(y.clone())));
                }
            }
        }
    }

    fn cut(&mut self, x: &str, y: &str) {
        self.cut.insert((b(x), b(y)));
        self.cut.insert((b(y), b(x)));
        self.settle();
    }

    fn mend(&mut self) {
        self.cut.clear();
        self.settle();
    }

    fn take(&mut self, name: &BoxName, input: Input) {
        let machine = self.boxes.get_mut(name).unwrap();
        if !machine.on {
            return;
        }
        let outputs = machine.node.take(self.now_ms, self.now_ms / 1000, input);
        for output in outputs {
            self.carry(name, output);
        }
    }

    fn carry(&mut self, name: &BoxName, output: Output) {
        match output {
            Output::Answer { ticket, result } => drop(self.answers.insert(ticket, result)),
            Output::Send(to, message) => {
                if self.links.contains(&(to.clone(), name.clone())) {
                    // Over JSON, as on the wire.
                    let text = serde_json::to_string(&message).unwrap();
                    let message: Message = serde_json::from_str(&text).unwrap();
                    self.queue.push_back((to, Input::Message(name.clone(), message)));
                }
            }
            Output::Commit { seq, txn } => {
                assert!(self.boxes[name].mounted, "a commit without the store");
                apply(&mut self.store, false, &txn);
                self.queue.push_back((name.clone(), Input::Committed { seq, result: Ok(()) }));
            }
            Output::OpenStore { found } => {
                assert_eq!(found, self.store.is_empty());
                self.boxes.get_mut(name).unwrap().mounted = true;
                let records = self.store.values().cloned().collect();
                self.queue.push_back((name.clone(), Input::StoreOpened(Ok(records))));
            }
            Output::CloseStore => self.boxes.get_mut(name).unwrap().mounted = false,
            Output::Save { whole, txn } => apply(&mut self.boxes.get_mut(name).unwrap().saved, whole, &txn),
            Output::Run(job) => {
                let intent = Intent::clone(self.boxes[name].node.intent());
                match self.slow.as_ref() == Some(name) {
                    true => self.held.push((intent, job)),
                    false => self.work(name, &intent, job),
                }
            }
            Output::Observe(source, request) => self.observe(name, source, request),
            Output::Founded | Output::Members(_) | Output::JoinSecret(_) => {}
        }
    }

    /// `intent`: what the job was made from.
    fn work(&mut self, name: &BoxName, intent: &Intent, job: Job) {
        let mut result = Ok(());
        for step in &job.steps {
            self.steps.push(format!("{name}: {step}"));
            if let Err(error) = self.step(name, intent, step) {
                result = Err((step.clone(), error));
                break;
            }
        }
        self.queue.push_back((name.clone(), Input::JobDone { lane: job.lane, steps: job.steps, result }));
    }

    /// The jobs of the slow box are done now, and it is slow no more.
    fn let_go(&mut self) {
        let Some(name) = self.slow.take() else { return };
        for (intent, job) in std::mem::take(&mut self.held) {
            self.work(&name, &intent, job);
        }
    }

    fn rounds(&mut self, n: usize) {
        for _ in 0..n {
            self.round();
        }
    }

    fn step(&mut self, name: &BoxName, intent: &Intent, step: &Step) -> Result<(), StepError> {
        let refused = |text: &str| Err(StepError { class: StepClass::Refused, text: text.to_owned() });
        let legs_up: Vec<_> =
            self.boxes.values().filter(|m| m.on).flat_map(|m| m.drbd.keys().cloned()).collect();
        let machine = self.boxes.get_mut(name).unwrap();
        match step {
            Step::ClaimDisk { pool, device, .. } => {
                let disk = machine.disks.values_mut().find(|d| &d.device == device).unwrap();
                assert_eq!(disk.standing, Standing::Blank, "only blank disks are claimed");
                disk.standing = Standing::Claimed(pool.clone());
                let vg =
                    machine.vgs.entry(pool.clone()).or_insert(Vg { extent: Size(4 << 20), ..Vg::default() });
                vg.size.0 += disk.size.0;
                vg.free.0 += disk.size.0;
                vg.pvs.insert(device.clone(), disk.size);
            }
            Step::CreateLv { lv, size, pv, .. } => {
                let vg = machine.vgs.get_mut(&lv.pool).unwrap();
                assert!(pv.is_some() && vg.free >= *size);
                vg.free.0 -= size.0;
                *vg.pvs.get_mut(pv.as_ref().unwrap()).unwrap() = vg.free;
                vg.lvs.push(Lv {
                    name: lv.name.clone(),
                    id: lv.id.clone(),
                    device_nr: 0,
                    generation: lv.generation,
                    size: *size,
                    fresh: true,
                    zeroed: false,
                    active: true,
                });
            }
            Step::CreateMd { lv, .. } => {
                let lvs = &mut machine.vgs.get_mut(&lv.pool).unwrap().lvs;
                let there = lvs.iter_mut().find(|l| l.name == lv.name).unwrap();
                assert!(there.fresh, "metadata is made on fresh LVs only");
                (there.fresh, there.zeroed) = (false, true);
            }
            Step::GrowLv { lv, size } => {
                let vg = machine.vgs.get_mut(&lv.pool).unwrap();
                let there = vg.lvs.iter_mut().find(|l| l.name == lv.name).unwrap();
                vg.free.0 -= size.0 - there.size.0;
                there.size = *size;
            }
            Step::WriteConf { resource, text } => {
                let crc = holdfast::core::conf::crc(text);
                machine.conf.insert(resource.clone(), ConfFile { crc, adjusted: false });
            }
            Step::Adjust { resource } => {
                let a = intent.assignments.values().find(|a| &a.resource == resource).unwrap().clone();
                let diskful = a.legs[name].pool.is_some();
                let size = a.size.0 / 1024;
                let born = a.born;
                let old = machine.drbd.get(resource).cloned();
                let disk = match (diskful, &old) {
                    (false, _) => DiskState::Diskless,
                    (true, Some((_, _, disk, _))) if *disk != DiskState::Diskless => *disk,
                    // A replica that was away is trusted only when it syncs; the first one may be the good one.
                    (true, _) if born && legs_up.contains(resource) => DiskState::Inconsistent,
                    (true, _) if born => DiskState::UpToDate,
                    (true, _) => DiskState::Inconsistent,
                };
                let (role, size) = old.map_or((Role::Secondary, size), |(_, role, _, size)| (role, size));
                machine.drbd.insert(resource.clone(), (a, role, disk, size));
                if let Some(file) = machine.conf.get_mut(resource) {
                    file.adjusted = true;
                }
            }
            Step::Seed { resource, how } => {
                assert!(machine.drbd[resource].2 == DiskState::Inconsistent);
                machine.drbd.get_mut(resource).unwrap().2 = DiskState::UpToDate;
                if *how == SeedHow::ClearBitmap {
                    for other in self.boxes.values_mut().filter(|m| m.on) {
                        if let Some(there) =
                            other.drbd.get_mut(resource).filter(|d| d.2 == DiskState::Inconsistent)
                        {
                            there.2 = DiskState::UpToDate;
                        }
                    }
                }
            }
            Step::Promote { resource } => machine.drbd.get_mut(resource).unwrap().1 = Role::Primary,
            Step::Demote { resource } => machine.drbd.get_mut(resource).unwrap().1 = Role::Secondary,
            Step::Resize { resource } => {
                let size = machine.drbd[resource]
                    .0
                    .size
                    .0
                    .max(intent.assignments[&machine.drbd[resource].0.id].size.0);
                for other in self.boxes.values_mut().filter(|m| m.on) {
                    if let Some(there) = other.drbd.get_mut(resource) {
                        there.3 = size / 1024;
                    }
                }
            }
            Step::Down { resource, minor } => match machine.drbd.get(resource) {
                Some((_, Role::Primary, _, _)) => return refused("Device is held open by someone"),
                Some((a, _, _, _)) if a.minor == *minor => drop(machine.drbd.remove(resource)),
                _ => {}
            },
            Step::RemoveConf { resource } => drop(machine.conf.remove(resource)),
            Step::RemoveLv { lv } => {
                let vg = machine.vgs.get_mut(&lv.pool).unwrap();
                assert!(!machine.drbd.values().any(|(a, ..)| a.id == lv.id), "the LV is not in use");
                let at = vg.lvs.iter().position(|l| l.id == lv.id && l.generation == lv.generation).unwrap();
                vg.free.0 += vg.lvs.remove(at).size.0;
            }
        }
        Ok(())
    }

    /// Connections follow links, a sync takes one round; whoever sees a change is told.
    fn drbd_goes_on(&mut self) {
        let names: Vec<_> = self.boxes.keys().cloned().collect();
        for name in &names {
            for resource in self.boxes[name].drbd.keys().cloned().collect::<Vec<_>>() {
                let source = names.iter().any(|other| {
                    other != name
                        && self.connected(name, other, &resource)
                        && self.boxes[other].drbd[&resource].2 == DiskState::UpToDate
                });
                let mine = self.boxes.get_mut(name).unwrap().drbd.get_mut(&resource).unwrap();
                if source && mine.2 == DiskState::Inconsistent {
                    mine.2 = DiskState::UpToDate;
                }
            }
        }
        for name in names.iter().filter(|n| self.boxes[*n].on) {
            let all = self.resources(name);
            self.queue.push_back((name.clone(), Input::Facts(Facts::Drbd(Known::Known(all)))));
        }
        // Only what changed is an event: the node compares.
        let same: Vec<_> =
            self.queue.drain(..).filter(|(to, input)| changes(&self.boxes[to], input)).collect();
        self.queue.extend(same);
    }

    fn connected(&self, x: &BoxName, y: &BoxName, resource: &str) -> bool {
        let knows = |m: &Machine, other: &BoxName| {
            m.on && m.drbd.get(resource).is_some_and(|d| d.0.legs.contains_key(other))
        };
        knows(&self.boxes[x], y) && knows(&self.boxes[y], x) && !self.cut.contains(&(x.clone(), y.clone()))
    }

    fn resources(&self, name: &BoxName) -> BTreeMap<String, Resource> {
        let mut all = BTreeMap::new();
        for (resource, (a, role, disk, _)) in &self.boxes[name].drbd {
            let device = Device {
                minor: a.minor,
                disk: *disk,
                // The size that events told when it came up: growing makes no event.
                size_kib: a.size.0 / 1024,
                quorum: None,
                ..Device::default()
            };
            let mut peers = BTreeMap::new();
            for (other, leg) in a.legs.iter().filter(|(other, _)| *other != name) {
                let up = self.connected(name, other, resource);
                let theirs = self.boxes.get(other).and_then(|m| m.drbd.get(resource));
                let peer = PeerDevice {
                    disk: if up { theirs.unwrap().2 } else { DiskState::DUnknown },
                    replication: if up { ReplicationState::Established } else { ReplicationState::Off },
                    ..PeerDevice::default()
                };
                let id = if self.drbd.is_9() { leg.node_id } else { 0 };
                let connection = if up { ConnectionState::Connected } else { ConnectionState::Connecting };
                let role = if up { theirs.unwrap().1 } else { Role::Unknown };
                peers.insert(
                    id,
                    Peer {
                        name: Some(other.to_string()),
                        connection,
                        role,
                        devices: BTreeMap::from([(0, peer)]),
                    },
                );
            }
            if peers.is_empty() && !self.drbd.is_9() {
                peers.insert(0, Peer { connection: ConnectionState::Connecting, ..Peer::default() });
            }
            let facts = Resource {
                name: resource.clone(),
                role: *role,
                devices: BTreeMap::from([(0, device)]),
                peers,
                ..Resource::default()
            };
            all.insert(resource.clone(), facts);
        }
        all
    }

    fn legs(&self, volume: &str) -> Vec<String> {
        let intent = self.boxes[&b("box1")].node.intent();
        let a = &intent.assignments[&intent.volumes[&vol(volume)].id];
        a.legs.iter().map(|(n, l)| if l.pool.is_some() { n.to_string() } else { format!("({n})") }).collect()
    }

    fn disks(&self, resource: &str) -> Vec<DiskState> {
        self.boxes.values().filter_map(|m| m.drbd.get(resource)).map(|d| d.2).collect()
    }

    fn make(&mut self, name: &str, bytes: &str) {
        self.wish("box1", Wish::MakeVolume(vol(name))).unwrap();
        self.wish("box1", Wish::ChangeVolume(vol(name), size(bytes))).unwrap();
        self.settle();
    }
}

fn changes(machine: &Machine, input: &Input) -> bool {
    match input {
        Input::Facts(Facts::Drbd(Known::Known(all))) => {
            let view = machine.node.view();
            let mut seen = view.reports.get(view.me.as_ref().unwrap()).and_then(|r| r.drbd.known().cloned());
            for (name, resource) in seen.iter_mut().flatten() {
                for (number, device) in &mut resource.devices {
                    let told = all.get(name).and_then(|r| r.devices.get(number));
                    device.size_kib = told.map_or(0, |d| d.size_kib);
                }
            }
            seen.as_ref() != Some(all)
        }
        _ => true,
    }
}

fn apply(records: &mut BTreeMap<String, Record>, whole: bool, txn: &Txn) {
    if whole {
        records.clear();
    }
    for change in txn {
        match change {
            Change::Put(record) => drop(records.insert(record.key(), record.clone())),
            Change::Delete(key) => drop(records.remove(key)),
        }
    }
}

#[test]
fn three_boxes_on_drbd_9_build_a_volume_with_a_tie_breaker() {
    let mut c = Cluster::new(3, 9);
    assert_eq!(c.disks("holdfast-meta"), [DiskState::UpToDate; 3], "meta has three replicas");
    c.make("db", "256M");
    assert_eq!(c.legs("db").len(), 3);
    assert_eq!(c.legs("db").iter().filter(|l| l.starts_with('(')).count(), 1);
    assert_eq!(c.disks("db").iter().filter(|d| **d == DiskState::UpToDate).count(), 2);
    assert!(
        c.steps.iter().any(|s| s.contains("declare db's zeroed replicas equal")),
        "no sync where all is zero"
    );
    let before = c.steps.len();
    c.settle();
    assert_eq!(c.steps.len(), before, "nothing more is done");
}

#[test]
fn drbd_8_4_has_two_replicas_and_a_role_by_hand() {
    let mut c = Cluster::new(3, 8);
    assert_eq!(c.disks("holdfast-meta").len(), 2);
    c.wish("box2", Wish::MakeVolume(vol("db"))).unwrap();
    let place = Place::Boxes(BTreeSet::from([b("box2"), b("box3")]));
    c.wish("box3", Wish::ChangeVolume(vol("db"), VolumeChange { place: Some(place), ..size("256M") }))
        .unwrap();
    c.settle();
    assert_eq!(c.legs("db"), ["box2", "box3"]);
    c.wish("box1", Wish::SetRole(vol("db"), b("box2"), true)).unwrap();
    c.settle();
    assert_eq!(c.boxes[&b("box2")].drbd["db"].1, Role::Primary);
    let refusal = c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap_err();
    assert_eq!(refusal.errno, Errno::Busy);
    c.power_off("box2");
    let refusal = c.wish("box1", Wish::SetRole(vol("db"), b("box3"), true)).unwrap_err();
    assert_eq!(refusal.errno, Errno::Busy, "nobody knows whether box2 is off: {refusal}");
    c.wish("box1", Wish::SetRole(vol("db"), b("box2"), false)).unwrap();
    c.wish("box1", Wish::SetRole(vol("db"), b("box3"), true)).unwrap();
    c.settle();
    assert_eq!(c.boxes[&b("box3")].drbd["db"].1, Role::Primary);
    c.power_back("box2");
    assert_eq!(c.boxes[&b("box2")].drbd["db"].1, Role::Secondary, "an old wish is not followed");
    assert_eq!(c.disks("db"), [DiskState::UpToDate; 2]);
    let three = VolumeChange { replicas: Some(Or::Set(3)), ..Default::default() };
    assert_eq!(c.wish("box1", Wish::ChangeVolume(vol("db"), three)).unwrap_err().errno, Errno::NotSupported);
}

#[test]
fn replicas_join_one_at_a_time_and_only_while_all_are_there() {
    let mut c = Cluster::new(5, 9);
    let metas = c.steps.iter().filter(|s| s.ends_with("box1: adjust holdfast-meta")).count();
    assert!(metas >= 3, "the leader's meta resource took its legs one after the other: {:#?}", c.steps);
    c.make("db", "64M");
    let away = c.legs("db").iter().find(|n| *n != "box1" && !n.starts_with('(')).unwrap().clone();
    c.power_off(&away);
    let four = VolumeChange { replicas: Some(Or::Set(4)), ..Default::default() };
    c.wish("box1", Wish::ChangeVolume(vol("db"), four)).unwrap();
    c.settle();
    assert_eq!(c.legs("db").len(), 3, "none joins while one is away");
    c.power_back(&away);
    assert_eq!(c.legs("db").iter().filter(|n| !n.starts_with('(')).count(), 4);
    assert_eq!(c.disks("db").iter().filter(|d| **d == DiskState::UpToDate).count(), 4);
}

#[test]
fn a_volume_can_be_removed_although_the_box_that_used_it_died() {
    let mut c = Cluster::new(3, 8);
    let place = Place::Boxes(BTreeSet::from([b("box2"), b("box3")]));
    c.wish("box1", Wish::MakeVolume(vol("db"))).unwrap();
    c.wish("box1", Wish::ChangeVolume(vol("db"), VolumeChange { place: Some(place), ..size("64M") }))
        .unwrap();
    c.wish("box1", Wish::SetRole(vol("db"), b("box2"), true)).unwrap();
    c.settle();
    c.power_off("box2");
    let refusal = c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap_err();
    assert_eq!(refusal.errno, Errno::Busy, "{refusal}");
    c.wish("box1", Wish::SetRole(vol("db"), b("box2"), false)).unwrap();
    c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap();
    c.settle();
    c.power_back("box2");
    assert!(c.boxes[&b("box1")].node.intent().leaves.is_empty());
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "256M");
    let before = c.store.clone();
    let change = |change| Wish::ChangeVolume(vol("db"), change);
    let place = |names: &[&str]| VolumeChange {
        place: Some(Place::Boxes(names.iter().map(|n| b(n)).collect())),
        ..Default::default()
    };
    let replicas = |n| VolumeChange { replicas: Some(Or::Set(n)), ..Default::default() };
    let cases = [
        (Wish::MakeVolume(vol("db")), Errno::Exists),
        (Wish::RemoveVolume(vol("no")), Errno::NotFound),
        (change(size("128M")), Errno::Invalid),
        (change(size("1T")), Errno::NoSpace),
        (change(place(&["box1", "box9"])), Errno::NotFound),
        (change(replicas(0)), Errno::Invalid),
        (change(replicas(200)), Errno::NotSupported),
        (change(replicas(1)), Errno::NotSupported),
        (change(replicas(4)), Errno::NoSpace),
        (Wish::SetRole(vol("db"), b("box1"), true), Errno::NotSupported),
        (Wish::SetDiskPool(b("box1"), DiskName::new("vdz").unwrap(), Some(pool())), Errno::NotFound),
        (Wish::SetDiskPool(b("box1"), DiskName::new("vdb").unwrap(), None), Errno::NotSupported),
        (Wish::RemovePool(pool()), Errno::Busy),
        (Wish::Join(Member { public_key: "e".repeat(64), ..member(1) }), Errno::Exists),
    ];
    for at in ["box1", "box2"] {
        for (wish, errno) in &cases {
            let refusal = c.wish(at, wish.clone()).expect_err(&format!("{wish:?}"));
            assert_eq!(refusal.errno, *errno, "{wish:?}: {refusal}");
        }
    }
    c.settle();
    assert_eq!(c.store, before);
}

#[test]
fn a_disk_that_is_not_blank_is_refused_with_the_reason() {
    let mut c = Cluster::new(1, 9);
    let mut disk = blank("vdc", "box1", 4 * GIB);
    disk.standing = Standing::Foreign("ext4".into());
    c.boxes.get_mut(&b("box1")).unwrap().disks.insert(DiskName::new("vdc").unwrap(), disk);
    c.look_at_all("box1");
    c.settle();
    let refusal = c.hand_over("box1", "vdc").unwrap_err();
    assert!(refusal.text.contains("ext4"), "{refusal}");
}

#[test]
fn a_volume_grows_and_goes_and_its_name_is_free_again() {
    for major in [8, 9] {
        let mut c = Cluster::new(3, major);
        c.make("db", "256M");
        c.wish("box3", Wish::ChangeVolume(vol("db"), size("1G"))).unwrap();
        c.settle();
        let sizes: Vec<_> = c.boxes.values().filter_map(|m| m.drbd.get("db")).map(|d| d.3).collect();
        assert!(sizes.iter().all(|kib| *kib == GIB / 1024), "{sizes:?}");
        let resizes = c.steps.iter().filter(|s| s.contains("resize db")).count();
        assert_eq!(resizes, 1, "one box resizes for all");
        let id = c.boxes[&b("box1")].node.intent().volumes[&vol("db")].id.clone();
        c.wish("box2", Wish::RemoveVolume(vol("db"))).unwrap();
        c.make("db", "64M");
        let intent = c.boxes[&b("box1")].node.intent().clone();
        assert_ne!(intent.volumes[&vol("db")].id, id);
        assert!(intent.leaves.is_empty(), "{:?}", intent.leaves);
        for machine in c.boxes.values() {
            assert!(machine.vgs[&pool()].lvs.iter().all(|lv| lv.id != id), "nothing of the old one is left");
        }
    }
}

#[test]
fn a_box_that_was_away_follows_and_brings_nothing_back() {
    for major in [8, 9] {
        let mut c = Cluster::new(3, major);
        c.make("db", "256M");
        let away = c.legs("db").iter().find(|n| *n != "box1" && !n.starts_with('(')).unwrap().clone();
        c.power_off(&away);
        c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap();
        c.settle();
        assert_eq!(
            c.boxes[&b("box1")].node.intent().leaves.len(),
            1,
            "only the box that is off is waited for"
        );
        c.power_back(&away);
        let leaves = &c.boxes[&b("box1")].node.intent().leaves;
        assert!(leaves.is_empty(), "{leaves:#?}");
        assert!(c.disks("db").is_empty());
        assert!(c.boxes[&b(&away)].vgs[&pool()].lvs.iter().all(|lv| lv.name != "db.0"));
    }
}

#[test]
fn without_its_leader_a_box_reads_and_refuses_and_only_brings_up() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "256M");
    c.power_off("box1");
    let refusal = c.wish("box2", Wish::MakeVolume(vol("new"))).unwrap_err();
    assert_eq!(refusal.errno, Errno::ReadOnly);
    assert!(refusal.text.contains("box1"), "{refusal}");
    let view = c.boxes[&b("box2")].node.view();
    assert_eq!(view.leader, None);
    assert!(view.intent.volumes.contains_key(&vol("db")));
    c.power_off("box2");
    c.power_off("box3");
    c.steps.clear();
    c.power_back("box2");
    c.power_back("box3");
    assert!(c.boxes[&b("box2")].drbd.contains_key("db") || c.boxes[&b("box3")].drbd.contains_key("db"));
    let only_up = |s: &String| s.contains(": adjust ") || s.contains(": write ");
    assert!(c.steps.iter().all(only_up), "{:#?}", c.steps);
    c.power_back("box1");
    c.wish("box2", Wish::MakeVolume(vol("new"))).unwrap();
}

#[test]
fn a_cut_is_not_a_death_and_heals() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "256M");
    c.cut("box1", "box2");
    assert_eq!(c.wish("box2", Wish::MakeVolume(vol("x"))).unwrap_err().errno, Errno::ReadOnly);
    c.wish("box3", Wish::MakeVolume(vol("x"))).unwrap();
    c.mend();
    assert!(c.boxes[&b("box2")].node.intent().volumes.contains_key(&vol("x")));
    c.wish("box2", Wish::RemoveVolume(vol("x"))).unwrap();
}

#[test]
fn one_box_alone_leads_itself() {
    let mut c = Cluster::new(1, 9);
    c.wish("box1", Wish::MakeVolume(vol("db"))).unwrap();
    let refusal = c.wish("box1", Wish::ChangeVolume(vol("db"), size("64M"))).unwrap_err();
    assert_eq!(refusal.errno, Errno::NoSpace, "{refusal}");
    let one = VolumeChange { replicas: Some(Or::Set(1)), ..size("64M") };
    c.wish("box1", Wish::ChangeVolume(vol("db"), one)).unwrap();
    c.settle();
    assert_eq!(c.disks("db"), [DiskState::UpToDate]);
}

#[test]
fn a_leg_that_is_still_being_made_when_its_volume_goes_is_not_forgotten() {
    for linked in [true, false] {
        let mut c = Cluster::new(3, 9);
        let on = |names: &[&str]| Some(Place::Boxes(names.iter().map(|n| b(n)).collect()));
        c.wish("box1", Wish::MakeVolume(vol("db"))).unwrap();
        c.slow = Some(b("box2"));
        c.wish(
            "box1",
            Wish::ChangeVolume(vol("db"), VolumeChange { place: on(&["box1", "box2"]), ..size("64M") }),
        )
        .unwrap();
        c.rounds(5);
        assert!(!c.held.is_empty(), "box2 makes its LV");
        if !linked {
            c.cut.extend([(b("box1"), b("box2")), (b("box2"), b("box1"))]);
            c.rounds(2);
            c.let_go();
            c.rounds(20);
        }
        c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap();
        c.rounds(20);
        let leaves = &c.boxes[&b("box1")].node.intent().leaves;
        assert_eq!(leaves.values().map(|l| &l.on).collect::<Vec<_>>(), [&b("box2")]);
        c.let_go();
        c.mend();
        assert!(c.boxes[&b("box1")].node.intent().leaves.is_empty());
        for machine in c.boxes.values() {
            assert!(!machine.drbd.contains_key("db") && !machine.conf.contains_key("db"));
            assert!(machine.vgs[&pool()].lvs.iter().all(|lv| lv.name != "db.0"), "an LV is left behind");
        }
    }
}

#[test]
fn what_is_in_use_on_a_box_whose_daemon_is_away_is_not_removed() {
    for major in [8, 9] {
        let mut c = Cluster::new(3, major);
        let on = Some(Place::Boxes(BTreeSet::from([b("box1"), b("box2")])));
        c.wish("box1", Wish::MakeVolume(vol("db"))).unwrap();
        c.wish("box1", Wish::ChangeVolume(vol("db"), VolumeChange { place: on, ..size("64M") })).unwrap();
        c.settle();
        c.deaf.insert(b("box2"));
        c.rounds(10);
        c.boxes.get_mut(&b("box2")).unwrap().drbd.get_mut("db").unwrap().1 = Role::Primary;
        c.rounds(10);
        let refusal = c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap_err();
        assert_eq!(refusal.errno, Errno::Busy);
        assert!(refusal.text.contains("box2"), "{refusal}");
        c.boxes.get_mut(&b("box2")).unwrap().drbd.get_mut("db").unwrap().1 = Role::Secondary;
        c.rounds(10);
        c.slow = Some(b("box1"));
        c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap();
        c.boxes.get_mut(&b("box2")).unwrap().drbd.get_mut("db").unwrap().1 = Role::Primary;
        c.held.clear();
        let all = c.resources(&b("box1"));
        c.take(&b("box1"), Input::Facts(Facts::Drbd(Known::Known(all))));
        let plan = c.boxes[&b("box1")].node.view().plan;
        assert!(!plan.iter().any(|s| s.contains("db")), "it was opened meanwhile: {plan:?}");
    }
}

#[test]
fn what_cannot_be_told_is_not_removed() {
    let mut c = Cluster::new(2, 9);
    c.make("db", "64M");
    c.take(&b("box1"), Input::Facts(Facts::Drbd(Known::Unknown("lost".into()))));
    let ticket = 1_000_000;
    let request = Request { seed: "a".repeat(64), wish: Wish::RemoveVolume(vol("db")) };
    c.take(&b("box1"), Input::Wish { ticket, about: "test".into(), request });
    assert_eq!(c.answers[&ticket].as_ref().unwrap_err().errno, Errno::Busy);
}

#[test]
fn what_is_written_larger_before_it_is_born_grows_after() {
    for major in [8, 9] {
        let mut c = Cluster::new(3, major);
        let on = Some(Place::Boxes(BTreeSet::from([b("box1"), b("box2")])));
        c.wish("box1", Wish::MakeVolume(vol("db"))).unwrap();
        c.slow = Some(b("box2"));
        c.wish("box1", Wish::ChangeVolume(vol("db"), VolumeChange { place: on, ..size("64M") })).unwrap();
        c.rounds(10);
        c.wish("box1", Wish::ChangeVolume(vol("db"), size("1G"))).unwrap();
        c.rounds(10);
        c.let_go();
        c.settle();
        let place = |what: &str| c.steps.iter().position(|s| s.contains(what) && s.contains("db"));
        let born = place("equal").unwrap();
        assert!(place("grow LV").unwrap() > born && place("resize").unwrap() > born, "{:#?}", c.steps);
        let sizes: Vec<_> = c.boxes.values().filter_map(|m| m.drbd.get("db")).map(|d| d.3).collect();
        assert!(sizes.iter().all(|kib| *kib == GIB / 1024), "{sizes:?}");
    }
}

#[test]
fn a_daemon_that_starts_from_an_old_copy_changes_nothing_that_runs() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "64M");
    let away = c.legs("db").iter().find(|n| *n != "box1" && !n.starts_with('(')).unwrap().clone();
    let old = c.boxes[&b(&away)].saved.clone();
    let three = VolumeChange { replicas: Some(Or::Set(3)), ..Default::default() };
    c.wish("box1", Wish::ChangeVolume(vol("db"), three)).unwrap();
    c.settle();
    c.power_off("box1");
    c.steps.clear();
    let report = Report { drbd_version: Some(c.drbd), since_s: 1, ..Report::default() };
    let node = Node::new(b(&away), Intent::from_records(old.into_values()), false, report, c.now_ms);
    c.boxes.get_mut(&b(&away)).unwrap().node = node;
    c.look_at_all(&away);
    c.settle();
    assert_eq!(c.steps, Vec::<String>::new());
}

#[test]
fn many_writes_at_once_are_all_answered() {
    let mut c = Cluster::new(1, 9);
    for n in 0..500_u64 {
        let wish =
            if n < 150 { Wish::MakeVolume(vol(&format!("v{n}"))) } else { Wish::RemoveVolume(vol("no")) };
        let request = Request { seed: format!("{n:016x}{n:048x}"), wish };
        c.queue.push_back((b("box1"), Input::Wish { ticket: 1_000 + n, about: "test".into(), request }));
    }
    c.rounds(3);
    assert_eq!(c.answers.len(), 500);
    assert_eq!(c.answers.values().filter(|a| a.is_ok()).count(), 150);
}

#[test]
fn nothing_is_promised_of_a_box_that_is_away() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "64M");
    let away = c.legs("db").iter().find(|n| *n != "box1" && !n.starts_with('(')).unwrap().clone();
    c.power_off(&away);
    let refusal = c.wish("box1", Wish::ChangeVolume(vol("db"), size("3G"))).unwrap_err();
    assert_eq!(refusal.errno, Errno::Failed, "{refusal}");
    assert!(refusal.text.contains(&away), "{refusal}");
    c.power_back(&away);
    c.wish("box1", Wish::ChangeVolume(vol("db"), size("3G"))).unwrap();
    c.settle();
}

#[test]
fn a_volume_with_the_minor_of_one_that_grew_grows_too() {
    let mut c = Cluster::new(3, 9);
    c.make("db", "64M");
    c.wish("box1", Wish::ChangeVolume(vol("db"), size("2G"))).unwrap();
    c.settle();
    c.wish("box1", Wish::RemoveVolume(vol("db"))).unwrap();
    c.settle();
    c.make("web", "64M");
    c.wish("box1", Wish::ChangeVolume(vol("web"), size("1G"))).unwrap();
    c.settle();
    let sizes: Vec<_> = c.boxes.values().filter_map(|m| m.drbd.get("web")).map(|d| d.3).collect();
    assert!(sizes.iter().all(|kib| *kib == GIB / 1024), "{sizes:?}");
}

#[test]
fn a_late_answer_of_a_store_that_was_given_up_ends_no_leadership() {
    let mut c = Cluster::new(1, 9);
    c.take(&b("box1"), Input::Committed { seq: 1, result: Err("late".into()) });
    assert!(c.boxes[&b("box1")].node.leads());
}
