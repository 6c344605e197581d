//! What one would write by hand in an afternoon: threads that take messages off a bounded `flume` channel. A message is
//! bytes, a vector of items encoded, as it would be if it were to leave the process. With one hop a worker decodes, maps
//! and sums, and gives back the sum of the message. With two it encodes what it has mapped and sends it on to a thread
//! that reduces; in the job `fetch` the first hop waits and that thread maps too. There are two workers, except where items block. The threads stay from one run to the next.

use std::thread;

use anyhow::{Result, bail};
use flume::{Receiver, Sender};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{IN_FLIGHT, Run, chunks, with_task};
use crate::job::{Job, Kind};
use crate::task::Task;

const WORKERS: usize = 2;
/// Messages that a channel has room for: with less, threads wait for each other more than they work.
const ROOM_FOR_ITEMS: usize = 4_096;
const ROOM_FOR_CHUNKS: usize = 64;

#[derive(Clone, Copy)]
pub(super) enum Codec {
    Json,
    Postcard,
}

#[derive(Clone, Copy)]
pub(super) struct Pool {
    codec: Codec,
    chunk: usize,
    hops: u32,
}

impl Pool {
    pub(super) const fn new(codec: Codec, chunk: usize, hops: u32) -> Self {
        Self { codec, chunk, hops }
    }
}

pub(super) fn prepare(job: &Job, pool: Pool) -> Result<Run> {
    let workers = match job.kind {
        Kind::Sleep | Kind::Fetch => IN_FLIGHT,
        _ => WORKERS,
    };
    with_task!(job, |task| Ok(run(task, pool, workers)))
}

fn run<T: Task>(task: T, pool: Pool, workers: usize) -> Run {
    let room = match pool.chunk {
        1 => ROOM_FOR_ITEMS,
        _ => ROOM_FOR_CHUNKS,
    };
    let (work, messages) = flume::bounded(room);
    // Sums are few and small, and a bound here could block who sends while he is the one to receive.
    let (sums, arrived) = flume::unbounded();
    let mapped = (pool.hops == 2).then(|| {
        let (mapped, arrived) = flume::bounded(room);
        let sums = sums.clone();
        thread::spawn(move || reduce::<T>(pool.codec, &arrived, &sums));
        mapped
    });
    for _ in 0..workers {
        let (messages, sums, mapped) = (messages.clone(), sums.clone(), mapped.clone());
        thread::spawn(move || match mapped {
            Some(mapped) => map(task, pool.codec, &messages, &mapped, &sums),
            None => map_and_sum(task, pool.codec, &messages, &sums),
        });
    }
    Box::new(move |input| {
        let (mut sent, mut total) = (0_usize, 0_i64);
        for items in chunks(T::items(input), pool.chunk) {
            work.send(pool.codec.encode(&items)?)?;
            sent += 1;
            for sum in arrived.try_iter() {
                total = total.wrapping_add(sum?);
                sent -= 1;
            }
        }
        for sum in arrived.iter().take(sent) {
            total = total.wrapping_add(sum?);
            sent -= 1;
        }
        match sent {
            0 => Ok(total),
            missing => bail!("{missing} messages have no sum"),
        }
    })
}

fn map_and_sum<T: Task>(
    task: T,
    codec: Codec,
    messages: &Receiver<Vec<u8>>,
    sums: &Sender<Result<i64>>,
) {
    for message in messages {
        let items = codec.decode::<Vec<T::Item>>(&message);
        if sums.send(items.map(|items| task.sum(items))).is_err() {
            return;
        }
    }
}

fn map<T: Task>(
    task: T,
    codec: Codec,
    messages: &Receiver<Vec<u8>>,
    mapped: &Sender<Vec<u8>>,
    sums: &Sender<Result<i64>>,
) {
    for message in messages {
        let values = codec.decode::<Vec<T::Item>>(&message).and_then(|items| {
            let values: Vec<T::Value> = task.values(items.into_iter()).collect();
            codec.encode(&values)
        });
        let sent = match values {
            Ok(values) => mapped.send(values).is_ok(),
            Err(error) => sums.send(Err(error)).is_ok(),
        };
        if !sent {
            return;
        }
    }
}

fn reduce<T: Task>(codec: Codec, mapped: &Receiver<Vec<u8>>, sums: &Sender<Result<i64>>) {
    for message in mapped {
        let values = codec.decode::<Vec<T::Value>>(&message);
        let sum = values.map(|values| values.into_iter().fold(0, T::add));
        if sums.send(sum).is_err() {
            return;
        }
    }
}

impl Codec {
    fn encode<V: Serialize>(self, value: &V) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Json => serde_json::to_vec(value)?,
            Self::Postcard => postcard::to_stdvec(value)?,
        })
    }

    fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V> {
        Ok(match self {
            Self::Json => serde_json::from_slice(bytes)?,
            Self::Postcard => postcard::from_bytes(bytes)?,
        })
    }
}
