//! What the loop waits for: everything that happens reaches it over one bounded channel of these.

use crate::{
    core::{node::Input, refusal::Refusal, wish::Wish},
    edge::{fuse::Answer, peer::JoinRequest, store::StoreEvent},
};

/// Something happened.
pub enum Event {
    /// For the node as it is.
    Node(Input),
    /// A write in the tree became a wish.
    Wish {
        /// The object in the tree.
        about: String,
        /// What is asked.
        wish: Wish,
        /// Who waits.
        answer: Answer,
    },
    /// A write that the tree refused by itself.
    Refused {
        /// The object in the tree.
        about: String,
        /// Why.
        refusal: Refusal,
        /// Who waits.
        answer: Answer,
    },
    /// A newcomer showed the token.
    Join(JoinRequest),
    /// The store on the meta resource said something.
    Meta(StoreEvent),
    /// This box's own store said something.
    Local(StoreEvent),
    /// A log line of the peer edge.
    PeerRefused(String),
    /// udev saw a disk come, go or change.
    DisksChanged,
    /// A worker is free again.
    WorkerFree,
    /// SIGTERM or SIGINT.
    Stop,
}
