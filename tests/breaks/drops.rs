//! Values whose drop panics, in the middle of the engine's own work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use catchment::{BoxError, Context, Emitter, Execution, Map, Pipeline, Stage};
use serde::{Deserialize, Serialize};

use crate::skipping;
use crate::store::soon;

/// Panics once as it is dropped, if it is armed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bomb {
    n: u64,
    #[serde(skip)]
    armed: Option<Arc<AtomicBool>>,
}

impl Bomb {
    fn armed(n: u64) -> Self {
        let armed = Some(Arc::new(AtomicBool::new(true)));
        Self { n, armed }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(armed) = &self.armed
            && !std::thread::panicking()
            && armed.swap(false, SeqCst)
        {
            panic!("dropped");
        }
    }
}

/// Item 20 emits a bomb and panics, at its first call.
struct Emits(AtomicU32);

impl Map for Emits {
    type Input = u64;
    type Output = Bomb;

    async fn map(
        &self,
        n: u64,
        _: &Context,
        output: &mut Emitter<'_, Bomb>,
    ) -> Result<(), BoxError> {
        if n == 20 && self.0.fetch_add(1, SeqCst) == 0 {
            output.push(Bomb::armed(n));
            panic!("item 20");
        }
        output.push(Bomb { n, armed: None });
        Ok(())
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

fn numbers(mut bombs: Vec<Bomb>) -> Vec<u64> {
    bombs.drain(..).map(|bomb| bomb.n).collect()
}

/// Once a fault: items that share a list with one whose output panics as it is dropped are lost, and so is all that comes after
/// that list; the run is done.
#[tokio::test(start_paused = true)]
async fn an_output_that_panics_as_it_is_dropped_loses_no_neighbours() {
    let pipeline = Pipeline::new()
        .stage(Emits(AtomicU32::new(0)))
        .with(skipping(5).packet_size(200))
        .collect();
    let outcome = soon(pipeline.run_outcome(0..200)).await.unwrap();
    assert_eq!((outcome.contains, outcome.skipped), (200, 0));
    assert_eq!(numbers(outcome.value), (0..200).collect::<Vec<_>>());
}

/// Once a fault: an item has two values. The output of its first one is dropped when all is put together, and panics: what the
/// packet's other items have become is lost, and the run is done.
#[tokio::test(start_paused = true)]
async fn an_output_that_panics_when_pieces_are_put_together_loses_nothing() {
    let calls = AtomicU32::new(0);
    let pipeline = Pipeline::new()
        .flat_map(|n: u64| [(n, 0), (n, 1)])
        .with(Stage::named("spread").packet_size(40))
        .try_map(move |(n, value)| match (n, value) {
            (20, 0) if calls.load(SeqCst) == 0 => Ok(Bomb::armed(40)),
            (20, 1) if calls.fetch_add(1, SeqCst) == 0 => Err("once"),
            _ => Ok(Bomb {
                n: 2 * n + value,
                armed: None,
            }),
        })
        .with(skipping(5))
        .collect();
    let outcome = soon(pipeline.run_outcome(0..40)).await.unwrap();
    assert_eq!((outcome.contains, outcome.skipped), (40, 0));
    assert_eq!(numbers(outcome.value), (0..80).collect::<Vec<_>>());
}

/// An error whose drop panics.
#[derive(Debug)]
struct Explodes(Bomb);

impl std::fmt::Display for Explodes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "explodes {}", self.0.n)
    }
}

impl std::error::Error for Explodes {}

/// Errors are dropped when the run is over, or with what they belong to.
#[tokio::test(start_paused = true)]
async fn an_error_that_panics_as_it_is_dropped_loses_nothing() {
    let calls = AtomicU32::new(0);
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match n {
            20 | 30 if calls.fetch_add(1, SeqCst) < 2 => Err(Explodes(Bomb::armed(n))),
            n => Ok(n),
        })
        .with(skipping(5).packet_size(40))
        .collect();
    let outcome = soon(pipeline.run_outcome(0..40)).await.unwrap();
    assert_eq!(outcome.value, (0..40).collect::<Vec<_>>());
}
