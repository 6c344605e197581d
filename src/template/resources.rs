//! Queues, tables and logs, as `provision` makes them, and what everything is called within a template.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::{BillingMode, KeyType};

use super::node::{Node, arn, list, map, resource};
use super::plan::Plan;
use crate::backends::dynamodb::groups::EXPIRES;
use crate::backends::dynamodb::provision::Table;
use crate::core::name;
use crate::pipeline::definition::Definition;

/// The logical ids of a template.
pub(super) struct Ids {
    pub(super) stages: Vec<Part>,
    pub(super) api: Part,
    pub(super) scratchpad: String,
    pub(super) results: String,
}

/// The logical ids of a stage's resources; the API's function has a role and logs only.
pub(super) struct Part {
    pub(super) queue: String,
    pub(super) dead: String,
    pub(super) logs: String,
    pub(super) role: String,
    pub(super) function: String,
    pub(super) mapping: String,
}

impl Part {
    fn new(prefix: &str) -> Self {
        Self {
            queue: format!("{prefix}Queue"),
            dead: format!("{prefix}DeadLetterQueue"),
            logs: format!("{prefix}Logs"),
            role: format!("{prefix}Role"),
            function: format!("{prefix}Function"),
            mapping: format!("{prefix}Mapping"),
        }
    }

    fn all(&self) -> [&String; 6] {
        let Self {
            queue,
            dead,
            logs,
            role,
            function,
            mapping,
        } = self;
        [queue, dead, logs, role, function, mapping]
    }
}

impl Ids {
    pub(super) fn of(definition: &Definition) -> Self {
        let mut ids = Self {
            stages: Vec::new(),
            api: Part::new("Api"),
            scratchpad: "ScratchpadTable".to_owned(),
            results: "ResultsTable".to_owned(),
        };
        let mut taken: HashSet<String> = ids.api.all().into_iter().cloned().collect();
        for stage in definition.stages() {
            let prefix = camel_case(&stage.name);
            // Names that differ in `-` and `_` only become one.
            let mut part = Part::new(&prefix);
            let mut copy = 2;
            while part.all().into_iter().any(|id| taken.contains(id)) {
                part = Part::new(&format!("{prefix}{copy}"));
                copy += 1;
            }
            taken.extend(part.all().into_iter().cloned());
            ids.stages.push(part);
        }
        ids
    }
}

/// Letters and digits only. It begins with a letter.
fn camel_case(name: &str) -> String {
    let mut text = String::new();
    let mut starts = true;
    for c in name.chars() {
        match c.is_ascii_alphanumeric() {
            true if starts => text.push(c.to_ascii_uppercase()),
            true => text.push(c),
            false => {}
        }
        starts = !c.is_ascii_alphanumeric();
    }
    match text.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => text,
        _ => format!("Stage{text}"),
    }
}

/// What is stored goes with the stack: it is said, rather than left to a default.
fn stored(kind: &str, properties: Node) -> Node {
    map! {
        "Type" => kind,
        "DeletionPolicy" => "Delete",
        "UpdateReplacePolicy" => "Delete",
        "Properties" => properties,
    }
}

/// A stage's queue and its dead-letter queue.
pub(super) fn queues(
    deployment: &str,
    stage: &str,
    plan: &Plan,
    part: &Part,
) -> [(String, Node); 2] {
    let name = name::queue(deployment, stage);
    let settings = plan.queue;
    let properties = |name: String| {
        vec![
            ("QueueName".to_owned(), Node::from(name)),
            (
                "VisibilityTimeout".to_owned(),
                settings.visibility.unsigned_abs().into(),
            ),
            (
                "MessageRetentionPeriod".to_owned(),
                settings.retention.into(),
            ),
            (
                "MaximumMessageSize".to_owned(),
                (settings.max_message as u64).into(),
            ),
        ]
    };
    let dead = properties(name::dead_letters(&name));
    let mut own = properties(name);
    own.push((
        "RedrivePolicy".to_owned(),
        map! {
            "deadLetterTargetArn" => arn(&part.dead),
            "maxReceiveCount" => settings.deliveries,
        },
    ));
    [
        (part.queue.clone(), stored("AWS::SQS::Queue", own.into())),
        (part.dead.clone(), stored("AWS::SQS::Queue", dead.into())),
    ]
}

pub(super) fn table(table: &Table<'_>) -> Node {
    let attributes = table.key_attributes();
    let attributes: Vec<Node> = attributes
        .map(|name| map! { "AttributeName" => name, "AttributeType" => "S" })
        .collect();
    let mut properties = vec![
        ("TableName".to_owned(), Node::from(table.name)),
        (
            "BillingMode".to_owned(),
            BillingMode::PayPerRequest.as_str().into(),
        ),
        ("AttributeDefinitions".to_owned(), attributes.into()),
        ("KeySchema".to_owned(), schema(table.keys)),
    ];
    if let Some(index) = &table.index {
        let included = index.attributes.iter().map(|name| Node::from(*name));
        let index = map! {
            "IndexName" => index.name,
            "KeySchema" => schema(index.keys),
            "Projection" => map! {
                "ProjectionType" => "INCLUDE",
                "NonKeyAttributes" => included.collect::<Vec<_>>(),
            },
        };
        properties.push(("GlobalSecondaryIndexes".to_owned(), list![index]));
    }
    let expiry = map! { "AttributeName" => EXPIRES, "Enabled" => true };
    properties.push(("TimeToLiveSpecification".to_owned(), expiry));
    stored("AWS::DynamoDB::Table", properties.into())
}

fn schema(keys: &[(&'static str, KeyType)]) -> Node {
    let keys = keys
        .iter()
        .map(|(name, kind)| map! { "AttributeName" => *name, "KeyType" => kind.as_str() });
    keys.collect::<Vec<Node>>().into()
}

pub(super) fn logs(function: &str, days: u32) -> Node {
    stored(
        "AWS::Logs::LogGroup",
        map! {
            "LogGroupName" => format!("/aws/lambda/{function}"),
            "RetentionInDays" => days,
        },
    )
}

/// Lambda's way from a queue to a function.
pub(super) fn mapping(
    plan: &Plan,
    queue: Node,
    queue_key: &str,
    rest: Vec<(String, Node)>,
) -> Node {
    let mut properties = vec![(queue_key.to_owned(), queue)];
    properties.extend(rest);
    properties.extend([
        ("BatchSize".to_owned(), plan.function.batch_size.into()),
        (
            "MaximumBatchingWindowInSeconds".to_owned(),
            plan.function.window.into(),
        ),
        (
            "FunctionResponseTypes".to_owned(),
            list!["ReportBatchItemFailures"],
        ),
        (
            "ScalingConfig".to_owned(),
            map! { "MaximumConcurrency" => plan.function.concurrency },
        ),
        (
            "Enabled".to_owned(),
            map! { "Fn::If" => list!["IsReceiving", true, false] },
        ),
    ]);
    properties.into()
}

/// The mapping as a resource of its own.
pub(super) fn mapping_resource(plan: &Plan, part: &Part) -> Node {
    let function = (
        "FunctionName".to_owned(),
        super::node::reference(&part.function),
    );
    resource(
        "AWS::Lambda::EventSourceMapping",
        mapping(plan, arn(&part.queue), "EventSourceArn", vec![function]),
    )
}
