//! Messages whose sender commits late.

use std::time::Duration;

use catchment::queue::{Outgoing, QueueOptions, Queues};

use crate::common::{client, database_in, unique};

/// A message counts as visible from when its transaction began. A receiver that has been past that time finds it
/// nevertheless, and does so while it waits.
#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_message_of_a_transaction_that_commits_late_is_received_soon() {
    let schema = unique("late");
    let (queues, _) = database_in(&schema).parts();
    let options = QueueOptions::default();
    queues.provision("late", &options).await.unwrap();
    let queue = queues.open("late", &options).await.unwrap();
    let mut client = client().await;
    for round in 0..3 {
        let transaction = client.transaction().await.unwrap();
        let send = format!(
            "WITH sent AS (INSERT INTO \"{schema}\".bodies (body) VALUES ('late') RETURNING id)
            INSERT INTO \"{schema}\".messages (id, queue)
            SELECT sent.id, queues.id FROM sent, \"{schema}\".queues"
        );
        transaction.batch_execute(&send).await.unwrap();
        // The receiver takes a message that was sent later, and goes on from there.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let prompt = Outgoing::new("prompt");
        queue.send(vec![prompt]).await.unwrap();
        let receive = queue.receive(10, Duration::from_secs(20));
        let received = receive.await.unwrap();
        assert_eq!(&received[0].body[..], b"prompt");
        let receipts = received.into_iter().map(|delivery| delivery.receipt);
        queue.acknowledge(receipts.collect()).await.unwrap();
        // It waits again while the late one commits.
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.receive(10, Duration::from_secs(20)).await.unwrap() }
        });
        tokio::task::yield_now().await;
        transaction.commit().await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let received = received.unwrap_or_else(|_| panic!("not in round {round}"));
        let receipts: Vec<_> = received.unwrap();
        assert_eq!(&receipts[0].body[..], b"late");
        let receipts = receipts.into_iter().map(|delivery| delivery.receipt);
        queue.acknowledge(receipts.collect()).await.unwrap();
    }
}
