//! paladin-core with its in-memory runtime, as its front page shows it: an indexed stream, mapped by an operation and
//! folded with a monoid. It encodes with postcard, which is its default. Its own workers are three, its default, except
//! where items block. A worker runs one operation at a time, on a thread for blocking work. It has no batches: chunks are
//! made by hand, and an operation over a chunk maps and sums.

use anyhow::Result;
use paladin::RemoteExecute;
use paladin::config::{self, Config};
use paladin::directive::Directive;
use paladin::directive::indexed_stream::from_into_iterator;
use paladin::operation::{Monoid, Operation};
use paladin::runtime::Runtime;
use serde::{Deserialize, Serialize};

use super::{IN_FLIGHT, Run, chunks, runtime, with_task};
use crate::job::{Job, Kind};
use crate::task::{Chain, Double, Fetch, Nap, Records, Task, Words, Work};

paladin::registry!();

/// An operation is a type without parameters: each task has one over an item and one over a chunk.
trait Operations: Task {
    type Each: Operation<Input = Self::Item, Output = i64>;
    type Chunk: Operation<Input = Vec<Self::Item>, Output = i64>;

    fn each(self) -> Self::Each;
    fn chunk(self) -> Self::Chunk;
}

macro_rules! operations {
    ($task:ty, $each:ident, $chunk:ident) => {
        #[derive(Serialize, Deserialize, RemoteExecute)]
        struct $each($task);

        impl Operation for $each {
            type Input = <$task as Task>::Item;
            type Output = i64;

            fn execute(&self, item: Self::Input) -> paladin::operation::Result<i64> {
                Ok(self.0.apply(item))
            }
        }

        #[derive(Serialize, Deserialize, RemoteExecute)]
        struct $chunk($task);

        impl Operation for $chunk {
            type Input = Vec<<$task as Task>::Item>;
            type Output = i64;

            fn execute(&self, items: Self::Input) -> paladin::operation::Result<i64> {
                Ok(self.0.sum(items))
            }
        }

        impl Operations for $task {
            type Each = $each;
            type Chunk = $chunk;

            fn each(self) -> $each {
                $each(self)
            }

            fn chunk(self) -> $chunk {
                $chunk(self)
            }
        }
    };
}

operations!(Double, DoubleEach, DoubleChunk);
operations!(Work, WorkEach, WorkChunk);
operations!(Nap, NapEach, NapChunk);
operations!(Words, WordsEach, WordsChunk);
operations!(Records, RecordsEach, RecordsChunk);
operations!(Chain, ChainEach, ChainChunk);
operations!(Fetch, FetchEach, FetchChunk);

#[derive(Serialize, Deserialize, RemoteExecute)]
struct Sum;

impl Monoid for Sum {
    type Elem = i64;

    fn empty(&self) -> i64 {
        0
    }

    fn combine(&self, a: i64, b: i64) -> paladin::operation::Result<i64> {
        Ok(a.wrapping_add(b))
    }
}

pub(super) fn prepare(job: &Job, chunk: usize) -> Result<Run> {
    let workers = (job.kind == Kind::Sleep).then_some(IN_FLIGHT);
    with_task!(job, |task| run(task, workers, chunk))
}

fn run<T: Operations>(task: T, workers: Option<usize>, chunk: usize) -> Result<Run> {
    let config = Config {
        runtime: config::Runtime::InMemory,
        num_workers: workers,
        ..Config::default()
    };
    let runtime = runtime()?;
    let cluster = runtime.block_on(Runtime::from_config(&config, register()))?;
    let (each, over_chunk) = (task.each(), task.chunk());
    Ok(Box::new(move |input| {
        let items = T::items(input);
        runtime.block_on(async {
            match chunk {
                1 => {
                    let values = from_into_iterator(items).map(&each);
                    values.fold(&Sum).run(&cluster).await
                }
                _ => {
                    let sums = from_into_iterator(chunks(items, chunk)).map(&over_chunk);
                    sums.fold(&Sum).run(&cluster).await
                }
            }
        })
    }))
}
