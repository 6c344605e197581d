//! Runs take turns on a queue, and a file from before that does so too.

use std::time::Duration;

use catchment::backends::sqlite::SqliteFile;
use catchment::queue::{Delivery, Outgoing, Queue, QueueOptions, Queues};
use rusqlite::Connection;

use crate::common::Store;
use crate::files::Folder;

/// A packet of a large run.
const LARGE: usize = 5_000;

fn packet(run: &str, number: usize, size: usize) -> Outgoing {
    let text = format!("{run} {number} ");
    Outgoing::new(format!("{text:<size$}")).run(run)
}

async fn received(queue: &dyn Queue, max: usize) -> Vec<(String, Delivery)> {
    let deliveries = queue.receive(max, Duration::ZERO).await.unwrap();
    let named = deliveries.into_iter().map(|delivery| {
        let text = String::from_utf8(delivery.body.to_vec()).unwrap();
        (text.trim_end().to_owned(), delivery)
    });
    named.collect()
}

async fn names(queue: &dyn Queue, max: usize) -> Vec<String> {
    let received = received(queue, max).await;
    received.into_iter().map(|(name, _)| name).collect()
}

/// The small run's messages come after one of the large one's, however many of those were there before.
#[tokio::test(start_paused = true)]
async fn a_small_run_does_not_wait_for_all_of_a_large_one() {
    let store = Store::new();
    let queue = store.queue("work").await;
    let large = (0..1_000).map(|n| packet("large", n, LARGE));
    queue.send(large.collect()).await.unwrap();
    assert_eq!(names(&*queue, 2).await, ["large 0", "large 1"]);
    let small = (0..10).map(|n| packet("small", n, 100));
    queue.send(small.collect()).await.unwrap();
    let more = (1_000..1_010).map(|n| packet("large", n, LARGE));
    queue.send(more.collect()).await.unwrap();
    let next = names(&*queue, 12).await;
    let small = next.iter().filter(|name| name.starts_with("small")).count();
    assert_eq!(small, 10, "{next:?}");
    assert_eq!(next[0], "large 2");

    // The order of each run is kept, and nothing is left behind.
    let rest = names(&*queue, 2_000).await;
    let large: Vec<_> = next
        .into_iter()
        .chain(rest)
        .filter(|name| name.starts_with("large"))
        .collect();
    let expected: Vec<_> = (2..1_010).map(|n| format!("large {n}")).collect();
    assert_eq!(large, expected);
}

/// Three runs of the same size, of which one was there long before.
#[tokio::test(start_paused = true)]
async fn runs_of_the_same_size_alternate() {
    let store = Store::new();
    let queue = store.queue("work").await;
    for run in ["a", "b", "c"] {
        let packets = (0..4).map(|n| packet(run, n, LARGE));
        queue.send(packets.collect()).await.unwrap();
    }
    let all = names(&*queue, 12).await;
    let rounds: Vec<_> = (0..4)
        .flat_map(|n| ["a", "b", "c"].map(|run| format!("{run} {n}")))
        .collect();
    assert_eq!(all, rounds);
}

/// What is given back keeps its place, and a redriven letter waits for one turn at most.
#[tokio::test(start_paused = true)]
async fn what_comes_back_does_not_wait_for_all_others() {
    let store = Store::new();
    let queue = store.queue("work").await;
    let small = packet("small", 0, 100);
    queue
        .send(vec![small.clone(), packet("small", 1, 100)])
        .await
        .unwrap();
    let [(_, first), (_, second)] = <[_; 2]>::try_from(received(&*queue, 2).await).unwrap();
    queue
        .send((0..100).map(|n| packet("large", n, LARGE)).collect())
        .await
        .unwrap();
    queue.bury(second, "made up for a test").await.unwrap();
    queue
        .release(vec![first.receipt], Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(names(&*queue, 1).await, ["small 0"]);
    let letters = queue.dead_letters(None, 10).await.unwrap();
    queue.redrive(letters.items).await.unwrap();
    let next = names(&*queue, 3).await;
    assert!(next.contains(&"small 1".to_owned()), "{next:?}");
}

/// Runs that the queue has passed are not remembered.
#[tokio::test(start_paused = true)]
async fn many_runs_leave_nothing_behind() {
    let folder = Folder::new();
    let file = folder.simulated();
    let queue = file
        .queues()
        .open("work", &QueueOptions::default())
        .await
        .unwrap();
    for n in 0..100 {
        queue
            .send(vec![packet(&format!("run-{n}"), 0, 100)])
            .await
            .unwrap();
        let (_, delivery) = received(&*queue, 1).await.remove(0);
        queue.acknowledge(vec![delivery.receipt]).await.unwrap();
    }
    let db = Connection::open(folder.path()).unwrap();
    let kept: i64 = db
        .query_row("SELECT COUNT(*) FROM turn", [], |row| row.get(0))
        .unwrap();
    assert!(kept <= 2, "{kept} runs");
}

#[tokio::test(start_paused = true)]
async fn a_file_from_before_turns_is_brought_up_to_date() {
    let folder = Folder::new();
    SqliteFile::open(folder.path()).unwrap();
    let db = Connection::open(folder.path()).unwrap();
    db.execute_batch(
        "DROP INDEX message_due;
         ALTER TABLE message DROP COLUMN turn;
         ALTER TABLE queue DROP COLUMN turn;
         DROP TABLE turn;
         CREATE INDEX message_due ON message (queue, visible_at);
         PRAGMA user_version = 1;
         INSERT INTO queue (id, name) VALUES (1, 'work');
         INSERT INTO message (id, queue, sent_at) VALUES (7, 1, 0);
         INSERT INTO body (message, body) VALUES (7, X'6f6c64');",
    )
    .unwrap();
    drop(db);
    let file = folder.simulated();
    let queue = file
        .queues()
        .open("work", &QueueOptions::default())
        .await
        .unwrap();
    queue.send(vec![packet("new", 0, 100)]).await.unwrap();
    assert_eq!(names(&*queue, 2).await, ["old", "new 0"]);
}
