//! A simulated cluster: models of what the daemon stands on, without clock, threads, files or chance.

pub mod drbd;
