//! The library's side: one submitter and so many workers in this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_config::SdkConfig;
use catchment::{Backend, Deployment, Pipeline, Stage};
use futures::future::join_all;

use super::{Array, MOST_WAITING};
use crate::emulators;
use crate::pace::pace;

/// A deployment for one run. Polls of workers that have shut down go on for a while, and would take messages of a next run
/// on the same queues.
pub(crate) struct Library {
    array: Array,
    deployment: Deployment<u64, u64>,
    /// When the sum of all was there. All items are positive, so only the root's last addition makes it.
    summed: Arc<Mutex<Option<Instant>>>,
    /// Items that have been mapped.
    mapped: Arc<AtomicU64>,
}

/// What travels, as the library sends it.
pub(crate) struct Sample {
    pub(crate) message: String,
    pub(crate) partial: String,
}

pub(crate) struct Run {
    /// From the beginning of `submit` to the sum, which is written at once.
    pub(crate) took: Duration,
    /// Until `result` returned it.
    pub(crate) returned: Duration,
    pub(crate) requests: BTreeMap<String, u64>,
}

impl Library {
    pub(crate) async fn new(array: Array, config: &SdkConfig) -> Result<Self> {
        let summed = Arc::new(Mutex::new(None));
        let (watched, whole) = (Arc::clone(&summed), sum(array));
        let mapped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&mapped);
        let pipeline = Pipeline::new()
            .map(move |n: u64| {
                count.fetch_add(1, Ordering::Relaxed);
                n * 2
            })
            .with(Stage::named("work").packet_size(array.packet_size))
            .reduce(
                || 0,
                move |a, b| {
                    let sum = a + b;
                    if sum == whole {
                        let mut summed = watched.lock().unwrap_or_else(PoisonError::into_inner);
                        summed.get_or_insert_with(Instant::now);
                    }
                    sum
                },
            )
            .with(Stage::named("sum"));
        let deployment = pipeline.deploy(&emulators::unique("wire"), Backend::aws(config))?;
        deployment.provision().await?;
        Ok(Self {
            array,
            deployment,
            summed,
            mapped,
        })
    }

    /// Does a run, and keeps one of its messages and of its partial results.
    pub(crate) async fn sample(self, config: &SdkConfig) -> Result<Sample> {
        let run = self.deployment.submit(1..=self.array.items).await?;
        let sqs = aws_sdk_sqs::Client::new(config);
        let queue = format!("{}-work", self.deployment.name());
        let found = sqs.get_queue_url().queue_name(queue).send().await?;
        let received = sqs.receive_message().set_queue_url(found.queue_url);
        let received = received.visibility_timeout(0).send().await?;
        let messages = received.messages.unwrap_or_default();
        let message = messages.into_iter().find_map(|message| message.body);
        let worker = self.deployment.worker().start();
        ensure!(run.result().await? == sum(self.array), "a wrong sum");
        worker.shutdown().await;
        let dynamodb = aws_sdk_dynamodb::Client::new(config);
        let table = format!("{}-scratchpad", self.deployment.name());
        let scanned = dynamodb.scan().table_name(table).send().await?;
        // The first member of any group.
        let partial = scanned
            .items()
            .iter()
            .find_map(|item| item.get("s0")?.as_s().ok());
        self.remove().await?;
        Ok(Sample {
            message: message.context("there is no message on the queue")?,
            partial: partial.context("there is no group in the table")?.clone(),
        })
    }

    pub(crate) async fn run(self, workers: usize) -> Result<Run> {
        let summed = || self.summed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.deployment.requests().by_kind();
        let workers: Vec<_> = (0..workers)
            .map(|_| self.deployment.worker().start())
            .collect();
        // They have opened their queues and wait.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begin = Instant::now();
        let packet = u64::from(self.array.packet_size);
        let items = pace(
            1..=self.array.items,
            Arc::clone(&self.mapped),
            MOST_WAITING * packet,
            10 * packet,
        );
        let run = self.deployment.submit_stream(items).await?;
        ensure!(run.result().await? == sum(self.array), "a wrong sum");
        let returned = begin.elapsed();
        let end = summed().context("nobody has seen the sum")?;
        join_all(workers.into_iter().map(|worker| worker.shutdown())).await;
        let mut requests = self.deployment.requests().by_kind();
        for (kind, count) in &mut requests {
            *count -= before.get(kind).copied().unwrap_or(0);
        }
        requests.retain(|_, count| *count > 0);
        self.remove().await?;
        Ok(Run {
            took: end.duration_since(begin),
            returned,
            requests,
        })
    }

    async fn remove(&self) -> Result<()> {
        let name = self.deployment.name();
        self.deployment.deprovision(name).await?;
        Ok(())
    }
}

fn sum(array: Array) -> u64 {
    array.items * (array.items + 1)
}
