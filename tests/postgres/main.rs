//! Over PostgreSQL: the same contracts and the same pipelines, on the server that `CATCHMENT_TEST_POSTGRES` names.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod churn;
mod common;
mod conformance;
mod cost;
#[cfg(feature = "postgres-tls")]
mod encrypted;
mod growth;
mod late;
mod lives;
mod once;
mod outbox;
mod plans;
mod pooled;
mod promises;
mod provisioning;
mod roles;
