//! Dead letters: every look at them and every search among them ends, whatever the service returns.

use catchment::queue::{BuriedMessage, PAGE_BYTES};

use super::*;

/// A dead-letter queue that returns these messages at every poll.
fn always(fake: &Fake, ids: &'static [&'static str]) {
    fake.always(RECEIVE, move |_| {
        let all = ids
            .iter()
            .map(|id| message(id, &format!("receipt of {id}"), 1));
        Reply::ok(json!({"Messages": all.collect::<Vec<_>>()}))
    });
}

/// A dead-letter queue that returns ten messages at every poll that it has never returned before.
fn endless(fake: &Fake) {
    let mut polls = 0;
    fake.always(RECEIVE, move |_| {
        polls += 1;
        let ids = (0..10).map(|n| format!("{polls}-{n}"));
        let all = ids.map(|id| message(&id, &format!("receipt of {id}"), 1));
        Reply::ok(json!({"Messages": all.collect::<Vec<_>>()}))
    });
}

fn count(requests: &[Request], operation: &str) -> usize {
    let requests = requests.iter();
    requests.filter(|it| it.operation == operation).count()
}

fn named(id: &str) -> BuriedMessage {
    BuriedMessage::new("", "", receipt(id))
}

#[tokio::test(start_paused = true)]
async fn a_look_at_one_asks_for_one() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.replies(RECEIVE, [messages([message("a", "ra", 1)])]);
    let page = queue.dead_letters(None, 1).await.unwrap();
    assert_eq!((page.len(), page.truncated), (1, true));
    let requests = fake.take();
    assert_eq!(operations(&requests), ["GetQueueUrl", RECEIVE, HIDE]);
    assert_eq!(requests[1].body["MaxNumberOfMessages"], 1);
    assert_eq!(texts(&requests[2]), ["ra"], "it is shown again");
}

#[tokio::test(start_paused = true)]
async fn a_look_ends_where_what_was_seen_comes_back() {
    let fake = start().await;
    let queue = open(&fake).await;
    always(&fake, &["a", "b"]);
    let page = queue.dead_letters(None, 1_000).await.unwrap();
    assert_eq!((page.len(), page.truncated), (2, true));
    assert_eq!(count(&fake.take(), RECEIVE), 5);
}

#[tokio::test(start_paused = true)]
async fn a_search_ends_where_others_come_without_an_end() {
    let fake = start().await;
    let queue = open(&fake).await;
    endless(&fake);
    let page = queue.find_dead_letters(None, 1, &|_| false).await.unwrap();
    assert_eq!((page.len(), page.truncated), (0, true));
    let polls = count(&fake.take(), RECEIVE);
    assert!((1..=1_000).contains(&polls), "{polls}");

    let wanted = receipt("wanted");
    let passed_over = queue.discard(vec![named("wanted")]).await.unwrap();
    assert_eq!(passed_over, std::slice::from_ref(&wanted));
    let requests = fake.take();
    let polls = count(&requests, RECEIVE);
    assert!((1..=1_000).contains(&polls), "{polls}");
    assert_eq!(count(&requests, DELETE), 0);
    // It has not gone back, and is not said to have.
    assert_eq!(
        queue.redrive(vec![named("wanted")]).await.unwrap(),
        [wanted]
    );
    assert_eq!(count(&fake.take(), SEND), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_discarded_and_what_is_not_is_passed_over() {
    let fake = start().await;
    let queue = open(&fake).await;
    always(&fake, &["a", "other", "b"]);
    let wanted = ["a", "b", "gone"].map(named).to_vec();
    let passed_over = queue.discard(wanted).await.unwrap();
    assert_eq!(passed_over, [receipt("gone")]);
    let requests = fake.take();
    let delete = requests.iter().find(|it| it.operation == DELETE).unwrap();
    assert_eq!(texts(delete), ["receipt of a", "receipt of b"]);
    assert_eq!(count(&requests, RECEIVE), 5);
    let shown = requests.last().unwrap();
    assert_eq!(shown.operation, HIDE);
    assert!(
        texts(shown)
            .iter()
            .all(|text| text == "receipt of other" || text.starts_with("receipt of"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_large_letters_has_few_of_them() {
    let fake = start().await;
    let queue = open(&fake).await;
    let mut polls = 0;
    fake.always(RECEIVE, move |_| {
        polls += 1;
        let ids = (0..3).map(|n| format!("{polls}-{n}"));
        let all = ids.map(|id| {
            let mut large = message(&id, &format!("receipt of {id}"), 1);
            large["Body"] = json!("x".repeat(600 * KIB));
            large
        });
        Reply::ok(json!({"Messages": all.collect::<Vec<_>>()}))
    });
    let page = queue.dead_letters(None, 10_000).await.unwrap();
    let bytes: usize = page.iter().map(BuriedMessage::size).sum();
    assert_eq!((page.len(), page.truncated), (6, true));
    assert!(bytes <= PAGE_BYTES, "{bytes}");
    let requests = fake.take();
    assert_eq!(count(&requests, RECEIVE), 3);
    // Those that did not fit are shown again, too.
    let shown = requests.last().unwrap();
    assert_eq!(texts(shown).len(), 9);
}
