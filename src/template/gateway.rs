//! The HTTP API and the function that answers it, in either kind of template.

use super::api::{Api, Authorizer};
use super::functions::{API, Function};
use super::node::{Node, arn, list, map, reference, resource, substitute};
use super::options::Template;
use super::resources::{Ids, Keeping, logs};

/// The longest that an HTTP API waits for a function is 30 s, all told.
const API_TIMEOUT: u64 = 29;
/// Log groups under this prefix share one resource policy, whose size has a limit.
const ACCESS_LOGS: &str = "/aws/vendedlogs/";
/// A request in the access log: what API Gateway found out, and nothing that the caller wrote freely.
const LINE: &str = r#"{"requestId":"$context.requestId","time":"$context.requestTimeEpoch","ip":"$context.identity.sourceIp","caller":"$context.identity.userArn","route":"$context.routeKey","status":"$context.status","length":"$context.responseLength","refused":"$context.authorizer.error"}"#;
/// The logical ids of the API's parts.
const HTTP_API: &str = "HttpApi";
const AUTHORIZER: &str = "HttpApiAuthorizer";
const ACCESS_LOG: &str = "HttpApiAccessLog";

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

/// The API's function, and the HTTP API that calls it.
pub(super) fn of_api(
    template: Template,
    function: &Function<'_>,
    api: &Api,
    keeping: Keeping<'_>,
) -> Vec<(String, Node)> {
    let path = &api.path;
    // A run's id may have slashes in it.
    let routes = [
        ("Submit", "POST", path.clone()),
        ("Status", "GET", format!("{path}/{{arrayId+}}")),
    ];
    let mut resources = match template {
        Template::Sam => serverless_api(function, api, routes),
        Template::CloudFormation => gateway(function, api, routes),
    };
    if let Some(days) = api.access_log {
        let name = format!("{ACCESS_LOGS}{}", function.name());
        resources.push((ACCESS_LOG.to_owned(), logs(name, days, keeping)));
    }
    resources
}

/// How many requests are taken, and what is logged of them.
fn limits(api: &Api) -> Vec<(String, Node)> {
    let throttle = map! {
        "ThrottlingRateLimit" => api.rate,
        "ThrottlingBurstLimit" => api.burst,
    };
    let mut limits = vec![("DefaultRouteSettings".to_owned(), throttle)];
    if api.access_log.is_some() {
        let log = map! { "DestinationArn" => arn(ACCESS_LOG), "Format" => LINE };
        limits.push(("AccessLogSettings".to_owned(), log));
    }
    limits
}

fn audiences_of(audiences: &[String]) -> Node {
    let audiences = audiences.iter().cloned().map(Node::from);
    audiences.collect::<Vec<_>>().into()
}

fn serverless_api(function: &Function<'_>, api: &Api, routes: [Route; 2]) -> Vec<(String, Node)> {
    let events = routes.map(|(name, method, path)| {
        let event = map! {
            "Type" => "HttpApi",
            "Properties" => map! {
                "ApiId" => reference(HTTP_API),
                "Method" => method,
                "Path" => path,
            },
        };
        (name.to_owned(), event)
    });
    let events = Node::from(events.to_vec());
    let mut properties = vec![("Name".to_owned(), Node::from(function.deployment))];
    let auth = match &api.authorizer {
        Authorizer::Iam => Some(map! {
            "EnableIamAuthorizer" => true,
            "DefaultAuthorizer" => "AWS_IAM",
        }),
        Authorizer::Jwt { issuer, audiences } => Some(map! {
            "Authorizers" => map! { AUTHORIZER => map! {
                "IdentitySource" => "$request.header.Authorization",
                "JwtConfiguration" => map! {
                    "issuer" => issuer.clone(),
                    "audience" => audiences_of(audiences),
                },
            } },
            "DefaultAuthorizer" => AUTHORIZER,
        }),
        Authorizer::Public => None,
    };
    properties.extend(auth.map(|auth| ("Auth".to_owned(), auth)));
    properties.extend(limits(api));
    vec![
        (
            function.part.function.clone(),
            function.of(Template::Sam, Some(events)),
        ),
        (
            HTTP_API.to_owned(),
            resource("AWS::Serverless::HttpApi", properties.into()),
        ),
    ]
}

/// What the serverless kind of template makes out of a few lines, spelled out.
fn gateway(function: &Function<'_>, api: &Api, routes: [Route; 2]) -> Vec<(String, Node)> {
    let id = &function.part.function;
    let own = map! { "Name" => function.deployment, "ProtocolType" => "HTTP" };
    let mut stage = vec![
        ("ApiId".to_owned(), reference(HTTP_API)),
        ("StageName".to_owned(), "$default".into()),
        ("AutoDeploy".to_owned(), true.into()),
    ];
    stage.extend(limits(api));
    let integration = map! {
        "ApiId" => reference(HTTP_API),
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
        of_gateway(HTTP_API, "Api", own),
        of_gateway("HttpApiStage", "Stage", stage.into()),
        of_gateway("HttpApiIntegration", "Integration", integration),
    ];
    if let Authorizer::Jwt { issuer, audiences } = &api.authorizer {
        let authorizer = map! {
            "ApiId" => reference(HTTP_API),
            "AuthorizerType" => "JWT",
            "IdentitySource" => list!["$request.header.Authorization"],
            "JwtConfiguration" => map! {
                "Issuer" => issuer.clone(),
                "Audience" => audiences_of(audiences),
            },
            "Name" => function.deployment,
        };
        resources.push(of_gateway(AUTHORIZER, "Authorizer", authorizer));
    }
    for (name, method, path) in routes {
        let target = map! {
            "Fn::Join" => list!["/", list!["integrations", reference("HttpApiIntegration")]],
        };
        let mut route = vec![
            ("ApiId".to_owned(), reference(HTTP_API)),
            ("RouteKey".to_owned(), format!("{method} {path}").into()),
            ("Target".to_owned(), target),
        ];
        let (kind, authorizer) = match &api.authorizer {
            Authorizer::Iam => ("AWS_IAM", None),
            Authorizer::Jwt { .. } => ("JWT", Some(reference(AUTHORIZER))),
            Authorizer::Public => ("NONE", None),
        };
        route.push(("AuthorizationType".to_owned(), kind.into()));
        route.extend(authorizer.map(|it| ("AuthorizerId".to_owned(), it)));
        resources.push(of_gateway(&format!("{name}Route"), "Route", route.into()));
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
