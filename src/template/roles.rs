//! What each function may do, and to what: no more than the code of its stage does. `tests/aws/roles.rs` holds this against every
//! request that stages make.

use super::node::{Node, arn, index_arns, list, map, substitute};
use super::resources::Ids;
use crate::backends::dynamodb::groups::EXPIRES;
use crate::backends::dynamodb::runs::{ARRAY, FAILURES, GENERATION, LENGTH};
use crate::pipeline::definition::{Definition, StageDefinition};
use crate::stage::OnFailure;

/// The attributes of the write that notes that a run has failures on record, its condition's included. Most stages write
/// nothing else to the table of results.
const FAILURE_MARK: [&str; 4] = [ARRAY, EXPIRES, FAILURES, GENERATION];

/// The attributes against which messages are held, with the table's key.
const OUTLINE: [&str; 3] = [ARRAY, GENERATION, LENGTH];

/// The queue's functions, which Lambda's event source mapping does in the name of the function's role.
const RECEIVE: [&str; 3] = [
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
];
/// Opening a queue, and sending to it.
const SEND: [&str; 2] = ["sqs:GetQueueUrl", "sqs:SendMessage"];

/// What is allowed to be done to one resource.
struct Grant {
    actions: Vec<&'static str>,
    resource: String,
    /// Whether it is allowed to the table's indexes, rather than to the table.
    of_indexes: bool,
    conditions: Option<Node>,
}

impl Grant {
    fn new(actions: impl IntoIterator<Item = &'static str>, resource: &str) -> Self {
        Self {
            actions: actions.into_iter().collect(),
            resource: resource.to_owned(),
            of_indexes: false,
            conditions: None,
        }
    }
}

/// What the function of a stage may do.
pub(super) fn of_stage(definition: &Definition, index: usize, ids: &Ids) -> Vec<Node> {
    let (Some(stage), Some(part)) = (definition.stage(index), ids.stages.get(index)) else {
        return Vec::new();
    };
    let is_last = definition.stage(index + 1).is_none();
    // Backoff, handing back what there is no time for, and a reduction's next level.
    let own = RECEIVE.into_iter().chain(SEND);
    let mut grants = vec![
        Grant::new(own.chain(["sqs:ChangeMessageVisibility"]), &part.queue),
        Grant::new(SEND, &part.dead),
    ];
    if let Some(next) = ids.stages.get(index + 1) {
        grants.push(Grant::new(SEND, &next.queue));
    }
    // Whether a run is over, groups and their members, and what failed.
    let mut scratchpad = vec!["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"];
    if stores_values(definition, index) || is_last {
        // Partial results that are too large for their group's item, and the mark that a run is over.
        scratchpad.push("dynamodb:PutItem");
    }
    if stage.options.on_failure != OnFailure::Fail {
        // Items that were left out.
        scratchpad.push("dynamodb:BatchWriteItem");
    }
    grants.push(Grant::new(scratchpad, &ids.scratchpad));
    // What the root and the result stand for is held against the array's length; messages, against these attributes.
    let mut read = Grant::new(["dynamodb:GetItem"], &ids.results);
    if !stage.is_reduction() && !is_last {
        read.conditions = Some(map! {
            "ForAllValues:StringEquals" => map! {
                "dynamodb:Attributes" => OUTLINE.map(Node::from).to_vec(),
            },
            "StringEqualsIfExists" => map! { "dynamodb:Select" => "SPECIFIC_ATTRIBUTES" },
        });
    }
    grants.push(read);
    let mut write = Grant::new(["dynamodb:UpdateItem"], &ids.results);
    // An update could read what it replaces.
    let nothing_read = ("dynamodb:ReturnValues".to_owned(), Node::from("NONE"));
    write.conditions = Some(match is_last {
        true => map! { "StringEqualsIfExists" => vec![nothing_read] },
        // Only the result's own stage writes results: others note that something failed.
        false => map! {
            "ForAllValues:StringEquals" => map! {
                "dynamodb:Attributes" => FAILURE_MARK.map(Node::from).to_vec(),
            },
            "StringEqualsIfExists" => vec![nothing_read],
        },
    });
    grants.push(write);
    statements(grants)
}

/// Whether partial results of this stage go into slots of a tree. A later reduction has one leaf, and so no slot to fill itself.
fn stores_values(definition: &Definition, index: usize) -> bool {
    let is_first_reduction = |stage: &StageDefinition| {
        let first = definition.reductions().next();
        first.is_some_and(|first| first.name == stage.name)
    };
    match definition.stage(index) {
        Some(stage) if stage.is_reduction() => is_first_reduction(stage),
        _ => definition
            .stage(index + 1)
            .is_some_and(StageDefinition::is_reduction),
    }
}

/// What the API's function may do: submit, list and read runs, cancel one whose submission failed.
pub(super) fn of_api(definition: &Definition, ids: &Ids) -> Vec<Node> {
    let stages = definition.stages().iter().zip(&ids.stages);
    let mut grants: Vec<Grant> = stages
        .enumerate()
        // Packets go to the first stage. Where a tree is told its size last, a reduction may be due at once.
        .filter(|(index, (stage, _))| *index == 0 || stage.is_reduction())
        .map(|(_, (_, part))| Grant::new(SEND, &part.queue))
        .collect();
    grants.push(Grant::new(
        [
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        ],
        &ids.scratchpad,
    ));
    grants.push(Grant::new(
        [
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        ],
        &ids.results,
    ));
    let mut list = Grant::new(["dynamodb:Query"], &ids.results);
    list.of_indexes = true;
    grants.push(list);
    statements(grants)
}

fn statements(grants: Vec<Grant>) -> Vec<Node> {
    let statement = |grant: Grant| {
        let mut actions = grant.actions;
        actions.sort_unstable();
        let actions: Vec<Node> = actions.into_iter().map(Node::from).collect();
        let mut statement = vec![
            ("Effect".to_owned(), Node::from("Allow")),
            ("Action".to_owned(), actions.into()),
            (
                "Resource".to_owned(),
                match grant.of_indexes {
                    true => index_arns(&grant.resource),
                    false => arn(&grant.resource),
                },
            ),
        ];
        if let Some(conditions) = grant.conditions {
            statement.push(("Condition".to_owned(), conditions));
        }
        Node::Map(statement)
    };
    grants.into_iter().map(statement).collect()
}

/// What the services ask of a key in the name of the caller: SQS to send and to receive, DynamoDB to open a table.
const KEY_USES: [&str; 6] = [
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];

/// The use of the key that encrypts queues and tables: through these, and not by itself.
fn of_key(key: &str) -> Node {
    let through = |service: &str| substitute(format!("{service}.${{AWS::Region}}.amazonaws.com"));
    map! {
        "Effect" => "Allow",
        "Action" => KEY_USES.map(Node::from).to_vec(),
        "Resource" => key,
        "Condition" => map! {
            "StringEquals" => map! { "kms:ViaService" => list![through("dynamodb"), through("sqs")] },
        },
    }
}

/// A role that Lambda takes for a function, and which may write the function's log.
pub(super) fn role(mut statements: Vec<Node>, logs: &str, key: Option<&str>) -> Node {
    statements.extend(key.map(of_key));
    statements.push(map! {
        "Effect" => "Allow",
        "Action" => list!["logs:CreateLogStream", "logs:PutLogEvents"],
        // The log streams of this one group.
        "Resource" => arn(logs),
    });
    let assume = map! {
        "Version" => "2012-10-17",
        "Statement" => list![map! {
            "Effect" => "Allow",
            "Principal" => map! { "Service" => "lambda.amazonaws.com" },
            "Action" => "sts:AssumeRole",
        }],
    };
    let policy = map! {
        "PolicyName" => "stage",
        "PolicyDocument" => map! {
            "Version" => "2012-10-17",
            "Statement" => statements,
        },
    };
    super::node::resource(
        "AWS::IAM::Role",
        map! {
            "AssumeRolePolicyDocument" => assume,
            "Policies" => list![policy],
        },
    )
}
