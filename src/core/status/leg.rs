//! What is known of one leg of a resource, from its own box's report or, failing that, from its peers'.

use crate::core::{
    drbd::{ConnectionState, Device, DiskState, Peer, PeerDevice, ReplicationState, Resource, Role},
    facts::Known,
    intent::{Assignment, Leg},
    names::BoxName,
    view::View,
};

/// How much this box knows of a leg.
#[derive(Clone, Copy, Debug)]
pub enum Sight<'a> {
    /// Its box is away.
    Away,
    /// Its box is alive but could not look: why.
    Unknown(&'a str),
    /// Its box is known to have nothing of it in the kernel.
    Absent,
    /// What its kernel says.
    There(&'a Resource),
}

/// What is known of the leg on the box `name`.
pub fn sight<'a>(view: &'a View, assignment: &Assignment, name: &BoxName) -> Sight<'a> {
    match view.current(name).map(|report| &report.drbd) {
        None => Sight::Away,
        Some(Known::Unknown(why)) => Sight::Unknown(why),
        Some(Known::Known(resources)) => {
            resources.get(&assignment.resource).map_or(Sight::Absent, Sight::There)
        }
    }
}

fn resource<'a>(view: &'a View, assignment: &Assignment, name: &BoxName) -> Option<&'a Resource> {
    view.current(name)?.resource(&assignment.resource)
}

/// How the box `name` sees the leg `other`. DRBD 8.4 has one peer and does not number it.
fn peer<'a>(view: &'a View, assignment: &Assignment, name: &BoxName, other: &Leg) -> Option<&'a Peer> {
    let peers = &resource(view, assignment, name)?.peers;
    match view.current(name)?.drbd_version {
        Some(version) if version.is_9() => peers.get(&other.node_id),
        Some(_) => peers.values().next(),
        None => None,
    }
}

/// The verdict on a replica of a resource that was once UpToDate.
#[derive(Debug)]
pub(super) enum LegState {
    /// UpToDate, large enough and linked to the others.
    Good,
    /// UpToDate, but smaller than asked.
    Small,
    /// Whose copy is being brought up to date, and how much is done in hundredths of a percent.
    Syncing(BoxName, u16),
    /// Not as it should be: how, naming the box.
    Bad(String),
    /// Its box could not look: why, naming the box.
    Unknown(String),
}

pub(super) fn leg_state(view: &View, assignment: &Assignment, name: &BoxName) -> LegState {
    let resource = match sight(view, assignment, name) {
        Sight::Away => return LegState::Bad(format!("{name} is away")),
        Sight::Unknown(why) => return LegState::Unknown(format!("{name} does not know its replicas: {why}")),
        Sight::Absent => return LegState::Bad(format!("{name} has no copy running")),
        Sight::There(resource) => resource,
    };
    if let Some(done) = sync_done_hundredths(view, assignment, name) {
        return LegState::Syncing(name.clone(), done);
    }
    let Some(device) = resource.devices.get(&0) else {
        return LegState::Bad(format!("{name} has no copy running"));
    };
    if device.disk != DiskState::UpToDate {
        return LegState::Bad(format!("the copy on {name} is {}", device.disk));
    }
    if device.quorum == Some(false) {
        return LegState::Bad(format!("{name} has no quorum"));
    }
    if let Some(why) = unlinked(view, assignment, name) {
        return LegState::Bad(why);
    }
    if small(assignment, device) { LegState::Small } else { LegState::Good }
}

/// The first link to another replica whose box is alive that does not stand.
fn unlinked(view: &View, assignment: &Assignment, name: &BoxName) -> Option<String> {
    let others = assignment.legs.iter().filter(|(other, leg)| *other != name && leg.pool.is_some());
    let mut running = others.filter(|(other, _)| matches!(sight(view, assignment, other), Sight::There(_)));
    running.find_map(|(other, leg)| {
        let link = peer(view, assignment, name, leg);
        let device = link.and_then(|peer| peer.devices.get(&0));
        match link.map(|peer| peer.connection) {
            // A change of state comes as several events: connected, and only then what has to be synced.
            Some(ConnectionState::Connected) => device
                .is_none_or(|d| is_agreeing(d.replication))
                .then(|| format!("{name} and {other} are finding out what to sync")),
            Some(state) => Some(format!("{name} is not connected to {other}: {state}")),
            None => Some(format!("{name} is not connected to {other}")),
        }
    })
}

/// Whether DRBD found that two replicas went apart, or they cannot but have: both StandAlone, or both Primary and neither
/// linked nor kept from writing. A link that is only cut is neither.
pub(super) fn are_split(view: &View, assignment: &Assignment, one: &BoxName, other: &BoxName) -> bool {
    let end = |name: &BoxName, far: &BoxName| {
        let resource = resource(view, assignment, name)?;
        let device = resource.devices.get(&0).filter(|d| d.minor == assignment.minor)?;
        Some((resource, device, peer(view, assignment, name, assignment.legs.get(far)?)))
    };
    let ends = [end(one, other), end(other, one)];
    let stands = |link: &Peer| {
        link.connection == ConnectionState::Connected
            && link.devices.get(&0).is_some_and(|d| !matches!(d.replication, ReplicationState::Off))
    };
    if ends.iter().flatten().any(|(_, _, link)| link.is_some_and(stands)) {
        return false;
    }
    let drbd_9 = |name: &BoxName| view.current(name).and_then(|r| r.drbd_version).is_some_and(|v| v.is_9());
    let found = |name: &BoxName, far: &BoxName| {
        let split = resource(view, assignment, name).map(|r| &r.split);
        let far = assignment.legs.get(far).map_or(0, |leg| if drbd_9(name) { leg.node_id } else { 0 });
        split.is_some_and(|split| split.contains(&far))
    };
    if found(one, other) || found(other, one) {
        return true;
    }
    let [Some(ends_one), Some(ends_other)] = ends else { return false };
    let ends = [ends_one, ends_other];
    let alone = |link: Option<&Peer>| link.is_some_and(|p| p.connection == ConnectionState::StandAlone);
    let writes =
        |resource: &Resource, device: &Device| resource.role == Role::Primary && device.quorum != Some(false);
    ends.iter().all(|(_, device, _)| device.disk == DiskState::UpToDate)
        && (ends.iter().all(|(_, _, link)| alone(*link)) || ends.iter().all(|(r, d, _)| writes(r, d)))
}

fn small(assignment: &Assignment, device: &Device) -> bool {
    device.size_kib > 0 && device.size_kib.saturating_mul(1024) < assignment.size.bytes()
}

/// Why I/O is frozen, if it is: `no` and nothing at all mean that it is not.
pub(super) fn frozen(resource: &Resource) -> bool {
    !matches!(resource.suspended.as_str(), "no" | "")
}

/// Whether the device on that box can be written to, with its own copy or a peer's.
pub(super) fn usable(view: &View, assignment: &Assignment, name: &BoxName) -> bool {
    let Sight::There(resource) = sight(view, assignment, name) else { return false };
    let Some(device) = resource.devices.get(&0) else { return false };
    let near = device.disk == DiskState::UpToDate;
    let far = resource.peers.values().any(|peer| {
        peer.connection == ConnectionState::Connected
            && peer.devices.get(&0).is_some_and(|d| d.disk == DiskState::UpToDate)
    });
    (near || far) && device.quorum != Some(false) && !frozen(resource)
}

/// How far the sync into this box's replica is, in hundredths of a percent: below 100% while it goes on. None without one.
pub fn sync_done_hundredths(view: &View, assignment: &Assignment, name: &BoxName) -> Option<u16> {
    let target = assignment.legs.get(name)?;
    let mut others = assignment.legs.iter().filter(|(other, _)| *other != name);
    others.find_map(|(other, leg)| {
        let own = peer(view, assignment, name, leg).and_then(|p| p.devices.get(&0));
        let theirs = peer(view, assignment, other, target).and_then(|p| p.devices.get(&0));
        let own = own.filter(|d| is_target(d.replication));
        let theirs = theirs.filter(|d| is_source(d.replication));
        let size_kib = [name, other]
            .into_iter()
            .filter_map(|name| Some(resource(view, assignment, name)?.devices.get(&0)?.size_kib))
            .find(|size| *size > 0)
            .unwrap_or(assignment.size.bytes() / 1024);
        own.or(theirs).map(|device| done_hundredths(device, size_kib))
    })
}

fn is_agreeing(state: ReplicationState) -> bool {
    use ReplicationState::{Off, StartingSyncS, StartingSyncT, WFBitMapS, WFBitMapT, WFSyncUUID};
    matches!(state, Off | StartingSyncS | StartingSyncT | WFBitMapS | WFBitMapT | WFSyncUUID)
}

fn is_target(state: ReplicationState) -> bool {
    use ReplicationState as R;
    matches!(state, R::SyncTarget | R::PausedSyncT | R::StartingSyncT | R::WFBitMapT | R::WFSyncUUID)
}

fn is_source(state: ReplicationState) -> bool {
    use ReplicationState as R;
    matches!(state, R::SyncSource | R::PausedSyncS | R::StartingSyncS | R::WFBitMapS)
}

/// As the kernel says or, where it does not (8.4), from how much still differs.
fn done_hundredths(device: &PeerDevice, size_kib: u64) -> u16 {
    let from_bits = || {
        let left = u128::from(device.out_of_sync_kib.min(size_kib)) * 10_000;
        let left = left.checked_div(u128::from(size_kib)).unwrap_or(10_000);
        u16::try_from(10_000 - left).unwrap_or(0)
    };
    device.done_hundredths.unwrap_or_else(from_bits).min(9_999)
}

/// `on/BOX/kind`
pub fn kind_word(leg: &Leg) -> &'static str {
    if leg.pool.is_some() { "replica" } else { "tie-breaker" }
}

/// `on/BOX/disk`: DRBD's own word, or `-` while it is not known.
pub fn disk_word(view: &View, assignment: &Assignment, name: &BoxName) -> &'static str {
    match sight(view, assignment, name) {
        Sight::There(resource) => resource.devices.get(&0).map_or("-", |device| device.disk.as_str()),
        Sight::Away | Sight::Unknown(_) | Sight::Absent => "-",
    }
}

/// `on/BOX/links`: the state of each link as that box sees it, like `box2:Connected box3:Connecting`, or `-`.
pub fn links_words(view: &View, assignment: &Assignment, name: &BoxName) -> String {
    let others = assignment.legs.iter().filter(|(other, _)| *other != name);
    let words = others.filter_map(|(other, leg)| {
        let peer = peer(view, assignment, name, leg)?;
        Some(format!("{other}:{}", peer.connection))
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// The boxes where the resource is Primary, by their own word or, for those that are silent, by a connected peer's.
pub fn primaries<'a>(view: &View, assignment: &'a Assignment) -> Vec<&'a BoxName> {
    let seen_by_peer = |name: &BoxName, leg: &Leg| {
        assignment.legs.keys().filter(|other| *other != name).any(|other| {
            peer(view, assignment, other, leg)
                .is_some_and(|p| p.connection == ConnectionState::Connected && p.role == Role::Primary)
        })
    };
    let is_primary = |name: &BoxName, leg: &Leg| match sight(view, assignment, name) {
        Sight::There(resource) => resource.role == Role::Primary,
        Sight::Absent => false,
        Sight::Away | Sight::Unknown(_) => seen_by_peer(name, leg),
    };
    assignment.legs.iter().filter(|(name, leg)| is_primary(name, leg)).map(|(name, _)| name).collect()
}
