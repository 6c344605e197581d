//! What many messages leave behind: tables no larger than what is live, and a little.

use std::sync::Arc;
use std::time::Duration;

use catchment::queue::{Outgoing, Queue, QueueOptions, Queues};
use tokio_postgres::Client;

use crate::common::{client, database_in, unique};

const MEGABYTE: i64 = 1024 * 1024;

struct Churned {
    queue: Arc<dyn Queue>,
    client: Client,
    schema: String,
}

impl Churned {
    /// A queue whose tables the server's own vacuum leaves alone: it comes once a minute, and may come during a test.
    async fn new() -> Self {
        let schema = unique("growth");
        let (queues, _) = database_in(&schema).parts();
        let options = QueueOptions::default();
        queues.provision("churn", &options).await.unwrap();
        let client = client().await;
        for table in ["messages", "bodies"] {
            let text = format!("ALTER TABLE \"{schema}\".{table} SET (autovacuum_enabled = false)");
            client.batch_execute(&text).await.unwrap();
        }
        Self {
            queue: queues.open("churn", &options).await.unwrap(),
            client,
            schema,
        }
    }

    /// Sends, receives and acknowledges messages of 150 bytes, some at a time.
    async fn churn(&self, messages: usize) {
        const BATCH: usize = 250;
        let tasks = (0..4).map(|_| async {
            let mut left = messages / 4;
            while left > 0 {
                let batch = (0..BATCH).map(|_| Outgoing::new(vec![b'x'; 150]));
                self.queue.send(batch.collect()).await.unwrap();
                let received = self.queue.receive(BATCH, Duration::ZERO).await.unwrap();
                left = left.saturating_sub(received.len());
                let receipts = received.into_iter().map(|delivery| delivery.receipt);
                self.queue.acknowledge(receipts.collect()).await.unwrap();
            }
        });
        futures::future::join_all(tasks).await;
    }

    /// The bytes of the queues' tables without their indexes, and of those.
    async fn size(&self) -> (i64, i64) {
        let schema = &self.schema;
        let sizes = ["pg_table_size", "pg_indexes_size"].map(|size| {
            format!("({size}('\"{schema}\".messages') + {size}('\"{schema}\".bodies'))::int8")
        });
        let text = format!("SELECT {}", sizes.join(", "));
        let row = self.client.query_one(&text, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_busy_queue_leaves_tables_that_are_small_and_go_back_to_nothing() {
    let churned = Churned::new().await;
    let mut largest = 0;
    for _ in 0..8 {
        churned.churn(40_000).await;
        let (tables, indexes) = churned.size().await;
        largest = largest.max(tables + indexes);
    }
    println!("at most {largest} bytes");
    // A third of what these messages leave if nothing is vacuumed.
    assert!(largest < 64 * MEGABYTE, "{largest}");
    // Once nothing is there to receive, the tables are cut off at their end.
    let mut size = (0, 0);
    for _ in 0..60 {
        let rest = churned.queue.receive(1_000, Duration::from_secs(1)).await;
        let receipts = rest.unwrap().into_iter().map(|delivery| delivery.receipt);
        churned.queue.acknowledge(receipts.collect()).await.unwrap();
        size = churned.size().await;
        if size.0 < MEGABYTE {
            println!("{size:?} at the end");
            return;
        }
    }
    panic!("{size:?} bytes are left");
}
