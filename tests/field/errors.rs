//! Errors, panics and futures that make trouble once more when they are written down or dropped.

use std::error::Error as StdError;
use std::fmt;

use catchment::OnFailure;

use super::*;

/// An error whose text is what its function writes.
#[derive(Debug)]
struct Odd {
    write: fn(&mut fmt::Formatter<'_>) -> fmt::Result,
    is_its_own_cause: bool,
}

impl fmt::Display for Odd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.write)(formatter)
    }
}

impl StdError for Odd {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.is_its_own_cause.then_some(self)
    }
}

/// Panics when it is dropped, unless it was defused.
struct Bomb {
    is_live: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.is_live && !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

/// Under each policy, in a run and deployed: item 1 fails with this error, and 0, 2 and 3 are as good as ever.
async fn only_item_1_fails(items: fn() -> Pipeline<u64>, error: &str) {
    let summed = |policy| {
        let stage = Stage::named("map").packet_size(2).attempts(2);
        let mapped = items().with(stage.on_failure(policy));
        mapped.reduce(|| 0, |a, b| a + b)
    };
    let deployed = |policy| {
        let backend = Store::new().backend();
        summed(policy).deploy("odd", backend).unwrap()
    };
    for ended in [
        soon(summed(OnFailure::Fail).run(0..4)).await,
        outcome(&deployed(OnFailure::Fail), 0..4).await,
    ] {
        let failure = failure(ended);
        assert_eq!(failure.item, Some(1), "{failure:?}");
        assert_eq!(failure.error, error);
    }
    let skipped = soon(summed(OnFailure::Skip).run(0..4)).await;
    assert_eq!(skipped.unwrap(), 5);
    let skipped = outcome(&deployed(OnFailure::Skip), 0..4).await;
    assert_eq!(skipped.unwrap(), 5);
}

fn fails(n: u64, error: Odd) -> Result<u64, Odd> {
    if n == 1 { Err(error) } else { Ok(n) }
}

/// <https://github.com/Textualize/textual/issues/2588>: the text of what failed raises, and what was to catch it falls.
/// <https://github.com/celery/celery/issues/6990>: an exception that cannot be written down ends the worker.
#[tokio::test(start_paused = true)]
async fn an_error_without_a_text_is_a_failure() {
    const NO_TEXT: Odd = Odd {
        write: |_| Err(fmt::Error),
        is_its_own_cause: false,
    };
    const PANICS: Odd = Odd {
        write: |_| panic!("no text"),
        is_its_own_cause: false,
    };
    let text = "an error whose text cannot be written";
    let then = || Pipeline::new().then(|n| async move { fails(n, NO_TEXT) });
    only_item_1_fails(then, text).await;
    only_item_1_fails(|| Pipeline::new().try_map(|n| fails(n, NO_TEXT)), text).await;
    only_item_1_fails(|| Pipeline::new().try_map(|n| fails(n, PANICS)), text).await;
}

/// <https://github.com/rollbar/pyrollbar/issues/318>: a server hogs processor and memory over an exception raised from itself.
#[tokio::test(start_paused = true)]
async fn an_error_that_is_its_own_cause_is_a_failure() {
    const CIRCULAR: Odd = Odd {
        write: |to| to.write_str("round and round"),
        is_its_own_cause: true,
    };
    let text = "round and round";
    let then = || Pipeline::new().then(|n| async move { fails(n, CIRCULAR) });
    only_item_1_fails(then, text).await;
    only_item_1_fails(|| Pipeline::new().try_map(|n| fails(n, CIRCULAR)), text).await;
}

/// <https://github.com/rust-lang/rust/pull/85927>: what was thrown panics again when it is dropped.
#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_is_a_failure() {
    fn thrown(n: u64) -> u64 {
        match n {
            1 => std::panic::panic_any(Bomb { is_live: true }),
            n => n,
        }
    }
    let text = "panicked: (no message)";
    only_item_1_fails(
        || Pipeline::new().then(|n| async move { ok(thrown(n)).await }),
        text,
    )
    .await;
    only_item_1_fails(|| Pipeline::new().map(thrown), text).await;
}

/// <https://github.com/tokio-rs/tokio/pull/216>: what a future holds panics when it is dropped, in the task of all others.
#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_given_up_has_timed_out() {
    let items = || {
        let never_ends = |n: u64| async move {
            let mut bomb = Bomb { is_live: true };
            if n == 1 {
                std::future::pending::<()>().await;
            }
            bomb.is_live = false;
            ok(n).await
        };
        Pipeline::new()
            .then(never_ends)
            .with(Stage::new().timeout(SECOND))
    };
    only_item_1_fails(items, "timed out: no end after 1s").await;
}
