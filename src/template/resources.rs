//! Queues, tables and logs, as `provision` makes them, and what everything is called within a template.

use aws_sdk_dynamodb::types::{BillingMode, KeyType};

use super::functions::API;
use super::node::{Node, arn, list, map, reference, resource};
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
    pub(super) queue_policy: String,
    pub(super) dead: String,
    pub(super) dead_policy: String,
    pub(super) logs: String,
    pub(super) role: String,
    pub(super) function: String,
    pub(super) mapping: String,
}

impl Part {
    /// No suffix ends with another one, nor with the suffix of any other resource of a template, so that two ids are equal only if
    /// their prefixes and their kinds are.
    fn new(prefix: &str) -> Self {
        Self {
            queue: format!("{prefix}Queue"),
            queue_policy: format!("{prefix}QueuePolicy"),
            dead: format!("{prefix}DeadLetters"),
            dead_policy: format!("{prefix}DeadLettersPolicy"),
            logs: format!("{prefix}Logs"),
            role: format!("{prefix}Role"),
            function: format!("{prefix}Function"),
            mapping: format!("{prefix}Mapping"),
        }
    }
}

impl Ids {
    pub(super) fn of(definition: &Definition) -> Self {
        let stages = definition.stages().iter();
        Self {
            stages: stages.map(|stage| Part::new(&id_of(&stage.name))).collect(),
            api: Part::new(&id_of(API)),
            scratchpad: "ScratchpadTable".to_owned(),
            results: "ResultsTable".to_owned(),
        }
    }
}

/// A stage's name as a logical id takes it: letters and digits only. It follows from this name alone, since a stack's update removes
/// what an id stood for if that id comes to stand for another stage; and no two names have the same.
///
/// `parse_line` is `ParseLine`. A name that is not words in lower case joined by `_` keeps its letters after an `x`, with `D` for `-`,
/// `U` for `_`, and `C` before a capital: `map-0` is `xmapD0`. Ids of the first kind begin with a capital.
fn id_of(name: &str) -> String {
    let is_word = |word: &str| {
        let is_small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(is_small)
    };
    let mut id = String::new();
    if name.split('_').all(is_word) {
        for word in name.split('_') {
            let mut letters = word.chars();
            id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            id.extend(letters);
        }
        return id;
    }
    id.push('x');
    for c in name.chars() {
        match c {
            '-' => id.push('D'),
            '_' => id.push('U'),
            c if c.is_ascii_uppercase() => id.extend(['C', c]),
            c => id.push(c),
        }
    }
    id
}

/// How what the stack stores is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping<'a> {
    /// The ARN of the KMS key that encrypts it, if it is not to be the service's own.
    pub(super) key: Option<&'a str>,
    /// For how many days back a table can be restored.
    pub(super) recovery: Option<u32>,
    /// Whether it outlives the stack.
    pub(super) retain: bool,
}

impl Keeping<'_> {
    /// What becomes of a resource with its stack is said, rather than left to a default.
    fn stored(self, kind: &str, properties: Vec<(String, Node)>) -> Node {
        let policy = if self.retain { "Retain" } else { "Delete" };
        map! {
            "Type" => kind,
            "DeletionPolicy" => policy,
            "UpdateReplacePolicy" => policy,
            "Properties" => properties,
        }
    }
}

/// A stage's queue and its dead-letter queue, each with its policy.
pub(super) fn queues(
    deployment: &str,
    stage: &str,
    plan: &Plan,
    part: &Part,
    keeping: Keeping<'_>,
) -> [(String, Node); 4] {
    let name = name::queue(deployment, stage);
    let settings = plan.queue;
    let properties = |name: String| {
        let mut properties = vec![
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
        ];
        let key = keeping.key.map(Node::from);
        properties.extend(key.map(|key| ("KmsMasterKeyId".to_owned(), key)));
        properties
    };
    let dead = properties(name::dead_letters(&name));
    let mut own = properties(name);
    own.push((
        "RedrivePolicy".to_owned(),
        map! {
            "deadLetterTargetArn" => arn(&part.dead),
            "maxReceiveCount" => settings.receives,
        },
    ));
    [
        (part.queue.clone(), keeping.stored("AWS::SQS::Queue", own)),
        (part.queue_policy.clone(), only_with_tls(&part.queue)),
        (part.dead.clone(), keeping.stored("AWS::SQS::Queue", dead)),
        (part.dead_policy.clone(), only_with_tls(&part.dead)),
    ]
}

/// SQS answers plain HTTP as well, and a message would travel in the clear. A queue's policy may name
/// that queue only, so each has its own.
fn only_with_tls(queue: &str) -> Node {
    let refused = map! {
        "Effect" => "Deny",
        "Principal" => "*",
        "Action" => "sqs:*",
        "Resource" => arn(queue),
        "Condition" => map! { "Bool" => map! { "aws:SecureTransport" => "false" } },
    };
    let document = map! { "Version" => "2012-10-17", "Statement" => list![refused] };
    resource(
        "AWS::SQS::QueuePolicy",
        map! { "Queues" => list![reference(queue)], "PolicyDocument" => document },
    )
}

pub(super) fn table(table: &Table<'_>, keeping: Keeping<'_>) -> Node {
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
    if let Some(key) = keeping.key {
        let encryption = map! {
            "SSEEnabled" => true,
            "SSEType" => "KMS",
            "KMSMasterKeyId" => key,
        };
        properties.push(("SSESpecification".to_owned(), encryption));
    }
    if let Some(days) = keeping.recovery {
        let recovery = map! {
            "PointInTimeRecoveryEnabled" => true,
            "RecoveryPeriodInDays" => days,
        };
        properties.push(("PointInTimeRecoverySpecification".to_owned(), recovery));
    }
    keeping.stored("AWS::DynamoDB::Table", properties)
}

fn schema(keys: &[(&'static str, KeyType)]) -> Node {
    let keys = keys
        .iter()
        .map(|(name, kind)| map! { "AttributeName" => *name, "KeyType" => kind.as_str() });
    keys.collect::<Vec<Node>>().into()
}

/// A group of logs, kept for this many days.
pub(super) fn logs(name: String, days: u32, keeping: Keeping<'_>) -> Node {
    let mut properties = vec![
        ("LogGroupName".to_owned(), Node::from(name)),
        ("RetentionInDays".to_owned(), days.into()),
    ];
    let key = keeping.key.map(Node::from);
    properties.extend(key.map(|key| ("KmsKeyId".to_owned(), key)));
    keeping.stored("AWS::Logs::LogGroup", properties)
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
    let function = ("FunctionName".to_owned(), reference(&part.function));
    resource(
        "AWS::Lambda::EventSourceMapping",
        mapping(plan, arn(&part.queue), "EventSourceArn", vec![function]),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::name;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Nothing of a stage has the id of anything else: of another stage, or of the stage itself.
        #[test]
        fn no_two_resources_have_one_id(names in prop::collection::btree_set(
            "(a|b|A|B|C|D|U|x|0|-|_|queue|dead_letters|scratchpad|api|http){1,4}", 2..8,
        )) {
            let mut taken: HashMap<String, &str> = HashMap::new();
            for fixed in ["ScratchpadTable", "ResultsTable", "HttpApi", "HttpApiStage", "HttpApiIntegration",
                "HttpApiPermission", "HttpApiAuthorizer", "HttpApiAccessLog", "SubmitRoute", "StatusRoute"] {
                taken.insert(fixed.to_owned(), fixed);
            }
            for stage in names.iter().filter(|stage| name::check(stage).is_ok()) {
                let Part { queue, queue_policy, dead, dead_policy, logs, role, function, mapping } = Part::new(&id_of(stage));
                for id in [queue, queue_policy, dead, dead_policy, logs, role, function, mapping] {
                    prop_assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{}", id);
                    let other = taken.insert(id.clone(), stage);
                    prop_assert!(other.is_none(), "{} and {:?}: {}", stage, other, id);
                }
            }
        }
    }

    #[test]
    fn an_id_follows_from_its_stages_name_alone() {
        let ids = [
            "times_two",
            "api",
            "map-0",
            "eu-parse",
            "0sum",
            "_a",
            "parseHTML",
        ]
        .map(id_of);
        assert_eq!(
            ids,
            [
                "TimesTwo",
                "Api",
                "xmapD0",
                "xeuDparse",
                "x0sum",
                "xUa",
                "xparseCHCTCMCL"
            ]
        );
    }
}
