//! Observations of this box: each is compared with what was known, and what differs is planned anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Node};
use crate::core::{
    claim::Disk,
    drbd::{Counters, Resource},
    facts::{ConfFile, Known, Vg},
    names::{DiskName, PoolName},
};

impl Node {
    pub(super) fn facts(&mut self, facts: Facts) {
        let changed = match facts {
            Facts::Disks(disks) => self.disks(disks),
            Facts::Vgs(vgs) => self.vgs(vgs),
            Facts::Conf(conf) => self.conf(conf),
            Facts::Counters(counters) => self.count(counters),
            Facts::Drbd(drbd) => self.drbd(drbd),
            Facts::Resource(name, resource) => self.resource(name, resource),
        };
        self.facts_changed |= changed;
    }

    fn disks(&mut self, disks: Known<BTreeMap<DiskName, Disk>>) -> bool {
        let changed = self.mine().disks != disks;
        if changed {
            self.planned.claims_changed();
            self.change_mine().disks = disks;
        }
        changed
    }

    fn vgs(&mut self, vgs: Known<BTreeMap<PoolName, Vg>>) -> bool {
        let changed = self.mine().vgs != vgs;
        if changed {
            self.planned.all_changed();
            self.change_mine().vgs = vgs;
        }
        changed
    }

    fn conf(&mut self, conf: Known<BTreeMap<String, ConfFile>>) -> bool {
        let changed = self.planned.facts_change(&self.reports[&self.me].conf, &conf);
        if changed {
            self.change_mine().conf = conf;
        }
        changed
    }

    fn drbd(&mut self, mut drbd: Known<BTreeMap<String, Resource>>) -> bool {
        self.lanes.observed_drbd();
        if let Known::Known(now) = &mut drbd {
            let devices = now.values().flat_map(|r| r.devices.values());
            let there: BTreeSet<u32> = devices.map(|d| d.minor).collect();
            self.counters.retain(|minor, _| there.contains(minor));
            for resource in now.values_mut() {
                put_counters(resource, &self.counters);
            }
        }
        let changed = self.planned.facts_change(&self.reports[&self.me].drbd, &drbd);
        if changed {
            self.change_mine().drbd = drbd;
        }
        changed
    }

    fn resource(&mut self, name: String, mut resource: Option<Resource>) -> bool {
        self.lanes.observed_drbd();
        let Known::Known(all) = &self.reports[&self.me].drbd else { return false };
        if let Some(now) = &mut resource {
            put_counters(now, &self.counters);
        }
        let old = all.get(&name);
        if old == resource.as_ref() {
            return false;
        }
        let gone = old.filter(|_| resource.is_none());
        for device in gone.iter().flat_map(|r| r.devices.values()) {
            self.counters.remove(&device.minor);
        }
        self.put_resource(name, resource);
        true
    }

    fn count(&mut self, counters: BTreeMap<u32, Counters>) -> bool {
        self.counters = counters;
        let Known::Known(all) = &self.reports[&self.me].drbd else { return false };
        let counted = all.iter().filter_map(|(name, resource)| {
            let mut resource = resource.clone();
            put_counters(&mut resource, &self.counters).then(|| (name.clone(), resource))
        });
        let counted: Vec<_> = counted.collect();
        let changed = !counted.is_empty();
        counted.into_iter().for_each(|(name, resource)| self.put_resource(name, Some(resource)));
        changed
    }

    fn put_resource(&mut self, name: String, resource: Option<Resource>) {
        self.planned.resource_changed(&name);
        let Known::Known(all) = &mut self.change_mine().drbd else { return };
        match resource {
            Some(resource) => drop(all.insert(name, resource)),
            None => drop(all.remove(&name)),
        }
    }
}

/// Puts the counters into the facts that DRBD's events gave; whether they say anything new.
fn put_counters(resource: &mut Resource, counters: &BTreeMap<u32, Counters>) -> bool {
    let mut new = false;
    for (number, device) in &mut resource.devices {
        let Some(counters) = counters.get(&device.minor) else { continue };
        new |= counters.size_kib > device.size_kib;
        device.size_kib = device.size_kib.max(counters.size_kib);
        let Some(out_of_sync_kib) = counters.out_of_sync_kib else { continue };
        let peers = resource.peers.values_mut().filter_map(|p| p.devices.get_mut(number));
        for peer in peers.filter(|p| p.replication.has_progress()) {
            new |= std::mem::replace(&mut peer.out_of_sync_kib, out_of_sync_kib) != out_of_sync_kib;
        }
    }
    new
}
