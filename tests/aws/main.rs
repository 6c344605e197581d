//! Over Amazon SQS and DynamoDB: the same contracts and the same pipelines, on emulators and on
//! faked replies.
#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod adder;
#[cfg(feature = "http")]
mod adder_http;
mod attempts;
mod backend;
#[cfg(feature = "lambda")]
mod closed_template;
mod codec;
mod common;
mod conformance;
mod distributed;
mod fake;
mod items;
mod life;
mod limits;
mod outage;
#[cfg(feature = "lambda")]
mod permissions;
#[path = "../items/plan.rs"]
#[allow(dead_code, reason = "the tests in memory use all of it")]
mod plan;
#[cfg(feature = "lambda")]
mod proxy;
mod python;
mod replies;
mod requests;
#[cfg(feature = "lambda")]
mod roles;
mod storm;
#[cfg(feature = "lambda")]
mod template;
mod wire_format;
