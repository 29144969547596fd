//! The neighbours.
pub mod drbd_events;
pub mod run;
