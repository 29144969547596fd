//! One box on which each step does what it says. The other boxes stay as they are, but their kernels answer: links come
//! up where both sides want them, and copies sync. The leader notes what is born and what is gone.

use std::{collections::BTreeMap, sync::Arc};

use holdfast::core::{
    conf,
    drbd::{ConnectionState, Device, DiskState, Peer, ReplicationState, Resource, Role},
    facts::{ConfFile, Known, Lv, Report, Vg},
    intent::*,
    names::{BoxName, PoolName},
    plan::Part,
    step::{LvRef, SeedHow, Step},
};

use crate::{
    checks::{Case, check},
    ground::*,
    states::CONNECTING,
};

/// See the module.
pub struct Machine {
    pub me: BoxName,
    name: String,
    pub w: Wanted,
    pub seen: Seen,
    /// Its LV was made in this run.
    new: bool,
}

impl Machine {
    pub fn new(w: &Wanted, facts: &Facts) -> Self {
        let me = boxes()[ME].clone();
        Self { me, name: w.nth.name(&w.order), seen: Seen::new(w, facts), w: w.clone(), new: false }
    }

    fn mine(&mut self) -> &mut Report {
        Arc::make_mut(self.seen.reports.get_mut(&self.me).unwrap())
    }

    fn a(&self) -> Option<Assignment> {
        self.w.intent.assignment_of(&self.name).cloned()
    }

    pub fn with_case<T>(&self, look: impl FnOnce(&Case<'_>) -> T) -> (Part, T) {
        let here = self.seen.here(&self.w.intent, &self.me);
        let part = part(&here, &self.name, self.w.crc);
        let looked = look(&Case { here: &here, resource: &self.name, part: &part });
        (part, looked)
    }

    /// One plan, its steps, and what follows by itself. None when nothing was to do and nothing changed.
    pub fn round(&mut self) -> Option<Vec<Step>> {
        let (part, checked) = self.with_case(check);
        if let Err(why) = checked {
            panic!("{why}\nplan: {:#?}\n{:#?}\n{:#?}", part.job.steps, self.w.intent, self.seen.reports);
        }
        for step in &part.job.steps {
            if self.step(step).is_none() {
                break;
            }
        }
        part.cleared.iter().for_each(|key| self.w.intent.apply(&[Change::Delete(key.clone())]));
        let changed = self.goes_on();
        (changed || !part.job.steps.is_empty() || !part.cleared.is_empty()).then_some(part.job.steps)
    }

    fn vg(&mut self, pool: &PoolName) -> Option<&mut Vg> {
        match &mut self.mine().vgs {
            Known::Known(vgs) => vgs.get_mut(pool),
            Known::Unknown(_) => None,
        }
    }

    fn lv(&mut self, lv: &LvRef) -> Option<&mut Lv> {
        let same = |l: &&mut Lv| l.name == lv.name && l.id == lv.id && l.generation == lv.generation;
        self.vg(&lv.pool)?.lvs.iter_mut().find(same)
    }

    fn conf(&mut self) -> Option<&mut BTreeMap<String, ConfFile>> {
        match &mut self.mine().conf {
            Known::Known(conf) => Some(conf),
            Known::Unknown(_) => None,
        }
    }

    fn resources(&mut self) -> Option<&mut BTreeMap<String, Resource>> {
        match &mut self.mine().drbd {
            Known::Known(resources) => Some(resources),
            Known::Unknown(_) => None,
        }
    }

    fn up(&mut self) -> Option<&mut Resource> {
        let name = self.name.clone();
        self.resources()?.get_mut(&name)
    }

    fn device(&mut self) -> Option<&mut Device> {
        self.up()?.devices.get_mut(&0)
    }

    /// None where it fails.
    fn step(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::ClaimDisk { .. } => return None,
            Step::CreateLv { lv, size, .. } => {
                self.new = true;
                let made = Lv {
                    name: lv.name.clone(),
                    id: lv.id.clone(),
                    device_nr: 0,
                    generation: lv.generation,
                    size: *size,
                    fresh: true,
                    zeroed: false,
                    active: true,
                };
                self.vg(&lv.pool)?.lvs.push(made);
            }
            Step::CreateMd { lv, .. } => {
                self.new = true;
                let there = self.lv(lv)?;
                (there.fresh, there.zeroed) = (false, true);
            }
            Step::GrowLv { lv, size } => self.lv(lv)?.size = *size,
            Step::WriteConf { resource, text } => {
                let file = ConfFile { crc: conf::crc(text), adjusted: false };
                let _ = self.conf()?.insert(resource.clone(), file);
            }
            Step::Adjust { .. } => self.adjust()?,
            Step::Seed { how, .. } => {
                self.device()?.disk = DiskState::UpToDate;
                if *how == SeedHow::ClearBitmap {
                    self.sync();
                }
            }
            Step::Promote { .. } => self.up()?.role = Role::Primary,
            Step::Demote { .. } => self.up()?.role = Role::Secondary,
            Step::Resize { .. } => self.device()?.size_kib = self.a()?.size.0 / 1024,
            Step::Down { resource, .. } => drop(self.resources()?.remove(resource)),
            Step::RemoveConf { resource } => drop(self.conf()?.remove(resource)?),
            Step::RemoveLv { lv } => {
                self.lv(lv)?;
                self.vg(&lv.pool)?.lvs.retain(|l| l.name != lv.name);
            }
        }
        Some(())
    }

    fn adjust(&mut self) -> Option<()> {
        let a = self.a()?;
        let leg = a.legs.get(&self.me)?.clone();
        let name = self.name.clone();
        self.conf()?.get_mut(&name)?.adjusted = true;
        if self.device().is_some_and(|d| d.minor != a.minor) {
            return None;
        }
        let attached = self.device().map(|d| d.disk).filter(|d| *d != DiskState::Diskless);
        let (full, small) = sizes_kib(&self.w.order);
        let (disk, size_kib) = match (&leg.pool, attached) {
            (None, _) => (DiskState::Diskless, full),
            (Some(_), Some(disk)) => (disk, self.device()?.size_kib),
            (Some(pool), None) => {
                let report = &self.seen.reports[&self.me];
                let lv = report.lv(pool, &a.id, leg.generation).filter(|lv| lv.active && !lv.fresh)?;
                let large = lv.size >= conf::lv_size_for(a.size, version(self.w.order.major));
                let disk = if a.born && !self.new { DiskState::UpToDate } else { DiskState::Inconsistent };
                (disk, if large && (self.new || !self.w.order.grown) { full } else { small })
            }
        };
        let resource = Resource { name: name.clone(), role: Role::Secondary, ..Resource::default() };
        let resource = self.resources()?.entry(name).or_insert(resource);
        let device = resource.devices.entry(0).or_default();
        (device.minor, device.disk, device.size_kib) = (a.minor, disk, size_kib);
        let ids: Vec<u8> = link_ids(&self.w.order).into_iter().flatten().collect();
        let LinkIs::There(connection, replication, disk, role) = CONNECTING else { return None };
        let resource = self.up()?;
        resource.peers.retain(|id, p| ids.contains(id) && p.connection != ConnectionState::StandAlone);
        for id in ids {
            resource.peers.entry(id).or_insert(peer(connection, replication, disk, role));
        }
        Some(())
    }

    /// Which of the other boxes is behind a link, if its word is current and its kernel has the resource.
    fn behind(&self, id: u8) -> Option<(BoxName, DiskState)> {
        let a = self.a()?;
        let found = a.legs.iter().find(|(name, leg)| {
            **name != self.me && if self.w.order.major >= 9 { leg.node_id == id } else { leg.pool.is_some() }
        });
        let (name, _) = found?;
        let report = self.seen.reports.get(name).filter(|_| self.seen.alive.contains(name))?;
        Some((name.clone(), report.resource(&self.name)?.devices.get(&0)?.disk))
    }

    /// Links come up, states pass, copies sync, the leader notes what is born; whether anything changed.
    fn goes_on(&mut self) -> bool {
        let a = self.a();
        let mut changed = false;
        let own = self.device().map(|d| d.minor) == a.as_ref().map(|a| a.minor);
        if own && let Some(a) = a {
            let answers: BTreeMap<u8, Option<DiskState>> =
                (0..3).map(|id| (id, self.behind(id).map(|(_, disk)| disk))).collect();
            let resource = self.up().unwrap();
            let before = resource.clone();
            for (id, p) in &mut resource.peers {
                let Some(volume) = p.devices.get_mut(&0) else { continue };
                let answer = answers.get(id).copied().flatten();
                if let Some(disk) = answer.filter(|_| p.connection != ConnectionState::StandAlone) {
                    (p.connection, volume.disk) = (ConnectionState::Connected, disk);
                }
                if p.connection == ConnectionState::Connected {
                    volume.replication = ReplicationState::Established;
                }
            }
            let device = resource.devices.get_mut(&0).unwrap();
            device.disk = match device.disk {
                DiskState::Attaching | DiskState::Negotiating if a.born => DiskState::Outdated,
                DiskState::Attaching | DiskState::Negotiating => DiskState::Inconsistent,
                DiskState::Detaching | DiskState::Failed => DiskState::Diskless,
                disk => disk,
            };
            self.sync();
            let good = self.device().is_some_and(|d| d.disk == DiskState::UpToDate);
            let good = good || answers.values().any(|disk| *disk == Some(DiskState::UpToDate));
            if good && a.diskful().any(|name| name == &self.me) && !a.born {
                self.w.intent.apply(&[Change::Put(Record::Assignment(Assignment { born: true, ..a }))]);
                changed = true;
            }
            changed |= self.up().is_some_and(|now| *now != before);
        }
        changed
    }

    /// What is connected to good data gets it.
    fn sync(&mut self) {
        let stale = [DiskState::Inconsistent, DiskState::Outdated, DiskState::Consistent];
        let resource = self.up().unwrap();
        let connected = |p: &&mut Peer| p.connection == ConnectionState::Connected;
        let has = |p: &mut Peer, disk| p.devices.get(&0).is_some_and(|d| d.disk == disk);
        let source = resource.peers.values_mut().filter(connected).any(|p| has(p, DiskState::UpToDate));
        let device = resource.devices.get_mut(&0).unwrap();
        if source && stale.contains(&device.disk) {
            device.disk = DiskState::UpToDate;
        }
        if device.disk != DiskState::UpToDate {
            return;
        }
        let mut synced = Vec::new();
        for (id, p) in resource.peers.iter_mut().filter(|(_, p)| p.connection == ConnectionState::Connected) {
            let volume = p.devices.entry(0).or_default();
            if stale.contains(&volume.disk) {
                volume.disk = DiskState::UpToDate;
                synced.push(*id);
            }
        }
        for (name, _) in synced.into_iter().filter_map(|id| self.behind(id)).collect::<Vec<_>>() {
            let resource_name = self.name.clone();
            let report = Arc::make_mut(self.seen.reports.get_mut(&name).unwrap());
            if let Known::Known(all) = &mut report.drbd {
                let device = all.get_mut(&resource_name).and_then(|r| r.devices.get_mut(&0));
                device.unwrap().disk = DiskState::UpToDate;
            }
        }
    }
}
