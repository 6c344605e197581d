//! How far away the services are, on the paused clock, and how many requests they were asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::sleep;

/// Milliseconds that a request takes, drawn evenly from here to there.
///
/// - SQS: AWS reckons with 20 ms from an EC2 client in the same region ("Increasing throughput using horizontal
///   scaling and action batching", Amazon SQS Developer Guide); that is the longest here.
/// - DynamoDB: AWS promises single-digit milliseconds within the service ("Understanding Amazon DynamoDB latency", AWS
///   Database Blog), and the way there is to be added.
const SQS: (u64, u64) = (10, 20);
const DYNAMODB: (u64, u64) = (5, 10);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Sqs,
    DynamoDb,
}

/// The way to the services. Cloning it gives the same one.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    requests: BTreeMap<&'static str, u64>,
}

impl Wire {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            requests: BTreeMap::new(),
        })))
    }

    /// One request: its effect comes half-way. Whole milliseconds, as tokio's clock has them.
    pub(crate) async fn request<T>(
        &self,
        service: Service,
        kind: &'static str,
        effect: impl Future<Output = T>,
    ) -> T {
        let (there, back) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *state.requests.entry(kind).or_default() += 1;
            let (shortest, longest) = match service {
                Service::Sqs => SQS,
                Service::DynamoDb => DYNAMODB,
            };
            let whole = state.random.u64(shortest..=longest);
            (whole / 2, whole - whole / 2)
        };
        sleep(Duration::from_millis(there)).await;
        let value = effect.await;
        sleep(Duration::from_millis(back)).await;
        value
    }

    /// Several of them, so many at once.
    pub(crate) async fn side_by_side<T, E>(
        most: usize,
        requests: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
    ) -> Result<Vec<T>, E> {
        let requests = futures::stream::iter(requests);
        requests.buffer_unordered(most).try_collect().await
    }

    /// How many requests there were of each kind.
    pub(crate) fn requests(&self) -> BTreeMap<&'static str, u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.clone()
    }
}
