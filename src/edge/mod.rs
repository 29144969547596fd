//! The neighbours.
pub mod run;
