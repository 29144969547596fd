//! The neighbours.
pub mod drbd_events;
pub mod lvm_report;
pub mod run;
