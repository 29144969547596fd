//! Events put together to whole facts, one `Resource` for each resource of this box's kernel.
//!
//! Why whole facts: a consumer that is given the whole resource after each change cannot drift from the kernel.
//! What must not go in: how lines look, and where they come from.

use super::{ConnectionSays, DeviceSays, Event, PeerDeviceSays, ResourceSays, Verb};
use crate::core::drbd::{Device, Peer, PeerDevice, ReplicationState, Resource};
use std::collections::BTreeMap;

/// What the lines so far add up to. Begin with a fresh one whenever the stream was restarted.
#[derive(Clone, Debug, Default)]
pub struct Model {
    resources: BTreeMap<String, Resource>,
    ready: bool,
}

impl Model {
    /// All resources by name. Until `ready`, resources may be missing here that do exist.
    pub fn resources(&self) -> &BTreeMap<String, Resource> {
        &self.resources
    }

    /// Whether the dump at the beginning was complete: before that, nothing is known.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Takes an event in. The name of the resource whose facts are different now; None for mere counters.
    ///
    /// A change of something that was never announced makes it: changes during the dump may come before the object does.
    /// After a rename it is the new name; the old one is gone.
    pub fn apply(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Resource(Verb::Destroy, name, _) => {
                self.resources.remove(name).map(|resource| resource.name)
            }
            Event::Resource(_, name, says) => self.change(name, |resource| set_resource(resource, says)),
            Event::Device(Verb::Destroy, name, volume, _) => self.change_known(name, |resource| {
                resource.devices.remove(volume);
                resource.peers.values_mut().for_each(|peer| drop(peer.devices.remove(volume)));
            }),
            Event::Device(_, name, volume, says) => {
                self.change(name, |resource| set_device(resource.devices.entry(*volume).or_default(), says))
            }
            Event::Connection(Verb::Destroy, name, node_id, _) => {
                self.change_known(name, |resource| drop(resource.peers.remove(node_id)))
            }
            Event::Connection(_, name, node_id, says) => {
                self.change(name, |resource| set_peer(resource.peers.entry(*node_id).or_default(), says))
            }
            Event::PeerDevice(Verb::Destroy, name, node_id, volume, _) => {
                self.change_known(name, |resource| {
                    resource.peers.get_mut(node_id).map(|peer| peer.devices.remove(volume));
                })
            }
            Event::PeerDevice(_, name, node_id, volume, says) => self.change(name, |resource| {
                let peer = resource.peers.entry(*node_id).or_default();
                let device = peer.devices.entry(*volume).or_default();
                set_peer_device(device, says);
                if stands(device.replication) {
                    resource.split.remove(node_id);
                }
            }),
            // Called when a split brain is found that DRBD was not told to heal: the link is then given up.
            Event::Helper { resource, helper, node_id, status: None } if helper == "split-brain" => {
                self.change_known(resource, |resource| resource.split.extend(node_id))
            }
            Event::Path(..) | Event::Helper { .. } => None,
            Event::Rename { from, to } => {
                let mut resource = self.resources.remove(from)?;
                resource.name.clone_from(to);
                self.resources.insert(to.clone(), resource);
                Some(to.clone())
            }
            Event::DumpEnd => {
                self.ready = true;
                None
            }
        }
    }

    /// Changes a resource, made if need be.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Resource)) -> Option<String> {
        if !self.resources.contains_key(name) {
            let mut resource = Resource { name: name.to_string(), ..Resource::default() };
            change(&mut resource);
            self.resources.insert(name.to_string(), resource);
            return Some(name.to_string());
        }
        self.change_known(name, change)
    }

    fn change_known(&mut self, name: &str, change: impl FnOnce(&mut Resource)) -> Option<String> {
        let resource = self.resources.get_mut(name)?;
        let before = resource.clone();
        change(resource);
        (*resource != before).then(|| name.to_string())
    }
}

/// The two have agreed on whose data counts.
fn stands(state: ReplicationState) -> bool {
    !matches!(state, ReplicationState::Off | ReplicationState::Other)
}

/// Overwrites what was said.
fn set<T>(fact: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *fact = said;
    }
}

fn set_resource(resource: &mut Resource, says: &ResourceSays) {
    set(&mut resource.role, says.role);
    set(&mut resource.suspended, says.suspended.clone());
    set(&mut resource.force_io_failures, says.force_io_failures);
}

fn set_device(device: &mut Device, says: &DeviceSays) {
    set(&mut device.minor, says.minor);
    set(&mut device.disk, says.disk);
    set(&mut device.client, says.client);
    set(&mut device.quorum, says.quorum.map(Some));
    set(&mut device.size_kib, says.size_kib);
    set(&mut device.backing, says.backing.clone().map(|path| (path != "none").then_some(path)));
    set(&mut device.open, says.open.map(Some));
}

fn set_peer(peer: &mut Peer, says: &ConnectionSays) {
    set(&mut peer.name, says.peer_name.clone().map(Some));
    set(&mut peer.connection, says.connection);
    set(&mut peer.role, says.role);
}

fn set_peer_device(device: &mut PeerDevice, says: &PeerDeviceSays) {
    set(&mut device.disk, says.disk);
    set(&mut device.client, says.client);
    set(&mut device.replication, says.replication);
    set(&mut device.resync_suspended, says.resync_suspended.clone());
    set(&mut device.out_of_sync_kib, says.out_of_sync_kib);
    set(&mut device.done_hundredths, says.done_hundredths.map(Some));
    // The line that ends a sync does not mention the progress any more.
    if !device.replication.has_progress() {
        device.done_hundredths = None;
    }
}
