//! The neighbours.
pub mod peer;
pub mod store;
