//! A box's own store, on its system disk: who it is, and the last wishes and assignments it saw.
//!
//! From it a box serves reads and brings up its resources before any leader is heard. The meta resource's store is the
//! truth; this is a copy.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    core::{
        hex,
        intent::{Change, Intent, Record, Txn},
        names::BoxName,
    },
    edge::{
        peer,
        store::{Op, Records, Store, StoreError},
    },
};

const IDENTITY: &str = "identity";
const FOUNDING: &str = "founding";
const INTENT: &str = "intent/";

/// Why the own store says nothing useful.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the sentences say it
pub enum LocalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the record {key} of this box's own store cannot be understood: {why}")]
    Record { key: String, why: String },
    #[error("this box belongs to no cluster yet: holdfast init founds one, holdfast join TOKEN joins one")]
    NoCluster,
    #[error("this box belongs to the cluster {0} already")]
    Member(String),
    #[error(
        "holdfast runs on this box already, and the box belongs to a cluster: see systemctl status holdfast"
    )]
    Runs,
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
}

/// Who this box is. The secret key never leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its host name when it joined.
    pub name: BoxName,
    /// 64 hexadecimal digits.
    pub secret_key: String,
    /// 64 hexadecimal digits.
    pub public_key: String,
}

impl Identity {
    /// A box of that name with these keys.
    pub fn new(name: BoxName, keys: &peer::Identity) -> Self {
        Self { name, secret_key: hex::text(&keys.secret_key), public_key: hex::text(&keys.public_key) }
    }

    /// The keys; None where they are damaged.
    pub fn keys(&self) -> Option<peer::Identity> {
        Some(peer::Identity {
            secret_key: hex::key(&self.secret_key)?,
            public_key: hex::key(&self.public_key)?,
        })
    }
}

/// What the own store said at start.
#[derive(Debug)]
pub struct Local {
    /// Who this box is.
    pub identity: Identity,
    /// The last that it knew.
    pub intent: Intent,
    /// It founded the cluster, and the meta resource was never opened yet.
    pub founding: bool,
}

/// Where a box keeps who it is, unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/holdfast";

/// Where the own store lies in the state directory.
pub fn store_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("store")
}

fn parse<T: for<'a> Deserialize<'a>>(key: &str, payload: &[u8]) -> Result<T, LocalError> {
    serde_json::from_slice(payload)
        .map_err(|e| LocalError::Record { key: key.to_owned(), why: e.to_string() })
}

/// The JSON of a record. Only maps with keys that are no strings could fail, and there are none.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Makes sense of the store's records.
pub fn read(records: &Records) -> Result<Local, LocalError> {
    let identity = parse(IDENTITY, records.get(IDENTITY).ok_or(LocalError::NoCluster)?)?;
    let kept = records.iter().filter(|(key, _)| key.starts_with(INTENT));
    let intent: Vec<Record> = kept.map(|(key, payload)| parse(key, payload)).collect::<Result<_, _>>()?;
    Ok(Local { identity, intent: Intent::from_records(intent), founding: records.contains_key(FOUNDING) })
}

/// Records of the meta resource's store.
pub fn read_records(records: &Records) -> Result<Vec<Record>, LocalError> {
    records.iter().map(|(key, payload)| parse(key, payload)).collect()
}

/// A transaction as changes of the meta resource's store.
pub fn ops(txn: &Txn) -> Vec<Op> {
    txn.iter()
        .map(|change| match change {
            Change::Put(record) => Op::Put(record.key(), json(record)),
            Change::Delete(key) => Op::Delete(key.clone()),
        })
        .collect()
}

/// All records as the meta resource's store keeps them, for its export.
pub fn as_records(intent: &Intent) -> Records {
    intent.records().iter().map(|record| (record.key(), json(record))).collect()
}

/// Turns what a node wants kept into changes of the own store, and knows which keys are there.
#[derive(Debug, Default)]
pub struct Keeper {
    keys: BTreeSet<String>,
}

impl Keeper {
    /// Knows what is there already.
    pub fn new(intent: &Intent) -> Self {
        Self { keys: intent.records().iter().map(Record::key).collect() }
    }

    /// `whole`: what `txn` does not put goes away.
    pub fn ops(&mut self, whole: bool, txn: &Txn) -> Vec<Op> {
        let mut ops = Vec::new();
        if whole {
            let put: BTreeSet<String> = txn
                .iter()
                .filter_map(|change| match change {
                    Change::Put(record) => Some(record.key()),
                    Change::Delete(_) => None,
                })
                .collect();
            let stale: Vec<String> = self.keys.difference(&put).cloned().collect();
            ops.extend(stale.iter().map(|key| Op::Delete(format!("{INTENT}{key}"))));
            self.keys = put;
        }
        for op in crate::local::ops(txn) {
            match op {
                Op::Put(key, payload) => {
                    ops.push(Op::Put(format!("{INTENT}{key}"), payload));
                    self.keys.insert(key);
                }
                Op::Delete(key) => {
                    ops.push(Op::Delete(format!("{INTENT}{key}")));
                    self.keys.remove(&key);
                }
            }
        }
        ops
    }

    /// What the store did not take of `ops`' removals may still be there: the next whole state removes it.
    pub fn not_taken(&mut self, removed: Vec<String>) {
        self.keys.extend(removed);
    }

    /// The keys that `ops` removes.
    pub fn removed(ops: &[Op]) -> Vec<String> {
        let key = |op: &Op| match op {
            Op::Delete(key) => key.strip_prefix(INTENT).map(str::to_owned),
            Op::Put(..) => None,
        };
        ops.iter().filter_map(key).collect()
    }

    /// The cluster is founded.
    pub fn founded() -> Vec<Op> {
        vec![Op::Delete(FOUNDING.to_owned())]
    }
}

/// Refuses where the own store already says that this box belongs to a cluster.
pub fn check_new(state_dir: &Path) -> Result<(), LocalError> {
    let dir = store_dir(state_dir);
    if !dir.exists() {
        return Ok(());
    }
    let (store, records) = Store::open(&dir).map_err(runs)?;
    store.close()?;
    match read(&records) {
        Err(LocalError::NoCluster) => Ok(()),
        Err(other) => Err(other),
        Ok(local) => {
            let name = local.intent.cluster.map_or_else(String::new, |c| c.name);
            Err(LocalError::Member(name))
        }
    }
}

/// Only a daemon keeps the own store open.
pub fn runs(error: StoreError) -> LocalError {
    if error.is_locked() { LocalError::Runs } else { error.into() }
}

fn joining_path(state_dir: &Path) -> PathBuf {
    state_dir.join("joining")
}

/// Who this box says that it is when it joins: `fresh`, or what an earlier try said. That one may have been taken in and
/// its answer lost; with other keys it would be another box of the same name.
pub fn begin_join(state_dir: &Path, fresh: Identity) -> Result<Identity, LocalError> {
    let path = joining_path(state_dir);
    let failed = |cause| LocalError::File { path: path.clone(), cause };
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice::<Identity>(&bytes) {
            Ok(kept) if kept.name == fresh.name => return Ok(kept),
            Ok(_) | Err(_) => {}
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed)?;
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&json(&fresh))?;
        file.sync_all()?;
        fs::File::open(state_dir)?.sync_all()
    };
    write().map_err(failed)?;
    Ok(fresh)
}

/// It belongs to the cluster, and its store says so.
pub fn end_join(state_dir: &Path) -> Result<(), LocalError> {
    let path = joining_path(state_dir);
    fs::remove_file(&path).map_err(|cause| LocalError::File { path, cause })
}

/// Makes this box a member: one durable commit.
pub fn create(
    state_dir: &Path,
    identity: &Identity,
    intent: &Intent,
    founding: bool,
) -> Result<(), LocalError> {
    let (mut store, _) = Store::open(&store_dir(state_dir))?;
    let mut ops = Keeper::default().ops(true, &intent.whole());
    ops.push(Op::Put(IDENTITY.to_owned(), json(identity)));
    if founding {
        ops.push(Op::Put(FOUNDING.to_owned(), b"true".to_vec()));
    }
    store.commit(&ops)?;
    Ok(store.close()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::core::{
        intent::{Pool, PoolKind, Stamp},
        names::PoolName,
    };

    fn pool(name: &str) -> Change {
        Change::Put(Record::Pool(Pool { name: PoolName::new(name).unwrap(), kind: PoolKind::Lvm }))
    }

    fn applied(records: &mut Records, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Put(key, payload) => drop(records.insert(key, payload)),
                Op::Delete(key) => drop(records.remove(&key)),
            }
        }
    }

    #[test]
    fn a_join_that_is_tried_again_shows_the_same_keys() {
        let dir = std::env::temp_dir().join(format!("holdfast-joining-{}", std::process::id()));
        let identity = |name: &str, key: &str| Identity {
            name: BoxName::new(name).unwrap(),
            secret_key: key.to_owned(),
            public_key: key.to_owned(),
        };
        assert_eq!(begin_join(&dir, identity("box2", "a")).unwrap(), identity("box2", "a"));
        assert_eq!(begin_join(&dir, identity("box2", "b")).unwrap(), identity("box2", "a"));
        assert_eq!(begin_join(&dir, identity("box3", "c")).unwrap(), identity("box3", "c"));
        end_join(&dir).unwrap();
        assert_eq!(begin_join(&dir, identity("box3", "d")).unwrap(), identity("box3", "d"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn where_a_daemon_runs_it_is_said_so_and_nothing_of_locks() {
        let dir = std::env::temp_dir().join(format!("holdfast-runs-{}", std::process::id()));
        let (store, _) = Store::open(&store_dir(&dir)).unwrap();
        let error = check_new(&dir).unwrap_err();
        assert!(matches!(error, LocalError::Runs), "{error}");
        assert!(error.to_string().contains("runs on this box already"), "{error}");
        store.close().unwrap();
        check_new(&dir).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_copy_follows_commits_and_whole_states() {
        let mut records = Records::new();
        let mut keeper = Keeper::default();
        let identity = Identity {
            name: BoxName::new("box1").unwrap(),
            secret_key: String::new(),
            public_key: String::new(),
        };
        records.insert(IDENTITY.to_owned(), json(&identity));
        applied(&mut records, keeper.ops(false, &vec![pool("a"), pool("b")]));
        applied(&mut records, keeper.ops(false, &vec![Change::Delete("pool/a".to_owned())]));
        assert_eq!(read(&records).unwrap().intent.pools.len(), 1);
        let stamp = Change::Put(Record::Stamp(Stamp { epoch: 1, revision: 2 }));
        applied(&mut records, keeper.ops(true, &vec![stamp, pool("c")]));
        let local = read(&records).unwrap();
        assert_eq!(local.identity, identity);
        assert_eq!(local.intent.pools.keys().map(PoolName::as_str).collect::<Vec<_>>(), ["c"]);
        assert_eq!(local.intent.stamp.revision, 2);
        assert!(!local.founding);
        let lost = keeper.ops(false, &vec![Change::Delete("pool/c".to_owned())]);
        keeper.not_taken(Keeper::removed(&lost));
        applied(&mut records, keeper.ops(true, &vec![pool("d")]));
        let pools = read(&records).unwrap().intent.pools;
        assert_eq!(pools.keys().map(PoolName::as_str).collect::<Vec<_>>(), ["d"]);
    }
}
