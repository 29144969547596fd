//! The model world: whole clusters in one thread, for proof and for play.
//!
//! The other host behind the seam. Each box's daemon is the real node; LVM, DRBD, udev, power, the network and the clock
//! are models, as faithful as what was recorded on real kernels allows. docs/testing.md says what is modelled and what
//! is not. What must not go in: decisions of holdfast's, files, threads, clocks, true randomness.

mod carry;
pub mod check;
mod command;
pub mod drbd;
mod host;
mod machine;
#[cfg(test)]
mod mutants;
mod net;
mod rng;
pub mod script;
mod session;
pub mod simulate;
mod storage;
mod store;
mod world;

pub use command::{Command, Verb};
pub use host::ModelHost;
pub use machine::{Eye, Machine, Records, StepFault};
pub use rng::Rng;
pub use session::{Session, version};
pub use storage::{Content, LogicalVolume};
pub use world::World;
