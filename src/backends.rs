//! The queues and scratchpads that come with the crate. Any queue goes with any scratchpad.

#[cfg(any(feature = "sqs", feature = "dynamodb"))]
pub mod aws;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "sqs")]
pub mod sqs;
