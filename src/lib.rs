//! holdfast: one daemon per box turns a few Linux machines with disks into one pool of replicated block devices.
//!
//! The way of one write: the tree (`tree`, over `edge::fuse`) parses it into a wish; the leader's node (`core::node`)
//! admits it, assigns boxes to it and commits both to sled on the meta resource (`edge::store`); each box plans from
//! that and from what it observes (`core::plan`), takes the steps (`host`), observes again, and shows the view.
//!
//! | where | what |
//! |---|---|
//! | `core` | PURE: names, sizes, intent, facts, admit, assign, place, plan, the node's state machine |
//! | `tree` | PURE: one table of files; paths, values as text, verbs to wishes |
//! | `daemon` | the loop: carries inputs to the node and its outputs to the edges |
//! | `event`, `observer` | what the loop waits for; the threads that look at the machine for it |
//! | `host` | the seam: observe, apply |
//! | `edge` | one file a neighbour: LVM, DRBD, udev, blkid, FUSE, peers, stores |
//! | `local`, `keeper` | the box's own copy; the meta resource's store |
//! | `sim` | the model world: another host, with power, wires and time of its own |
//! | `cli` | argv; the sandbox |
//! | `log`, `random` | lines for journald; ids, keys and secrets |
//!
//! Deliberately absent: async; a consensus protocol of its own (DRBD's is used); records of operations in progress
//! (everything is found out again by looking); any part in the I/O path; shrinking; forcing.

pub mod cli;
pub mod core;
pub mod daemon;
pub mod edge;
pub mod event;
pub mod host;
pub mod keeper;
pub mod local;
pub mod log;
pub mod observer;
pub mod random;
pub mod sim;
pub mod tree;
