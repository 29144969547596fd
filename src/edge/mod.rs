//! The neighbours.

pub mod fuse;
