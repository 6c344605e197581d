//! What the library is given to do.

use std::convert::Infallible;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use catchment::pipeline::One;
use catchment::{Backend, Pipeline, Stage};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bill::Bill;
use crate::emulators;
use crate::meter::Meter;
use crate::pace::pace;

/// What one item is, and what the user's function does with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    /// Numbers: doubled and added up.
    Tiny,
    /// Texts of 10 KB: passed on, and the largest is kept, so that partial results have 10 KB, too.
    Large,
    /// Numbers, by an asynchronous function that takes this long.
    Waiting(Duration),
    /// Numbers, by a function that keeps its thread for this long.
    Blocking(Duration),
}

/// What may be set otherwise than by default.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Setting {
    /// Puts the services as far away as AWS says they are: SQS 10 to 20 ms a request, DynamoDB 5 to 10 ms.
    #[arg(long)]
    pub(crate) far: bool,
    /// Messages that the worker holds in waiting [default: the library's]
    #[arg(long, value_name = "MESSAGES")]
    pub(crate) prefetch: Option<usize>,
}

/// Of a large value.
pub(crate) const LARGE: usize = 10 * 1024;

impl Values {
    /// Bytes of a value as JSON, as far as the floor is concerned.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Large => LARGE as u64 + 2,
            _ => 7,
        }
    }
}

impl Display for Values {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tiny => formatter.write_str("numbers"),
            Self::Large => formatter.write_str("texts of 10 KB"),
            Self::Waiting(time) => write!(formatter, "numbers, each waits {time:?}"),
            Self::Blocking(time) => write!(formatter, "numbers, each blocks {time:?}"),
        }
    }
}

/// Runs the library once, submitter, worker and waiter in this process, and returns what it took.
pub(crate) async fn run(
    values: Values,
    items: u64,
    packet_size: Option<u32>,
    setting: Setting,
) -> Result<Bill> {
    let stage = match packet_size {
        Some(size) => Stage::named("work").packet_size(size),
        None => Stage::named("work"),
    };
    let numbers = 1..=items;
    let sum = items * (items + 1);
    let add = |a: u64, b: u64| a + b;
    match values {
        Values::Tiny => {
            let done = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&done);
            let pipeline = Pipeline::new().map(move |n: u64| {
                count.fetch_add(1, Ordering::Relaxed);
                n * 2
            });
            let pipeline = pipeline.with(stage).reduce(|| 0, add);
            match packet_size {
                Some(1) if items > LONG_QUEUE => {
                    let numbers = Input::Paced(numbers, done);
                    measure(pipeline, numbers, sum, setting).await
                }
                _ => measure(pipeline, Input::At(numbers), sum, setting).await,
            }
        }
        Values::Waiting(time) => {
            let pipeline = Pipeline::new().then(move |n: u64| async move {
                tokio::time::sleep(time).await;
                Ok::<_, Infallible>(n * 2)
            });
            let pipeline = pipeline.with(stage);
            measure(pipeline.reduce(|| 0, add), Input::At(numbers), sum, setting).await
        }
        Values::Blocking(time) => {
            let pipeline = Pipeline::new().map(move |n: u64| {
                std::thread::sleep(time);
                n * 2
            });
            let pipeline = pipeline.with(stage);
            measure(pipeline.reduce(|| 0, add), Input::At(numbers), sum, setting).await
        }
        Values::Large => {
            let text = |n: u64| format!("{n:010}{:x<1$}", "", LARGE - 10);
            let pipeline = Pipeline::new().map(|text: String| text).with(stage);
            let pipeline = pipeline.reduce(String::new, |a: String, b: String| a.max(b));
            let texts = Input::At(numbers.map(text));
            measure(pipeline, texts, text(items), setting).await
        }
    }
}

/// Items, and how they come.
enum Input<V> {
    /// As fast as they are taken.
    At(V),
    /// So that the queue does not become long, by the number of items that have been worked on. Each request to ministack takes
    /// the longer the longer its queue is. Ten come at a time, so that the batches are as full as without.
    Paced(V, Arc<AtomicU64>),
}

/// A queue so long is kept from becoming longer.
const LONG_QUEUE: u64 = 10_000;
const SHORT_QUEUE: u64 = 2_000;
/// Messages that are sent together.
const BATCH: u64 = 10;

async fn measure<I, R, V>(
    pipeline: Pipeline<I, R, One>,
    items: Input<V>,
    expected: R,
    setting: Setting,
) -> Result<Bill>
where
    V: Iterator<Item = I>,
    I: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + PartialEq + Debug + Send + 'static,
{
    let meter = Meter::new(setting.far);
    let backend = Backend::aws(&emulators::metered(&meter).await?);
    let name = emulators::unique("price");
    let deployment = pipeline.deploy(&name, backend)?;
    deployment.provision().await?;
    meter.take();
    let before = deployment.requests().total();
    let worker = match setting.prefetch {
        Some(messages) => deployment.worker().prefetch(messages).start(),
        None => deployment.worker().start(),
    };
    let run = match items {
        Input::At(items) => deployment.submit(items).await?,
        Input::Paced(items, done) => {
            let items = pace(items, done, SHORT_QUEUE, BATCH);
            deployment.submit_stream(items).await?
        }
    };
    ensure!(run.result().await? == expected, "a wrong result");
    worker.shutdown().await;
    let bill = meter.take();
    let counted = deployment.requests().total() - before;
    ensure!(
        bill.total() == counted,
        "the library counted {counted} requests, and {} left the client",
        bill.total()
    );
    deployment.deprovision(&name).await?;
    Ok(bill)
}
