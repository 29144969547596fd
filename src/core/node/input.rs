//! What a node is told and what it answers with: the whole of its interface to the loop.

use std::collections::BTreeMap;

use crate::core::{
    claim::Disk,
    drbd::{Counters, Resource},
    facts::{ConfFile, Known, Vg},
    intent::{Member, Record, Txn},
    message::Message,
    names::{BoxName, DiskName, PoolName},
    refusal::Refusal,
    step::{Job, Step, StepError},
    wish::Request,
};

/// What the host can be asked to look at again. DRBD is not among them: its events come by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Disks and what is on them.
    Disks,
    /// Volume groups and LVs.
    Vgs,
    /// The .res files.
    Conf,
    /// Sizes and, on 8.4, progress: what DRBD sends no events for.
    Counters,
}

/// What was seen.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Facts {
    /// [`Source::Disks`]
    Disks(Known<BTreeMap<DiskName, Disk>>),
    /// [`Source::Vgs`]
    Vgs(Known<BTreeMap<PoolName, Vg>>),
    /// [`Source::Conf`]
    Conf(Known<BTreeMap<String, ConfFile>>),
    /// [`Source::Counters`], by minor; what cannot be looked at stays as it was.
    Counters(BTreeMap<u32, Counters>),
    /// All of DRBD, or that its events were lost.
    Drbd(Known<BTreeMap<String, Resource>>),
    /// One resource; None: it is gone.
    Resource(String, Option<Resource>),
}

/// What happens to a box.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Input {
    /// Time went on.
    Tick,
    /// Somebody wrote here; answered once, with this ticket.
    Wish {
        /// Names the waiting writer.
        ticket: u64,
        /// The object in the tree that it is about.
        about: String,
        /// What is asked.
        request: Request,
    },
    /// A write was refused before it became a wish: kept for `errors`.
    Refused {
        /// The object in the tree.
        about: String,
        /// Why.
        refusal: Refusal,
    },
    /// Something was observed.
    Facts(Facts),
    /// All requests to look at it up to this number are answered: the look began after they were made.
    Looked(Source, u64),
    /// A link to another member is up.
    LinkUp(BoxName),
    /// It is down.
    LinkDown(BoxName),
    /// A member said something.
    Message(BoxName, Message),
    /// The store on the meta resource was opened: all its records. Or it could not be.
    StoreOpened(Result<Vec<Record>, String>),
    /// A commit is durable, or the store failed.
    Committed {
        /// As given with [`Output::Commit`].
        seq: u64,
        /// The sentence of the failure.
        result: Result<(), String>,
    },
    /// A job ended: at which step it failed, if it did.
    JobDone {
        /// Its lane.
        lane: String,
        /// What it was.
        steps: Vec<Step>,
        /// The first step that failed.
        result: Result<(), (Step, StepError)>,
    },
}

/// What a box has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // short-lived
pub enum Output {
    /// Answer a waiting writer.
    Answer {
        /// Who.
        ticket: u64,
        /// What.
        result: Result<(), Refusal>,
    },
    /// Say something to a member, if the link is up.
    Send(BoxName, Message),
    /// Make this durable on the meta resource, in order.
    Commit {
        /// Comes back with [`Input::Committed`].
        seq: u64,
        /// The changes.
        txn: Txn,
    },
    /// Make the meta resource Primary, mount it and open the store. `found`: make the file system if there is none.
    OpenStore {
        /// The cluster is being founded.
        found: bool,
    },
    /// Close it again.
    CloseStore,
    /// Keep this in the box's own store, as all there is or on top of what is there.
    Save {
        /// Forget everything else first.
        whole: bool,
        /// The changes.
        txn: Txn,
    },
    /// The cluster is founded: it never will be again.
    Founded,
    /// Take these steps.
    Run(Job),
    /// Look at this again. The number is larger than in any request before.
    Observe(Source, u64),
    /// The members, whole.
    Members(Vec<Member>),
    /// What newcomers have to show.
    JoinSecret(String),
}
