//! The neighbours: one file for each. They carry out and report; what to do is decided in `core`.
//!
//! Edges do not know each other, except that all may use `run` and `outcome`, and that a few stand on another one. Which
//! ones tests/purity.rs says, and keeps it so.

pub mod blkid;
pub mod drbd;
pub mod drbd_events;
pub mod fuse;
pub mod lvm;
pub mod lvm_report;
pub mod meta;
pub mod outcome;
pub mod peer;
pub mod run;
pub mod store;
pub mod udev;
pub mod zero;
