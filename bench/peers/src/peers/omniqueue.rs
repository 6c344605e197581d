//! omniqueue with its in-memory backend: JSON messages through one queue. It is a queue and no more: a task of ours sends,
//! another receives, and what is received is decoded, mapped, summed and acknowledged in tasks of tokio. Messages of one
//! item are received by as many as there are, each batch a task; a chunk is a message and a task. A queue is made once.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use omniqueue::Delivery;
use omniqueue::backends::{InMemoryBackend, InMemoryConsumer, InMemoryProducer};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{IN_FLIGHT, Run, chunks, runtime, with_task};
use crate::job::{Job, Kind};
use crate::task::{Task, nap};

/// The most messages received at once, and how long a receive waits for the first.
const BATCH: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(60);

type Consumer = Arc<Mutex<InMemoryConsumer>>;

pub(super) fn prepare(job: &Job, chunk: usize) -> Result<Run> {
    let runtime = runtime()?;
    let (producer, consumer) = runtime.block_on(InMemoryBackend::builder().build_pair())?;
    let (producer, consumer) = (Arc::new(producer), Arc::new(Mutex::new(consumer)));
    if job.kind == Kind::Sleep {
        return Ok(Box::new(move |input| {
            runtime.block_on(sleep(&producer, &consumer, input.n))
        }));
    }
    with_task!(job, |task| Ok(run(
        task, chunk, runtime, producer, consumer
    )))
}

fn run<T: Task>(
    task: T,
    chunk: usize,
    runtime: tokio::runtime::Runtime,
    producer: Arc<InMemoryProducer>,
    consumer: Consumer,
) -> Run {
    Box::new(move |input| {
        let n = input.n as usize;
        let items = T::items(input);
        let producer = Arc::clone(&producer);
        let consumer = Arc::clone(&consumer);
        runtime.block_on(async move {
            let sending = tokio::spawn(send::<T>(producer, items, chunk));
            let receiving = tokio::spawn(async move {
                let mut consumer = consumer.lock().await;
                receive(task, &mut consumer, n.div_ceil(chunk), chunk).await
            });
            sending.await??;
            receiving.await?
        })
    })
}

async fn send<T: Task>(
    producer: Arc<InMemoryProducer>,
    items: T::Items,
    chunk: usize,
) -> Result<()> {
    match chunk {
        1 => {
            for item in items {
                producer.send_serde_json(&item).await?;
            }
        }
        _ => {
            for items in chunks(items, chunk) {
                producer.send_serde_json(&items).await?;
            }
        }
    }
    Ok(())
}

/// Receives so many messages, and sums what the tasks make of them.
async fn receive<T: Task>(
    task: T,
    consumer: &mut InMemoryConsumer,
    mut messages: usize,
    chunk: usize,
) -> Result<i64> {
    let at_once = if chunk == 1 { BATCH } else { 1 };
    let mut tasks = JoinSet::new();
    let mut total = 0_i64;
    while messages > 0 {
        let batch = consumer
            .receive_all(at_once.min(messages), PATIENCE)
            .await?;
        messages -= batch.len();
        tasks.spawn(process(task, batch, chunk));
        while let Some(sum) = tasks.try_join_next() {
            total = total.wrapping_add(sum??);
        }
    }
    while let Some(sum) = tasks.join_next().await {
        total = total.wrapping_add(sum??);
    }
    Ok(total)
}

async fn process<T: Task>(task: T, batch: Vec<Delivery>, chunk: usize) -> Result<i64> {
    let mut total = 0_i64;
    for delivery in batch {
        let sum = match chunk {
            1 => task.apply(decode(&delivery)?),
            _ => task.sum(decode::<Vec<T::Item>>(&delivery)?),
        };
        total = total.wrapping_add(sum);
        acknowledge(delivery).await?;
    }
    Ok(total)
}

fn decode<V: serde::de::DeserializeOwned>(delivery: &Delivery) -> Result<V> {
    delivery.payload_serde_json()?.context("an empty message")
}

async fn acknowledge(delivery: Delivery) -> Result<()> {
    delivery.ack().await.map_err(|(error, _)| anyhow!(error))
}

/// So many deliveries wait at once.
async fn sleep(producer: &InMemoryProducer, consumer: &Consumer, n: i64) -> Result<i64> {
    let mut consumer = consumer.lock().await;
    for item in 1..=n {
        producer.send_serde_json(&item).await?;
    }
    let deliveries = stream::unfold(&mut *consumer, |consumer| async {
        Some((consumer.receive().await, consumer))
    });
    deliveries
        .take(n as usize)
        .map(|delivery| async {
            let delivery = delivery?;
            let value = nap(decode(&delivery)?).await;
            acknowledge(delivery).await?;
            Ok(value)
        })
        .buffer_unordered(IN_FLIGHT)
        .try_fold(0_i64, |sum, value| ready(Ok(sum.wrapping_add(value))))
        .await
}
