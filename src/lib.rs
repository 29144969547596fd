//! part
pub mod core;
pub mod edge;
