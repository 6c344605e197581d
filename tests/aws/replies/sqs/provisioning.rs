//! Provisioning queues.

use super::*;

const ARN: &str = "arn:aws:sqs:here:1:work--dead";

/// The settings of a queue as provisioning would make it, with its policy in other words.
fn attributes(request: &Request) -> Value {
    let policy = format!(r#"{{ "maxReceiveCount" : "1000", "deadLetterTargetArn":"{ARN}"}}"#);
    let all = json!({
        "QueueArn": ARN,
        "VisibilityTimeout": "30",
        "MessageRetentionPeriod": "1209600",
        "MaximumMessageSize": "1048576",
        "RedrivePolicy": policy,
    });
    let names = request.body["AttributeNames"].as_array().unwrap();
    let asked = names.iter().map(|name| {
        let name = name.as_str().unwrap();
        (name.to_owned(), all[name].clone())
    });
    json!({"Attributes": asked.collect::<serde_json::Map<_, _>>()})
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_missing_are_made() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
    fake.replies("GetQueueUrl", [missing()]);
    fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
    fake.replies("GetQueueUrl", [missing()]);
    assert_eq!(provision(&fake).await, [Action::Created, Action::Created]);
    let requests = fake.take();
    assert_eq!(
        asked(&requests),
        [
            "GetQueueUrl work--dead",
            "CreateQueue work--dead",
            "GetQueueAttributes work--dead",
            "GetQueueUrl work--dead",
            "GetQueueUrl work",
            "CreateQueue work",
            "GetQueueUrl work",
        ]
    );
    let policy = requests[5].body["Attributes"]["RedrivePolicy"].as_str();
    let policy: Value = serde_json::from_str(policy.unwrap()).unwrap();
    assert_eq!(
        policy,
        json!({"deadLetterTargetArn": ARN, "maxReceiveCount": 1_000})
    );
    assert_eq!(
        requests[1].body["Attributes"],
        json!({"VisibilityTimeout": "30", "MessageRetentionPeriod": "1209600", "MaximumMessageSize": "1048576"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_in_other_words_is_the_same() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
    assert_eq!(
        provision(&fake).await,
        [Action::Unchanged, Action::Unchanged]
    );
    assert_eq!(
        asked(&fake.take()),
        [
            "GetQueueUrl work--dead",
            "GetQueueAttributes work--dead",
            "GetQueueUrl work",
            "GetQueueAttributes work",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_setting_that_differs_is_set() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |request| {
        let mut answer = attributes(request);
        if request.text("QueueUrl").ends_with("/work") {
            answer["Attributes"]["VisibilityTimeout"] = json!("31");
        }
        Reply::ok(answer)
    });
    assert_eq!(
        provision(&fake).await,
        [
            Action::Unchanged,
            Action::Updated("VisibilityTimeout".into())
        ]
    );
    let requests = fake.take();
    assert_eq!(requests.len(), 5);
    let set = &requests[4];
    assert_eq!(asked(&requests)[4], "SetQueueAttributes work");
    assert_eq!(set.body["Attributes"], json!({"VisibilityTimeout": "30"}));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_somebody_else_makes_meanwhile_is_taken_as_it_is() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |request| {
        let mut answer = attributes(request);
        if request.text("QueueUrl").ends_with("/work") {
            answer["Attributes"]["MaximumMessageSize"] = json!("262144");
        }
        Reply::ok(answer)
    });
    for name in ["work--dead", "work"] {
        fake.always("CreateQueue", |_| {
            refused(400, "QueueNameExists", "QueueAlreadyExists")
        });
        fake.replies("GetQueueUrl", [missing()]);
        let there = move |request: &Request| {
            assert_eq!(request.text("QueueName"), name);
            url(name)
        };
        fake.next("GetQueueUrl", there);
    }
    assert_eq!(
        provision(&fake).await,
        [
            Action::Unchanged,
            Action::Updated("MaximumMessageSize".into())
        ]
    );
    let requests = fake.take();
    assert_eq!(
        asked(&requests),
        [
            "GetQueueUrl work--dead",
            "CreateQueue work--dead",
            "GetQueueUrl work--dead",
            "GetQueueAttributes work--dead",
            "GetQueueUrl work",
            "CreateQueue work",
            "GetQueueUrl work",
            "GetQueueAttributes work",
            "SetQueueAttributes work",
        ]
    );
    assert_eq!(
        requests[8].body["Attributes"],
        json!({"MaximumMessageSize": "1048576"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_deleted_a_moment_ago_is_made_when_the_service_lets_it() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
    fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
    fake.replies("GetQueueUrl", [missing()]);
    let begin = tokio::time::Instant::now();
    // The service asks for a minute.
    fake.always("CreateQueue", move |_| match begin.elapsed() < MINUTE {
        true => recently(),
        false => url("work"),
    });
    assert_eq!(provision(&fake).await, [Action::Unchanged, Action::Created]);
    assert!(begin.elapsed() < MINUTE + Duration::from_secs(6));
}

fn recently() -> Reply {
    refused(
        400,
        "QueueDeletedRecently",
        "AWS.SimpleQueueService.QueueDeletedRecently",
    )
}

/// Answers an operation on the queue `work` with these replies first.
fn of_work<const N: usize>(fake: &Fake, operation: &str, replies: [fn() -> Reply; N]) {
    let mut replies = replies.into_iter();
    let rule = operation.to_owned();
    fake.always(operation, move |request| {
        let is_work = asked(std::slice::from_ref(request))[0].ends_with(" work");
        match (is_work.then(|| replies.next()).flatten(), rule.as_str()) {
            (Some(reply), _) => reply(),
            (None, "GetQueueAttributes") => Reply::ok(attributes(request)),
            (None, "GetQueueUrl" | "CreateQueue") => url(request.text("QueueName")),
            (None, _) => Reply::ok(json!({})),
        }
    });
}

/// For a minute after a queue was deleted its URL is still found, and what is asked of it says that it does not exist.
#[tokio::test(start_paused = true)]
async fn a_queue_whose_url_outlives_it_is_made_again() {
    let fake = start().await;
    of_work(&fake, "GetQueueAttributes", [missing]);
    of_work(&fake, "CreateQueue", [recently, recently]);
    assert_eq!(provision(&fake).await, [Action::Unchanged, Action::Created]);
    let fake = start().await;
    of_work(
        &fake,
        "GetQueueAttributes",
        [|| Reply::ok(json!({"Attributes": {"VisibilityTimeout": "31"}}))],
    );
    of_work(&fake, "SetQueueAttributes", [missing]);
    of_work(&fake, "CreateQueue", []);
    assert_eq!(provision(&fake).await, [Action::Unchanged, Action::Created]);
}

/// What one request of the service has done, the next need not see.
#[tokio::test(start_paused = true)]
async fn queues_are_made_though_looks_lag() {
    let fake = start().await;
    // Nothing finds the new queues by their names, and nothing is known of them at first.
    let mut looks = std::collections::HashMap::new();
    fake.always("GetQueueUrl", move |request| {
        let name = request.text("QueueName").to_owned();
        let looks = looks.entry(name.clone()).or_insert(0);
        *looks += 1;
        match *looks > 4 {
            true => url(&name),
            false => missing(),
        }
    });
    fake.always("CreateQueue", |it| url(it.text("QueueName")));
    fake.replies("GetQueueAttributes", [missing(), missing()]);
    fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
    // The dead-letter queue is not seen yet by the request that names it.
    let reason = "Value {...} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.";
    let kind = "com.amazonaws.sqs#InvalidParameterValueException";
    let unseen = move |_: &Request| {
        Reply::refused(400, kind, reason)
            .header("x-amzn-query-error", "InvalidParameterValue;Sender")
    };
    let mut makes = 0;
    fake.always("CreateQueue", move |request| {
        makes += usize::from(request.text("QueueName") == "work");
        match makes {
            1 | 2 => unseen(request),
            _ => url(request.text("QueueName")),
        }
    });
    assert_eq!(provision(&fake).await, [Action::Created, Action::Created]);

    // Another process makes the queue, with other settings, and it cannot be looked at yet.
    let fake = start().await;
    of_work(&fake, "GetQueueUrl", [missing, missing, missing]);
    of_work(
        &fake,
        "CreateQueue",
        [
            || refused(400, "QueueNameExists", "QueueAlreadyExists"),
            || refused(400, "QueueNameExists", "QueueAlreadyExists"),
            || refused(400, "QueueNameExists", "QueueAlreadyExists"),
        ],
    );
    of_work(&fake, "GetQueueAttributes", []);
    assert_eq!(
        provision(&fake).await,
        [Action::Unchanged, Action::Unchanged]
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_queue_ends_and_says_what_it_was_for() {
    let exists = || refused(400, "QueueNameExists", "QueueAlreadyExists");
    for (reply, part) in [
        (recently as fn() -> Reply, "less than a minute ago"),
        (exists, "made by another process"),
    ] {
        let fake = start().await;
        fake.always("GetQueueUrl", |_| missing());
        fake.always("CreateQueue", move |_| reply());
        let queues = SqsQueues::new(&fake.config());
        let begin = tokio::time::Instant::now();
        let error = queues.provision("work", &QueueOptions::default()).await;
        let error = error.unwrap_err();
        let text = said(&error);
        println!("{text}");
        for part in [
            "queue `work--dead`",
            part,
            "after 120 s of waiting",
            "provision()",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(error.is_retryable());
        assert!(begin.elapsed() < Duration::from_secs(130));
    }
}

#[tokio::test(start_paused = true)]
async fn queues_are_removed_in_every_phase() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config());
    // Found by its name, and gone; not found at all.
    fake.replies("DeleteQueue", [missing()]);
    fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
    fake.replies("GetQueueUrl", [missing()]);
    assert!(queues.deprovision("work").await.unwrap().is_empty());
    let removed = queues.deprovision("work").await.unwrap();
    assert_eq!(removed.len(), 2, "{removed:?}");
}

/// A worker that waits for messages outlives its queue.
#[tokio::test(start_paused = true)]
async fn a_worker_goes_on_when_its_queue_is_deleted_and_made_again() {
    use catchment::backends::memory::MemoryScratchpad;
    use catchment::{Backend, Pipeline};
    let fake = start().await;
    let (found, made) = tokio::sync::oneshot::channel();
    let mut found = Some(found);
    let gone = tokio::time::Instant::now() + MINUTE;
    let mut polls = 0;
    fake.always("ReceiveMessage", move |request| {
        polls += 1;
        match tokio::time::Instant::now() {
            _ if polls <= 2 => Reply::ok(json!({})),
            now if now < gone => missing(),
            _ => {
                if request.text("QueueUrl").ends_with("times_two")
                    && let Some(found) = found.take()
                {
                    found.send(()).unwrap();
                }
                Reply::held().1
            }
        }
    });
    let backend = Backend::new(SqsQueues::new(&fake.config()), MemoryScratchpad::new());
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(catchment::Stage::named("times_two"))
        .reduce(|| 0, |a, b| a + b);
    let adder = adder.deploy("adder", backend).unwrap();
    let worker = adder.worker().start();
    made.await.unwrap();
    drop(worker);
}
