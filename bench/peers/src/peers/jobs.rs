//! Which jobs a row has, by how its peer takes items.

use crate::job::Kind;
use crate::job::Kind::{
    Apart, Chain, Cores, Double, Fetch, Latency, Records, Single, Sleep, Stream, Words, Work,
};

/// Items one by one.
pub(super) const EACH: &[Kind] = &[Double, Work, Sleep, Single, Words, Latency];
/// The same, and what was fetched is mapped.
pub(super) const EACH_AND_FETCH: &[Kind] = &[Double, Work, Sleep, Single, Words, Fetch, Latency];
/// For variants that would tell twice how others wait.
pub(super) const BUT_SLEEP: &[Kind] = &[Double, Work, Single, Words, Latency];
/// The same, where the first hop fetches and the second maps.
pub(super) const TWO_HOPS: &[Kind] = &[Double, Work, Single, Words, Fetch, Latency];
/// For one thread, which could only wait.
pub(super) const ONE_THREAD: &[Kind] = &[Double, Work, Single, Words, Records, Chain, Latency];
/// With chunks of items: they would wait one after the other, and are not single.
pub(super) const CHUNKS: &[Kind] = &[Double, Work, Words, Records, Chain, Latency];
/// Whatever the job asks for.
pub(super) const ALL: &[Kind] = &[
    Double, Work, Sleep, Single, Words, Records, Chain, Fetch, Latency,
];
pub(super) const ALL_AND_STREAM: &[Kind] = &[
    Double, Work, Sleep, Single, Words, Records, Chain, Fetch, Latency, Stream,
];
/// Where messages of the default size and of one item each are told apart.
#[cfg(feature = "signed")]
pub(super) const SIGNED: &[Kind] = &[Double, Single];
pub(super) const CORES: &[Kind] = &[Cores];
pub(super) const APART: &[Kind] = &[Apart];
