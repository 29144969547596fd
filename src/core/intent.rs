//! What is wanted: the operator's wishes and the leader's assignments, as one value with a revision.
//!
//! An [`Intent`] is a set of [`Record`]s under printable keys: what the store keeps, what boxes send each other and
//! what each keeps on its own disk are the same records. It changes only by [`Intent::apply`] of a [`Txn`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{
    names::{BoxName, DiskIdent, DiskName, GroupName, PoolName, VolumeId, VolumeName},
    size::Size,
};

/// The first minor and port given to volumes, and how many there can be: DRBD uses 7000 to 7998, meta has 7999.
pub const MINOR_FIRST: u32 = 1000;
/// See [`MINOR_FIRST`].
pub const PORT_FIRST: u16 = 7000;
/// Where peers listen.
pub const PEER_PORT: u16 = 6999;
/// The port of the meta resource; volumes have the ones below.
pub const META_PORT: u16 = 7999;
/// The minor of the meta resource; volumes have the ones above.
pub const META_MINOR: u32 = 999;
/// The meta resource's name, as DRBD and LVM see it.
pub const META_NAME: &str = "holdfast-meta";
/// The meta resource's size in bytes.
pub const META_SIZE: Size = Size(128 << 20);

/// The cluster as a whole. One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random, 16 hexadecimal digits; never changes.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// The key that all links between members mix in: 64 hexadecimal digits.
    pub link_key: String,
    /// What a newcomer has to show: 64 hexadecimal digits, part of the token.
    pub join_secret: String,
    /// The box that founded the cluster; it alone leads.
    pub leader: BoxName,
}

/// A box that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its host name.
    pub name: BoxName,
    /// Its static public key: 64 hexadecimal digits.
    pub public_key: String,
    /// Where it is reached: peers on port 6999, DRBD on 7000 to 7999.
    pub address: IpAddr,
}

/// How a pool keeps its data. Only thick LVs so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// A volume group of linear LVs.
    Lvm,
}

/// A pool of disks, on each box a volume group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// How it keeps data.
    pub kind: PoolKind,
}

/// Defaults for the volumes that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// How many diskful replicas.
    pub replicas: u8,
    /// Which pool.
    pub pool: PoolName,
}

/// The operator handed a disk to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskWish {
    /// The box that it is in.
    pub on: BoxName,
    /// Which disk.
    pub ident: DiskIdent,
    /// What the box's kernel called it then; for people.
    pub name: DiskName,
    /// The pool.
    pub pool: PoolName,
}

/// Where a volume's replicas are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Wherever there is room.
    #[default]
    Auto,
    /// On these boxes, one replica each.
    Boxes(BTreeSet<BoxName>),
}

/// What the operator asked of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name now.
    pub name: VolumeName,
    /// Its identity for life.
    pub id: VolumeId,
    /// The secret its DRBD links share: 32 hexadecimal digits, made when the volume was made.
    pub secret: String,
    /// None until the first write of `size`: nothing is built before.
    pub size: Option<Size>,
    /// None: as the group says, or as many as `place` names.
    pub replicas: Option<u8>,
    /// Where.
    #[serde(default)]
    pub place: Place,
    /// None: as the group says.
    pub pool: Option<PoolName>,
    /// Which group's defaults hold.
    pub group: GroupName,
    /// The box asked to be Primary by hand (DRBD 8.4), if any.
    #[serde(default)]
    pub primary: Option<BoxName>,
}

/// One replica or voter of a resource on one box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// DRBD 9's node id within the resource; never changes while the leg exists.
    pub node_id: u8,
    /// The pool that its LV lies in; None: diskless, it only votes.
    pub pool: Option<PoolName>,
    /// Counts the lives of this box's legs of the resource: an LV of an earlier one is never taken for this one's.
    pub generation: u32,
}

/// What the leader decided for a resource: everything the boxes need to build it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The volume, or [`VolumeId::meta`].
    pub id: VolumeId,
    /// DRBD's name for it.
    #[serde(deserialize_with = "resource")]
    pub resource: String,
    /// The secret its links share.
    #[serde(deserialize_with = "secret")]
    pub secret: String,
    /// The same on every box.
    pub minor: u32,
    /// The same on every box.
    pub port: u16,
    /// What the device has to hold at least.
    pub size: Size,
    /// Some replica has been UpToDate: from now on data is only ever taken from an UpToDate copy.
    pub born: bool,
    /// Who makes the first copy UpToDate, while not born.
    pub seed: Option<BoxName>,
    /// The legs by box.
    pub legs: BTreeMap<BoxName, Leg>,
}

/// It becomes a part of names of files and of LVs, so it has to be a name.
fn resource<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    if name == META_NAME { Ok(name) } else { VolumeName::new(name).map(String::from).map_err(Error::custom) }
}

/// It is written between quotes into files that DRBD's tools read.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let digits = String::deserialize(from)?;
    let good = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(digits) } else { Err(Error::custom("a secret has hexadecimal digits only")) }
}

impl Assignment {
    /// The meta resource: other options, other rules.
    pub fn is_meta(&self) -> bool {
        self.id.as_str() == VolumeId::META
    }

    /// The boxes with a replica, in order of name.
    pub fn diskful(&self) -> impl Iterator<Item = &BoxName> {
        self.legs.iter().filter(|(_, leg)| leg.pool.is_some()).map(|(name, _)| name)
    }
}

/// A leg that has to go: the order to take down and remove what one box has of it. Without such a record nothing is
/// ever removed. It stays until that box is known to have nothing left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The resource.
    pub id: VolumeId,
    /// Its DRBD name when it was removed.
    #[serde(deserialize_with = "resource")]
    pub resource: String,
    /// Its minor: not given to another resource before this record is gone.
    pub minor: u32,
    /// Its port, likewise.
    pub port: u16,
    /// The box.
    pub on: BoxName,
    /// The leg as it was.
    pub leg: Leg,
}

/// Anything that is kept. `serde` names are the format of stores, exports and messages: they never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // short-lived, or boxed by the maps
pub enum Record {
    /// One, under `cluster`.
    Cluster(Cluster),
    /// Under `member/BOX`.
    Member(Member),
    /// Under `pool/POOL`.
    Pool(Pool),
    /// Under `group/GROUP`.
    Group(Group),
    /// Under `disk/BOX/IDENT`.
    Disk(DiskWish),
    /// Under `volume/VOL`.
    Volume(Volume),
    /// Under `assignment/ID`.
    Assignment(Assignment),
    /// Under `leave/ID/BOX/GENERATION`.
    Leave(Leave),
    /// One, under `stamp`: written by every commit.
    Stamp(Stamp),
}

/// Which commit this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The leadership that made it: older ones are ignored.
    pub epoch: u64,
    /// Counts commits.
    pub revision: u64,
}

impl Record {
    /// The key it is kept under.
    pub fn key(&self) -> String {
        match self {
            Record::Cluster(_) => "cluster".to_owned(),
            Record::Member(m) => format!("member/{}", m.name),
            Record::Pool(p) => format!("pool/{}", p.name),
            Record::Group(g) => format!("group/{}", g.name),
            Record::Disk(d) => format!("disk/{}/{}", d.on, d.ident),
            Record::Volume(v) => format!("volume/{}", v.name),
            Record::Assignment(a) => format!("assignment/{}", a.id),
            Record::Leave(l) => format!("leave/{}/{}/{}", l.id, l.on, l.leg.generation),
            Record::Stamp(_) => "stamp".to_owned(),
        }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // short-lived, a handful at a time
pub enum Change {
    /// Add or replace.
    Put(Record),
    /// Remove what is under this key.
    Delete(String),
}

/// Changes that are committed together or not at all.
pub type Txn = Vec<Change>;

/// Everything that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// Which commit this is.
    pub stamp: Stamp,
    /// None only before a box has joined.
    pub cluster: Option<Cluster>,
    /// The boxes.
    pub members: BTreeMap<BoxName, Member>,
    /// The pools.
    pub pools: BTreeMap<PoolName, Pool>,
    /// The groups.
    pub groups: BTreeMap<GroupName, Group>,
    /// Disks handed over, by key.
    pub disks: BTreeMap<String, DiskWish>,
    /// The volumes.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// What was decided for them; and for the meta resource.
    pub assignments: BTreeMap<VolumeId, Assignment>,
    /// What has to go, by key.
    pub leaves: BTreeMap<String, Leave>,
}

impl Intent {
    /// Takes the changes of `txn` over, in order.
    pub fn apply(&mut self, txn: &[Change]) {
        for change in txn {
            match change {
                Change::Put(record) => self.put(record.clone()),
                Change::Delete(key) => self.delete(key),
            }
        }
    }

    fn put(&mut self, record: Record) {
        let key = record.key();
        match record {
            Record::Cluster(c) => self.cluster = Some(c),
            Record::Member(m) => drop(self.members.insert(m.name.clone(), m)),
            Record::Pool(p) => drop(self.pools.insert(p.name.clone(), p)),
            Record::Group(g) => drop(self.groups.insert(g.name.clone(), g)),
            Record::Disk(d) => drop(self.disks.insert(key, d)),
            Record::Volume(v) => drop(self.volumes.insert(v.name.clone(), v)),
            Record::Assignment(a) => drop(self.assignments.insert(a.id.clone(), a)),
            Record::Leave(l) => drop(self.leaves.insert(key, l)),
            Record::Stamp(s) => self.stamp = s,
        }
    }

    fn delete(&mut self, key: &str) {
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        match kind {
            "member" => drop(self.members.remove(rest)),
            "pool" => drop(self.pools.remove(rest)),
            "group" => drop(self.groups.remove(rest)),
            "disk" => drop(self.disks.remove(key)),
            "volume" => drop(self.volumes.remove(rest)),
            "assignment" => drop(self.assignments.remove(rest)),
            "leave" => drop(self.leaves.remove(key)),
            _ => {} // `cluster` and `stamp` are never removed
        }
    }

    /// All of it as records, in the order in which they can be applied.
    pub fn records(&self) -> Vec<Record> {
        let mut all = vec![Record::Stamp(self.stamp)];
        all.extend(self.cluster.iter().cloned().map(Record::Cluster));
        all.extend(self.members.values().cloned().map(Record::Member));
        all.extend(self.pools.values().cloned().map(Record::Pool));
        all.extend(self.groups.values().cloned().map(Record::Group));
        all.extend(self.disks.values().cloned().map(Record::Disk));
        all.extend(self.volumes.values().cloned().map(Record::Volume));
        all.extend(self.assignments.values().cloned().map(Record::Assignment));
        all.extend(self.leaves.values().cloned().map(Record::Leave));
        all
    }

    /// A transaction that makes all of it from nothing.
    pub fn whole(&self) -> Txn {
        self.records().into_iter().map(Change::Put).collect()
    }

    /// The intent that consists of these records.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Self {
        let mut intent = Self::default();
        records.into_iter().for_each(|record| intent.put(record));
        intent
    }

    /// What was decided for the meta resource.
    pub fn meta(&self) -> Option<&Assignment> {
        self.assignments.get(VolumeId::META)
    }

    /// The group of a volume, if it still exists.
    pub fn group_of(&self, volume: &Volume) -> Option<&Group> {
        self.groups.get(&volume.group)
    }

    /// How many diskful replicas a volume is to have: its own wish, the boxes it names, or its group's default.
    pub fn replicas_of(&self, volume: &Volume) -> u8 {
        match (&volume.replicas, &volume.place) {
            (Some(n), _) => *n,
            (None, Place::Boxes(boxes)) => u8::try_from(boxes.len()).unwrap_or(u8::MAX),
            (None, Place::Auto) => self.group_of(volume).map_or(2, |g| g.replicas),
        }
    }

    /// The pool a volume is to lie in: its own wish or its group's default.
    pub fn pool_of(&self, volume: &Volume) -> Option<PoolName> {
        volume.pool.clone().or_else(|| self.group_of(volume).map(|g| g.pool.clone()))
    }

    /// The volume that an assignment is for. The id decides; a resource got its volume's name when it was made.
    pub fn volume_of(&self, a: &Assignment) -> Option<&Volume> {
        let named = self.volumes.get(a.resource.as_str()).filter(|v| v.id == a.id);
        named.or_else(|| self.volumes.values().find(|v| v.id == a.id))
    }

    /// What was decided for the resource that DRBD knows by this name.
    pub fn assignment_of(&self, resource: &str) -> Option<&Assignment> {
        let is_it = |a: &&Assignment| a.resource == resource;
        let named = match self.volumes.get(resource) {
            Some(volume) => self.assignments.get(&volume.id),
            None => self.meta(),
        };
        named.filter(is_it).or_else(|| self.assignments.values().find(is_it))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pool(name: &str) -> Record {
        Record::Pool(Pool { name: PoolName::new(name).unwrap(), kind: PoolKind::Lvm })
    }

    #[test]
    fn records_make_the_same_intent_again() {
        let mut intent = Intent::default();
        intent.apply(&[
            Change::Put(Record::Stamp(Stamp { epoch: 3, revision: 9 })),
            Change::Put(pool("main")),
            Change::Put(pool("ssd")),
            Change::Delete("pool/ssd".to_owned()),
            Change::Delete("pool/none".to_owned()),
            Change::Delete("nonsense".to_owned()),
        ]);
        assert_eq!(intent.pools.len(), 1);
        assert_eq!(Intent::from_records(intent.records()), intent);
    }

    /// Found by tests/fuzz: a member could have files written elsewhere than in /etc/drbd.d.
    #[test]
    fn a_resource_is_named_by_a_name_and_a_secret_is_digits() {
        let read = |resource: &str, secret: &str| {
            let text = format!(
                r#"{{"id":"0000000000000001","resource":{resource:?},"secret":{secret:?},"minor":1000,"port":7000,
                     "size":1,"born":true,"seed":null,"legs":{{}}}}"#
            );
            serde_json::from_str::<Assignment>(&text).is_ok()
        };
        assert!(read("db", "00ff") && read(META_NAME, "00ff"));
        for bad in ["../../x", "a b", "", "db\"", ".."] {
            assert!(!read(bad, "00ff") && !read("db", bad), "{bad}");
        }
    }

    #[test]
    fn a_record_reads_back_from_its_text_and_skips_unknown_fields() {
        let text = serde_json::to_string(&pool("main")).unwrap();
        assert_eq!(text, r#"{"pool":{"name":"main","kind":"lvm"}}"#);
        let newer = r#"{"pool":{"name":"main","kind":"lvm","later":[1]}}"#;
        assert_eq!(serde_json::from_str::<Record>(newer).unwrap(), pool("main"));
    }
}
