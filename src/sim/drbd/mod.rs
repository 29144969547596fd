//! PURE: a model of DRBD on all boxes of a cluster.

mod kernels;

pub use kernels::{BackingId, BoxId, IoError, Kernels, OpenError, ReplicaView, UseView, Version};
