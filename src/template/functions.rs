//! The functions, and the HTTP API in front of one of them, in either kind of template.

use super::node::{Node, arn, list, map, reference, resource, substitute};
use super::options::Template;
use super::plan::Plan;
use super::resources::{Ids, Part, mapping, mapping_resource};
use crate::core::name;

/// What the function of the API takes itself for, in `CATCHMENT_STAGE`.
pub(super) const API: &str = "api";
/// The longest that an HTTP API waits for a function is 30 s, all told.
const API_TIMEOUT: u64 = 29;

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

    fn of(&self, template: Template, events: Option<Node>) -> Node {
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

/// What the API's function is made of.
pub(super) fn api_function<'a>(deployment: &'a str, memory: u32, ids: &'a Ids) -> Function<'a> {
    Function {
        deployment,
        stage: API,
        memory,
        timeout: API_TIMEOUT,
        part: &ids.api,
    }
}

/// A route of the HTTP API: its name, its method and its path.
type Route = (&'static str, &'static str, String);

/// The API's function, and the HTTP API in front of it.
pub(super) fn of_api(
    template: Template,
    function: &Function<'_>,
    path: &str,
) -> Vec<(String, Node)> {
    // A run's id may have slashes in it.
    let routes = [
        ("Submit", "POST", path.to_owned()),
        ("Status", "GET", format!("{path}/{{arrayId+}}")),
    ];
    match template {
        Template::Sam => serverless_api(function, routes),
        Template::CloudFormation => gateway(function, routes),
    }
}

fn serverless_api(function: &Function<'_>, routes: [Route; 2]) -> Vec<(String, Node)> {
    let events = routes.map(|(name, method, path)| {
        let event = map! {
            "Type" => "HttpApi",
            "Properties" => map! {
                "ApiId" => reference("HttpApi"),
                "Method" => method,
                "Path" => path,
            },
        };
        (name.to_owned(), event)
    });
    let events = Node::from(events.to_vec());
    let api = map! { "Name" => function.deployment };
    vec![
        (
            function.part.function.clone(),
            function.of(Template::Sam, Some(events)),
        ),
        (
            "HttpApi".to_owned(),
            resource("AWS::Serverless::HttpApi", api),
        ),
    ]
}

/// What the serverless kind of template makes out of a few lines, spelled out.
fn gateway(function: &Function<'_>, routes: [Route; 2]) -> Vec<(String, Node)> {
    let id = &function.part.function;
    let api = map! { "Name" => function.deployment, "ProtocolType" => "HTTP" };
    let stage = map! {
        "ApiId" => reference("HttpApi"),
        "StageName" => "$default",
        "AutoDeploy" => true,
    };
    let integration = map! {
        "ApiId" => reference("HttpApi"),
        "IntegrationType" => "AWS_PROXY",
        "IntegrationUri" => arn(id),
        "PayloadFormatVersion" => "2.0",
    };
    let of_gateway = |name: &str, kind: &str, properties: Node| {
        let kind = format!("AWS::ApiGatewayV2::{kind}");
        (name.to_owned(), resource(&kind, properties))
    };
    let mut resources = vec![
        (id.clone(), function.of(Template::CloudFormation, None)),
        of_gateway("HttpApi", "Api", api),
        of_gateway("HttpApiStage", "Stage", stage),
        of_gateway("HttpApiIntegration", "Integration", integration),
    ];
    for (name, method, path) in routes {
        let target = map! {
            "Fn::Join" => list!["/", list!["integrations", reference("HttpApiIntegration")]],
        };
        let route = map! {
            "ApiId" => reference("HttpApi"),
            "RouteKey" => format!("{method} {path}"),
            "Target" => target,
        };
        resources.push(of_gateway(&format!("{name}Route"), "Route", route));
    }
    resources.push((
        "HttpApiPermission".to_owned(),
        resource("AWS::Lambda::Permission", permission(id)),
    ));
    resources
}

/// Lets the HTTP API call the function.
fn permission(function: &str) -> Node {
    let caller = substitute(
        "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${HttpApi}/*",
    );
    map! {
        "Action" => "lambda:InvokeFunction",
        "FunctionName" => reference(function),
        "Principal" => "apigateway.amazonaws.com",
        "SourceArn" => caller,
    }
}
