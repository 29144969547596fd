//! holdfast: one daemon per box turns a few Linux machines with disks into one pool of replicated block devices.
pub mod core;
pub mod edge;
pub mod host;
