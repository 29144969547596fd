//! The model's outside: by box and name, with the errors that `edge/drbd.rs` would give.
//!
//! What must not go in: what DRBD does (the other files).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    acts::Answer,
    adjust::Wanted,
    cluster::{Cluster, World},
    disk::{Disks, Md},
    res,
    types::{BackingId, BoxId, IoError, OpenError, ReplicaView, UseView, Version},
    versions::Versions,
};
use crate::{
    core::{
        drbd::{Counters, DiskState, DrbdVersion, Resource, Role},
        size::Size,
        step::{SeedHow, StepClass, StepError},
    },
    edge::outcome::{class_of, needs_primary, refused},
};

/// What a resync goes at, unless told otherwise: 200 MiB/s.
const KIB_PER_S: u64 = 200 << 10;

/// DRBD on all boxes.
pub struct Kernels {
    pub(super) world: World,
    names: BTreeMap<String, usize>,
    clusters: Vec<Cluster>,
    /// Clusters with something to tell.
    told: Vec<usize>,
}

/// The error of a command that failed with these words.
fn failed(command: &str, resource: &str, code: u8, words: &str) -> StepError {
    let text = format!("{command} {resource}: exit code {code}: {words}");
    StepError { class: class_of(words), text }
}

fn done(command: &str, resource: &str, answer: Answer) -> Result<(), StepError> {
    answer.map_err(|(code, words)| failed(command, resource, code, words))
}

impl Kernels {
    /// All boxes have this version; nothing is configured; all is connected.
    pub fn new(version: DrbdVersion) -> Self {
        let world = World {
            nine: version.is_9(),
            kib_per_s: KIB_PER_S,
            now_ms: 0,
            disks: Disks::default(),
            versions: Versions::new(),
            cut: BTreeSet::new(),
            last_id: 0x100,
        };
        Self { world, names: BTreeMap::new(), clusters: Vec::new(), told: Vec::new() }
    }

    /// A new LV: zeroes, no metadata.
    pub fn new_backing(&mut self, size: Size) -> BackingId {
        self.world.disks.add(size.bytes() / 1024)
    }

    /// The LV is larger now; DRBD does not know yet.
    pub fn grow_backing(&mut self, id: BackingId, size: Size) {
        if let Some(backing) = self.world.disks.get_mut(id) {
            backing.size_kib = backing.size_kib.max(size.bytes() / 1024);
        }
    }

    /// The LV was removed. To be asked for only while it is not attached, as LVM does.
    pub fn drop_backing(&mut self, id: BackingId) {
        if self.world.disks.get(id).is_some_and(|backing| backing.attached.is_none()) {
            self.world.disks.remove(id);
        }
    }

    /// The disk died: where it is attached it is let go of, and I/O goes on with the peers' data.
    pub fn fail_backing(&mut self, id: BackingId) {
        let Some(backing) = self.world.disks.get_mut(id) else { return };
        backing.failed = true;
        if let Some((cluster, at)) = backing.attached {
            self.with(cluster, |cluster, world| cluster.disk_failed(at, world));
        }
    }

    /// Some resync goes on, or waits for another.
    pub fn is_syncing(&self) -> bool {
        self.clusters.iter().any(|cluster| !cluster.runs.is_empty())
    }

    /// The disk is back with what it held. The next adjust attaches it.
    pub fn mend_backing(&mut self, id: BackingId) {
        if let Some(backing) = self.world.disks.get_mut(id) {
            backing.failed = false;
        }
    }

    /// `drbdmeta create-md`: metadata as if nothing ever was there.
    pub fn create_md(&mut self, id: BackingId) -> Result<(), StepError> {
        let words = match self.world.disks.get_mut(id) {
            None => "open failed: No such file or directory",
            Some(backing) if backing.attached.is_some() => "Device is configured!",
            Some(backing) if backing.failed => "md write failed: Input/output error",
            Some(backing) => {
                backing.md = Some(Md::new());
                return Ok(());
            }
        };
        Err(failed("drbdmeta", "create-md", 20, words))
    }

    /// `drbdadm adjust`, with this file. `me` is the box's host name, `names` finds a host's box, `backing` a device by
    /// its path.
    pub fn adjust(
        &mut self,
        at: BoxId,
        res_text: &str,
        names: &dyn Fn(&str) -> Option<BoxId>,
        me: &str,
        backing: &dyn Fn(&str) -> Option<BackingId>,
    ) -> Result<(), StepError> {
        let nine = self.world.nine;
        let adjust = "drbdadm adjust";
        let conf = res::parse(res_text, nine).map_err(|words| failed(adjust, "", 10, &words))?;
        let name = conf.resource.as_str();
        let wanted = match Wanted::read(&conf, at, me, nine, names, backing) {
            Some(wanted) => wanted.map_err(|words| failed(adjust, name, 10, &words))?,
            None => {
                let words = format!("'{name}' not defined in your config (for this host).");
                return Err(failed(adjust, name, 1, &words));
            }
        };
        let minor = wanted.me.minor;
        let taken = |cluster: &Cluster| cluster.nodes.get(&at).is_some_and(|node| node.minor == minor);
        if let Some(node) = self.find(name).and_then(|index| self.clusters.get(index)?.nodes.get(&at)) {
            if node.minor != minor {
                let found = node.minor;
                return Err(refused(format!(
                    "{name} has minor {found} in the kernel, not {minor}: left alone"
                )));
            }
        } else if self.clusters.iter().any(taken) {
            let words = "Failure: (161) Minor or volume exists already (delete it first)";
            return Err(failed(adjust, name, 10, words));
        }
        let index = self.find(name).unwrap_or_else(|| {
            let index = self.clusters.len();
            self.clusters.push(Cluster { index, name: name.to_owned(), ..Cluster::default() });
            self.names.insert(name.to_owned(), index);
            index
        });
        let answer = self.with(index, |cluster, world| cluster.adjust(&wanted, world));
        answer.map_or(Ok(()), |answer| answer.map_err(|words| failed(adjust, name, 1, &words)))
    }

    /// Makes the first copy UpToDate, as `edge/drbd.rs` does.
    pub fn seed(&mut self, at: BoxId, resource: &str, how: SeedHow) -> Result<(), StepError> {
        let index = self.needed(at, resource)?;
        let node = self.clusters.get(index).and_then(|cluster| cluster.nodes.get(&at));
        let mine = node.map(|node| node.disk).unwrap_or_default();
        if mine == DiskState::UpToDate {
            return Ok(());
        }
        if mine != DiskState::Inconsistent {
            return Err(refused(format!("{resource} is {mine} here, not a replica that was just made")));
        }
        let has_data = |disk: &DiskState| {
            matches!(disk, DiskState::UpToDate | DiskState::Consistent | DiskState::Outdated)
        };
        let told = |link: &&super::cluster::Link| {
            self.world.nine || link.state != crate::core::drbd::ConnectionState::StandAlone
        };
        let mut disks = node.iter().flat_map(|node| &node.links).filter(told).map(|link| link.disk);
        if let Some(peer) = disks.find(has_data) {
            return Err(refused(format!("{resource} is {peer} on a peer: the data is taken from there")));
        }
        match how {
            SeedHow::ClearBitmap => {
                let answer = self.with(index, |cluster, world| cluster.clear_bitmap(at, world));
                done("drbdadm new-current-uuid --clear-bitmap", resource, answer.unwrap_or(Ok(())))
            }
            SeedHow::Force => {
                let answer = self.with(index, |cluster, world| cluster.force_primary(at, world));
                done("drbdadm primary --force", resource, answer.unwrap_or(Ok(())))?;
                match self.demote(at, resource) {
                    Err(error) if error.class == StepClass::Busy => Ok(()),
                    result => result,
                }
            }
        }
    }

    /// `drbdadm primary`. Where a peer is silent this refuses at once with a timeout and makes its loss noticed soon; the
    /// real command takes that long (`answers_ms`) and then succeeds.
    pub fn promote(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        let index = self.needed(at, resource)?;
        let answer = self.with(index, |cluster, world| cluster.promote(at, false, world));
        done("drbdadm primary", resource, answer.unwrap_or(Ok(())))
    }

    /// `drbdadm secondary`
    pub fn demote(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        self.step_down(at, resource, false)
    }

    /// `drbdadm secondary --force`: openers get errors until they close. Only on 9.
    pub fn force_secondary(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        if !self.world.nine {
            return Err(failed("drbdadm secondary --force", resource, 20, "unrecognized option '--force'"));
        }
        self.step_down(at, resource, true)
    }

    fn step_down(&mut self, at: BoxId, resource: &str, force: bool) -> Result<(), StepError> {
        let index = self.needed(at, resource)?;
        let answer = self.with(index, |cluster, world| cluster.demote(at, force, world));
        done("drbdadm secondary", resource, answer.unwrap_or(Ok(())))
    }

    /// Takes over larger LVs, as `edge/drbd.rs` does: what 8.4 wants to be Primary for it is Primary for a moment.
    pub fn resize(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        let first = self.resize_as_it_is(at, resource);
        if !first.as_ref().is_err_and(needs_primary) {
            return first;
        }
        self.promote(at, resource)?;
        let resized = self.resize_as_it_is(at, resource);
        match self.demote(at, resource) {
            Err(error) if error.class == StepClass::Busy => resized,
            result => result.and(resized),
        }
    }

    /// `drbdadm resize`
    pub fn resize_as_it_is(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        let index = self.needed(at, resource)?;
        let answer = self.with(index, |cluster, world| cluster.resize(at, world));
        answer.map_or(Ok(()), |answer| answer.map_err(|words| failed("drbdadm resize", resource, 10, &words)))
    }

    /// `drbdsetup down`, if it has this minor. Ok if the kernel has no such resource.
    pub fn down(&mut self, at: BoxId, resource: &str, minor: u32) -> Result<(), StepError> {
        let Ok(index) = self.needed(at, resource) else { return Ok(()) };
        let found = self.clusters.get(index).and_then(|c| c.nodes.get(&at)).map(|node| node.minor);
        if let Some(found) = found.filter(|found| *found != minor) {
            return Err(refused(format!("{resource} has minor {found} now, not {minor}: left alone")));
        }
        self.demote(at, resource)?;
        let answer = self.with(index, |cluster, world| cluster.down(at, world));
        answer.map_or(Ok(()), |answer| answer.map_err(|words| failed("drbdsetup down", resource, 11, &words)))
    }

    /// open(O_RDWR). With DRBD 9 and auto-promote it makes the box Primary; as with `promote`, a silent peer makes it
    /// fail at once where it would wait.
    pub fn open(&mut self, at: BoxId, resource: &str) -> Result<(), OpenError> {
        let index = self.find(resource).ok_or(OpenError::Gone)?;
        let answer = self.with(index, |cluster, world| cluster.open(at, world));
        answer.unwrap_or(Err(OpenError::Gone))
    }

    /// close(): what opening made Primary is Secondary again after the last one.
    pub fn close(&mut self, at: BoxId, resource: &str) {
        if let Some(index) = self.find(resource) {
            self.with(index, |cluster, world| cluster.close(at, world));
        }
    }

    /// One synced write: a child of what was there, on all replicas that take writes. Ok only if all of them have it.
    pub fn write(&mut self, at: BoxId, resource: &str) -> Result<Version, IoError> {
        let index = self.find(resource).ok_or(IoError::Gone)?;
        self.clusters.get_mut(index).ok_or(IoError::Gone)?.write(at, &mut self.world)
    }

    /// One write in whose middle the power of `at` is cut: it reaches only these boxes, and nobody is told. `power_off` is
    /// to follow. None: there was nothing to be written.
    pub fn write_torn(
        &mut self,
        at: BoxId,
        resource: &str,
        reaches: &dyn Fn(BoxId) -> bool,
    ) -> Option<Version> {
        let index = self.find(resource)?;
        self.clusters.get_mut(index)?.write_torn(at, reaches, &mut self.world)
    }

    /// One read.
    pub fn read(&self, at: BoxId, resource: &str) -> Result<Version, IoError> {
        let cluster = self.find(resource).and_then(|index| self.clusters.get(index)).ok_or(IoError::Gone)?;
        cluster.read(at, &self.world)
    }

    /// Whether `older` is `newer` or was there before it.
    pub fn descends(&self, newer: Version, older: Version) -> bool {
        self.world.versions.descends(newer, older)
    }

    /// The network between two boxes works, or not.
    pub fn wire(&mut self, a: BoxId, b: BoxId, up: bool, now_ms: u64) {
        self.world.now_ms = self.world.now_ms.max(now_ms);
        let pair = (a.min(b), a.max(b));
        let changed = if up { self.world.cut.remove(&pair) } else { self.world.cut.insert(pair) };
        if changed {
            self.with_all(
                |cluster| cluster.nodes.contains_key(&a) && cluster.nodes.contains_key(&b),
                |cluster, world| {
                    cluster.try_soon(a, b, world);
                    cluster.settle(world);
                },
            );
        }
    }

    /// The power of a box is cut: its kernel forgets all, its disks keep what they hold.
    pub fn power_off(&mut self, at: BoxId) {
        self.with_all(
            |cluster| cluster.nodes.contains_key(&at),
            |cluster, world| {
                cluster.forget(at, world);
                cluster.settle(world);
            },
        );
    }

    /// Time goes on: losses are noticed, links are made, resyncs end.
    pub fn tick(&mut self, now_ms: u64) {
        self.world.now_ms = self.world.now_ms.max(now_ms);
        for index in 0..self.clusters.len() {
            let due = |cluster: &Cluster| cluster.wake.is_some_and(|wake| wake <= self.world.now_ms);
            if self.clusters.get(index).is_some_and(due) {
                self.with(index, Cluster::tick);
            }
        }
    }

    /// When `tick` has something to do.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.clusters.iter().filter_map(|cluster| cluster.wake).min()
    }

    /// When a command that asks all peers would be answered, at the earliest; later than now if a peer is silent.
    pub fn answers_ms(&self, at: BoxId, resource: &str) -> Option<u64> {
        self.clusters.get(self.find(resource)?)?.answers_ms(at, &self.world)
    }

    /// The resources of which events have told something since the last call.
    pub fn take_changed(&mut self) -> Vec<(BoxId, String)> {
        let mut found = Vec::new();
        for index in std::mem::take(&mut self.told) {
            let Some(cluster) = self.clusters.get_mut(index) else { continue };
            for at in std::mem::take(&mut cluster.changed) {
                if let Some(node) = cluster.nodes.get_mut(&at) {
                    node.changed = false;
                }
                found.push((at, cluster.name.clone()));
            }
        }
        found
    }

    /// What the events of one box add up to, of one resource.
    pub fn look(&self, at: BoxId, resource: &str) -> Option<Resource> {
        self.clusters.get(self.find(resource)?)?.look(at, &self.world)
    }

    /// What the events of one box add up to.
    pub fn look_all(&self, at: BoxId) -> BTreeMap<String, Resource> {
        let all = self.clusters.iter().filter_map(|cluster| cluster.look(at, &self.world));
        all.map(|resource| (resource.name.clone(), resource)).collect()
    }

    /// Sizes from sysfs; with 8.4 what is out of sync from /proc/drbd.
    pub fn counters(&self, at: BoxId) -> BTreeMap<u32, Counters> {
        self.clusters.iter().filter_map(|cluster| cluster.counters(at, &self.world)).collect()
    }

    /// One replica; None without metadata.
    pub fn replica(&self, id: BackingId) -> Option<ReplicaView> {
        let backing = self.world.disks.get(id)?;
        let md = backing.md.as_ref()?;
        let cluster = backing.attached.and_then(|(index, at)| Some((self.clusters.get(index)?, at)));
        Some(ReplicaView {
            content: backing.content,
            up_to_date: md.up_to_date,
            attached: cluster.map(|(cluster, at)| (at, cluster.name.clone())),
        })
    }

    /// What an LV holds, with metadata or without.
    pub fn content(&self, id: BackingId) -> Option<Version> {
        self.world.disks.get(id).map(|backing| backing.content)
    }

    /// How a resource is used on a box.
    pub fn used(&self, at: BoxId, resource: &str) -> Option<UseView> {
        self.clusters.get(self.find(resource)?)?.used(at)
    }

    /// All resources on all boxes whose kernels have them.
    pub fn uses(&self) -> impl Iterator<Item = (BoxId, &str, UseView)> {
        self.clusters.iter().flat_map(|cluster| {
            let boxes = cluster.nodes.keys();
            boxes.filter_map(|at| Some((*at, cluster.name.as_str(), cluster.used(*at)?)))
        })
    }

    /// Where a resource is Primary.
    pub fn primaries(&self, resource: &str) -> impl Iterator<Item = BoxId> {
        let cluster = self.find(resource).and_then(|index| self.clusters.get(index));
        let nodes = cluster.into_iter().flat_map(|cluster| &cluster.nodes);
        nodes.filter(|(_, node)| node.role == Role::Primary).map(|(at, _)| *at)
    }

    fn find(&self, resource: &str) -> Option<usize> {
        self.names.get(resource).copied()
    }

    /// The cluster of a resource that this box has.
    fn needed(&self, at: BoxId, resource: &str) -> Result<usize, StepError> {
        let here = |index: &usize| self.clusters.get(*index).is_some_and(|c| c.nodes.contains_key(&at));
        let text = format!("the kernel has no resource {resource}");
        self.find(resource).filter(here).ok_or(StepError { class: StepClass::Gone, text })
    }

    /// Does something to a cluster and keeps in mind that it may have something to tell.
    fn with<T>(&mut self, index: usize, act: impl FnOnce(&mut Cluster, &mut World) -> T) -> Option<T> {
        let cluster = self.clusters.get_mut(index)?;
        let quiet = cluster.changed.is_empty();
        let result = act(cluster, &mut self.world);
        if quiet && !cluster.changed.is_empty() {
            self.told.push(index);
        }
        Some(result)
    }

    fn with_all(&mut self, which: impl Fn(&Cluster) -> bool, act: impl Fn(&mut Cluster, &mut World)) {
        for index in 0..self.clusters.len() {
            if self.clusters.get(index).is_some_and(&which) {
                self.with(index, &act);
            }
        }
    }
}
