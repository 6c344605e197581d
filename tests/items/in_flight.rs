//! An asynchronous stage keeps as many items in flight as its concurrency says, over all packets that it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use catchment::{Pipeline, Stage};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::common::*;

const LENGTH: u64 = 500;
const CONCURRENCY: usize = 50;

/// Holds each call until the test lets it go on.
#[derive(Clone)]
struct Gates {
    begun: UnboundedSender<u64>,
    held: Arc<Mutex<BTreeMap<u64, oneshot::Sender<()>>>>,
}

impl Gates {
    fn new() -> (Self, UnboundedReceiver<u64>) {
        let (begun, begins) = unbounded_channel();
        let held = Arc::default();
        (Self { begun, held }, begins)
    }

    async fn pass(&self, item: u64) {
        let (open, opened) = oneshot::channel();
        self.held.lock().unwrap().insert(item, open);
        self.begun.send(item).unwrap();
        opened.await.unwrap();
    }

    fn open(&self, item: u64) {
        let gate = self.held.lock().unwrap().remove(&item);
        gate.unwrap().send(()).unwrap();
    }

    fn pipeline(&self, plan: &Shared, options: Stage) -> Kept {
        let (gates, plan) = (self.clone(), Shared::clone(plan));
        Pipeline::new()
            .then(move |n: u64| {
                let (gates, plan) = (gates.clone(), Shared::clone(&plan));
                async move {
                    gates.pass(n).await;
                    plan.called(n, || {}).await
                }
            })
            .with(options.packet_size(50).concurrency(CONCURRENCY))
            .collect()
    }
}

/// Lets one item after the other go on, oldest first, but for those that hang. Each time one ends, another one begins, for
/// as long as there are items that have not begun.
async fn keeps_all_places_taken(gates: &Gates, begins: &mut UnboundedReceiver<u64>, hang: &[u64]) {
    let (mut seen, mut held) = (BTreeSet::new(), VecDeque::new());
    let mut in_flight = 0;
    while (seen.len() as u64) < LENGTH {
        let begun = timeout(MINUTE, begins.recv()).await.ok().flatten();
        let Some(item) = begun else {
            let begun = seen.len();
            panic!("{in_flight} in flight, not {CONCURRENCY}, and {begun} of {LENGTH} have begun");
        };
        seen.insert(item);
        in_flight += 1;
        if !hang.contains(&item) {
            held.push_back(item);
        }
        if in_flight == CONCURRENCY {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(begins.is_empty(), "more than {CONCURRENCY} in flight");
            gates.open(held.pop_front().unwrap());
            in_flight -= 1;
        }
    }
    held.into_iter().for_each(|item| gates.open(item));
}

async fn one_page_hangs(way: Way) {
    let (gates, mut begins) = Gates::new();
    let plan = Plan::with(LENGTH, []);
    let run = way.run(gates.pipeline(&plan, skipping(3)), LENGTH);
    let drive = async {
        let hang = [7, 333];
        keeps_all_places_taken(&gates, &mut begins, &hang).await;
        hang.into_iter().for_each(|item| gates.open(item));
    };
    let (seen, ()) = futures::join!(run, drive);
    assert_exact("it hangs", &plan, 3, &seen.unwrap(), as_it_is);
}

each_way! {
    a_slow_item_holds_its_packet_and_not_the_stage = one_page_hangs;
}

/// Items that wait for their next attempt take no place either.
async fn some_pages_wait(way: Way) {
    let (gates, mut begins) = Gates::new();
    let failing = [3, 60, 61, 444].map(|item| (item, Nature::Fails(2)));
    let plan = Plan::with(LENGTH, failing);
    let options = waiting(skipping(3));
    let run = way.run(gates.pipeline(&plan, options), LENGTH);
    let drive = async {
        keeps_all_places_taken(&gates, &mut begins, &[]).await;
        while let Some(item) = begins.recv().await {
            gates.open(item);
        }
    };
    let seen = tokio::select! {
        seen = run => seen,
        () = drive => panic!("the function has gone"),
    };
    assert_exact("some wait", &plan, 3, &seen.unwrap(), as_it_is);
}

#[tokio::test(start_paused = true)]
async fn waiting_items_take_no_place_in_run() {
    some_pages_wait(Way::Run).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_items_take_no_place_when_deployed() {
    some_pages_wait(Way::Deployed).await;
}
