//! The roles of a template, checked against every request that stages and submitters make.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use catchment::backends::aws::AwsBackend;
use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::scratchpad::{RunKey, Scratchpad};
use catchment::template::{ApiOptions, Template, TemplateOptions};
use catchment::{
    Backoff, BoxError, Deployment, Error, OnFailure, Pipeline, Run, RunFilter, Stage, permanent,
};
use serde_json::{Value, json};

use crate::common::{Tables, config, ministack, unique};
use crate::proxy::{Proxy, Recorded};
use crate::template::parsed;

pub(crate) const STAGES: [&str; 6] = ["parse", "double", "sum", "spread", "again", "finish"];
const API: &str = "api";

/// An action, and the logical id of what it is done to.
type Use = (String, String);

pub(crate) type Words = Deployment<String, String>;

/// Fails permanently on `!stage`, and once on `?stage`.
fn check(stage: &str, text: &str) -> Result<(), BoxError> {
    static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    if text.contains(&format!("!{stage}")) {
        return Err(permanent(format!("{text} is poison")).into());
    }
    let is_first = || SEEN.lock().unwrap().insert(format!("{stage} {text}"));
    match text.contains(&format!("?{stage}")) && is_first() {
        true => Err("not the first time".into()),
        false => Ok(()),
    }
}

pub(crate) fn words(name: &str, endpoint: &str) -> Words {
    let config = config(endpoint);
    let backend = AwsBackend::new(&config);
    let stage = |name| {
        let stage = Stage::named(name).visibility_timeout(Duration::from_secs(6));
        stage.attempts(2).backoff(Backoff::none())
    };
    let step = |name: &'static str| move |text: String| check(name, &text).map(|()| text);
    let join = |name: &'static str| {
        move |a: String, b: String| check(name, &b).map(|()| format!("{a}{b}"))
    };
    Pipeline::new()
        .try_map(step("parse"))
        .with(stage("parse").packet_size(1).on_failure(OnFailure::Skip))
        .try_map(step("double"))
        .with(stage("double"))
        .try_reduce(String::new, join("sum"))
        .with(stage("sum").fan_in(2))
        .flat_map(|text: String| {
            check("spread", &text).unwrap();
            [text]
        })
        .with(stage("spread"))
        .try_reduce(String::new, join("again"))
        .with(stage("again"))
        .try_map(step("finish"))
        .with(stage("finish"))
        .deploy(name, backend)
        .unwrap()
}

pub(crate) fn texts<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(str::to_owned)
}

/// The roles' permissions by stage, and the conditions of those that have some.
struct Roles {
    allowed: BTreeMap<String, BTreeSet<Use>>,
    conditions: BTreeMap<(String, Use), Value>,
    /// Logical ids by the names of queues and tables.
    ids: BTreeMap<String, String>,
}

impl Roles {
    fn of(template: &Value) -> Self {
        let mut roles = Self {
            allowed: BTreeMap::new(),
            conditions: BTreeMap::new(),
            ids: BTreeMap::new(),
        };
        let resources = template["Resources"].as_object().unwrap();
        for (id, resource) in resources {
            let properties = &resource["Properties"];
            for name in ["QueueName", "TableName"] {
                if let Some(name) = properties[name].as_str() {
                    roles.ids.insert(name.to_owned(), id.clone());
                }
            }
            let variables = &properties["Environment"]["Variables"];
            let Some(stage) = variables["CATCHMENT_STAGE"].as_str() else {
                continue;
            };
            let role = properties["Role"]["Fn::GetAtt"][0].as_str().unwrap();
            let policies = &resources[role]["Properties"]["Policies"];
            assert_eq!(policies.as_array().unwrap().len(), 1);
            for statement in policies[0]["PolicyDocument"]["Statement"]
                .as_array()
                .unwrap()
            {
                roles.add(stage, statement);
            }
        }
        roles
    }

    fn add(&mut self, stage: &str, statement: &Value) {
        assert_eq!(statement["Effect"], "Allow");
        let resource = &statement["Resource"];
        let on = match resource["Fn::Sub"].as_str() {
            // A request names the table, whether or not it reads an index of it.
            Some(indexes) => {
                let table = indexes.strip_prefix("${").unwrap();
                table.strip_suffix(".Arn}/index/*").unwrap()
            }
            None => {
                assert_eq!(resource["Fn::GetAtt"][1], "Arn");
                resource["Fn::GetAtt"][0].as_str().unwrap()
            }
        };
        for action in statement["Action"].as_array().unwrap() {
            let action = action.as_str().unwrap();
            assert!(!action.contains('*'), "{action}");
            let allowed = (action.to_owned(), on.to_owned());
            if let Some(condition) = statement.get("Condition") {
                let key = (stage.to_owned(), allowed.clone());
                self.conditions.insert(key, condition.clone());
            }
            self.allowed
                .entry(stage.to_owned())
                .or_default()
                .insert(allowed);
        }
    }

    /// Checks that a request is allowed and meets its permission's conditions; returns what it
    /// uses.
    fn check(&self, stage: &str, request: &Recorded) -> Vec<Use> {
        let uses: Vec<Use> = request
            .resources
            .iter()
            .map(|name| (request.action.clone(), self.ids[name].clone()))
            .collect();
        for it in &uses {
            assert!(self.allowed[stage].contains(it), "{stage} may not {it:?}");
            if let Some(condition) = self.conditions.get(&(stage.to_owned(), it.clone())) {
                meets(condition, &request.body);
            }
        }
        uses
    }
}

fn meets(condition: &Value, body: &Value) {
    if let Some(read) = body["ProjectionExpression"].as_str() {
        let specific = json!({"dynamodb:Select": "SPECIFIC_ATTRIBUTES"});
        assert_eq!(condition["StringEqualsIfExists"], specific);
        return uses_only(&condition["ForAllValues:StringEquals"], body, read);
    }
    assert_eq!(
        condition["StringEqualsIfExists"],
        json!({"dynamodb:ReturnValues": "NONE"}),
        "{body}"
    );
    let returned = body["ReturnValues"].as_str().unwrap_or("NONE");
    assert_eq!(returned, "NONE", "{body}");
    let Some(attributes) = condition.get("ForAllValues:StringEquals") else {
        return;
    };
    // Nor does it read the existing item when its own condition fails.
    let refused = body["ReturnValuesOnConditionCheckFailure"].as_str();
    assert_eq!(refused.unwrap_or("NONE"), "NONE", "{body}");
    let expression = body["UpdateExpression"].as_str().unwrap();
    uses_only(attributes, body, expression.trim_start_matches("SET "));
}

/// Checks that a request names no other attributes than these; `expression` has all of them.
fn uses_only(attributes: &Value, body: &Value, expression: &str) {
    let allowed = attributes["dynamodb:Attributes"].as_array().unwrap();
    let keys = body["Key"].as_object().unwrap().keys();
    let names = body["ExpressionAttributeNames"].as_object().unwrap();
    let names = names.values().map(|name| name.as_str().unwrap());
    for name in keys.map(String::as_str).chain(names) {
        assert!(allowed.contains(&json!(name)), "{name} of {body}");
    }
    // Without placeholders, a name would not be seen above.
    let terms = expression.split(", ");
    assert!(
        terms.into_iter().all(|term| term.starts_with('#')),
        "{expression}"
    );
}

/// Actions that are allowed although no scenario needs them, and why.
fn spare(stage: &str, it: &Use) -> Option<&'static str> {
    let (action, on) = (it.0.as_str(), it.1.as_str());
    let own = format!("{}{}Queue", stage[..1].to_uppercase(), &stage[1..]);
    match action {
        "logs:CreateLogStream" | "logs:PutLogEvents" => Some("Lambda writes the function's log"),
        "sqs:GetQueueAttributes" if on == own => Some("Lambda's mapping asks for it"),
        "sqs:SendMessage" if on == own => {
            Some("what there is no time for is handed back by a copy, so that no attempt counts")
        }
        "sqs:GetQueueUrl" | "sqs:SendMessage" if stage == API && on == "AgainQueue" => Some(
            "a submission that is repeated after it broke off may find the later tree complete",
        ),
        _ => None,
    }
}

/// A message on the wrong queue becomes a dead letter of the stage that receives it.
async fn misdirect(client: &Client, name: &str, stage: &str, run: &RunKey) {
    let url = client
        .get_queue_url()
        .queue_name(format!("{name}--{stage}"));
    let url = url.send().await.unwrap().queue_url.unwrap();
    let body = json!({
        "version": 1, "kind": "map", "deployment": name, "stage": "elsewhere", "arrayId": run.id, "generation": run.generation, "fanIn": 2, "packetId": "0/0",
        "packetOffset": 0, "arrayLength": 1, "packetContains": 1, "packetValue": ["a"],
    });
    let send = client.send_message().queue_url(url);
    send.message_body(body.to_string()).send().await.unwrap();
}

/// Its dead letter follows at once; workers that are shut down end what they have begun.
async fn until_failed(run: &Run<String>, stage: &str) {
    let begin = Instant::now();
    loop {
        let failures = run.failures().await.unwrap();
        let mut failures = failures.iter().filter(|it| *it.stage == *stage);
        if failures.any(|it| it.error.contains("elsewhere")) {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{stage}: {failures:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that can happen to runs.
async fn scenarios(api: &Words, admin: &Words, client: &Client) {
    let done = async |items: Vec<String>| {
        let run = api.submit(items).await.unwrap();
        run.outcome().await.unwrap()
    };
    assert_eq!(done(texts(["a", "b", "c"]).into()).await.value, "abc");
    assert_eq!(done(Vec::new()).await.value, "");
    let retried = texts(["?parse", "?double", "?sum", "?finish"]);
    assert_eq!(done(retried.into()).await.value, "?parse?double?sum?finish");
    // Too large for their group's item.
    let large = ["w", "x", "y", "z"].map(|letter| letter.repeat(700));
    assert_eq!(done(large.to_vec()).await.value, large.concat());
    let skipped = done(texts(["!parse", "a"]).into()).await;
    assert_eq!((skipped.value.as_str(), skipped.skipped), ("a", 1));

    let mut failed = None;
    for stage in ["double", "sum", "spread", "finish"] {
        let run = api
            .submit([format!("!{stage}"), "a".to_owned()])
            .await
            .unwrap();
        let error = run.result().await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
        assert_eq!(run.failures().await.unwrap().len(), 1);
        failed = Some(run);
    }
    let failed = failed.unwrap();
    failed.status().await.unwrap();
    assert!(!api.runs(RunFilter::new()).await.unwrap().is_empty());
    let scratchpad = DynamoDbScratchpad::new(&config(&ministack()));
    let record = scratchpad.bind(admin.name()).unwrap();
    let record = record.status(failed.id()).await.unwrap().unwrap().record;
    for stage in STAGES {
        misdirect(client, admin.name(), stage, &record.key()).await;
        until_failed(&admin.attach(failed.id().clone()), stage).await;
    }

    let cancelled = api.submit(texts(["a", "b"])).await.unwrap();
    // It may have been quicker.
    cancelled.cancel().await.unwrap();
    // A submission that cannot be completed, and one that is.
    let too_large = || "x".repeat(2 * 1024 * 1024);
    let refused = api.submit([too_large()]).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    let refused = api.submit_as("again", [too_large()]).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    let run = api.submit_as("again", texts(["a"])).await.unwrap();
    assert_eq!(run.result().await.unwrap(), "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ministack: scripts/test"]
async fn each_stage_needs_what_its_role_allows_and_no_more() {
    let name = unique("roles");
    let admin = words(&name, &Tables::Ministack.endpoint());
    let with_api = TemplateOptions::new().api(ApiOptions::new());
    let template = |kind| parsed(&admin.template_with(kind, &with_api).unwrap());
    let sam = Roles::of(&template(Template::Sam));
    let template = template(Template::CloudFormation);
    let roles = Roles::of(&template);
    assert_eq!(
        (&roles.allowed, &roles.conditions),
        (&sam.allowed, &sam.conditions)
    );
    admin.provision().await.unwrap();

    let mut proxies = BTreeMap::new();
    let mut workers = Vec::new();
    for stage in STAGES {
        let proxy = Proxy::start(&ministack()).await;
        let worker = words(&name, &proxy.endpoint()).worker().stages([stage]);
        workers.push(worker.cancel_check(Duration::ZERO).start());
        proxies.insert(stage, proxy);
    }
    let proxy = Proxy::start(&ministack()).await;
    let api = words(&name, &proxy.endpoint());
    proxies.insert(API, proxy);
    let client = Client::new(&config(&ministack()));
    scenarios(&api, &admin, &client).await;
    for worker in workers {
        worker.shutdown().await;
    }

    let mut unused = Vec::new();
    for (stage, proxy) in &proxies {
        let requests = proxy.requests();
        let used: BTreeSet<Use> = requests
            .iter()
            .flat_map(|request| roles.check(stage, request))
            .collect();
        for it in &roles.allowed[*stage] {
            let (action, on) = it;
            match (used.contains(it), spare(stage, it)) {
                (true, _) => println!("{stage}: {action} on {on}: used"),
                (false, Some(reason)) => println!("{stage}: {action} on {on}: {reason}"),
                (false, None) => unused.push((*stage, it.clone())),
            }
        }
    }
    assert!(unused.is_empty(), "allowed, and never needed: {unused:#?}");
    admin.deprovision(&name).await.unwrap();
}
