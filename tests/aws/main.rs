//! Over Amazon SQS and DynamoDB: the same contracts and the same pipelines, on emulators and on faked replies.
#![cfg(feature = "aws")]

mod common;
mod conformance;
