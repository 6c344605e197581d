// Its examples need the AWS backends.
#![cfg_attr(any(not(doctest), feature = "aws"), doc = include_str!("../README.md"))]
#![forbid(unsafe_code)]

// What everything is made of, the contracts and their implementations.
pub mod backends;
mod core;
pub mod queue;
pub mod scratchpad;

// Building a pipeline, and running its functions.
mod compute;
mod packet;
mod pipeline;
mod stage;

// The engine: from a submission to its result.
mod deployment;
mod embedded;
mod protocol;
mod submit;
mod worker;

// The faces: what outsiders touch.
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "lambda")]
mod lambda;
#[cfg(all(feature = "lambda", feature = "dynamodb"))]
mod template;

// The suites that all of it is held to.
#[cfg(test)]
mod model;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::core::backoff::Backoff;
pub use crate::core::error::{BoxError, Error, Permanent, Result, permanent};
pub use crate::core::failure::Failure;
pub use crate::core::id::{ArrayId, PacketId};
pub use crate::core::provision::{Action, Change};
pub use crate::core::requests::Requests;
pub use deployment::dead_letter::DeadLetter;
pub use deployment::run::{Outcome, Run, RunState, Status};
pub use deployment::{Backend, Deployment};
#[cfg(feature = "lambda")]
pub use lambda::LambdaFunction;
pub use packet::Packet;
pub use packet::codec::Codec;
pub use pipeline::{Answer, Many, One, Pipeline, Unreduced};
pub use stage::{Combine, Context, Data, Emitter, Execution, Items, Map, OnFailure, Stage};
#[cfg(all(feature = "lambda", feature = "dynamodb"))]
pub use template::{Architecture, FunctionOptions, Template, TemplateOptions};
pub use worker::{RunningWorker, Worker};
