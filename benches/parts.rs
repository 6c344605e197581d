//! The engine's parts, each by itself, so that a regression has an address: `cargo bench`, or `cargo bench -- queue`.
//! What they make together, beside other libraries, is `scripts/bench peers`.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails is to stop")]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use catchment::Pipeline;
use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{Outgoing, Queue, QueueOptions, Queues};
use catchment::scratchpad::{
    Arrival, GroupId, Groups, Members, PacketPlan, RunKey, RunRecord, Runs,
};
use catchment::testing::{hostile, tree};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Nothing here has to wait: backends in memory answer at once.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

mod codec {
    use super::*;

    const ITEMS: usize = 1_000;

    /// A partial result of a thousand numbers: read, written, and read again. The numbers stay as they are.
    #[divan::bench]
    fn a_packet_there_and_back(bencher: Bencher) {
        let packet = serde_json::json!({
            "arrayId": "c0ffee",
            "packetId": "0/7",
            "arrayLength": 1_000_000,
            "packetContains": ITEMS,
            "packetValue": Vec::from_iter(0..ITEMS),
        });
        let bytes = packet.to_string();
        bencher.bench(|| hostile::packet(black_box(bytes.as_bytes())).unwrap());
    }

    /// A message of a thousand numbers: read, written, and read again.
    #[divan::bench]
    fn a_message_there_and_back(bencher: Bencher) {
        let body = block_on(async {
            let queues = MemoryQueues::new();
            submit(&queues, ITEMS as u64 * 1_000).await;
            first_of(&queues).await
        });
        bencher
            .counter(ItemsCount::new(ITEMS))
            .bench(|| hostile::message(black_box(&body)).unwrap());
    }

    async fn first_of(queues: &MemoryQueues) -> Bytes {
        let queue = queues.open("parts--map-0", &QueueOptions::default()).await;
        let mut messages = queue.unwrap().receive(1, Duration::ZERO).await.unwrap();
        messages.pop().unwrap().body
    }

    /// An array is cut, written and sent, and its tree told its size.
    #[divan::bench(args = [1_000, 1_000_000])]
    fn submit_numbers(bencher: Bencher, items: u64) {
        bencher
            .counter(ItemsCount::new(items))
            .with_inputs(MemoryQueues::new)
            .bench_local_refs(|queues| block_on(submit(queues, items)));
    }

    async fn submit(queues: &MemoryQueues, items: u64) {
        let pipeline = Pipeline::new()
            .map(|n: u64| n)
            .reduce(|| 0, |a: u64, b| a.wrapping_add(b));
        let backend =
            catchment::Backend::new(Arc::new(queues.clone()), Arc::new(MemoryScratchpad::new()));
        let deployment = pipeline.deploy("parts", backend).unwrap();
        deployment.submit(0..items).await.unwrap();
    }
}

/// Writing a user's values by the strict adaptor, beside the format's own serializer.
mod strict {
    use catchment::Codec;
    use catchment::testing::written;
    use serde::Serialize;

    use super::*;

    const ITEMS: usize = 10_000;

    #[derive(Serialize)]
    struct Record {
        id: u64,
        name: String,
        position: [f64; 3],
        parent: Option<u64>,
    }

    fn numbers() -> Vec<i64> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..ITEMS)
            .map(|_| random.i64(..) >> random.u32(..64))
            .collect()
    }

    fn records() -> Vec<Record> {
        let mut random = fastrand::Rng::with_seed(7);
        let record = |id: u64| Record {
            id,
            name: format!("record number {id:06}"),
            position: [random.f64(), random.f64(), 3.0],
            parent: id.is_multiple_of(2).then_some(id / 2),
        };
        (0..ITEMS as u64).map(record).collect()
    }

    macro_rules! beside {
        ($name:ident, $values:ident, $codec:ident, $bare:path) => {
            mod $name {
                use super::*;

                #[divan::bench]
                fn bare(bencher: Bencher) {
                    let values = $values();
                    bencher
                        .counter(ItemsCount::new(ITEMS))
                        .bench(|| bytes::Bytes::from($bare(black_box(&values)).unwrap()));
                }

                #[divan::bench]
                fn checked(bencher: Bencher) {
                    let values = $values();
                    bencher
                        .counter(ItemsCount::new(ITEMS))
                        .bench(|| written(Codec::$codec, black_box(&values)).unwrap());
                }
            }
        };
    }

    beside!(json_numbers, numbers, Json, serde_json::to_vec);
    beside!(json_records, records, Json, serde_json::to_vec);
    #[cfg(feature = "postcard")]
    beside!(postcard_numbers, numbers, Postcard, postcard::to_allocvec);
    #[cfg(feature = "postcard")]
    beside!(postcard_records, records, Postcard, postcard::to_allocvec);
}

mod tree_arithmetic {
    use super::*;

    #[divan::bench]
    fn parents_of_a_thousand_nodes(bencher: Bencher) {
        bencher.counter(ItemsCount::new(1_000u32)).bench(|| {
            for index in 0..1_000 {
                black_box(tree::parent(0, black_box(index), 32));
            }
        });
    }

    #[divan::bench(args = [1_000, 1_000_000_000])]
    fn edges(leaves: u64) -> Vec<(u32, u64, u32, bool)> {
        tree::edges(black_box(leaves), 32)
    }
}

mod queue {
    use super::*;

    /// So many messages are sent together, received together and acknowledged together.
    #[divan::bench(args = [1, 10, 256])]
    fn there_and_away(bencher: Bencher, messages: usize) {
        let queue = block_on(MemoryQueues::new().open("q", &QueueOptions::default())).unwrap();
        let bodies = vec![Outgoing::new("{}"); messages];
        bencher
            .counter(ItemsCount::new(messages))
            .bench_local(|| block_on(round(&*queue, &bodies)));
    }

    async fn round(queue: &dyn Queue, bodies: &[Outgoing]) {
        queue.send(bodies.to_vec()).await.unwrap();
        let received = queue.receive(bodies.len(), Duration::ZERO).await.unwrap();
        assert_eq!(received.len(), bodies.len());
        let receipts = received.into_iter().map(|delivery| delivery.receipt);
        queue.acknowledge(receipts.collect()).await.unwrap();
    }
}

mod scratchpad {
    use super::*;

    const FAN_IN: u32 = 32;

    fn begun() -> (MemoryScratchpad, RunKey) {
        let scratchpad = MemoryScratchpad::new();
        let plan = PacketPlan::Fixed(1);
        let record = RunRecord::new("c0ffee", UNIX_EPOCH, "map", "sum", FAN_IN, plan);
        block_on(scratchpad.begin(&record)).unwrap();
        (scratchpad, record.key())
    }

    fn group(run: &RunKey, index: u64) -> GroupId {
        GroupId::new(run.clone(), "sum", 1, index)
    }

    fn siblings(group: &GroupId) -> Vec<Arrival> {
        let arrival = |slot| Arrival::new(group.clone(), slot, Bytes::from_static(b"{}"));
        (0..FAN_IN).map(arrival).collect()
    }

    /// A whole group: its members arrive together, are read, and let go.
    #[divan::bench]
    fn a_group(bencher: Bencher) {
        let (scratchpad, run) = begun();
        let mut index = 0;
        bencher.counter(ItemsCount::new(FAN_IN)).bench_local(|| {
            index += 1;
            let group = group(&run, index);
            block_on(async {
                let states = scratchpad.arrive(siblings(&group)).await.unwrap();
                assert!(states.last().unwrap().is_ready(FAN_IN));
                let members = scratchpad.members(&group).await.unwrap();
                assert!(matches!(members, Members::Present { values, .. } if values.len() == 32));
                scratchpad.retire(&group).await.unwrap();
            });
        });
    }

    /// The same, where each member comes by itself.
    #[divan::bench]
    fn a_group_one_by_one(bencher: Bencher) {
        let (scratchpad, run) = begun();
        let mut index = 0;
        bencher.counter(ItemsCount::new(FAN_IN)).bench_local(|| {
            index += 1;
            let group = group(&run, index);
            block_on(async {
                for arrival in siblings(&group) {
                    scratchpad.arrive(vec![arrival]).await.unwrap();
                }
                scratchpad.retire(&group).await.unwrap();
            });
        });
    }
}
