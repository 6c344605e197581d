//! The algorithm that this library grew from, in a few dozen lines, under the same faults of the
//! same queues: each mapped packet is put into a table, and a reducer takes any two packets, writes
//! their sum and deletes both, until one packet stands for the whole array. It has no poisonous
//! items and no cancels, and need not keep any order: it only has to add.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use catchment::Result;
use catchment::backends::memory::MemoryQueues;
use catchment::queue::{Outgoing, Queue, QueueOptions, Queues};
use catchment::testing::faults::{Chaos, Rates};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::simulation::{Deaths, Report, count, on_a_paused_clock};

/// The same time as ours has.
const STUCK: Duration = Duration::from_secs(48 * 60 * 60);

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Packet {
    id: u64,
    contains: u64,
    value: u64,
}

/// The packets, and the result once there is one.
type Table = (BTreeMap<u64, Packet>, Option<u64>);

#[derive(Clone)]
struct World {
    chaos: Chaos,
    to_map: Arc<dyn Queue>,
    to_reduce: Arc<dyn Queue>,
    table: Arc<Mutex<Table>>,
    length: u64,
    deaths: Deaths,
}

pub(crate) fn simulate(seed: u64) -> Report {
    on_a_paused_clock(seed, play(seed))
}

async fn play(seed: u64) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    let chaos = Chaos::new(random.u64(..), Rates::default());
    let memory = Arc::new(MemoryQueues::new());
    let open = async |name| match memory.open(name, &QueueOptions::default()).await {
        Ok(queue) => queue,
        Err(error) => panic!("{error}"),
    };
    let world = World {
        to_map: chaos.queue("map", open("map").await),
        to_reduce: chaos.queue("reduce", open("reduce").await),
        chaos,
        table: Arc::default(),
        length: random.u64(1..40),
        deaths: Deaths::default(),
    };
    let mut crowd = JoinSet::new();
    for _ in 0..random.u32(1..=3) {
        crowd.spawn(workers(
            world.clone(),
            fastrand::Rng::with_seed(random.u64(..)),
        ));
    }
    crowd.spawn(submitter(
        world.clone(),
        fastrand::Rng::with_seed(random.u64(..)),
    ));
    // After a while, a worker that is never killed.
    sleep(Duration::from_secs(random.u64(60..1_200))).await;
    crowd.spawn(work(world.clone()));
    let result = async {
        loop {
            if let Some(result) = world.table(|table| table.1) {
                return result;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut report = Report {
        runs: 1,
        ..Report::default()
    };
    match timeout(STUCK, result).await {
        Ok(sum) => report.wrong += u64::from(sum != world.length * (world.length + 1)),
        Err(_) => report.stuck += 1,
    }
    report.faults = world.chaos.counts();
    if let Ok(deaths) = world.deaths.lock() {
        report.faults.extend(deaths.clone());
    }
    report
}

impl World {
    fn table<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call on the table, under the same faults as one on a queue, until it succeeds.
    async fn call<T: Send>(&self, change: impl Fn(&mut Table) -> T + Send + Sync) -> T {
        loop {
            let call = async { Ok(self.table(&change)) };
            if let Ok(value) = self.chaos.disturb("table", call).await {
                return value;
            }
        }
    }

    async fn map(&self, body: &Bytes) -> Result<()> {
        if let Ok(packet) = serde_json::from_slice::<Packet>(body) {
            let value = packet.value * 2;
            self.call(|(packets, _)| packets.insert(packet.id, Packet { value, ..packet }))
                .await;
            self.to_reduce.send(vec![Outgoing::from("go")]).await?;
        }
        Ok(())
    }

    async fn reduce(&self) -> Result<()> {
        let found: Vec<Packet> = self
            .call(|(packets, _)| packets.values().copied().collect())
            .await;
        if let Some(whole) = found.iter().find(|packet| packet.contains >= self.length) {
            let value = whole.value;
            self.call(move |(_, result)| *result = Some(value)).await;
        } else if let [a, b, ..] = found.as_slice() {
            let sum = Packet {
                id: fastrand::u64(..),
                contains: a.contains + b.contains,
                value: a.value + b.value,
            };
            self.call(|(packets, _)| packets.insert(sum.id, sum)).await;
            for id in [a.id, b.id] {
                self.call(|(packets, _)| packets.remove(&id)).await;
            }
            self.to_reduce.send(vec![Outgoing::from("go")]).await?;
        }
        Ok(())
    }
}

/// Works until it is dropped.
async fn work(world: World) {
    let serve = async |queue: &Arc<dyn Queue>, is_map: bool| loop {
        let received = queue.receive(1, Duration::from_secs(20)).await;
        for delivery in received.unwrap_or_default() {
            let done = match is_map {
                true => world.map(&delivery.body).await,
                false => world.reduce().await,
            };
            if done.is_ok() {
                // If this fails, the message is delivered again.
                drop(queue.acknowledge(vec![delivery.receipt]).await);
            }
        }
        sleep(Duration::from_millis(10)).await;
    };
    futures::join!(serve(&world.to_map, true), serve(&world.to_reduce, false));
}

async fn workers(world: World, mut random: fastrand::Rng) {
    loop {
        let life = Duration::from_millis(random.u64(500..120_000));
        drop(timeout(life, work(world.clone())).await);
        count(&world.deaths, "workers that died");
        sleep(Duration::from_millis(random.u64(0..20_000))).await;
    }
}

/// Sends all packets, dies on the way, and sends them again.
async fn submitter(world: World, mut random: fastrand::Rng) {
    loop {
        let send = async {
            for id in 1..=world.length {
                let packet = Packet {
                    id,
                    contains: 1,
                    value: id,
                };
                let body = serde_json::to_vec(&packet).unwrap_or_default();
                while world.to_map.send(vec![body.clone().into()]).await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let life = match random.bool() {
            true => Duration::from_millis(random.u64(0..10_000)),
            false => STUCK,
        };
        if timeout(life, send).await.is_ok() {
            return;
        }
        count(&world.deaths, "submitters that died");
        sleep(Duration::from_millis(random.u64(0..60_000))).await;
    }
}
