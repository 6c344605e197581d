//! The message group by which the service tells runs apart.

use super::*;

fn of_run(run: &str) -> Vec<Outgoing> {
    vec![Outgoing::new("a").run(run), Outgoing::new("b")]
}

#[tokio::test(start_paused = true)]
async fn a_message_s_group_is_its_run() {
    let fake = start().await;
    let queue = open(&fake).await;
    queue.send(of_run("invoices/2026-11-21")).await.unwrap();
    let entries = &fake.take()[0].body["Entries"];
    assert_eq!(entries[0]["MessageGroupId"], "invoices/2026-11-21");
    assert!(entries[1].get("MessageGroupId").is_none());
    // An id that no run can have would be refused, and the whole request with it.
    for odd in ["", "a b", "\u{1b}"] {
        queue.send(of_run(odd)).await.unwrap();
        let entries = &fake.take()[0].body["Entries"];
        assert!(entries[0].get("MessageGroupId").is_none(), "{odd:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_not_fair_send_no_group() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config()).fair(false);
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    fake.take();
    queue.send(of_run("a")).await.unwrap();
    let entries = &fake.take()[0].body["Entries"];
    assert!(entries[0].get("MessageGroupId").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_group_when_it_is_buried_and_when_it_is_redriven() {
    let fake = start().await;
    let queue = open(&fake).await;
    let mut told = message("m", "r", 1);
    told["Attributes"]["MessageGroupId"] = json!("a");
    fake.replies(RECEIVE, [messages([told.clone()])]);
    let delivery = queue.receive(1, Duration::ZERO).await.unwrap().remove(0);
    assert_eq!(delivery.run, Some("a".into()));
    fake.take();
    queue.bury(delivery, "made up").await.unwrap();
    let requests = fake.take();
    let send = requests.iter().find(|it| it.operation == "SendMessage");
    assert_eq!(send.unwrap().body["MessageGroupId"], "a");

    fake.replies(RECEIVE, [messages([told.clone()]), messages([])]);
    let letters = queue.dead_letters(None, 1).await.unwrap();
    assert_eq!(letters[0].run, Some("a".into()));
    fake.take();
    fake.replies(RECEIVE, [messages([told])]);
    queue.redrive(letters.items).await.unwrap();
    let requests = fake.take();
    let send = requests.iter().find(|it| it.operation == SEND);
    assert_eq!(send.unwrap().body["Entries"][0]["MessageGroupId"], "a");
}
