//! PURE: a model of DRBD on all boxes of a cluster.

mod acts;
mod adjust;
mod attach;
mod cluster;
mod compare;
mod disk;
mod io;
mod kernels;
mod link;
mod look;
mod res;
mod settle;
mod sync;
mod types;
mod versions;

pub use kernels::Kernels;
pub use types::{BackingId, BoxId, IoError, OpenError, ReplicaView, UseView, Version};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
