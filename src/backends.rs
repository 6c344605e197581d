//! The queues and scratchpads that come with the crate. Any queue goes with any scratchpad.

pub mod memory;
