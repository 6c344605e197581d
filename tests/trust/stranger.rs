//! A stranger: reads what is on a queue, and writes messages of its own there.

use std::sync::Arc;
use std::time::Duration;

use catchment::Deployment;
use catchment::pipeline::One;
use catchment::queue::Queue;
use catchment::{Pipeline, Run, Stage};
use serde_json::{Value, json};

use crate::common::{Store, soon};

pub(crate) type Adder = Deployment<i64, i64>;

/// Doubles and adds up, one item per packet.
pub(crate) fn doubles() -> Pipeline<i64, i64, One> {
    Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("double").packet_size(1).concurrency(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
}

pub(crate) fn adder(store: &Store) -> Adder {
    doubles().deploy("adder", store.backend()).unwrap()
}

/// A queue as the stranger has it.
pub(crate) struct Tapped(Arc<dyn Queue>);

impl Tapped {
    pub(crate) async fn new(store: &Store, queue: &str) -> Self {
        Self(store.queue(queue).await)
    }

    /// Takes all messages off the queue.
    pub(crate) async fn take(&self) -> Vec<Value> {
        let mut taken = Vec::new();
        loop {
            let received = self.0.receive(100, Duration::ZERO).await.unwrap();
            if received.is_empty() {
                return taken;
            }
            for delivery in received {
                taken.push(serde_json::from_slice(&delivery.body).unwrap());
                self.0.acknowledge(vec![delivery.receipt]).await.unwrap();
            }
        }
    }

    /// Messages as they are on the queue, which stay there.
    pub(crate) async fn read(&self) -> Vec<Value> {
        let received = self.0.receive(100, Duration::ZERO).await.unwrap();
        let messages = received.iter();
        let messages = messages.map(|delivery| serde_json::from_slice(&delivery.body).unwrap());
        let messages = messages.collect();
        let receipts = received.into_iter().map(|delivery| delivery.receipt);
        let released = self.0.release(receipts.collect(), Duration::ZERO).await;
        released.unwrap();
        messages
    }

    pub(crate) async fn put(&self, messages: &[Value]) {
        let bodies = messages.iter();
        let bodies = bodies.map(|message| message.to_string().into_bytes().into());
        self.0.send(bodies.collect()).await.unwrap();
    }

    /// Why the messages in the dead-letter queue are there.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        let letters = self.0.dead_letters(None, 100).await.unwrap();
        letters
            .items
            .into_iter()
            .map(|letter| letter.reason)
            .collect()
    }
}

/// The message with these fields in place of its own; those that are `null` are left out.
pub(crate) fn changed(message: &Value, fields: Value) -> Value {
    let mut message = message.clone();
    let known = message.as_object_mut().unwrap();
    for (field, value) in fields.as_object().unwrap() {
        match value.is_null() {
            true => known.remove(field),
            false => known.insert(field.clone(), value.clone()),
        };
    }
    message
}

/// A message of the run as it would be written by hand after reading one of it: everything that says whose it is, and
/// `fields`.
pub(crate) fn written(seen: &Value, fields: Value) -> Value {
    let mut message = json!({});
    for field in ["version", "deployment", "arrayId", "generation", "fanIn"] {
        if let Some(value) = seen.get(field) {
            message[field] = value.clone();
        }
    }
    changed(&message, fields)
}

/// Works on everything that is there, and returns the run's result after that.
pub(crate) async fn worked_off<I, R>(
    deployment: &Deployment<I, R>,
    store: &Store,
    run: &Run<R>,
) -> R
where
    I: catchment::Data,
    R: Send + 'static,
{
    let worker = deployment.worker().start();
    soon(async {
        loop {
            let depth = store.depth(deployment).await;
            if depth.ready + depth.in_flight + depth.delayed == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    worker.shutdown().await;
    soon(run.result()).await.expect("the result counts")
}
