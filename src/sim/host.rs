//! A model box behind the same seam as a real one: observe, apply.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    core::{
        node::{Facts, Source},
        step::{Step, StepError},
    },
    host::Host,
};

use super::{drbd::BoxId, world::World};

/// One box of a world that several look at.
#[derive(Clone)]
pub struct ModelHost {
    world: Arc<Mutex<World>>,
    at: BoxId,
}

impl ModelHost {
    /// The box of that number.
    pub fn new(world: Arc<Mutex<World>>, at: BoxId) -> Self {
        Self { world, at }
    }

    /// The world, for what is not behind the seam.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for ModelHost {
    fn observe(&self, source: Source) -> Facts {
        self.world().see(self.at, source)
    }

    fn apply(&self, step: &Step) -> Result<(), StepError> {
        self.world().act(self.at, "contract", step)
    }
}
