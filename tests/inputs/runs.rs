//! Runs inside the process.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use catchment::{BoxError, OnFailure, permanent};
use futures::{StreamExt, stream};

use super::*;
use crate::common::*;

async fn run(kind: Kind, place: u64) -> catchment::Result<u64> {
    let items = broken_at(place);
    soon(async {
        match kind {
            Kind::List => sum().try_run(items).await,
            Kind::Iterator => sum().try_run(items.filter(|_| true)).await,
            Kind::Stream => sum().try_run_stream(stream::iter(items)).await,
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn the_first_error_ends_the_run_wherever_it_is() {
    for kind in KINDS {
        for place in PLACES {
            let error = run(kind, place).await.unwrap_err();
            assert_broken_at(place, &error, kind);
        }
    }
}

/// Larger than what the queues take at once, so that workers are busy when the input breaks.
#[tokio::test(start_paused = true)]
async fn an_error_after_much_work_ends_the_run() {
    let place = 5_000;
    let items = || (0..=place).map(|n| if n == place { Err("enough") } else { Ok(n) });
    let of_iterator = soon(sum().try_run(items())).await.unwrap_err();
    let of_stream = soon(sum().try_run_stream(stream::iter(items()))).await;
    for error in [of_iterator, of_stream.unwrap_err()] {
        assert!(
            matches!(error, Error::Input { item, .. } if item == place),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_without_an_error_gives_its_result() {
    for length in [0, 1, ITEMS] {
        let items = || (0..length).map(Ok::<u64, Unplugged>);
        let expected = (0..length).sum::<u64>();
        assert_eq!(soon(sum().try_run(items())).await.unwrap(), expected);
        let of_stream = soon(sum().try_run_stream(stream::iter(items()))).await;
        assert_eq!(of_stream.unwrap(), expected);
        let outcome = soon(sum().try_run_outcome(items())).await.unwrap();
        assert_eq!((outcome.value, outcome.items), (expected, length));
        let outcome = soon(sum().try_run_stream_outcome(stream::iter(items()))).await;
        assert_eq!(outcome.unwrap().value, expected);
    }
}

#[test]
fn lines_go_straight_in() {
    let numbers = || {
        Pipeline::new()
            .try_map(|line: String| line.parse::<u64>().map_err(permanent))
            .with(Stage::named("parse").on_failure(OnFailure::Skip))
            .reduce(|| 0, |a, b| a + b)
    };
    let whole: &[u8] = b"1\ntwo\n3\n";
    assert_eq!(numbers().try_run_blocking(whole.lines()).unwrap(), 4);
    let outcome = numbers().try_run_blocking_outcome(whole.lines()).unwrap();
    assert_eq!((outcome.value, outcome.failures[0].item), (4, Some(1)));
    let broken: &[u8] = b"1\n\xff\n3\n";
    // An error of the input is not an item that may be left out.
    let error = numbers().try_run_blocking(broken.lines()).unwrap_err();
    let Error::Input { item, source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(item, 1);
    let source = source.downcast::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::InvalidData);
    let outcome = numbers().try_run_blocking_outcome(broken.lines());
    assert!(matches!(outcome, Err(Error::Input { item: 1, .. })));
}

#[tokio::test(start_paused = true)]
async fn every_error_is_taken_that_the_question_mark_takes() {
    let texts = [
        sum().try_run([Err("text")]).await,
        sum().try_run([Err("text".to_owned())]).await,
        sum().try_run([Err(BoxError::from("text"))]).await,
        sum().try_run([Err(std::io::Error::other("text"))]).await,
    ];
    for ended in texts {
        let error = ended.unwrap_err();
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "text"
        );
    }
}

/// Of the run's failure and the input's error, the one that comes first is returned.
#[tokio::test(start_paused = true)]
async fn a_run_that_has_failed_does_not_wait_for_the_error_of_its_input() {
    let picky = Pipeline::new()
        .then(|n: u64| async move {
            match n {
                7 => Err(permanent("seven")),
                n => Ok(n),
            }
        })
        .with(Stage::named("picky").packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let broken = stream::once(async {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        Err(unplugged())
    });
    let items = stream::iter((0..10).map(Ok)).chain(broken);
    let error = soon(picky.try_run_stream(items)).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    let error = soon(picky.try_run([Ok(7), Err(unplugged())])).await;
    assert_broken_at(1, &error.unwrap_err(), "one call");
}

#[tokio::test(start_paused = true)]
async fn everything_is_dropped_with_the_run() {
    let token = Arc::new(());
    let count = |_: (u64, Tracked)| 1u64;
    let counter = Pipeline::new()
        .map(count)
        .with(Stage::named("count").packet_size(PACKET as u32))
        .reduce(|| 0, |a, b| a + b);
    for place in PLACES {
        let tracked = || Tracked(Some(Arc::clone(&token)));
        let items = broken_at(place).map(|item| item.map(|n| (n, tracked())));
        let error = soon(counter.try_run(items)).await.unwrap_err();
        assert_broken_at(place, &error, "tracked");
        // The worker's tasks are dropped by the runtime, its jobs by their threads.
        while Arc::strong_count(&token) > 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// A value that shows whether it still exists.
#[derive(Clone)]
struct Tracked(#[allow(dead_code, reason = "counted by its pointer")] Option<Arc<()>>);

impl serde::Serialize for Tracked {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for Tracked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(|()| Self(None))
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_panics_does_so_in_the_caller() {
    let items = || {
        (0..100u64).map(|n| {
            if n == 50 {
                panic!("item 50")
            } else {
                Ok::<_, Unplugged>(n)
            }
        })
    };
    let of_iterator = tokio::spawn(async move { sum().try_run(items()).await });
    assert!(of_iterator.await.unwrap_err().is_panic());
    let of_stream = tokio::spawn(async move { sum().try_run_stream(stream::iter(items())).await });
    assert!(of_stream.await.unwrap_err().is_panic());
}
