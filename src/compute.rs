//! Running the functions of stages: types erased, panics and timeouts caught, items that fail told apart.

pub(crate) mod group;
pub(crate) mod map;
pub(crate) mod pool;
pub(crate) mod rate;
pub(crate) mod sink;
pub(crate) mod step;

mod blocking;
mod combine;
mod pass;
mod yields;
