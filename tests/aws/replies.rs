//! How the backends handle responses that emulators do not give: partly failed batches, throttling,
//! lost connections, races. Each test checks the outcome and the requests that were made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod codes;
mod credentials;
mod dynamodb;
mod sqs;

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Request, operations, said};
