//! Whether a wish is granted, and what it changes. Pure: the same request against the same world gives the same answer.
//!
//! A granted wish is a transaction, together with what has to be assigned for it; a refused one changes nothing.

use std::collections::BTreeSet;

use super::{
    assign::{assign_volume, leave, replicas_max},
    claim::Standing,
    conf,
    drbd::{DrbdVersion, Resource, Role},
    hex,
    intent::{
        Assignment, Change, Cluster, DiskWish, Group, Intent, Leg, Member, Place, Pool, PoolKind, Record,
        Txn, Volume,
    },
    mutant,
    names::{BoxName, ClusterName, DiskName, GroupName, PoolName, VolumeId, VolumeName},
    place::{Want, World, place},
    refusal::{Errno, Refusal},
    size::Size,
    wish::{Or, Request, VolumeChange, Wish},
};

/// Smaller volumes are not made: one LVM extent.
const VOLUME_MIN: Size = Size(4 << 20);

fn refuse<T>(errno: Errno, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(errno, text))
}

/// What granting `request` changes, decided by the leader `me`. An empty transaction: it is so already.
pub fn admit(world: &World<'_>, me: &BoxName, request: &Request) -> Result<Txn, Refusal> {
    let intent = world.intent;
    // Ids and secrets are taken from it, and secrets are written into .res files; another box may have sent it.
    if hex::key(&request.seed).is_none() {
        return refuse(Errno::Invalid, "the request carries no 64 hexadecimal digits");
    }
    match &request.wish {
        Wish::MakeVolume(name) => make_volume(intent, name, request),
        Wish::RemoveVolume(name) => remove_volume(world, name),
        Wish::ChangeVolume(name, change) => change_volume(world, me, name, change),
        Wish::SetRole(name, on, primary) => set_role(world, name, on, *primary),
        Wish::SetDiskPool(on, disk, pool) => set_disk_pool(world, on, disk, pool.as_ref()),
        Wish::MakePool(name) => match intent.pools.contains_key(name) {
            true => refuse(Errno::Exists, format!("pool {name} exists")),
            false => Ok(put(Record::Pool(Pool { name: name.clone(), kind: PoolKind::Lvm }))),
        },
        Wish::RemovePool(name) => remove_pool(world, name),
        Wish::MakeGroup(name) => make_group(intent, name),
        Wish::RemoveGroup(name) => remove_group(intent, name),
        Wish::SetGroupReplicas(name, replicas) => {
            check_replicas(world, me, *replicas)?;
            change_group(intent, name, |group| group.replicas = *replicas)
        }
        Wish::SetGroupPool(name, pool) => {
            find_pool(intent, pool)?;
            change_group(intent, name, |group| group.pool = pool.clone())
        }
        Wish::SetClusterName(name) => {
            let name = String::from(ClusterName::new(name.as_str())?);
            change_cluster(intent, |cluster| cluster.name = name)
        }
        Wish::SetToken(None) => {
            change_cluster(intent, |cluster| cluster.join_secret.clone_from(&request.seed))
        }
        Wish::SetToken(Some(secret)) => match &intent.cluster {
            Some(cluster) if &cluster.join_secret == secret => Ok(Txn::new()),
            Some(_) | None => {
                refuse(Errno::Invalid, "this token is not the present one; write \"new\" to make a new one")
            }
        },
        Wish::Join(member) => join(intent, member),
    }
}

fn put(record: Record) -> Txn {
    vec![Change::Put(record)]
}

fn find_volume<'a>(intent: &'a Intent, name: &VolumeName) -> Result<&'a Volume, Refusal> {
    intent
        .volumes
        .get(name)
        .ok_or_else(|| Refusal::new(Errno::NotFound, format!("there is no volume {name}")))
}

fn find_pool<'a>(intent: &'a Intent, name: &PoolName) -> Result<&'a Pool, Refusal> {
    intent.pools.get(name).ok_or_else(|| {
        Refusal::new(
            Errno::NotFound,
            format!("there is no pool {name}; the pools are: {}", words(intent.pools.keys())),
        )
    })
}

fn find_group<'a>(intent: &'a Intent, name: &GroupName) -> Result<&'a Group, Refusal> {
    intent.groups.get(name).ok_or_else(|| {
        Refusal::new(
            Errno::NotFound,
            format!("there is no group {name}; the groups are: {}", words(intent.groups.keys())),
        )
    })
}

fn find_box<'a>(intent: &'a Intent, name: &BoxName) -> Result<&'a Member, Refusal> {
    intent.members.get(name).ok_or_else(|| {
        Refusal::new(
            Errno::NotFound,
            format!("there is no box {name}; the boxes are: {}", words(intent.members.keys())),
        )
    })
}

fn words<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

fn make_volume(intent: &Intent, name: &VolumeName, request: &Request) -> Result<Txn, Refusal> {
    let Some(id) = VolumeId::parse(request.id_digits()) else {
        return refuse(Errno::Invalid, "the request carries no id");
    };
    match intent.volumes.get(name) {
        Some(there) if there.id == id => return Ok(Txn::new()),
        Some(_) => return refuse(Errno::Exists, format!("volume {name} exists")),
        None => {}
    }
    let Ok(group) = GroupName::new("default") else { return Ok(Txn::new()) };
    let volume = Volume {
        name: name.clone(),
        id,
        secret: request.secret_digits().chars().take(32).collect(),
        size: None,
        replicas: None,
        place: Place::Auto,
        pool: None,
        group,
        primary: None,
    };
    Ok(put(Record::Volume(volume)))
}

fn remove_volume(world: &World<'_>, name: &VolumeName) -> Result<Txn, Refusal> {
    let volume = find_volume(world.intent, name)?;
    let mut txn = vec![Change::Delete(Record::Volume(volume.clone()).key())];
    if let Some(a) = world.intent.assignments.get(&volume.id) {
        if let Some((on, why)) = a.legs.keys().find_map(|on| Some((on, world.current(on)?.drbd.why()?))) {
            return refuse(
                Errno::Busy,
                format!(
                    "whether {name} is in use cannot be told: {on} does not know its DRBD ({why}); try again"
                ),
            );
        }
        if let Some(on) = opener(world, a, volume) {
            return refuse(
                Errno::Busy,
                format!(
                    "{name} is in use on {on}: unmount it there (and with DRBD 8.4: echo secondary > volumes/{name}/on/{on}/role), then rmdir again"
                ),
            );
        }
        txn.push(Change::Delete(Record::Assignment(a.clone()).key()));
        txn.extend(a.legs.iter().map(|(on, leg)| Change::Put(Record::Leave(leave(a, on, leg.clone())))));
    }
    Ok(txn)
}

/// A box that has the device open, as far as is known: by its own word, by its peers', or, where it is away, because it
/// could still use it.
fn opener<'a>(world: &World<'a>, a: &'a Assignment, volume: &Volume) -> Option<&'a BoxName> {
    let device = |r: &'a Resource| r.devices.get(&0).filter(|d| d.minor == a.minor);
    let current = |name: &BoxName| world.current(name).and_then(|r| r.resource(&a.resource));
    // Newer tools than Debian 12's tell of readers too.
    let in_use = |r: &'a Resource| device(r).is_some_and(|d| r.role == Role::Primary || d.open == Some(true));
    // DRBD 9: with the majority on this side, a box that is away gets errors from it. 8.4: the operator's word counts.
    let quorum = |n: &BoxName| current(n).and_then(device).is_some_and(|d| d.quorum == Some(true));
    let majority_here = a.legs.len() > 2 && a.legs.keys().any(quorum);
    let drbd_9 = a.legs.keys().any(|n| world.drbd(n).is_some_and(DrbdVersion::is_9));
    let left_open = |name: &BoxName| match (drbd_9, world.reports.get(name)) {
        (false, _) => volume.primary.as_ref() == Some(name),
        (true, None) => a.born && !majority_here,
        (true, Some(last)) => !majority_here && last.resource(&a.resource).is_some_and(in_use),
    };
    // A daemon that is away says nothing, and what it said last is old; its device is in use all the same.
    let seen_by = |name: &BoxName| {
        let resource = current(name).filter(|r| device(r).is_some())?;
        let (id, _) = resource.peers.iter().find(|(_, peer)| peer.role == Role::Primary)?;
        let is_it = |(other, leg): &(&'a BoxName, &Leg)| {
            *other != name && if drbd_9 { leg.node_id == *id } else { leg.pool.is_some() }
        };
        a.legs.iter().find(is_it).map(|(other, _)| other)
    };
    let away = |name: &BoxName| !world.alive.contains(name) && left_open(name);
    let mut legs = a.legs.keys();
    legs.find(|name| current(name).is_some_and(in_use) || away(name))
        .or_else(|| a.legs.keys().find_map(seen_by))
}

fn check_replicas(world: &World<'_>, me: &BoxName, replicas: u8) -> Result<DrbdVersion, Refusal> {
    let Some(drbd) = world.drbd(me) else {
        return refuse(Errno::NotSupported, "no DRBD module is loaded on the leader: modprobe drbd there");
    };
    let max = replicas_max(drbd);
    match replicas {
        0 => refuse(Errno::Invalid, "\"0\" replicas would be no volume; rmdir removes one"),
        n if usize::from(n) <= max => Ok(drbd),
        n => refuse(
            Errno::NotSupported,
            format!("\"{n}\" replicas are more than DRBD {drbd} can do here: at most {max}"),
        ),
    }
}

/// The same for a volume, whose number of replicas may be nobody's word but that of its place.
fn check_replicas_of(world: &World<'_>, me: &BoxName, new: &Volume) -> Result<DrbdVersion, Refusal> {
    if let (Place::Boxes(boxes), None, Some(drbd)) = (&new.place, new.replicas, world.drbd(me))
        && boxes.len() > replicas_max(drbd)
    {
        return refuse(
            Errno::NotSupported,
            format!(
                "place \"{}\" names {} boxes, and each would get a replica: DRBD {drbd} can do at most {max} here; \
                 name {max} or fewer, or write {max} into replicas first",
                words(boxes.iter()),
                boxes.len(),
                max = replicas_max(drbd)
            ),
        );
    }
    check_replicas(world, me, world.intent.replicas_of(new))
}

fn change_volume(
    world: &World<'_>,
    me: &BoxName,
    name: &VolumeName,
    change: &VolumeChange,
) -> Result<Txn, Refusal> {
    let intent = world.intent;
    let old = find_volume(intent, name)?;
    let mut new = old.clone();
    if let Some(group) = &change.group {
        new.group = find_group(intent, group)?.name.clone();
    }
    match &change.pool {
        Some(Or::Set(pool)) => new.pool = Some(find_pool(intent, pool)?.name.clone()),
        Some(Or::Default) => new.pool = None,
        None => {}
    }
    match change.replicas {
        Some(Or::Set(n)) => new.replicas = Some(n),
        Some(Or::Default) => new.replicas = None,
        None => {}
    }
    if let Some(place) = &change.place {
        if let Place::Boxes(boxes) = place {
            boxes.iter().try_for_each(|b| find_box(intent, b).map(drop))?;
        }
        new.place = place.clone();
    }
    if let Some(size) = change.size {
        check_size(old, size)?;
        new.size = Some(size);
    }
    if &new == old {
        return Ok(Txn::new());
    }
    let drbd = check_replicas_of(world, me, &new)?;
    let built = intent.assignments.get(&new.id);
    if let Some(a) = built {
        check_built(intent, a, &new)?;
    }
    check_place(intent, &new, built.is_some())?;
    if let Some(a) = built {
        if let Some(size) = new.size {
            check_growth(world, a, size, drbd)?;
        }
        if intent.replicas_of(&new) > intent.replicas_of(old) {
            check_more_replicas(world, a, &new, drbd)?;
        }
    }
    let more = assign_volume(world, &new, drbd).map_err(|r| {
        Refusal::new(
            r.errno,
            format!("{}; take a smaller size, fewer replicas, or hand over more disks", r.text),
        )
    })?;
    let mut txn = put(Record::Volume(new));
    txn.extend(more);
    Ok(txn)
}

fn check_size(old: &Volume, size: Size) -> Result<(), Refusal> {
    match old.size {
        Some(now) if size < now && !mutant::is("shrink") => refuse(
            Errno::Invalid,
            format!(
                "\"{size}\" is smaller than {} is now ({now}){}; no volume shrinks",
                old.name,
                as_bytes(size)
            ),
        ),
        _ if size < VOLUME_MIN => refuse(
            Errno::Invalid,
            format!("\"{size}\" is too small: a volume has at least {VOLUME_MIN}{}", as_bytes(size)),
        ),
        _ => Ok(()),
    }
}

/// A hint for who left the unit out.
fn as_bytes(size: Size) -> String {
    let number = size.to_string();
    match number.parse::<u64>() {
        Ok(1..) if size < VOLUME_MIN => {
            format!(", and it was read as bytes: for 2^30 of them write {number}G")
        }
        Ok(_) | Err(_) => String::new(),
    }
}

fn check_place(intent: &Intent, new: &Volume, is_built: bool) -> Result<(), Refusal> {
    let Place::Boxes(boxes) = &new.place else { return Ok(()) };
    let replicas = usize::from(intent.replicas_of(new));
    if boxes.len() >= replicas {
        return Ok(());
    }
    refuse(
        Errno::Invalid,
        format!(
            "place \"{}\" names {} {} for {replicas} replicas; name more{}",
            words(boxes.iter()),
            boxes.len(),
            if boxes.len() == 1 { "box" } else { "boxes" },
            if is_built { "" } else { ", or write fewer into replicas" }
        ),
    )
}

/// What cannot be changed yet once it is built: it would mean to move or remove replicas.
fn check_built(intent: &Intent, a: &Assignment, new: &Volume) -> Result<(), Refusal> {
    let there: BTreeSet<&BoxName> = a.diskful().collect();
    if usize::from(intent.replicas_of(new)) < there.len() {
        return refuse(
            Errno::NotSupported,
            format!("{} has {} replicas; this version cannot take any away", new.name, there.len()),
        );
    }
    if let Place::Boxes(boxes) = &new.place
        && let Some(elsewhere) = there.iter().find(|b| !boxes.contains(**b))
    {
        return refuse(
            Errno::NotSupported,
            format!("{} has a replica on {elsewhere}; this version cannot move replicas", new.name),
        );
    }
    let pool = intent.pool_of(new);
    if a.legs.values().any(|leg| leg.pool.is_some() && leg.pool != pool) {
        return refuse(
            Errno::NotSupported,
            format!("{} is built; this version cannot move it to another pool", new.name),
        );
    }
    Ok(())
}

fn check_growth(world: &World<'_>, a: &Assignment, size: Size, drbd: DrbdVersion) -> Result<(), Refusal> {
    if size <= a.size {
        return Ok(());
    }
    // It could not grow before all of them are there; and a size that does not fit could never be taken back.
    let legs = a.legs.iter().filter_map(|(name, leg)| Some((name, leg.pool.as_ref()?)));
    if let Some((name, _)) = legs.clone().find(|(name, pool)| world.room(name, pool).is_none()) {
        return refuse(
            Errno::Failed,
            format!(
                "{} cannot grow now: whether there is room on {name} cannot be told; try again when {name} is back",
                a.resource
            ),
        );
    }
    let more = conf::lv_size_for(size, drbd).bytes().saturating_sub(conf::lv_size_for(a.size, drbd).bytes());
    let short = |(name, pool): (&BoxName, &PoolName)| {
        let room = world.room(name, pool)?;
        (room.bytes() < more).then(|| {
            format!("{name}: pool {pool} has {} free, {} more wanted", room.about(), Size(more).about())
        })
    };
    let lacking: Vec<_> = legs.filter_map(short).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    refuse(
        Errno::NoSpace,
        format!(
            "{} cannot grow to \"{size}\": {}; hand over more disks there",
            a.resource,
            lacking.join("; ")
        ),
    )
}

/// A wish for more replicas that find no room is refused, not kept for later. They join one after the other.
fn check_more_replicas(
    world: &World<'_>,
    a: &Assignment,
    new: &Volume,
    drbd: DrbdVersion,
) -> Result<(), Refusal> {
    let taken: BTreeSet<BoxName> = a.diskful().cloned().collect();
    let asked = usize::from(world.intent.replicas_of(new));
    let lacking = asked.saturating_sub(taken.len());
    let (Some(pool), true) = (world.intent.pool_of(new), lacking > 0) else { return Ok(()) };
    let only = match &new.place {
        Place::Auto => None,
        Place::Boxes(boxes) => Some(boxes),
    };
    let want = Want { id: &a.id, taken: &taken, only, size: a.size, pool: &pool, drbd };
    let (boxes, refusals) = place(world, &want, lacking);
    if boxes.len() == lacking {
        return Ok(());
    }
    let why = if refusals.is_empty() { "there are no further boxes".to_owned() } else { refusals.join("; ") };
    refuse(
        Errno::NoSpace,
        format!(
            "\"{asked}\" replicas of {} find no room: it has one on {}; {why}",
            new.name,
            words(taken.iter())
        ),
    )
}

fn set_role(world: &World<'_>, name: &VolumeName, on: &BoxName, primary: bool) -> Result<Txn, Refusal> {
    let volume = find_volume(world.intent, name)?;
    let leg = world.intent.assignments.get(&volume.id).and_then(|a| a.legs.get(on));
    if leg.is_none() {
        return refuse(Errno::NotFound, format!("{name} has no replica on {on}"));
    }
    if !primary && volume.primary.as_ref() == Some(on) {
        return Ok(put(Record::Volume(Volume { primary: None, ..volume.clone() })));
    }
    match world.drbd(on) {
        Some(v) if v.is_9() => {
            return refuse(
                Errno::NotSupported,
                format!("{on} runs DRBD {v}: it makes the box Primary that opens the device"),
            );
        }
        Some(_) => {}
        None => {
            return refuse(
                Errno::NotSupported,
                format!("{on} has no DRBD module loaded: modprobe drbd there"),
            );
        }
    }
    let mut new = volume.clone();
    if primary {
        if let Some(now) = volume.primary.as_ref().filter(|now| *now != on) {
            return refuse(
                Errno::Busy,
                format!(
                    "{now} was made Primary for {name}; make sure that nothing uses it there (or that {now} is switched off), \
                     then echo secondary > volumes/{name}/on/{now}/role"
                ),
            );
        }
        new.primary = Some(on.clone());
    }
    Ok(if &new == volume { Txn::new() } else { put(Record::Volume(new)) })
}

fn set_disk_pool(
    world: &World<'_>,
    on: &BoxName,
    name: &DiskName,
    pool: Option<&PoolName>,
) -> Result<Txn, Refusal> {
    find_box(world.intent, on)?;
    let Some(report) = world.current(on) else {
        return refuse(
            Errno::Failed,
            format!("{on} is away: its disk {name} cannot be looked at; try again when it is back"),
        );
    };
    let Some(disk) = report.disks.known().and_then(|disks| disks.get(name)) else {
        return refuse(Errno::NotFound, format!("{on} has no disk {name}"));
    };
    let path = format!("nodes/{on}/disks/{name}");
    let wish = |pool: &PoolName| DiskWish {
        on: on.clone(),
        ident: disk.ident.clone(),
        name: name.clone(),
        pool: pool.clone(),
    };
    let key = Record::Disk(wish(&PoolName::new("x")?)).key();
    let Some(pool) = pool else {
        return match (&disk.standing, world.intent.disks.contains_key(&key)) {
            (Standing::Claimed(pool), _) => refuse(
                Errno::NotSupported,
                format!("{path} holds data of pool {pool}; this version cannot empty a disk"),
            ),
            (Standing::Foreign(what), true) if what.contains("LVM2_member") => refuse(
                Errno::Failed,
                format!(
                    "{path} may hold data of the pool that it was handed to and stays there: it is {what}, and LVM does \
                     not show it; see what `vgs` and `pvs` say on {on}"
                ),
            ),
            (Standing::Unfit(why), true) => refuse(
                Errno::Failed,
                format!(
                    "{path} may hold data of the pool that it was handed to and stays there: {why}; try again when it \
                     can be read"
                ),
            ),
            (_, true) => Ok(vec![Change::Delete(key)]),
            (_, false) => Ok(Txn::new()),
        };
    };
    find_pool(world.intent, pool)?;
    let standing = if mutant::is("claim what is not blank") { &Standing::Blank } else { &disk.standing };
    match standing {
        Standing::Claimed(there) if there != pool => refuse(
            Errno::Busy,
            format!("{path} belongs to pool {there}; this version cannot move it to \"{pool}\""),
        ),
        Standing::Claimed(_) | Standing::Blank => {
            let record = Record::Disk(wish(pool));
            let same = world.intent.disks.get(&key).is_some_and(|w| &w.pool == pool);
            Ok(if same { Txn::new() } else { put(record) })
        }
        Standing::InUse(what) => {
            refuse(Errno::Busy, format!("{path} is not blank but in use: {what}; it is left alone"))
        }
        Standing::Foreign(what) => refuse(
            Errno::NotPermitted,
            format!(
                "{path} is not blank: {what}; if nothing on it is needed, wipefs -a {} on {on} and try again",
                disk.device
            ),
        ),
        Standing::Unfit(why) => refuse(Errno::NotPermitted, format!("{path} is left alone: {why}")),
    }
}

fn remove_pool(world: &World<'_>, name: &PoolName) -> Result<Txn, Refusal> {
    let intent = world.intent;
    let pool = find_pool(intent, name)?;
    let group = intent.groups.values().find(|g| &g.pool == name).map(|g| format!("group {}", g.name));
    let volume =
        intent.volumes.values().find(|v| v.pool.as_ref() == Some(name)).map(|v| format!("volume {}", v.name));
    let disk =
        intent.disks.values().find(|d| &d.pool == name).map(|d| format!("disk {} of {}", d.name, d.on));
    match group.or(volume).or(disk) {
        Some(user) => refuse(Errno::Busy, format!("pool {name} is used by {user}")),
        None => Ok(vec![Change::Delete(Record::Pool(pool.clone()).key())]),
    }
}

fn make_group(intent: &Intent, name: &GroupName) -> Result<Txn, Refusal> {
    if intent.groups.contains_key(name) {
        return refuse(Errno::Exists, format!("group {name} exists"));
    }
    let model = find_group(intent, &GroupName::new("default")?)?;
    Ok(put(Record::Group(Group { name: name.clone(), ..model.clone() })))
}

fn remove_group(intent: &Intent, name: &GroupName) -> Result<Txn, Refusal> {
    let group = find_group(intent, name)?;
    if name.as_str() == "default" {
        return refuse(Errno::Busy, "group default is the one that new volumes are in; it stays");
    }
    match intent.volumes.values().find(|v| &v.group == name) {
        Some(volume) => refuse(Errno::Busy, format!("group {name} is used by volume {}", volume.name)),
        None => Ok(vec![Change::Delete(Record::Group(group.clone()).key())]),
    }
}

/// Defaults hold for volumes that are made later; those that are built keep what they have.
fn change_group(intent: &Intent, name: &GroupName, change: impl FnOnce(&mut Group)) -> Result<Txn, Refusal> {
    let old = find_group(intent, name)?;
    let mut new = old.clone();
    change(&mut new);
    if &new == old {
        return Ok(Txn::new());
    }
    let built = intent.volumes.values().find(|v| &v.group == name && v.size.is_some());
    if let Some(volume) = built {
        return refuse(
            Errno::NotSupported,
            format!(
                "group {name} has the volume {} already; this version cannot change the defaults of built volumes",
                volume.name
            ),
        );
    }
    Ok(put(Record::Group(new)))
}

fn change_cluster(intent: &Intent, change: impl FnOnce(&mut Cluster)) -> Result<Txn, Refusal> {
    let Some(old) = &intent.cluster else { return refuse(Errno::ReadOnly, "this box belongs to no cluster") };
    let mut new = old.clone();
    change(&mut new);
    Ok(if &new == old { Txn::new() } else { put(Record::Cluster(new)) })
}

fn join(intent: &Intent, member: &Member) -> Result<Txn, Refusal> {
    if hex::key(&member.public_key).is_none() {
        return refuse(Errno::Invalid, format!("{} shows no public key", member.name));
    }
    match intent.members.get(&member.name) {
        Some(there) if there == member => Ok(Txn::new()),
        Some(there) if there.public_key != member.public_key => refuse(
            Errno::Exists,
            format!(
                "a box named {} belongs to the cluster already, with another key; give this one another host name",
                member.name
            ),
        ),
        Some(_) | None => {
            match intent.members.values().find(|m| m.address == member.address && m.name != member.name) {
                Some(other) => {
                    refuse(Errno::Exists, format!("{} has the address {} already", other.name, other.address))
                }
                None => Ok(put(Record::Member(member.clone()))),
            }
        }
    }
}
