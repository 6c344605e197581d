//! Inputs that may turn out to be unreadable, and what a run says of the items that it left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod left_out;
mod runs;
mod submissions;

use std::fmt;

use catchment::pipeline::One;
use catchment::{Error, Pipeline, Stage};

/// Items per packet.
const PACKET: u64 = 4;
/// Items of an input that is whole.
const ITEMS: u64 = 22;
/// Where an input breaks: at its first item, within a packet, at either end of one, at its last item, and after that.
const PLACES: [u64; 7] = [0, 1, 3, 4, 10, ITEMS - 1, ITEMS];

/// The error of an input, with a cause.
#[derive(Debug)]
struct Unplugged(std::io::Error);

impl fmt::Display for Unplugged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the disk was unplugged")
    }
}

impl std::error::Error for Unplugged {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn unplugged() -> Unplugged {
    Unplugged(std::io::Error::other("no such device"))
}

/// The numbers up to `ITEMS`, with an error in the place of one of them, or after all of them.
fn broken_at(place: u64) -> impl Iterator<Item = Result<u64, Unplugged>> + Send {
    let items = (0..ITEMS.max(place + 1)).map(move |n| match n == place {
        true => Err(unplugged()),
        false => Ok(n),
    });
    // No more is pulled after the error.
    let mut has_failed = false;
    items.inspect(move |item| {
        assert!(!has_failed, "an item was pulled after the error");
        has_failed = item.is_err();
    })
}

/// Whether an input is an iterator that knows its length, one that does not, or a stream.
#[derive(Clone, Copy, Debug)]
enum Kind {
    List,
    Iterator,
    Stream,
}

const KINDS: [Kind; 3] = [Kind::List, Kind::Iterator, Kind::Stream];

/// Adds up numbers. Asynchronous, so that a test on one thread is the same every time.
fn sum() -> Pipeline<u64, u64, One> {
    Pipeline::new()
        .then(common::ok::<u64>)
        .with(Stage::named("map").packet_size(PACKET as u32))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(2))
}

/// Checks that the input broke at this item, and that the error has its causes.
fn assert_broken_at(place: u64, error: &Error, what: impl fmt::Debug) {
    let Error::Input { item, .. } = error else {
        panic!("{what:?}: not an error of the input: {error}");
    };
    assert_eq!(*item, place, "{what:?}");
    assert_eq!(
        error.to_string(),
        format!("cannot read item {place} of the input")
    );
    assert!(!error.is_retryable());
    let source = std::error::Error::source(error).unwrap();
    assert!(source.is::<Unplugged>(), "{what:?}: {source}");
    let cause = source.source().unwrap();
    assert!(cause.is::<std::io::Error>(), "{what:?}: {cause}");
}
