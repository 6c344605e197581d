// Its examples need the AWS backends.
#![cfg_attr(any(not(doctest), feature = "aws"), doc = include_str!("../README.md"))]
#![forbid(unsafe_code)]

mod array_id;
mod batch;
mod carrier;
mod change;
mod clock;
mod codec;
mod cpu;
mod cut;
mod dead_letter;
mod definition;
mod deployment;
mod embedded;
mod error;
mod hand_back;
mod heartbeat;
#[cfg(feature = "lambda")]
mod lambda;
mod local;
#[cfg(test)]
mod model;
mod packet;
mod pipeline;
mod protocol;
mod rate;
mod requests;
mod retry;
mod run;
mod seam;
mod stage;
mod submit;
#[cfg(all(feature = "lambda", feature = "dynamodb"))]
mod template;
mod tree;
mod worker;

pub mod backends;
#[cfg(feature = "http")]
pub mod http;
pub mod queue;
pub mod scratchpad;
#[cfg(feature = "testing")]
pub mod testing;

pub use change::{Action, Change};
pub use codec::Codec;
pub use dead_letter::DeadLetter;
pub use deployment::{Backend, Deployment};
pub use error::{BoxError, Error, Permanent, Result, permanent};
#[cfg(feature = "lambda")]
pub use lambda::LambdaFunction;
pub use packet::{ArrayId, Packet, PacketId};
pub use pipeline::{Answer, Many, One, Pipeline, Unreduced};
pub use requests::Requests;
pub use run::{Outcome, Run, RunState, Status};
pub use scratchpad::Failure;
pub use stage::{
    Backoff, Combine, Context, Data, Emitter, Execution, Items, Map, OnFailure, Stage,
};
#[cfg(all(feature = "lambda", feature = "dynamodb"))]
pub use template::{Architecture, FunctionOptions, Template, TemplateOptions};
pub use worker::{RunningWorker, Worker};
