//! The neighbours.
pub mod peer;
pub mod store;
pub mod token;
