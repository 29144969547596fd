//! PURE: what is wanted, what is, and what to do about the difference.
//!
//! No clock, file, process, thread, socket or random number in here; a test keeps it so (tests/purity.rs).

pub mod claim;
pub mod drbd;
pub mod facts;
pub mod intent;
pub mod names;
pub mod refusal;
pub mod size;
pub mod status;
pub mod step;
pub mod view;
pub mod wish;
