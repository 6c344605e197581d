// Its examples need the AWS backends.
#![cfg_attr(any(not(doctest), feature = "aws"), doc = include_str!("../README.md"))]
#![forbid(unsafe_code)]

mod compute;
mod core;
mod deployment;
mod embedded;
#[cfg(feature = "lambda")]
mod lambda;
#[cfg(test)]
mod model;
mod packet;
mod pipeline;
mod protocol;
mod stage;
mod submit;
#[cfg(all(feature = "lambda", feature = "dynamodb"))]
mod template;
mod worker;

pub mod backends;
#[cfg(feature = "http")]
pub mod http;
pub mod queue;
pub mod scratchpad;
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
