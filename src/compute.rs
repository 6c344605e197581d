//! Running the functions of stages: types erased, panics and timeouts caught, items that fail told apart.

mod function;
pub(crate) mod group;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod pool;
pub(crate) mod rate;
pub(crate) mod sink;
pub(crate) mod step;

mod combine;
mod label;
mod line;
pub(crate) mod pass;
mod trail;
mod trouble;
mod watch;
