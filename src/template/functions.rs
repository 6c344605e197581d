//! The functions of the stages, in either kind of template.

use super::node::{Node, arn, list, map, reference, resource};
use super::options::Template;
use super::plan::Plan;
use super::resources::{Part, mapping, mapping_resource};
use crate::core::name;

/// What the function of the API takes itself for, in `CATCHMENT_STAGE`.
pub(super) const API: &str = "api";

/// What a function is made of.
pub(super) struct Function<'a> {
    pub(super) deployment: &'a str,
    pub(super) stage: &'a str,
    pub(super) memory: u32,
    pub(super) timeout: u64,
    pub(super) part: &'a Part,
}

impl Function<'_> {
    pub(super) fn name(&self) -> String {
        name::queue(self.deployment, self.stage)
    }

    /// What both kinds of template say.
    fn properties(&self) -> Vec<(String, Node)> {
        let environment = map! {
            "CATCHMENT_DEPLOYMENT" => self.deployment,
            "CATCHMENT_STAGE" => self.stage,
        };
        vec![
            ("FunctionName".to_owned(), self.name().into()),
            ("Role".to_owned(), arn(&self.part.role)),
            ("MemorySize".to_owned(), self.memory.into()),
            ("Timeout".to_owned(), self.timeout.into()),
            (
                "Environment".to_owned(),
                map! { "Variables" => environment },
            ),
            (
                "LoggingConfig".to_owned(),
                map! { "LogGroup" => reference(&self.part.logs) },
            ),
        ]
    }

    pub(super) fn of(&self, template: Template, events: Option<Node>) -> Node {
        let mut properties = self.properties();
        match template {
            // The rest is among the template's globals.
            Template::Sam => {
                properties.extend(events.map(|events| ("Events".to_owned(), events)));
                resource("AWS::Serverless::Function", properties.into())
            }
            Template::CloudFormation => {
                let code = map! {
                    "S3Bucket" => reference("CodeBucket"),
                    "S3Key" => reference("CodeKey"),
                };
                properties.extend(runtime());
                properties.push(("Code".to_owned(), code));
                resource("AWS::Lambda::Function", properties.into())
            }
        }
    }
}

/// What every function runs on.
pub(super) fn runtime() -> Vec<(String, Node)> {
    vec![
        ("Runtime".to_owned(), "provided.al2023".into()),
        ("Handler".to_owned(), "bootstrap".into()),
        ("Architectures".to_owned(), list![reference("Architecture")]),
    ]
}

/// A stage's function, and what brings it its messages.
pub(super) fn of_stage(
    template: Template,
    function: &Function<'_>,
    plan: &Plan,
) -> Vec<(String, Node)> {
    let part = function.part;
    match template {
        Template::Sam => {
            let event = map! {
                "Type" => "SQS",
                "Properties" => mapping(plan, arn(&part.queue), "Queue", Vec::new()),
            };
            let events = map! { part.mapping.clone() => event };
            vec![(part.function.clone(), function.of(template, Some(events)))]
        }
        Template::CloudFormation => vec![
            (part.function.clone(), function.of(template, None)),
            (part.mapping.clone(), mapping_resource(plan, part)),
        ],
    }
}
