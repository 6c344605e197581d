//! Limits of the services: told when a pipeline is deployed, and stated alike by `provision` and templates.

use std::time::Duration;

use catchment::backends::aws::AwsBackend;
use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::backends::sqs::SqsQueues;
use catchment::queue::{QueueOptions, Queues};
use catchment::scratchpad::Scratchpad;
use catchment::{Error, Pipeline, Stage};
use serde_json::json;

use crate::fake::{Fake, Reply};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `deploy` says about this stage over this backend.
fn refused(stage: Stage, backend: AwsBackend) -> String {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(stage)
        .reduce(|| 0, |a, b| a + b);
    let error = adder.deploy("adder", backend).unwrap_err();
    assert!(matches!(error, Error::InvalidPipeline { .. }), "{error:?}");
    println!("{error}");
    error.to_string()
}

#[test]
fn deploy_tells_what_the_services_do_not_take() {
    let aws = AwsBackend::offline;
    let stage = || Stage::named("fetch");
    let half_a_day = Duration::from_secs(12 * 60 * 60);
    for (stage, backend, parts) in [
        (
            stage().attempts(2_000),
            aws(),
            ["stage `fetch`", "attempts is 2000", "1 to 900"],
        ),
        (
            stage().visibility_timeout(half_a_day + Duration::from_secs(1)),
            aws(),
            ["stage `fetch`", "visibility_timeout is 43201s", "12 hours"],
        ),
        (
            stage().visibility_timeout(Duration::MAX),
            aws(),
            ["stage `fetch`", "visibility_timeout", "43200 s"],
        ),
        (
            stage(),
            aws().max_payload(100),
            ["max_payload", "100 bytes", "262144 to 1048576"],
        ),
        (
            stage(),
            aws().max_payload(2 * 1024 * 1024),
            ["max_payload", "2097152 bytes", "262144 to 1048576"],
        ),
        (
            stage(),
            aws().retention(14 * DAY),
            ["retention", "adder-scratchpad", "at least 15 days"],
        ),
        (
            stage(),
            aws().tables("pad", "my results"),
            ["my results", "' '", "DynamoDB"],
        ),
        (
            stage(),
            aws().tables("pad", "pad"),
            ["both named", "`pad`", "different"],
        ),
    ] {
        let text = refused(stage, backend);
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let most = stage().attempts(900).visibility_timeout(half_a_day);
    let adder = Pipeline::new().map(|n: i64| n * 2).with(most).count();
    adder.deploy("adder", aws().retention(15 * DAY)).unwrap();
}

/// Queues and scratchpads that are used without a deployment.
#[tokio::test(start_paused = true)]
async fn provision_tells_it_too_before_it_asks_anything() {
    let fake = Fake::start(|_| Reply::ok(json!({}))).await;
    let queues = SqsQueues::new(&fake.config());
    for options in [
        QueueOptions::default().attempts(1_001),
        QueueOptions::default().visibility_timeout(DAY),
        QueueOptions::default().visibility_timeout(Duration::ZERO),
    ] {
        let error = queues.provision("work", &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidPipeline { .. }), "{error}");
        let error = queues.open("work", &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidPipeline { .. }), "{error}");
    }
    let pad = DynamoDbScratchpad::new(&fake.config()).tables("a", "results");
    let error = pad.provision().await.unwrap_err();
    assert!(error.to_string().contains("3 to 255"), "{error}");
    assert!(fake.take().is_empty());
}

/// A template and `provision` describe the same queues and tables.
#[cfg(feature = "lambda")]
#[tokio::test(start_paused = true)]
async fn a_template_says_what_provision_makes() {
    use catchment::template::Template;
    use serde_json::Value;

    const ARN: &str = "arn:aws:sqs:here:1:dead";
    let fake = Fake::start(|request| match request.operation.as_str() {
        "CreateQueue" => Reply::ok(json!({"QueueUrl": request.text("QueueName")})),
        "GetQueueAttributes" => Reply::ok(json!({"Attributes": {
            "QueueArn": ARN,
            "VisibilityTimeout": "600",
            "MessageRetentionPeriod": "1209600",
            "MaximumMessageSize": "262144",
        }})),
        _ => Reply::ok(json!({})),
    })
    .await;
    // Each queue and table is missing at the first look, and there at the second.
    let mut found = Vec::new();
    fake.always("GetQueueUrl", move |request| {
        let name = request.text("QueueName").to_owned();
        match found.contains(&name) {
            true => Reply::ok(json!({"QueueUrl": name})),
            false => {
                found.push(name);
                Reply::refused(400, "com.amazonaws.sqs#QueueDoesNotExist", "no")
            }
        }
    });
    let mut seen = Vec::new();
    fake.always("DescribeTable", move |request| {
        let name = request.text("TableName").to_owned();
        if !seen.contains(&name) {
            seen.push(name);
            let kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException";
            return Reply::refused(400, kind, "no");
        }
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let (keys, indexes) = match name.as_str() {
            "pad" => (
                json!([key("groupId", "HASH"), key("slot", "RANGE")]),
                json!([]),
            ),
            _ => {
                let keys = json!([key("listed", "HASH"), key("listedAt", "RANGE")]);
                let index =
                    json!({"IndexName": "runs", "IndexStatus": "ACTIVE", "KeySchema": keys});
                (json!([key("arrayId", "HASH")]), json!([index]))
            }
        };
        Reply::ok(json!({"Table": {
            "TableStatus": "ACTIVE", "KeySchema": keys, "GlobalSecondaryIndexes": indexes,
        }}))
    });
    let backend = AwsBackend::new(&fake.config())
        .max_payload(256 * 1024)
        .tables("pad", "answers");
    let patient = |name| Stage::named(name).visibility_timeout(Duration::from_secs(600));
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(patient("double").attempts(7))
        .reduce(|| 0, |a, b| a + b)
        .with(patient("sum"));
    let adder = adder.deploy("adder", backend).unwrap();
    let template = adder.template(Template::CloudFormation).unwrap();
    let template: Value = serde_saphyr::from_str(&template).unwrap();
    adder.provision().await.unwrap();
    let requests = fake.take();

    let resources = template["Resources"].as_object().unwrap();
    let described = |kind: &str, name: &str| {
        let mut of_kind = resources.values().filter(|it| it["Type"] == kind);
        let named = |it: &&Value| {
            let properties = &it["Properties"];
            properties["QueueName"] == name || properties["TableName"] == name
        };
        of_kind.find(named).unwrap_or_else(|| panic!("{name}"))["Properties"].clone()
    };
    let mut compared = 0;
    for request in &requests {
        match request.operation.as_str() {
            "CreateQueue" => {
                let mut said = described("AWS::SQS::Queue", request.text("QueueName"));
                let mut made = request.body["Attributes"].clone();
                // A template refers to the dead-letter queue by its id, and writes numbers as such.
                if let Some(policy) = made.get_mut("RedrivePolicy") {
                    *policy = serde_json::from_str(policy.as_str().unwrap()).unwrap();
                    said["RedrivePolicy"]["deadLetterTargetArn"] = json!(ARN);
                }
                let said = said.as_object_mut().unwrap();
                said.remove("QueueName");
                for value in said.values_mut().filter(|value| value.is_u64()) {
                    *value = json!(value.to_string());
                }
                assert_eq!(json!(said), made, "{request:?}");
            }
            "CreateTable" => {
                let mut said = described("AWS::DynamoDB::Table", request.text("TableName"));
                let expiry = said.as_object_mut().unwrap();
                let expiry = expiry.remove("TimeToLiveSpecification").unwrap();
                assert_eq!(said, request.body);
                let mut expires = requests
                    .iter()
                    .filter(|it| it.operation == "UpdateTimeToLive");
                let set = expires.find(|it| it.text("TableName") == request.text("TableName"));
                assert_eq!(set.unwrap().body["TimeToLiveSpecification"], expiry);
            }
            _ => continue,
        }
        compared += 1;
    }
    assert_eq!(compared, 6);
}
