//! What the loop waits for: everything that happens reaches it over one bounded channel of these.

use crate::{
    core::{node::Input, refusal::Refusal, wish::Wish},
    edge::{peer::JoinRequest, store::StoreEvent},
};

/// Told once what became of a write.
pub type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

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
