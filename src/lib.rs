//! part
pub mod core;
pub mod edge;
pub mod tree;
