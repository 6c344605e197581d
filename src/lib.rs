//! Map/reduce pipelines on queues, inside one process or across many.
//!
//! A pipeline maps every item of an array or a stream, and combines the partial results until one
//! is left. Queues carry the work; a scratchpad counts what has arrived. The crate is for a great
//! many independent pieces of work (files to parse, images to convert, records to score) and one
//! answer to get out of them, without a cluster or a scheduler.
//!
//! # Quick start
//!
//! Inside the calling process, with queues, scratchpad and workers that live as long as the run:
//!
//! ```
//! use catchment::{Pipeline, Stage};
//!
//! #[tokio::main]
//! async fn main() -> catchment::Result<()> {
//!     let adder = Pipeline::new()
//!         .map(|n: i64| n * 2).with(Stage::named("times_two"))
//!         .reduce(|| 0, |sum, n| sum + n);
//!
//!     let sum = adder.run(1..=5).await?;
//!     assert_eq!(sum, 30);
//!     Ok(())
//! }
//! ```
//!
//! The same pipeline as a deployment, whose submitters and workers may be different processes:
//!
//! ```
//! # use catchment::{Pipeline, Stage};
//! use catchment::Backend;
//!
//! # #[tokio::main]
//! # async fn main() -> catchment::Result<()> {
//! # let adder = Pipeline::new()
//! #     .map(|n: i64| n * 2).with(Stage::named("times_two"))
//! #     .reduce(|| 0, |sum, n| sum + n);
//! let adder = adder.deploy("adder", Backend::memory())?; // or Backend::aws(&config)
//! adder.provision().await?;                       // queues and tables: safe to repeat
//! let run = adder.submit([1, 2, 3, 4, 5]).await?; // returns once every packet is on a queue
//! let worker = adder.worker().start();            // as many processes as you like
//! let sum = run.result().await?;                  // any process: adder.attach(run.id())
//! worker.shutdown().await;                        // finishes what it holds, releases the rest
//! # assert_eq!(sum, 30);
//! # Ok(())
//! # }
//! ```
//!
//! # Vocabulary
//!
//! - A [`Pipeline`] is a definition: functions that map items, and a reduction that combines their
//!   outputs. Misuse, such as a second reduction of one value, does not compile.
//! - A *stage* is one or more functions in a row, or a reduction, with a queue of its own. [`Stage`]
//!   has its options: name, concurrency, timeout, attempts, what to do with items that fail. [`Map`]
//!   and [`Combine`] are for functions and reductions with state of their own.
//! - An *item* is one element of the input. A *packet* is what travels: a slice of consecutive
//!   items, or a partial result.
//! - A *run* is one submitted input, known by its [`RunId`]. [`Run`] is the handle on it: result,
//!   status, failures, redrive, cancel.
//! - A [`Deployment`] is a pipeline under a name, over a backend. Any process with the same
//!   definition can submit to it, work for it, or inspect its runs.
//! - A [`Backend`] is a [queue] service and a [scratchpad]; any queue goes with any scratchpad. The
//!   module [`backends`] has those that come with the crate.
//! - A [`Worker`] receives the stages' messages, runs their functions and acknowledges each message
//!   once everything that it causes is durable.
//! - A *dead letter* is a message that cannot be finished, because one of its items has used up its
//!   attempts. It is kept with the error for a person: [`DeadLetter`].
//!
//! # What it promises
//!
//! 1. **Every item contributes exactly once to the result**, whatever is delivered twice, late, out
//!    of order, or to a worker that dies at any instruction. Your functions may run more than once;
//!    their effect on the result may not.
//! 2. **Nothing is lost silently.** An item that cannot be processed becomes a dead letter with its
//!    error, and the run says so at once: waiting for a failed run ends. Once the cause is fixed,
//!    [`Run::redrive`] completes it.
//! 3. **The result does not depend on timing.** Partial results combine in item order, in a tree
//!    whose shape follows from the input alone: an associative operator is enough, and the same
//!    input gives the same bits, floating point too, however many workers ran.
//! 4. **Empty input, all-filtered input, one item** all give a result.
//!
//! # What it is not
//!
//! - **Exactly-once execution.** Side effects of your functions may happen more than once. A
//!   function that takes a [`Context`] gets the run and the item: together they are an idempotency
//!   key.
//! - **A scheduler.** It starts no processes and no machines: you start workers, and they find
//!   their work on the queues.
//! - **A stream processor.** A run has one result, once its input has ended. There are no windows,
//!   and there is no reduction by key.
//! - **The fastest way to add numbers on one machine.** If nothing has to be redelivered, counted
//!   or moved to another process, a parallel iterator does less work per item.
//!
//! # Features
//!
//! None is on by default; [`Pipeline::run`] and [`Backend::memory`] need none.
//!
//! | feature | adds |
//! | --- | --- |
//! | `sqlite` | a SQLite file for the processes of one machine ([`Backend::file`][file]), and [`Pipeline::run_in`][run_in], whose progress survives the process |
//! | `postgres` | the PostgreSQL database that you have ([`Backend::postgres`][postgres]), and submitting inside your own transactions ([`Deployment::submit_in`][submit_in]) |
//! | `postgres-tls` | connections to it with TLS, as its URL says |
//! | `sqs`, `dynamodb`, `aws` | Amazon SQS, Amazon DynamoDB, and both with [`Backend::aws`][aws] |
//! | `lambda` | stages as Lambda functions ([`Deployment::lambda`][lambda]); with `dynamodb`, SAM and CloudFormation templates ([`Deployment::template`][template]) |
//! | `http` | a deployment's HTTP API as an `axum` router ([`Deployment::router`][http]) |
//! | `postcard` | a compact binary format instead of JSON ([`Codec`]) |
//! | `signed` | tags by a key of the deployment's on messages, partial results and dead letters ([`Deployment::signed`][signed]) |
//! | `testing` | conformance suites and fault wrappers, for a new backend or an application's tests ([`testing`][testing]) |
//!
// Without a feature, its link leads to the type that would have the method.
#![cfg_attr(feature = "sqlite", doc = "[file]: Backend::file")]
#![cfg_attr(not(feature = "sqlite"), doc = "[file]: Backend")]
#![cfg_attr(feature = "sqlite", doc = "[run_in]: Pipeline::run_in")]
#![cfg_attr(not(feature = "sqlite"), doc = "[run_in]: Pipeline")]
#![cfg_attr(feature = "postgres", doc = "[postgres]: Backend::postgres")]
#![cfg_attr(not(feature = "postgres"), doc = "[postgres]: Backend")]
#![cfg_attr(feature = "postgres", doc = "[submit_in]: Deployment::submit_in")]
#![cfg_attr(not(feature = "postgres"), doc = "[submit_in]: Deployment")]
#![cfg_attr(feature = "aws", doc = "[aws]: Backend::aws")]
#![cfg_attr(not(feature = "aws"), doc = "[aws]: Backend")]
#![cfg_attr(feature = "lambda", doc = "[lambda]: Deployment::lambda")]
#![cfg_attr(not(feature = "lambda"), doc = "[lambda]: Deployment")]
#![cfg_attr(
    all(feature = "lambda", feature = "dynamodb"),
    doc = "[template]: Deployment::template"
)]
#![cfg_attr(
    not(all(feature = "lambda", feature = "dynamodb")),
    doc = "[template]: Deployment"
)]
#![cfg_attr(feature = "http", doc = "[http]: Deployment::router")]
#![cfg_attr(not(feature = "http"), doc = "[http]: Deployment")]
#![cfg_attr(feature = "signed", doc = "[signed]: Deployment::signed")]
#![cfg_attr(not(feature = "signed"), doc = "[signed]: Deployment")]
#![cfg_attr(feature = "testing", doc = "[testing]: crate::testing")]
#![cfg_attr(not(feature = "testing"), doc = "[testing]: crate::backends")]
#![forbid(unsafe_code)]

// What everything is made of, the contracts and their implementations.
pub mod backends;
mod core;
mod outbox;
mod progress;
pub mod queue;
pub mod scratchpad;

// Building a pipeline, and running its functions.
mod compute;
mod packet;
pub mod pipeline;
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
pub mod template;

// The suites that all of it is held to.
#[cfg(test)]
mod model;
#[cfg(doctest)]
mod pages;
#[cfg(feature = "testing")]
pub mod testing;

/// What provisioning and deprovisioning did to queues and tables.
pub mod provision {
    pub use crate::core::provision::{Action, Change};
}

pub use crate::core::backoff::Backoff;
pub use crate::core::error::{BoxError, Error, Oversized, Permanent, Result, permanent};
pub use crate::core::failure::Failure;
pub use crate::core::id::RunId;
pub use crate::core::page::{Cursor, Page};
pub use crate::core::requests::Requests;
pub use deployment::dead_letter::{DeadLetter, Discarded, LetterId};
pub use deployment::listing::Listing;
#[cfg(feature = "postgres")]
pub use deployment::outbox::OutboxParts;
pub use deployment::run::{Outcome, ProgressStream, Redriven, Run, Status};
pub use deployment::{Backend, Deployment};
#[cfg(feature = "lambda")]
pub use lambda::LambdaFunction;
pub use packet::codec::Codec;
#[cfg(feature = "signed")]
pub use packet::keys::{Key, Keys};
#[doc(inline)]
pub use pipeline::{Groups, Pipeline};
pub use progress::{Progress, StageProgress, Unit};
pub use scratchpad::{RunFilter, RunState, RunSummary};
pub use stage::{Combine, Context, Data, Emitter, Execution, Items, Map, OnFailure, Stage};
pub use worker::{Fate, Handler, RunningWorker, Worker};
