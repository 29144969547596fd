//! The invariants (docs/architecture.md), checked on the model after what happens.
//!
//! What is checked is the world, not what a daemon believes: what lies on disks, what the kernels do, what was answered.
//! The first that breaks ends the run.

#![allow(clippy::wildcard_enum_match_arm)] // most records and steps do not concern a check

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{
    drbd::Role,
    intent::{Assignment, Change, META_NAME, Place, Record, Stamp, Volume},
    names::{BoxName, VolumeId},
    refusal::{Errno, Refusal},
    step::{SeedHow, Step, StepError},
    wish::{Or, Request, VolumeChange, Wish},
};

use super::{
    drbd::{BackingId, BoxId, Version},
    machine::{Records, apply},
    storage::{Content, LogicalVolume},
    world::World,
};

/// What is somebody else's for so long was known to be when the step was planned.
const KNOWN_AFTER_MS: u64 = 30_000;
/// Nothing may hang longer.
const SUSPENDED_MAX_MS: u64 = 30_000;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number in docs/architecture.md.
    pub invariant: u8,
    /// What was seen.
    pub text: String,
}

/// A write that somebody waits for, or waited.
struct Asked {
    wish: Wish,
    id: String,
    /// The commit that carries it out.
    by: Option<Stamp>,
    /// What that commit changed for it.
    done: Option<Change>,
    answered: bool,
    /// Answered, and surely not done.
    refused: bool,
    /// How many commits were durable then.
    since: usize,
    /// Where, and in which life of the daemon there.
    at: BoxId,
    life: u64,
}

/// What was seen so far.
#[derive(Default)]
pub struct Checker {
    /// The first invariant that broke.
    pub broken: Option<Broken>,
    /// The content of the meta resource's newest durable commit.
    pub head: Version,
    /// The newest durable wishes and assignments.
    pub durable: Records,
    /// The newest write to each volume that its writer was told of.
    pub written: BTreeMap<VolumeId, Version>,
    /// Volumes whose data was lost with a disk.
    pub excused: BTreeSet<VolumeId>,
    /// What each leader decides from: with what is not durable yet.
    tips: BTreeMap<BoxId, Records>,
    /// All that were, in order.
    history: Vec<(Stamp, Records)>,
    asked: BTreeMap<u64, Asked>,
    epochs: BTreeMap<u64, (BoxId, u64)>,
    looked_ms: u64,
}

/// What there was before a step.
pub struct Before {
    resource: Option<VolumeId>,
    copies: usize,
    attached: usize,
    foreign: bool,
}

impl Checker {
    /// An invariant does not hold; only the first counts.
    pub fn fail(&mut self, invariant: u8, text: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { invariant, text });
        }
    }

    /// What a daemon takes for current never goes back while it lives.
    pub fn stamp(&mut self, name: &BoxName, before: Stamp, after: Stamp) {
        if after < before {
            let text = format!("{name} went back from commit {before:?} to {after:?}");
            self.fail(4, text);
        }
    }

    /// Somebody wrote.
    pub fn asked(&mut self, ticket: u64, at: BoxId, life: u64, request: &Request) {
        let id = request.id_digits().to_owned();
        let durable = stamp_of(&self.durable);
        let since = self.history.iter().rposition(|(stamp, _)| *stamp <= durable).unwrap_or(0);
        self.asked.insert(
            ticket,
            Asked {
                wish: request.wish.clone(),
                id,
                by: None,
                done: None,
                answered: false,
                refused: false,
                since,
                at,
                life,
            },
        );
    }

    /// A leader hands a commit to its store.
    pub fn commit(&mut self, at: BoxId, txn: &[Change]) {
        let stamp = txn.iter().find_map(|change| match change {
            Change::Put(Record::Stamp(stamp)) => Some(*stamp),
            Change::Put(_) | Change::Delete(_) => None,
        });
        let Some(stamp) = stamp else { return self.fail(3, "a commit has no stamp".to_owned()) };
        if self.durable.is_empty() {
            let tip = self.tips.entry(at).or_default();
            apply(tip, false, txn);
            self.history.push((stamp, tip.clone()));
            return; // the founding one
        }
        let tip = self.tips.entry(at).or_default();
        let mut strange = None;
        for change in txn.iter().filter(|change| is_wish(change)) {
            let open = |a: &Asked| !a.answered && a.by.is_none_or(|by| by == stamp);
            let fits = |a: &Asked| open(a) && explains(&a.wish, &a.id, change);
            // One that was so already is not what this was done for.
            let needed = self.asked.iter().find(|(_, a)| fits(a) && !holds(&a.wish, &a.id, tip));
            let ticket =
                needed.or_else(|| self.asked.iter().find(|(_, a)| fits(a))).map(|(ticket, _)| *ticket);
            match ticket.and_then(|ticket| self.asked.get_mut(&ticket)) {
                Some(asked) => (asked.by, asked.done) = (Some(stamp), Some(change.clone())),
                None => strange = Some(format!("nobody who waits asked for {change:?}")),
            }
        }
        apply(tip, false, txn);
        self.history.push((stamp, tip.clone()));
        if let Some(text) = strange {
            self.fail(3, text);
        }
    }

    /// A leader begins with this.
    pub fn begins(&mut self, at: BoxId, records: &Records) {
        self.tips.insert(at, records.clone());
    }

    /// Somebody was answered.
    pub fn answered(&mut self, ticket: u64, result: &Result<(), Refusal>) {
        let durable = stamp_of(&self.durable);
        let Some(asked) = self.asked.get_mut(&ticket) else { return };
        asked.answered = true;
        asked.refused = result.as_ref().is_err_and(|refusal| refusal.errno != Errno::TimedOut);
        let (wish, id, by, since) = (asked.wish.clone(), asked.id.clone(), asked.by, asked.since);
        match (result, by) {
            (Ok(()), Some(by)) if by > durable => {
                self.fail(3, format!("{wish:?} was answered before its commit {by:?} was durable"));
            }
            // It was so when it was looked at, which was after it was asked.
            (Ok(()), None) if !self.was_so(since, &wish, &id) => {
                self.fail(3, format!("{wish:?} was granted and is not so"));
            }
            (Err(refusal), Some(by)) if refusal.errno != Errno::TimedOut => {
                // Of two who asked for what it did, either may be the one that it was done for.
                let done = self.asked.get(&ticket).and_then(|asked| asked.done.clone());
                let twin = self.asked.values_mut().find(|a| {
                    let fits = done.as_ref().is_some_and(|done| explains(&a.wish, &a.id, done));
                    fits && a.by.is_none() && !a.refused
                });
                match twin {
                    Some(twin) => (twin.by, twin.done) = (Some(by), done),
                    None => self.fail(3, format!("{wish:?} was refused ({refusal}) and is committed")),
                }
            }
            (Ok(()) | Err(_), _) => {}
        }
    }

    /// Whether it was so in some durable commit after the first `since`, of which several may be one write to the disk.
    fn was_so(&self, since: usize, wish: &Wish, id: &str) -> bool {
        let durable = stamp_of(&self.durable);
        let then = self.history.iter().skip(since).filter(|(stamp, _)| *stamp <= durable);
        then.into_iter().any(|(_, records)| holds(wish, id, records))
    }

    /// A wish that was made on a box whose daemon lived on, and was not answered.
    pub fn unanswered(&self, boxes: &[super::machine::Machine]) -> Option<String> {
        let open =
            self.asked.values().find(|a| !a.answered && boxes.get(a.at).is_some_and(|m| m.life == a.life))?;
        Some(format!("{:?}", open.wish))
    }

    /// A commit is durable on the meta resource.
    pub fn durable(&mut self, at: BoxId, life: u64, before: &Records, after: &Records) {
        let stamp = stamp_of(after);
        if stamp <= stamp_of(before) || stamp <= stamp_of(&self.durable) {
            self.fail(4, format!("commit {stamp:?} follows {:?}", stamp_of(&self.durable)));
        }
        let owner = *self.epochs.entry(stamp.epoch).or_insert((at, life));
        if owner != (at, life) {
            self.fail(4, format!("two leaderships commit in epoch {}", stamp.epoch));
        }
        self.check_sizes(before, after);
        self.check_numbers(before, after);
        self.durable = after.clone();
    }

    fn check_sizes(&mut self, before: &Records, after: &Records) {
        for record in before.values() {
            let (old, new, what) = match record {
                Record::Volume(v) => {
                    let same = volumes(after).find(|n| n.id == v.id);
                    (v.size, same.map_or(v.size, |n| n.size), v.name.as_str())
                }
                Record::Assignment(a) => {
                    let same = assignments(after).find(|n| n.id == a.id);
                    (Some(a.size), Some(same.map_or(a.size, |n| n.size)), a.resource.as_str())
                }
                _ => continue,
            };
            if new < old {
                self.fail(9, format!("{what} shrinks from {old:?} to {new:?}"));
            }
        }
    }

    fn check_numbers(&mut self, before: &Records, after: &Records) {
        let mut seen: BTreeMap<u32, &VolumeId> = BTreeMap::new();
        let mut node_ids: BTreeSet<(&VolumeId, u8)> = BTreeSet::new();
        let mut secrets: BTreeSet<&str> = BTreeSet::new();
        let mut wrong = Vec::new();
        for record in after.values() {
            match record {
                Record::Assignment(a) => {
                    if seen.insert(a.minor, &a.id).is_some_and(|id| id != &a.id) {
                        wrong.push(format!("minor {} is used twice", a.minor));
                    }
                    if !secrets.insert(&a.secret) {
                        wrong.push(format!("{} has another's secret", a.resource));
                    }
                    for leg in a.legs.values().filter(|leg| !node_ids.insert((&a.id, leg.node_id))) {
                        wrong.push(format!("{} has node-id {} twice", a.resource, leg.node_id));
                    }
                    wrong.extend(
                        assignments(before).find(|old| old.id == a.id).and_then(|old| changed(old, a)),
                    );
                }
                Record::Leave(l) => {
                    if seen.insert(l.minor, &l.id).is_some_and(|id| id != &l.id) {
                        wrong.push(format!("minor {} is used by what leaves and by another", l.minor));
                    }
                    if !node_ids.insert((&l.id, l.leg.node_id)) {
                        wrong.push(format!(
                            "{} has node-id {} again, which leaves",
                            l.resource, l.leg.node_id
                        ));
                    }
                }
                _ => {}
            }
        }
        wrong.into_iter().for_each(|text| self.fail(6, text));
    }
}

fn changed(old: &Assignment, new: &Assignment) -> Option<String> {
    let numbers = |a: &Assignment| (a.minor, a.port, a.secret.clone());
    if numbers(old) != numbers(new) {
        return Some(format!("{}'s minor, port or secret changes", new.resource));
    }
    let other = |(name, leg): (&BoxName, &crate::core::intent::Leg)| {
        new.legs.get(name).is_some_and(|n| n.node_id != leg.node_id && n.generation == leg.generation)
    };
    old.legs.iter().any(other).then(|| format!("a node-id of {} changes", new.resource))
}

fn stamp_of(records: &Records) -> Stamp {
    match records.get("stamp") {
        Some(Record::Stamp(stamp)) => *stamp,
        _ => Stamp::default(),
    }
}

fn volumes(records: &Records) -> impl Iterator<Item = &Volume> {
    records.values().filter_map(|r| if let Record::Volume(v) = r { Some(v) } else { None })
}

/// The assignments among records.
pub(super) fn assignments(records: &Records) -> impl Iterator<Item = &Assignment> {
    records.values().filter_map(|r| if let Record::Assignment(a) = r { Some(a) } else { None })
}

/// Only an operator, or a newcomer, changes these.
fn is_wish(change: &Change) -> bool {
    match change {
        Change::Put(record) => match record {
            Record::Assignment(_) | Record::Leave(_) | Record::Stamp(_) => false,
            Record::Cluster(_) | Record::Member(_) | Record::Pool(_) | Record::Group(_) => true,
            Record::Disk(_) | Record::Volume(_) => true,
        },
        Change::Delete(key) => !key.starts_with("assignment/") && !key.starts_with("leave/"),
    }
}

/// Whether carrying out this wish may make this change.
fn explains(wish: &Wish, id: &str, change: &Change) -> bool {
    match (wish, change) {
        (Wish::MakeVolume(name), Change::Put(Record::Volume(v))) => &v.name == name && v.id.as_str() == id,
        (Wish::ChangeVolume(name, c), Change::Put(Record::Volume(v))) => &v.name == name && agrees(c, v),
        (Wish::SetRole(name, on, primary), Change::Put(Record::Volume(v))) => {
            &v.name == name && (v.primary.as_ref() == Some(on)) == *primary
        }
        (Wish::RemoveVolume(name), Change::Delete(key)) => key.strip_prefix("volume/") == Some(name.as_str()),
        (Wish::SetDiskPool(on, _, Some(pool)), Change::Put(Record::Disk(d))) => {
            (&d.on, &d.pool) == (on, pool)
        }
        (Wish::SetDiskPool(on, _, None), Change::Delete(key)) => key.starts_with(&format!("disk/{on}/")),
        (Wish::MakePool(name), Change::Put(Record::Pool(p))) => &p.name == name,
        (Wish::RemovePool(name), Change::Delete(key)) => key.strip_prefix("pool/") == Some(name.as_str()),
        (Wish::MakeGroup(name), Change::Put(Record::Group(g))) => &g.name == name,
        (Wish::RemoveGroup(name), Change::Delete(key)) => key.strip_prefix("group/") == Some(name.as_str()),
        (Wish::SetGroupReplicas(name, n), Change::Put(Record::Group(g))) => {
            (&g.name, g.replicas) == (name, *n)
        }
        (Wish::SetGroupPool(name, pool), Change::Put(Record::Group(g))) => (&g.name, &g.pool) == (name, pool),
        (Wish::SetClusterName(name), Change::Put(Record::Cluster(c))) => &c.name == name,
        (Wish::SetToken(_), Change::Put(Record::Cluster(_))) => true,
        (Wish::Join(member), Change::Put(Record::Member(m))) => m == member,
        _ => false,
    }
}

fn agrees(change: &VolumeChange, volume: &Volume) -> bool {
    let set = |wanted: &Option<Or<u8>>, is: Option<u8>| match wanted {
        None => true,
        Some(Or::Default) => is.is_none(),
        Some(Or::Set(n)) => is == Some(*n),
    };
    let pool = match &change.pool {
        None => true,
        Some(Or::Default) => volume.pool.is_none(),
        Some(Or::Set(pool)) => volume.pool.as_ref() == Some(pool),
    };
    change.size.is_none_or(|size| volume.size == Some(size))
        && set(&change.replicas, volume.replicas)
        && change.place.as_ref().is_none_or(|place| &volume.place == place)
        && pool
        && change.group.as_ref().is_none_or(|group| &volume.group == group)
}

/// Whether what was asked for is so.
fn holds(wish: &Wish, id: &str, records: &Records) -> bool {
    let there = |change: &Change| explains(wish, id, change);
    match wish {
        Wish::RemoveVolume(name) => !records.contains_key(&format!("volume/{name}")),
        Wish::RemovePool(name) => !records.contains_key(&format!("pool/{name}")),
        Wish::RemoveGroup(name) => !records.contains_key(&format!("group/{name}")),
        // Which disk was meant by its name is known only to the box.
        Wish::SetDiskPool(_, _, None) | Wish::SetToken(_) => true,
        Wish::MakeVolume(_) | Wish::ChangeVolume(..) | Wish::SetRole(..) | Wish::SetDiskPool(..) => {
            records.values().any(|r| there(&Change::Put(r.clone())))
        }
        Wish::MakePool(_) | Wish::MakeGroup(_) | Wish::SetGroupReplicas(..) | Wish::SetGroupPool(..) => {
            records.values().any(|r| there(&Change::Put(r.clone())))
        }
        Wish::SetClusterName(_) | Wish::Join(_) => records.values().any(|r| there(&Change::Put(r.clone()))),
    }
}

/// The resource that a step is about, by name; None: it is about a disk.
fn resource_of(step: &Step) -> Option<&str> {
    match step {
        Step::ClaimDisk { .. } => None,
        Step::CreateLv { volume, .. } => Some(volume),
        Step::CreateMd { lv, .. } | Step::GrowLv { lv, .. } | Step::RemoveLv { lv } => {
            Some(lv.name.strip_suffix(".0").unwrap_or(&lv.name))
        }
        Step::WriteConf { resource, .. } | Step::Adjust { resource } | Step::Seed { resource, .. } => {
            Some(resource)
        }
        Step::Promote { resource } | Step::Demote { resource } | Step::Resize { resource } => Some(resource),
        Step::Down { resource, .. } | Step::RemoveConf { resource } => Some(resource),
    }
}

impl World {
    /// All LVs that are replicas of a volume, wherever they are, also on boxes without power.
    pub fn replicas<'w>(&'w self, id: &'w VolumeId) -> impl Iterator<Item = (BoxId, &'w LogicalVolume)> {
        let lvs = self
            .boxes
            .iter()
            .enumerate()
            .flat_map(|(at, m)| m.storage.groups.values().flatten().map(move |lv| (at, lv)));
        lvs.filter(move |(_, lv)| lv.tags.as_ref().is_some_and(|tags| &tags.id == id))
    }

    /// Whether a replica holds everything that was acknowledged, and its metadata says so.
    fn is_good(&self, id: &VolumeId, backing: BackingId) -> bool {
        let written =
            if id == &VolumeId::meta() { Some(self.check.head) } else { self.check.written.get(id).copied() };
        self.kernels.replica(backing).is_some_and(|replica| {
            replica.up_to_date
                && written.is_none_or(|written| self.kernels.descends(replica.content, written))
        })
    }

    /// Every volume is built, and all its copies on other disks are good and can be used. With 8.4 none is Primary there:
    /// its stale copy might be made Primary again before it meets the good one, which only votes can forbid.
    pub(super) fn can_spare(&self, at: BoxId, drive: usize) -> bool {
        let hit =
            |on: BoxId, lv: &LogicalVolume| on == at && lv.on.iter().any(|(number, _)| *number == drive);
        let good = |id: &VolumeId, on: BoxId, lv: &LogicalVolume| {
            let there = self.boxes[on].on && self.boxes[on].storage.usable(lv);
            there && !lv.fresh && self.is_good(id, lv.backing)
        };
        assignments(&self.check.durable).all(|a| {
            let fine = self.replicas(&a.id).filter(|(on, lv)| hit(*on, lv) || good(&a.id, *on, lv)).count();
            let spared = self.replicas(&a.id).any(|(on, lv)| !hit(on, lv));
            let role = self.kernels.used(at, &a.resource).map(|used| used.role);
            let primary = !self.version.is_9() && role == Some(Role::Primary);
            fine >= a.diskful().count() && spared && !primary
        })
    }

    /// A disk is blank all of a sudden: what had its last good copy there is lost, and nobody's fault.
    pub(super) fn excuse(&mut self) {
        let lost: Vec<VolumeId> = assignments(&self.check.durable)
            .filter(|a| !self.replicas(&a.id).any(|(_, lv)| !lv.fresh && self.is_good(&a.id, lv.backing)))
            .map(|a| a.id.clone())
            .collect();
        for id in lost {
            self.check.written.remove(&id);
            self.check.excused.insert(id);
        }
    }

    fn count(&self, id: &VolumeId) -> (usize, usize) {
        let (mut copies, mut attached) = (0, 0);
        for (_, lv) in self.replicas(id).filter(|(_, lv)| !lv.fresh && self.is_good(id, lv.backing)) {
            copies += 1;
            attached += usize::from(self.kernels.replica(lv.backing).is_some_and(|r| r.attached.is_some()));
        }
        (copies, attached)
    }

    /// The volume that a step is about, if an operator still wants it.
    fn wanted(&self, step: &Step) -> Option<VolumeId> {
        let name = resource_of(step)?;
        if name == META_NAME {
            return Some(VolumeId::meta());
        }
        let assigned = assignments(&self.check.durable).find(|a| a.resource == name)?;
        let matches = step.lv().is_none_or(|lv| lv.id == assigned.id);
        matches.then(|| assigned.id.clone())
    }

    pub(super) fn before_step(&self, at: BoxId, step: &Step) -> Before {
        let resource = self.wanted(step);
        let (copies, attached) = resource.as_ref().map_or((0, 0), |id| self.count(id));
        Before { resource, copies, attached, foreign: self.is_foreign(at, step) }
    }

    /// The step would write where somebody else's data is, and has been for long.
    fn is_foreign(&self, at: BoxId, step: &Step) -> bool {
        let storage = &self.boxes[at].storage;
        let long = |since_ms: u64| self.now_ms >= since_ms + KNOWN_AFTER_MS;
        if let Step::ClaimDisk { device, pool, .. } = step {
            let drive = storage.drives.iter().find(|d| d.slot.is_some() && &d.device() == device);
            return drive.is_some_and(|d| {
                let free = d.content == Content::Blank || d.content == Content::Pv(pool.clone());
                !free && long(d.since_ms)
            });
        }
        let Some(lv) = step.lv() else { return false };
        let there = storage.groups.get(&lv.pool).into_iter().flatten().find(|there| there.name == lv.name);
        there.is_some_and(|there| {
            let other =
                there.tags.as_ref().is_none_or(|tags| tags.id != lv.id || tags.generation != lv.generation);
            other && long(there.since_ms)
        })
    }

    pub(super) fn check_step(
        &mut self,
        before: Before,
        at: BoxId,
        step: &Step,
        result: &Result<(), StepError>,
    ) {
        let name = self.boxes[at].name.clone();
        if before.foreign {
            self.check.fail(2, format!("{name}: {step}: it is somebody else's"));
        }
        if let Step::GrowLv { lv, size } = step {
            let there = self.boxes[at].storage.groups.get(&lv.pool).into_iter().flatten();
            if result.is_ok() && there.into_iter().any(|there| there.name == lv.name && there.size < *size) {
                self.check.fail(9, format!("{name}: {step}: it is smaller"));
            }
        }
        if let (Step::Seed { how, .. }, Ok(())) = (step, result) {
            self.check_seed(&name, step, *how);
        }
        let Some(id) = &before.resource else { return };
        let (copies, attached) = self.count(id);
        if before.copies > 0 && copies == 0 {
            self.check.fail(1, format!("{name}: {step}: that was the last good copy"));
        }
        let wanted = self.replicas_wished(id);
        if before.attached > 0 && attached == 0 {
            self.check.fail(1, format!("{name}: {step}: that was the last good copy in use"));
        }
        // The new part of a device that grew is synced, and DRBD calls all of the target Inconsistent meanwhile.
        let grows = matches!(step, Step::Resize { .. });
        if !grows && attached < before.attached && attached < wanted {
            let text = format!("{name}: {step}: {} good copies in use became {attached}", before.attached);
            self.check.fail(7, text);
        }
    }

    /// How many copies the operator asked for.
    fn replicas_wished(&self, id: &VolumeId) -> usize {
        let Some(volume) = volumes(&self.check.durable).find(|v| &v.id == id) else {
            return assignments(&self.check.durable).find(|a| &a.id == id).map_or(0, |a| a.diskful().count());
        };
        let place = if let Place::Boxes(boxes) = &volume.place { Some(boxes.len()) } else { None };
        let group = match self.check.durable.get(&format!("group/{}", volume.group)) {
            Some(Record::Group(group)) => usize::from(group.replicas),
            _ => 0,
        };
        volume.replicas.map(usize::from).or(place).unwrap_or(group)
    }

    fn check_seed(&mut self, name: &BoxName, step: &Step, how: SeedHow) {
        let Some(id) = self.wanted(step) else { return };
        let legs: Vec<&LogicalVolume> = self.replicas(&id).map(|(_, lv)| lv).collect();
        let differ = how == SeedHow::ClearBitmap && legs.iter().any(|lv| !lv.zeroed);
        let written = self.check.written.get(&id).copied();
        let mine = self
            .replicas(&id)
            .filter(|(at, _)| &self.boxes[*at].name == name)
            .find_map(|(_, lv)| Some(self.kernels.replica(lv.backing)?.content));
        let stale = matches!((written, mine), (Some(w), Some(m)) if !self.kernels.descends(m, w));
        if differ {
            self.check.fail(8, format!("{name}: {step}: what was not zeroed was declared equal"));
        }
        if stale {
            self.check.fail(
                8,
                format!("{name}: {step}: a copy without the newest writes was declared the one that counts"),
            );
        }
    }

    /// The leader's store begins from what holds every durable commit.
    pub(super) fn check_meta_read(&mut self, at: BoxId, content: Version) {
        if !self.kernels.descends(content, self.check.head) {
            let name = &self.boxes[at].name;
            let text = format!("{name} opens a store that lacks acknowledged commits");
            self.check.fail(3, text);
        }
    }

    /// What has to hold at any time.
    pub(super) fn check_world(&mut self) {
        if self.now_ms < self.check.looked_ms + 500 {
            return;
        }
        self.check.looked_ms = self.now_ms;
        let now = self.now_ms;
        let hangs = |since: Option<u64>| since.is_some_and(|since| now > since + SUSPENDED_MAX_MS);
        let found = self.kernels.uses().find(|(_, _, used)| hangs(used.suspended_since_ms));
        let found =
            found.map(|(at, resource, _)| format!("I/O of {resource} hangs on {}", self.boxes[at].name));
        if let Some(text) = found {
            self.check.fail(10, text);
        }
    }
}
