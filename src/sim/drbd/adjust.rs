//! `drbdadm adjust`: from what the kernel has to what the file says, in drbdadm's order.
//!
//! The order matters where it fails part-way: what was done stays done, and the next adjust goes on from there.

use std::collections::BTreeSet;

use super::{
    attach::no_such,
    cluster::{Cluster, Link, Node, Options, Told, World},
    res::{Conf, Host},
    types::{BackingId, BoxId},
};
use crate::core::{
    conf::NOBODY,
    drbd::{ConnectionState, DiskState, ReplicationState, Role},
};

/// What the file means on this box.
pub(super) struct Wanted<'a> {
    pub(super) at: BoxId,
    pub(super) me: &'a Host,
    pub(super) peers: Vec<(&'a Host, Option<BoxId>)>,
    pub(super) options: Options,
    /// 8.4 and one host: the links cannot be made.
    pub(super) no_peer: bool,
    /// The backing device of `me.disk`, if it is there.
    pub(super) backing: Option<BackingId>,
}

impl<'a> Wanted<'a> {
    /// None: the box is not in the file. An error is drbdadm's words.
    pub(super) fn read(
        conf: &'a Conf,
        at: BoxId,
        me: &str,
        nine: bool,
        names: &dyn Fn(&str) -> Option<BoxId>,
        backing: &dyn Fn(&str) -> Option<BackingId>,
    ) -> Option<Result<Self, String>> {
        let mine = conf.hosts.iter().find(|host| host.name == me)?;
        let linked = |host: &Host| {
            let pair = |(one, other): &(String, String)| {
                (*one == mine.name && *other == host.name) || (*other == mine.name && *one == host.name)
            };
            !nine || conf.connections.iter().any(pair)
        };
        let peers: Vec<_> = conf
            .hosts
            .iter()
            .filter(|host| host.name != me && linked(host))
            .map(|h| (h, names(&h.name)))
            .collect();
        if !nine && peers.len() > 1 {
            return Some(Err(
                "There are multiple host sections for the peer node. Use the --peer option".into()
            ));
        }
        let options = Options {
            auto_promote: conf.auto_promote && nine,
            majority: conf.majority,
            suspend_io: conf.suspend_io,
            force_secondary: conf.force_secondary,
            retry_connect: conf.retry_connect,
            notice_ms: 500 * conf.ping_int_s + 1000,
            secret: conf.secret.clone(),
            nobody: conf.hosts.iter().any(|host| host.name == NOBODY),
        };
        let no_peer = !nine && peers.is_empty();
        let backing = mine.disk.as_deref().and_then(backing);
        Some(Ok(Wanted { at, me: mine, peers, options, no_peer, backing }))
    }
}

impl Cluster {
    /// Brings one box to what is wanted. The error is what the tools said, of all that failed.
    pub(super) fn adjust(&mut self, wanted: &Wanted<'_>, world: &mut World) -> Result<(), String> {
        let at = wanted.at;
        let mut failed = Vec::new();
        let node = self.nodes.entry(at).or_insert_with(|| new_node(wanted));
        node.options.clone_from(&wanted.options);
        let has_disk = node.backing.is_some();
        let other_disk = has_disk && wanted.me.disk.as_deref() != Some(node.path.as_str());
        if wanted.me.disk.is_none() && !node.client || other_disk {
            self.let_go(wanted, &mut failed, world);
        }
        let attach = wanted
            .me
            .disk
            .as_deref()
            .filter(|_| self.nodes.get(&at).is_some_and(|node| node.backing.is_none()));
        if let Some(path) = attach
            && let Err(words) = usable(path, wanted.backing, world)
        {
            // apply-al fails, and then drbdadm does not go on.
            self.settle(world);
            return Err(words);
        }
        self.remove_peers(wanted, &mut failed, world);
        self.add_peers(wanted);
        if let Some((path, id)) = attach.zip(wanted.backing)
            && let Err(words) = self.attach(at, id, path, world)
        {
            failed.push(words);
        }
        self.settle(world);
        self.connect_peers(wanted, &mut failed, world);
        if wanted.no_peer {
            failed.push("cannot configure network without knowing my peer.".to_owned());
        }
        self.settle(world);
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    fn let_go(&mut self, wanted: &Wanted<'_>, failed: &mut Vec<String>, world: &mut World) {
        let Some(node) = self.nodes.get(&wanted.at) else { return };
        let others = node.links.iter().any(|link| link.is_up() && link.disk == DiskState::UpToDate);
        if node.role == Role::Primary && node.backing.is_some() && !others {
            return failed.push("State change failed: (-2) Need access to UpToDate data".to_owned());
        }
        self.detach(wanted.at, wanted.me.disk.is_none(), world);
    }

    fn remove_peers(&mut self, wanted: &Wanted<'_>, failed: &mut Vec<String>, world: &mut World) {
        let at = wanted.at;
        let nine = world.nine;
        let id_of = |host: &Host| if nine { host.node_id } else { 0 };
        let mut gone = Vec::new();
        for link in self.nodes.get(&at).map_or(&[][..], |node| &node.links) {
            let same = |(host, peer): &&(&Host, Option<BoxId>)| {
                id_of(host) == link.id
                    && *peer == link.peer
                    && host.name == link.name
                    && host.address == link.theirs
                    && wanted.me.address == link.mine
            };
            if !wanted.peers.iter().any(|peer| same(&peer)) {
                gone.push((link.id, link.peer));
            }
        }
        for (id, peer) in gone {
            if let Some(peer) = peer
                && let Err(words) = self.disconnect_politely(at, peer, world)
            {
                failed.push(words);
                continue;
            }
            if let Some(node) = self.nodes.get_mut(&at) {
                node.links.retain(|link| link.id != id);
            }
            self.settle(world);
        }
    }

    fn add_peers(&mut self, wanted: &Wanted<'_>) {
        let Some(node) = self.nodes.get_mut(&wanted.at) else { return };
        for (host, peer) in &wanted.peers {
            let client = host.disk.is_none();
            let known = node.links.iter_mut().find(|link| link.name == host.name);
            if let Some(link) = known {
                link.client = client;
                continue;
            }
            node.links.push(Link {
                id: host.node_id,
                name: host.name.clone(),
                peer: *peer,
                mine: wanted.me.address.clone(),
                theirs: host.address.clone(),
                client,
                state: ConnectionState::StandAlone,
                role: Role::Unknown,
                disk: DiskState::DUnknown,
                repl: ReplicationState::Off,
                paused: "no",
                reconnect: false,
                session: 0,
                lost_at: None,
                retry_at: 0,
            });
        }
        node.links.sort_by_key(|link| link.id);
    }

    /// `connect`: a Primary refuses one that would cost it quorum.
    fn connect_peers(&mut self, wanted: &Wanted<'_>, failed: &mut Vec<String>, world: &mut World) {
        let at = wanted.at;
        let ids: Vec<(u8, bool)> = self.nodes.get(&at).map_or(Vec::new(), |node| {
            node.links.iter().map(|l| (l.id, l.state == ConnectionState::StandAlone)).collect()
        });
        for (id, alone) in ids {
            let Some(node) = self.nodes.get(&at) else { return };
            let client = node.link(id).is_some_and(|link| link.client);
            let had = node.md(&world.disks).and_then(|md| md.slot(id)).is_some_and(|slot| slot.has_bitmap);
            let backing = node.backing;
            if let Some(md) = world.disks.md_mut(backing) {
                md.slot_mut(id).has_bitmap = !client;
            }
            if node.role == Role::Primary && node.quorum && alone && !self.has_quorum(node, world) {
                if let Some(md) = world.disks.md_mut(backing) {
                    md.slot_mut(id).has_bitmap = had;
                }
                failed.push("State change failed: (-25) No quorum".to_owned());
                continue;
            }
            let Some(node) = self.nodes.get_mut(&at) else { return };
            if let Some(link) = node.links.iter_mut().find(|link| link.id == id && alone) {
                link.state = ConnectionState::Connecting;
                link.retry_at = world.now_ms + 200;
            }
            self.settle(world);
        }
    }

    /// `disconnect`. With quorum a Secondary that leaves a Primary, or is left by it, is outdated; refused where the
    /// Primary would lose quorum, or all data, by that.
    pub(super) fn disconnect_politely(
        &mut self,
        at: BoxId,
        peer: BoxId,
        world: &mut World,
    ) -> Result<(), String> {
        let outdates = self.outdated_by(at, peer, world);
        if let Some((primary, secondary)) = outdates {
            let mut after = self.clone();
            after.outdate(primary, secondary);
            after.drop_quietly(primary, secondary);
            let left = after.nodes.get(&primary);
            let had_data = self.nodes.get(&primary).is_some_and(Node::has_data);
            if had_data && left.is_some_and(|node| !node.has_data()) {
                return Err("State change failed: (-2) Need access to UpToDate data".to_owned());
            }
            if left.is_some_and(|node| node.quorum && !after.has_quorum(node, world)) {
                return Err("State change failed: (-25) No quorum".to_owned());
            }
            self.outdate(primary, secondary);
        }
        self.disconnect(at, peer, ConnectionState::StandAlone, world);
        self.settle(world);
        Ok(())
    }

    fn outdated_by(&self, at: BoxId, peer: BoxId, world: &World) -> Option<(BoxId, BoxId)> {
        let (one, other) = (self.nodes.get(&at)?, self.nodes.get(&peer)?);
        if !world.nine || !one.options.majority || !self.live(at, peer, world) {
            return None;
        }
        match (one.role == Role::Primary, other.role == Role::Primary) {
            (true, false) if !one.link_to(peer)?.client => Some((at, peer)),
            (false, true) if !one.client => Some((peer, at)),
            (true, _) | (false, _) => None,
        }
    }

    fn outdate(&mut self, primary: BoxId, secondary: BoxId) {
        if let Some(node) = self.nodes.get_mut(&secondary)
            && node.disk > DiskState::Outdated
        {
            node.disk = DiskState::Outdated;
        }
        if let Some(link) = self.nodes.get_mut(&primary).and_then(|node| node.link_to_mut(secondary))
            && link.disk > DiskState::Outdated
        {
            link.disk = DiskState::Outdated;
        }
    }

    /// Only to see what would follow.
    fn drop_quietly(&mut self, at: BoxId, peer: BoxId) {
        if let Some(link) = self.nodes.get_mut(&at).and_then(|node| node.link_to_mut(peer)) {
            (link.state, link.repl) = (ConnectionState::Connecting, ReplicationState::Off);
        }
    }
}

fn usable(path: &str, backing: Option<BackingId>, world: &World) -> Result<(), String> {
    let backing = backing.and_then(|id| world.disks.get(id)).ok_or_else(|| no_such(path))?;
    if backing.failed {
        return Err(format!("open({path}) failed: Input/output error"));
    }
    if backing.attached.is_some() {
        return Err(format!("Failure: (114) Lower device is already claimed. {path}"));
    }
    if backing.md.is_none() {
        return Err("No valid meta data found".to_owned());
    }
    Ok(())
}

fn new_node(wanted: &Wanted<'_>) -> Node {
    Node {
        me: wanted.me.node_id,
        minor: wanted.me.minor,
        options: wanted.options.clone(),
        role: Role::Secondary,
        auto_promoted: false,
        openers: 0,
        fail_io: false,
        suspended_since: None,
        disk: DiskState::Diskless,
        backing: None,
        path: String::new(),
        client: wanted.me.disk.is_none(),
        size_kib: 0,
        told_kib: 0,
        quorum: false,
        restore_quorum: false,
        members: 1 << wanted.me.node_id,
        bump_due: false,
        exposed: 0,
        crashed: false,
        lost_quorum: false,
        unanswered: None,
        through: false,
        doomed: false,
        links: Vec::new(),
        split: BTreeSet::new(),
        told: Told::default(),
        changed: false,
        reach: Vec::new(),
        waits: false,
        lacking: false,
    }
}
