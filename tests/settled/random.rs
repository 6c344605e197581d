//! Random runs over a backend that repeats, reorders and fails: once a run is settled, nothing in it changes any more.

use catchment::testing::faults::{Chaos, Rates};
use catchment::{Backend, BoxError, Combine, Context, Items};

use super::*;

/// A number below 100 that depends on both.
fn draw(seed: u64, n: u64) -> u64 {
    let number = fastrand::Rng::with_seed(seed.wrapping_mul(10_007).wrapping_add(n)).u64(..);
    number % 100
}

/// Takes some time, and fails for a few of the numbers, always for the same ones.
async fn visit(seed: u64, n: u64, percent: u64) -> Result<u64, BoxError> {
    sleep(SECOND * draw(seed + 1, n) as u32).await;
    match draw(seed, n) < percent {
        true => Err(permanent("broken").into()),
        false => Ok(n),
    }
}

/// Adds, and fails for a few of the groups.
#[derive(Clone)]
struct Adds(u64);

impl Combine for Adds {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
        Ok(items.sum())
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        visit(self.0, group.into_iter().sum(), 4).await
    }
}

fn deploy(seed: u64, backend: Backend) -> catchment::Deployment<u64, u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pipeline = Pipeline::new()
        .then(move |n: u64| visit(seed + 2, n, 3))
        .with(
            Stage::named("first")
                .packet_size(rng.u32(1..4))
                .attempts(20),
        )
        .then(move |n: u64| visit(seed + 3, n, 3))
        .with(Stage::named("second").attempts(20))
        .combine(Adds(seed + 4))
        .with(Stage::named("sum").fan_in(rng.u32(2..5)).attempts(20))
        .then(move |n: u64| visit(seed + 5, n, 30))
        .with(Stage::named("after").attempts(20))
        .flat_map(|n: u64| [n, n])
        .with(Stage::named("twice").attempts(20))
        .combine(Adds(seed + 6))
        .with(Stage::named("again").attempts(20))
        .then(move |n: u64| visit(seed + 7, n, 30))
        .with(Stage::named("last").attempts(20));
    pipeline.deploy("random", backend).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_settled_run_does_not_change_any_more() {
    let mut rates = Rates::default();
    (rates.stalled, rates.heartbeat_lost) = (0.0, 0.0);
    let (mut failed, mut done) = (0, 0);
    for seed in 0..24 {
        let store = Store::new();
        let chaos = Chaos::new(seed, rates);
        let backend = Backend::new(
            chaos.queues(store.queues.clone()),
            chaos.scratchpad(store.scratchpad.clone()),
        );
        let worker = deploy(seed, backend).worker().start();
        let deployment = deploy(seed, store.backend());
        let length = fastrand::Rng::with_seed(seed).u64(0..70);
        let run = deployment.submit(0..length).await.unwrap();
        let status = soon(run.settled()).await.unwrap();
        assert!(status.settled, "seed {seed}");
        sleep(20 * MINUTE).await;
        let later = run.status().await.unwrap();
        let seen = |status: &Status| {
            let Status {
                state,
                items_done,
                packets_done,
                messages_failed,
                settled,
                ..
            } = *status;
            (state, items_done, packets_done, messages_failed, settled)
        };
        assert_eq!(seen(&later), seen(&status), "seed {seed}");
        match status.state {
            RunState::Done => done += 1,
            _ => failed += 1,
        }
        worker.shutdown().await;
    }
    assert!(done > 0 && failed > 10, "{done} done, {failed} failed");
}
