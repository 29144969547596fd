//! `holdfast init`: decides what the new cluster is and writes it into this box's own store. The daemon builds it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    cli::network,
    core::{
        assign::found_meta,
        claim::{Disk, Standing},
        facts::Known,
        intent::{Cluster, DiskWish, Group, Intent, Member, Pool, PoolKind, Record},
        names::{ClusterName, DiskName, GroupName, PoolName},
        node::{Facts, Source},
    },
    edge::{peer, run::Programs},
    host::{Host, RealHost},
    local::{self, Identity},
    random,
};

use super::{Args, Failure, Outcome, fail, say};

/// Founds a cluster with this box as its only member so far.
pub(super) fn run(args: &Args) -> Outcome {
    args.no_words("init")?;
    network::check_root()?;
    local::check_new(args.state_dir())?;
    let name = network::box_name()?;
    // What was given is looked at first; that it is needed at all is said after the disk was chosen.
    let given = args.address.as_deref().map(|given| network::address(Some(given))).transpose()?;
    let host = RealHost::new(Arc::new(Programs::resolve()?));
    let Facts::Disks(seen) = host.observe(Source::Disks) else {
        return fail("this box's disks were asked for and something else was said");
    };
    let disks = match seen {
        Known::Known(disks) => disks,
        Known::Unknown(why) => return fail(format!("this box's disks cannot be looked at: {why}")),
    };
    let (disk_name, disk) = choose(&disks, args.disk.as_deref())?;
    let address = given.map_or_else(|| network::address(None), Ok)?;
    let pool = PoolName::new("main")?;
    let keys = peer::Identity::generate()?;
    let identity = Identity::new(name.clone(), &keys);
    let id = random::key()?;
    let cluster = Cluster {
        id: id.chars().take(16).collect(),
        name: ClusterName::new(args.name.as_deref().unwrap_or("holdfast"))?.into(),
        link_key: random::key()?,
        join_secret: random::key()?,
        leader: name.clone(),
    };
    let secret = random::key()?.chars().take(32).collect();
    let intent = Intent::from_records([
        Record::Cluster(cluster.clone()),
        Record::Member(Member { name: name.clone(), public_key: identity.public_key.clone(), address }),
        Record::Pool(Pool { name: pool.clone(), kind: PoolKind::Lvm }),
        Record::Group(Group { name: GroupName::new("default")?, replicas: 2, pool: pool.clone() }),
        Record::Disk(DiskWish {
            on: name.clone(),
            ident: disk.ident.clone(),
            name: disk_name,
            pool: pool.clone(),
        }),
        Record::Assignment(found_meta(&name, &pool, secret)),
    ]);
    local::create(args.state_dir(), &identity, &intent, true)?;
    say(format_args!("cluster {} is founded: {name} at {address}, first disk {}", cluster.name, disk.device));
    say("start it with:            systemctl enable --now holdfast");
    say("then, for each other box: cat /cluster/token, and there: holdfast join TOKEN");
    Ok(())
}

/// The disk that was named, if it is blank; without a name, what could be named.
fn choose(disks: &BTreeMap<DiskName, Disk>, given: Option<&str>) -> Result<(DiskName, Disk), Failure> {
    let blank: Vec<_> =
        disks.values().filter(|d| d.standing == Standing::Blank).map(|d| d.device.as_str()).collect();
    let blank = if blank.is_empty() {
        "no disk of this box is blank".to_owned()
    } else {
        format!("blank are: {}", blank.join(" "))
    };
    let Some(given) = given else {
        return Err(Failure::used_wrongly(format_args!(
            "say which disk is the first of pool main: --disk DEVICE; {blank}"
        )));
    };
    let device = match Path::new(given).canonicalize() {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(error) => return fail(format!("{given:?}: {error}; {blank}")),
    };
    match disks.iter().find(|(_, disk)| disk.device == device) {
        None => fail(format!("{given:?} is not a whole disk of this box; {blank}")),
        Some((name, disk)) if disk.standing == Standing::Blank => Ok((name.clone(), disk.clone())),
        Some((_, disk)) => fail(format!("{given:?} is not blank: {}; {blank}", disk.standing)),
    }
}
