//! Amazon DynamoDB.

mod arriving;
mod codes;
mod errors;
mod failures;
mod listing;
mod provisioning;
mod reading;
mod runs;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::scratchpad::{
    Arrival, Attempt, Begun, DeadLetterId, DeliveryId, FailureReport, Failures, Generation,
    GroupId, GroupState, Groups, Members, PacketPlan, RunKey, RunRecord, Runs, Verdict,
};
use catchment::{Error, RunId};

use super::*;

const UPDATE: &str = "UpdateItem";
const PUT: &str = "PutItem";
const GET: &str = "GetItem";
const QUERY: &str = "Query";
const GET_MANY: &str = "BatchGetItem";
const WRITE_MANY: &str = "BatchWriteItem";
/// The service's limit of an item.
const ITEM: usize = 400 * 1024;

/// A service that accepts every write, and stores nothing.
async fn start() -> (Fake, DynamoDbScratchpad) {
    let fake = Fake::start(|_| Reply::ok(json!({}))).await;
    let scratchpad = scratchpad(&fake);
    (fake, scratchpad)
}

fn scratchpad(fake: &Fake) -> DynamoDbScratchpad {
    DynamoDbScratchpad::new(&fake.config()).tables("pad", "results")
}

fn run_key() -> RunKey {
    RunKey::new("run", Generation::default())
}

fn group(index: u64) -> GroupId {
    GroupId::new(run_key(), "sum", 1, index)
}

fn arrival(index: u64, slot: u32, value: &str) -> Arrival {
    Arrival::new(group(index), slot, value.to_owned())
}

/// The key of a group's own item.
fn key(index: u64) -> Value {
    json!({"groupId": {"S": format!("run#0000000000000000#sum#1#{index}")}, "slot": {"S": "group"}})
}

/// The attributes of a group in which these slots have arrived.
fn attributes(arrived: &[u32]) -> Value {
    let slots: Vec<String> = arrived.iter().map(u32::to_string).collect();
    json!({"arrived": {"NS": slots}, "expected": {"N": "-1"}, "root": {"BOOL": false}})
}

fn state(arrived: u32) -> GroupState {
    GroupState::new(arrived)
}

const TABLES: &str = "com.amazonaws.dynamodb.v20120810";

fn refused(code: &str) -> Reply {
    Reply::refused(400, &format!("{TABLES}#{code}"), "no")
}

fn failed_condition(fields: Value) -> Reply {
    let kind = format!("{TABLES}#ConditionalCheckFailedException");
    Reply::refused_with(400, &kind, "The conditional request failed", fields)
}

/// A value of an expression, by what it is assigned to.
fn assigned<'a>(request: &'a Request, name: &str) -> &'a Value {
    let expression = request.text("UpdateExpression");
    let (_, rest) = expression
        .split_once(&format!("#{name} = "))
        .unwrap_or_else(|| panic!("{name} in {expression}"));
    let rest = rest.split(", #").next().unwrap();
    let (_, value) = rest.rsplit_once(':').unwrap();
    let value: String = value.chars().take_while(char::is_ascii_digit).collect();
    &request.body["ExpressionAttributeValues"][format!(":{value}")]
}

/// The groups that a BatchGetItem asks for.
fn wanted(request: &Request) -> Vec<u64> {
    let keys = request.body["RequestItems"]["pad"]["Keys"].as_array();
    let index = |key: &Value| {
        let group = key["groupId"]["S"].as_str().unwrap();
        group.rsplit('#').next().unwrap().parse().unwrap()
    };
    keys.unwrap().iter().map(index).collect()
}

/// The answer to a BatchGetItem that returns the groups `found`, each with the slot of its own
/// number, and leaves `left` unprocessed.
fn slots(found: &[u64], left: &[u64]) -> Reply {
    let items = found.iter().map(|index| {
        let mut item = key(*index);
        item["arrived"] = json!({"NS": [index.to_string()]});
        item
    });
    let mut answer = json!({"Responses": {"pad": items.collect::<Vec<_>>()}});
    if !left.is_empty() {
        let keys: Vec<Value> = left.iter().map(|index| key(*index)).collect();
        answer["UnprocessedKeys"] = json!({"pad": {"Keys": keys, "ConsistentRead": true}});
    }
    Reply::ok(answer)
}

fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_000)
}

fn attempt(number: u32, item: u64, error: impl Into<String>) -> Attempt {
    let mut attempt = Attempt::new(number, time(), error);
    attempt.item = Some(item);
    attempt
}

/// A report of `items` failed items of packet 3.
fn report(items: u64, verdict: Verdict) -> FailureReport {
    let attempts = (0..items).map(|item| attempt(5, item, "bad")).collect();
    FailureReport::new(run_key(), "parse", "packet 3", attempts, verdict)
}

fn record() -> RunRecord {
    let plan = PacketPlan::Fixed(10);
    let mut record = RunRecord::new("run", time(), "parse", "sum", 32, plan);
    record.generation = Generation::default();
    record.array_length = Some(100);
    record.packets = Some(10);
    record
}

/// A run's item, with further attributes.
fn run_item(mut attributes: Value) -> Value {
    attributes["arrayId"] = json!({"S": "run"});
    attributes["generation"] = json!({"S": Generation::default().to_string()});
    attributes["record"] = json!({"S": serde_json::to_string(&record()).unwrap()});
    attributes
}
