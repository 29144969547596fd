//! The neighbours: one file for each. They carry out and report; what to do is decided in `core`.
//!
//! Edges do not know each other, except that all may use `run`; tests/purity.rs keeps it so.

pub mod drbd_events;
pub mod fuse;
pub mod lvm_report;
pub mod peer;
pub mod run;
pub mod store;
