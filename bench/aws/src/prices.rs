//! What the services charge, on demand, in US East (N. Virginia), in dollars. The first million SQS requests of a month
//! and storage are left out: the one is free, the other is for what lies there, not for what was done.
//!
//! | price | source | as of |
//! | --- | --- | --- |
//! | SQS, standard queue, each request of up to 64 KB | <https://aws.amazon.com/sqs/pricing/> | 2026-06 |
//! | DynamoDB, standard table, a write of up to 1 KB, a read of up to 4 KB | <https://aws.amazon.com/dynamodb/pricing/on-demand/> | 2025-07, after the cut of 2024-11 |
//!
//! Written down on 2026-11-21 from copies of those dates: look there before you rely on them.

/// A million requests of SQS, up to 100 billion a month.
pub(crate) const SQS_REQUESTS: f64 = 0.40;
/// A million write request units of DynamoDB.
pub(crate) const WRITE_UNITS: f64 = 0.625;
/// A million read request units of DynamoDB: strongly consistent reads. Others take half a unit.
pub(crate) const READ_UNITS: f64 = 0.125;

/// SQS charges each so many bytes of a request's payload as a request.
pub(crate) const SQS_CHUNK: u64 = 64 * 1024;
/// What a write request unit writes, and a read request unit reads.
pub(crate) const WRITE_CHUNK: u64 = 1024;
pub(crate) const READ_CHUNK: u64 = 4 * 1024;
