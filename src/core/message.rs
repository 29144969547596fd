//! What boxes say to each other: JSON, so that two versions understand each other's known parts. What several are told
//! is shared until it is written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    facts::Report,
    intent::{Record, Stamp, Txn},
    names::BoxName,
    refusal::Refusal,
    wish::Request,
};

/// One message over a link. Names are the format: they never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // made, written and gone
pub enum Message {
    /// The first on every link: what the sender knows, and whether it leads.
    Hello {
        /// Its newest commit.
        stamp: Stamp,
        /// It leads now.
        leads: bool,
    },
    /// From the leader: you know all there is.
    Current(Stamp),
    /// From the leader: everything, as records.
    State(Arc<Vec<Record>>),
    /// From the leader: a commit that follows `from`.
    Commit {
        /// What the receiver has to have.
        from: Stamp,
        /// The changes; a new stamp is among them.
        txn: Arc<Txn>,
    },
    /// To the leader: a commit is missing here, send everything.
    Behind,
    /// From a leader that gives up.
    Resigned,
    /// What the sender knows of itself.
    Report(Arc<Report>),
    /// To the leader: a wish that was made at the sender.
    Ask(Request),
    /// From the leader: what became of it.
    Answer {
        /// The request's seed.
        seed: String,
        /// Granted and durable, or refused.
        result: Result<(), Refusal>,
    },
}

/// What a newcomer says of itself when it shows its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAsk {
    /// Its host name.
    pub name: BoxName,
    /// Where it will be reached.
    pub address: std::net::IpAddr,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinAnswer {
    /// It belongs to the cluster: everything that is wanted, as records.
    Welcome(Vec<Record>),
    /// It does not.
    Refused(Refusal),
}
