//! PURE: what is wanted, what is, and what to do about the difference.
//!
//! No clock, file, process, thread, socket or random number in here; a test keeps it so (tests/purity.rs).

pub mod admit;
pub mod assign;
pub mod claim;
pub mod conf;
pub mod drbd;
pub mod facts;
pub mod hex;
pub mod intent;
pub mod lanes;
pub mod message;
pub(crate) mod mutant;
pub mod names;
pub mod node;
pub mod place;
pub mod plan;
pub mod planned;
pub mod refusal;
pub mod size;
pub mod status;
pub mod step;
pub mod token;
pub mod view;
pub mod wish;
