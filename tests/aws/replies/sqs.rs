//! Amazon SQS.

mod burying;
mod codes;
mod dead_letters;
mod errors;
mod fairness;
mod policy;
mod provisioning;
mod receipts;
mod receiving;
mod sending;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, SystemTime};

use catchment::backends::sqs::SqsQueues;
use catchment::provision::Action;
use catchment::queue::{Delivery, Outgoing, Queue, QueueOptions, Queues, Receipt};
use catchment::testing::written;
use catchment::{Codec, Error};

use super::*;

const SEND: &str = "SendMessageBatch";
const DELETE: &str = "DeleteMessageBatch";
const HIDE: &str = "ChangeMessageVisibilityBatch";
const RECEIVE: &str = "ReceiveMessage";
const KIB: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// A service in which everything succeeds.
async fn start() -> Fake {
    Fake::start(|request| match request.operation.as_str() {
        "GetQueueUrl" | "CreateQueue" => url(request.text("QueueName")),
        SEND | DELETE | HIDE => batch(request, |_| Fate::Done),
        "SendMessage" => Reply::ok(json!({"MessageId": "sent"})),
        _ => Reply::ok(json!({})),
    })
    .await
}

fn url(queue: &str) -> Reply {
    Reply::ok(json!({"QueueUrl": format!("http://queues/{queue}")}))
}

/// The queue `work`, whose opening is not counted.
async fn open(fake: &Fake) -> Arc<dyn Queue> {
    let queues = SqsQueues::new(&fake.config());
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    assert_eq!(operations(&fake.take()), ["GetQueueUrl"]);
    queue
}

/// The outcome of an entry of a batch.
#[derive(Clone, Copy)]
enum Fate {
    Done,
    /// With this code, by a fault of the service.
    Failed(&'static str),
    /// With this code, by a fault of the sender.
    Refused(&'static str),
    Unmentioned,
}

/// The answer to a batch. The service leaves out lists that are empty.
fn batch(request: &Request, fate: impl Fn(&str) -> Fate) -> Reply {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for entry in request.body["Entries"].as_array().unwrap() {
        let failure = |code: &str, fault: bool| json!({"Id": entry["Id"], "Code": code, "Message": "no", "SenderFault": fault});
        match fate(&text(entry)) {
            Fate::Done => done.push(json!({"Id": entry["Id"], "MessageId": "sent"})),
            Fate::Failed(code) => failed.push(failure(code, false)),
            Fate::Refused(code) => failed.push(failure(code, true)),
            Fate::Unmentioned => {}
        }
    }
    let mut answer = json!({});
    if !done.is_empty() {
        answer["Successful"] = json!(done);
    }
    if !failed.is_empty() {
        answer["Failed"] = json!(failed);
    }
    Reply::ok(answer)
}

/// An answer in which these entries have this fate, and the others are done.
fn but<const N: usize>(
    texts: [&'static str; N],
    fate: Fate,
) -> impl Fn(&Request) -> Reply + Send + 'static {
    move |request| {
        batch(request, |text| match texts.contains(&text) {
            true => fate,
            false => Fate::Done,
        })
    }
}

/// The subject of an entry: a body or a receipt.
fn text(entry: &Value) -> String {
    let text = entry.get("MessageBody").or(entry.get("ReceiptHandle"));
    text.and_then(Value::as_str).unwrap().to_owned()
}

fn texts(request: &Request) -> Vec<String> {
    let entries = request.body["Entries"].as_array().unwrap();
    entries.iter().map(text).collect()
}

/// The operations, and the subjects of each request's entries.
fn batches(requests: &[Request]) -> Vec<(&str, Vec<String>)> {
    let requests = requests.iter();
    requests
        .map(|it| (it.operation.as_str(), texts(it)))
        .collect()
}

fn bodies<const N: usize>(texts: [&'static str; N]) -> Vec<Outgoing> {
    texts.map(Outgoing::new).into()
}

fn receipt(text: &str) -> Receipt {
    Receipt::new(text)
}

fn receipts<const N: usize>(texts: [&str; N]) -> Vec<Receipt> {
    texts.map(receipt).into()
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

/// A refusal as the service words it: with the code of its older protocol in a header.
fn refused(status: u16, kind: &str, code: &str) -> Reply {
    Reply::refused(status, &format!("com.amazonaws.sqs#{kind}"), "no")
        .header("x-amzn-query-error", format!("{code};Sender"))
}

fn missing() -> Reply {
    refused(
        400,
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
    )
}

fn denied() -> Reply {
    let kind = "com.amazon.coral.service#AccessDeniedException";
    Reply::refused(403, kind, "you are not allowed to do this")
        .header("x-amzn-query-error", "AccessDenied;Sender")
}

fn message(id: &str, receipt: &str, count: u32) -> Value {
    json!({
        "MessageId": id,
        "ReceiptHandle": receipt,
        "Body": format!("body of {id}"),
        "Attributes": {"ApproximateReceiveCount": count.to_string()},
    })
}

fn messages<const N: usize>(messages: [Value; N]) -> Reply {
    Reply::ok(json!({"Messages": messages.to_vec()}))
}

fn delivery(text: &str) -> Delivery {
    Delivery::new("bad", receipt(text), 5)
}

/// For each request the operation and the queue.
fn asked(requests: &[Request]) -> Vec<String> {
    let line = |request: &Request| {
        let queue = match request.text("QueueName") {
            "" => request.text("QueueUrl").replace("http://queues/", ""),
            name => name.to_owned(),
        };
        format!("{} {queue}", request.operation)
    };
    requests.iter().map(line).collect()
}

async fn provision(fake: &Fake) -> Vec<Action> {
    let queues = SqsQueues::new(&fake.config());
    let options = QueueOptions::default().attempts(5);
    let changes = queues.provision("work", &options).await.unwrap();
    let resources: Vec<&str> = changes.iter().map(|it| it.resource.as_str()).collect();
    assert_eq!(resources, ["SQS queue `work--dead`", "SQS queue `work`"]);
    changes.into_iter().map(|change| change.action).collect()
}
