//! The neighbours.
