//! Provisioning queues.

use super::*;

const ARN: &str = "arn:aws:sqs:here:1:work--dead";

/// The settings of a queue as provisioning would make it, with its policy in other words.
fn attributes(request: &Request) -> Value {
    let policy = format!(r#"{{ "maxReceiveCount" : "50", "deadLetterTargetArn":"{ARN}"}}"#);
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
            "GetQueueUrl work--dead",
            "GetQueueAttributes work--dead",
            "GetQueueUrl work",
            "CreateQueue work",
        ]
    );
    let policy = requests[5].body["Attributes"]["RedrivePolicy"].as_str();
    let policy: Value = serde_json::from_str(policy.unwrap()).unwrap();
    assert_eq!(
        policy,
        json!({"deadLetterTargetArn": ARN, "maxReceiveCount": 50})
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
    assert_eq!(requests.len(), 7);
    let set = &requests[6];
    assert_eq!(asked(&requests)[6], "SetQueueAttributes work");
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
        if name == "work--dead" {
            fake.next("GetQueueUrl", there);
        }
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
        requests[10].body["Attributes"],
        json!({"MaximumMessageSize": "1048576"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_deleted_a_moment_ago_is_made_when_the_service_lets_it() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
    fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
    fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
    fake.replies("GetQueueUrl", [missing()]);
    let recently = || {
        refused(
            400,
            "QueueDeletedRecently",
            "AWS.SimpleQueueService.QueueDeletedRecently",
        )
    };
    let begin = tokio::time::Instant::now();
    // The service asks for a minute.
    fake.always("CreateQueue", move |_| match begin.elapsed() < MINUTE {
        true => recently(),
        false => Reply::ok(json!({"QueueUrl": "http://queues/work"})),
    });
    assert_eq!(provision(&fake).await, [Action::Unchanged, Action::Created]);
    assert!(begin.elapsed() < MINUTE + Duration::from_secs(6));
    let requests = fake.take();
    assert_eq!(operations(&requests[4..5]), ["GetQueueUrl"]);
    assert_eq!(operations(&requests[5..]), ["CreateQueue"; 13]);
}
