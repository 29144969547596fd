//! One model box: its power, its disks, what its system disk holds, and the daemon while it runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::{
    conf,
    drbd::Resource,
    intent::{Change, Record, Txn},
    names::BoxName,
    node::{Node, Source},
};

use super::storage::Storage;

/// Records by key.
pub type Records = BTreeMap<String, Record>;

/// What is done to the next step that a box takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFault {
    /// It fails and nothing was done.
    Before,
    /// It is done, and said to have failed.
    After,
}

/// A source that can be made invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Eye {
    /// LVM.
    Vgs,
    /// udev and the probes.
    Disks,
    /// The .res files.
    Conf,
    /// DRBD's events.
    Drbd,
}

/// What an event of DRBD says.
pub struct DrbdEvent {
    /// When the daemon hears of it.
    pub due_ms: u64,
    /// What it is about.
    pub resource: String,
    /// What was so when it was sent.
    pub state: Option<Resource>,
}

/// A box.
pub struct Machine {
    /// Its name.
    pub name: BoxName,
    /// It has power.
    pub on: bool,
    /// Its disks.
    pub storage: Storage,
    /// The system disk: .res files by resource.
    pub conf: BTreeMap<String, String>,
    /// To which texts (their checksums) the kernel was adjusted since the box has power.
    pub adjusted: BTreeMap<String, u32>,
    /// The system disk: the own store; None before init or join.
    pub saved: Option<Records>,
    /// The system disk: this box founds the cluster and has not done so yet.
    pub founding: bool,
    /// Written to the own store and not yet durable.
    pub unsaved: VecDeque<Unsaved>,
    /// When the last of the commands that were begun ends: a new daemon waits for those of the dead one.
    pub busy_until_ms: u64,
    /// The daemon, while it runs.
    pub mind: Option<Mind>,
    /// Counts the daemon's lives: what belongs to an older one is dropped.
    pub life: u64,
    /// Resources that somebody has open for reading only.
    pub readers: Vec<String>,
    /// The meta resource is mounted here: it stays so when the daemon dies.
    pub mounted: bool,
    /// These disks give zeroes where holes are punched.
    pub zeroes: bool,
    /// Done to the next step.
    pub fault: Option<StepFault>,
    /// Sources that cannot be looked at now.
    pub blind: BTreeSet<Eye>,
    /// Looks are told so much later than they were made.
    pub stale_ms: u64,
}

/// One write to the own store.
#[derive(Debug)]
pub enum Unsaved {
    /// Everything, or on top of what is there.
    Change { whole: bool, txn: Txn },
    /// The cluster is founded.
    Founded,
}

/// The daemon of a box.
pub struct Mind {
    /// What decides.
    pub node: Node,
    /// Lanes with a job under way.
    pub jobs: BTreeSet<String>,
    /// Sources that are being looked at; true: and once more after that.
    pub looking: BTreeMap<Source, bool>,
    /// The newest request to look at it.
    pub asked: BTreeMap<Source, u64>,
    /// DRBD's events on their way, in order.
    pub drbd_events: VecDeque<DrbdEvent>,
    /// When it wants to be woken.
    pub wake_ms: u64,
    /// The store on the meta resource.
    pub store: MetaStore,
    /// Whom it knows as members.
    pub members: BTreeSet<BoxName>,
}

/// The leader's store.
#[derive(Debug, Default)]
pub enum MetaStore {
    /// Not open.
    #[default]
    Closed,
    /// Being opened: an answer will come.
    Opening,
    /// Open.
    Open {
        /// What was committed and synced.
        records: Records,
        /// Commits that wait, in order.
        queue: VecDeque<(u64, Txn)>,
        /// The commits that are on their way to the device in one write.
        batch: VecDeque<(u64, Txn)>,
        /// A write is on its way, or about to be.
        writing: bool,
        /// An error came: nothing is taken any more.
        dead: bool,
    },
}

impl Machine {
    /// A box with power and an empty system disk.
    pub fn new(name: BoxName, zeroes: bool) -> Self {
        Self {
            name,
            on: true,
            storage: Storage::default(),
            conf: BTreeMap::new(),
            adjusted: BTreeMap::new(),
            saved: None,
            founding: false,
            unsaved: VecDeque::new(),
            busy_until_ms: 0,
            mind: None,
            life: 0,
            readers: Vec::new(),
            mounted: false,
            zeroes,
            fault: None,
            blind: BTreeSet::new(),
            stale_ms: 0,
        }
    }

    /// The node, while the daemon runs.
    pub fn node(&self) -> Option<&Node> {
        self.mind.as_ref().map(|mind| &mind.node)
    }

    /// It founded the cluster, and so leads it.
    pub fn founder(&self) -> bool {
        let record = self.saved.as_ref().and_then(|saved| saved.get("cluster"));
        matches!(record, Some(Record::Cluster(cluster)) if cluster.leader == self.name)
    }

    /// Somebody else made a .res file of that name.
    pub fn has_foreign_conf(&self, resource: &str) -> bool {
        self.conf.get(resource).is_some_and(|text| !text.starts_with(conf::MARK))
    }

    /// The oldest write to the own store is durable now.
    pub fn save_one(&mut self) {
        let Some(saved) = self.saved.as_mut() else { return };
        match self.unsaved.pop_front() {
            None => {}
            Some(Unsaved::Founded) => self.founding = false,
            Some(Unsaved::Change { whole, txn }) => apply(saved, whole, &txn),
        }
    }
}

/// Takes a transaction over into records.
pub fn apply(records: &mut Records, whole: bool, txn: &[Change]) {
    if whole {
        records.clear();
    }
    for change in txn {
        match change {
            Change::Put(record) => drop(records.insert(record.key(), record.clone())),
            Change::Delete(key) => drop(records.remove(key)),
        }
    }
}
