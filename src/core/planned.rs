//! The plan of this box as it stands: made anew only where something changed.
//!
//! Whoever changes what plans are made from says so here, rather too much than too little. What must not go in: what the
//! steps are (`plan`), and when they are taken (`lanes`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    conf,
    facts::Known,
    intent::{Assignment, Change, Intent, Leave, Leg, Record},
    names::VolumeId,
    plan::{Here, Part, claims, plan},
    step::Job,
};

/// What has to be planned anew.
#[derive(Debug, Default)]
struct Stale {
    all: bool,
    /// What depends on other boxes' reports.
    others: bool,
    claims: bool,
    resources: BTreeSet<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Planned {
    stale: Stale,
    /// As it was when the plan was made: see [`Here::current`].
    current: bool,
    /// By resource; those that are at rest are left out.
    parts: BTreeMap<String, Part>,
    claims: Vec<Job>,
    /// Checksums of the .res files that there should be, by assignment: rendering is most of the work of planning.
    crcs: BTreeMap<VolumeId, u32>,
}

impl Default for Planned {
    fn default() -> Self {
        Self {
            stale: Stale { all: true, ..Stale::default() },
            current: false,
            parts: BTreeMap::new(),
            claims: Vec::new(),
            crcs: BTreeMap::new(),
        }
    }
}

impl Planned {
    /// The facts of one resource changed.
    pub fn resource_changed(&mut self, resource: &str) {
        self.stale.resources.insert(resource.to_owned());
    }

    /// The facts of resources go from `old` to `new`; whether these differ.
    pub fn facts_change<V: PartialEq>(
        &mut self,
        old: &Known<BTreeMap<String, V>>,
        new: &Known<BTreeMap<String, V>>,
    ) -> bool {
        if old == new {
            return false;
        }
        match (old, new) {
            (Known::Known(old), Known::Known(new)) => {
                let others = new.iter().filter(|(name, fact)| old.get(*name) != Some(*fact));
                let gone = old.keys().filter(|name| !new.contains_key(*name));
                self.stale.resources.extend(others.map(|(name, _)| name).chain(gone).cloned());
            }
            (Known::Unknown(_), _) | (_, Known::Unknown(_)) => self.stale.all = true,
        }
        true
    }

    /// Facts of all resources changed, or none knows which.
    pub fn all_changed(&mut self) {
        self.stale.all = true;
    }

    /// Disks changed.
    pub fn claims_changed(&mut self) {
        self.stale.claims = true;
    }

    /// What is expected to come back with a disk is otherwise now.
    fn disks_wished(&mut self) {
        self.stale.claims = true;
        self.stale.all = true;
    }

    /// Another box's report changed, or whether it is current.
    pub fn others_changed(&mut self) {
        self.stale.others = true;
    }

    /// The intent is another one.
    pub fn intent_replaced(&mut self) {
        self.crcs.clear();
        self.stale.all = true;
    }

    /// `txn` will be applied to `intent`.
    pub fn intent_changes(&mut self, intent: &Intent, txn: &[Change]) {
        for change in txn {
            match change {
                Change::Put(Record::Assignment(a)) => self.assignment_changes(a),
                Change::Put(Record::Volume(volume)) => self.volume_changes(intent, &volume.id),
                Change::Put(Record::Leave(leave)) => self.resource_changed(&leave.resource),
                Change::Put(Record::Disk(_)) => self.disks_wished(),
                Change::Put(Record::Member(_)) => self.intent_replaced(),
                Change::Put(Record::Cluster(_) | Record::Pool(_) | Record::Group(_) | Record::Stamp(_)) => {}
                Change::Delete(key) => self.record_goes(intent, key),
            }
        }
    }

    fn record_goes(&mut self, intent: &Intent, key: &str) {
        match key.split_once('/') {
            Some(("assignment", id)) => {
                intent.assignments.get(id).iter().for_each(|a| self.assignment_changes(a));
            }
            Some(("volume", name)) => {
                intent.volumes.get(name).iter().for_each(|v| self.volume_changes(intent, &v.id));
            }
            Some(("leave", _)) => {
                intent.leaves.get(key).iter().for_each(|l| self.resource_changed(&l.resource));
            }
            Some(("disk", _)) => self.disks_wished(),
            Some(("member", _)) => self.intent_replaced(),
            Some(_) | None => {}
        }
    }

    fn assignment_changes(&mut self, a: &Assignment) {
        self.crcs.remove(&a.id);
        self.resource_changed(&a.resource);
    }

    fn volume_changes(&mut self, intent: &Intent, id: &VolumeId) {
        intent.assignments.get(id).iter().for_each(|a| self.resource_changed(&a.resource));
    }

    /// Plans what is stale; whether anything was.
    pub fn renew(&mut self, here: Here<'_>) -> bool {
        let current_changed = std::mem::replace(&mut self.current, here.current) != here.current;
        let Stale { all, others, claims: disks, mut resources } = std::mem::take(&mut self.stale);
        let all = all || current_changed;
        if all || disks {
            self.claims = claims(&here);
        }
        let here = if all { here.for_many() } else { here };
        let intent = here.world.intent;
        if all {
            self.parts.clear();
            let legs = intent.assignments.values().filter(|a| a.legs.contains_key(here.me));
            resources = legs.map(|a| a.resource.clone()).collect();
            resources.extend(intent.leaves.values().filter(|l| &l.on == here.me).map(|l| l.resource.clone()));
        } else if others {
            resources.extend(self.parts.iter().filter(|(_, p)| p.minds_others).map(|(name, _)| name.clone()));
        }
        if resources.is_empty() {
            return all || disks;
        }
        let mut leaves: BTreeMap<&str, Vec<(&String, &Leave)>> = BTreeMap::new();
        for (key, leave) in intent.leaves.iter().filter(|(_, l)| &l.on == here.me) {
            if resources.contains(&leave.resource) {
                leaves.entry(&leave.resource).or_default().push((key, leave));
            }
        }
        for name in resources {
            let leaves = leaves.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            self.renew_part(&here, name, leaves);
        }
        true
    }

    fn renew_part(&mut self, here: &Here<'_>, resource: String, leaves: &[(&String, &Leave)]) {
        let a = here.world.intent.assignment_of(&resource);
        let a: Option<(&Assignment, &Leg)> = a.and_then(|a| Some((a, a.legs.get(here.me)?)));
        let crc = a.map_or(0, |(a, _)| self.crc(here, a));
        let part = plan(here, &resource, leaves, a, crc);
        if part.is_at_rest() {
            self.parts.remove(&resource);
        } else {
            self.parts.insert(resource, part);
        }
    }

    fn crc(&mut self, here: &Here<'_>, a: &Assignment) -> u32 {
        let Some(drbd) = here.report.drbd_version else { return 0 }; // nothing is built without it
        if let Some(crc) = self.crcs.get(&a.id) {
            return *crc;
        }
        let crc = conf::crc(&conf::render(a, &here.world.intent.members, drbd));
        self.crcs.insert(a.id.clone(), crc);
        crc
    }

    /// What there is to do, in order of lanes.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.claims.iter().chain(self.parts.values().map(|p| &p.job).filter(|j| !j.steps.is_empty()))
    }

    /// The leaves that this box has nothing left of. `settled` says of a lane that nothing runs in it and that all it
    /// did has been looked at: what is being made now is not seen yet.
    pub fn left(&self, settled: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let cleared = self.parts.values().filter(|p| !p.cleared.is_empty() && settled(&p.job.lane));
        cleared.flat_map(|p| p.cleared.iter().cloned()).collect()
    }

    /// It is what would be planned if nothing had been before.
    pub fn is_right(&self, here: Here<'_>) -> bool {
        let mut anew = Self::default();
        anew.renew(here);
        (self.current, &self.parts, &self.claims) == (anew.current, &anew.parts, &anew.claims)
    }

    /// Something changes that DRBD sends no events for.
    pub fn counts(&self) -> bool {
        self.parts.values().any(|p| p.counts)
    }
}
