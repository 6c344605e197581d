//! Templates: what is in them, and what is refused. That their roles are right is in `roles.rs`.

use std::path::Path;
use std::time::Duration;

use catchment::backends::aws::AwsBackend;
use catchment::template::{ApiOptions, Architecture, FunctionOptions, Template, TemplateOptions};
use catchment::{Backend, Deployment, OnFailure, Pipeline, Stage, permanent};
use serde_json::{Value, json};

pub(crate) fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Two reductions, a stage that leaves items out, and names that are alike.
pub(crate) fn invoices(visibility: u64) -> Deployment<String, u64> {
    let patient = |name| Stage::named(name).visibility_timeout(Duration::from_secs(visibility));
    Pipeline::new()
        .try_map(|line: String| line.parse::<u64>().map_err(permanent))
        .with(
            patient("parse-line")
                .timeout(Duration::from_secs(20))
                .attempts(3)
                .on_failure(OnFailure::Skip),
        )
        .map(|cents| cents + 1)
        .with(patient("parse_line"))
        .reduce(|| 0, |a, b| a + b)
        .with(patient("0sum"))
        .flat_map(|sum: u64| [sum, 1])
        .with(patient("spread"))
        .reduce(|| 0, |a, b| a + b)
        .with(patient("again"))
        .deploy("invoices", AwsBackend::offline())
        .unwrap()
}

fn adder(stage: Stage) -> Deployment<i64, i64> {
    named("adder", stage)
}

fn named(name: &str, stage: Stage) -> Deployment<i64, i64> {
    Pipeline::new()
        .map(|n: i64| n * 2)
        .with(stage)
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
        .deploy(name, AwsBackend::offline())
        .unwrap()
}

fn refusal(deployment: &Deployment<i64, i64>, options: &TemplateOptions) -> String {
    let refused = deployment.template_with(Template::Sam, options);
    let text = refused.unwrap_err().to_string();
    println!("{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// `scripts/check-templates` runs cfn-lint on the files that this test writes.
#[test]
fn templates_are_the_same_each_time_and_left_for_cfn_lint() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    std::fs::create_dir_all(&folder).unwrap();
    let plain = TemplateOptions::new();
    let full = TemplateOptions::new()
        .binary("invoice_functions")
        .code("build/functions.zip")
        .architecture(Architecture::X86_64)
        .log_retention(365)
        .api(ApiOptions::at("/v1/invoices/").access_log(90))
        .kms_key("arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
        .point_in_time_recovery(35)
        .retain_data()
        .functions(FunctionOptions::new().memory(256).maximum_concurrency(7))
        .stage(
            "spread",
            FunctionOptions::new()
                .batch_size(100)
                .timeout(Duration::from_secs(3)),
        );
    let token = ApiOptions::new().jwt("https://login.example.com/", ["invoices", "audit"]);
    let token = TemplateOptions::new().api(token);
    let public = TemplateOptions::new().api(ApiOptions::new().public().throttle(5, 10));
    for (name, options) in [
        ("plain", plain),
        ("full", full),
        ("token", token),
        ("public", public),
    ] {
        for template in [Template::Sam, Template::CloudFormation] {
            let text = invoices(180).template_with(template, &options).unwrap();
            assert_eq!(
                text,
                invoices(180).template_with(template, &options).unwrap()
            );
            assert!(text.starts_with("# Deployment `invoices`"), "{text}");
            let file = folder.join(format!("{name}-{template:?}.yaml"));
            std::fs::write(file, &text).unwrap();
        }
    }
}

/// The template's commands without their `#`, and the path of its code.
fn deployed_with(template: Template, options: &TemplateOptions) -> (Vec<String>, Value) {
    let adder = adder(Stage::named("times_two"));
    let text = adder.template_with(template, options).unwrap();
    let commands = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let code = match template {
        Template::Sam => "/Globals/Function/CodeUri",
        _ => "/Parameters/CodeKey/Default",
    };
    let code = parsed(&text).pointer(code).unwrap().clone();
    (commands.map(str::to_owned).collect(), code)
}

/// With cargo-lambda 1.9.2, these commands were found to build the file that the template names.
#[test]
fn the_head_says_what_builds_the_code_that_the_template_looks_for() {
    let (commands, code) = deployed_with(Template::Sam, &TemplateOptions::new());
    assert_eq!(
        commands[0],
        "cargo lambda build --release --arm64 --output-format zip --bin adder_lambda"
    );
    assert!(
        commands[1].starts_with("sam deploy --template-file template.yaml --stack-name adder ")
    );
    assert_eq!(code, "target/lambda/adder_lambda/bootstrap.zip");

    let example = TemplateOptions::new()
        .binary("sums")
        .build("--features lambda --example sums")
        .architecture(Architecture::X86_64);
    let build = "cargo lambda build --release --x86-64 --output-format zip --features lambda --example sums";
    let (commands, code) = deployed_with(Template::Sam, &example);
    assert_eq!(commands[0], build);
    assert_eq!(code, "target/lambda/sums/bootstrap.zip");
    let (commands, code) = deployed_with(Template::CloudFormation, &example);
    assert_eq!(commands[0], build);
    let copy = "aws s3 cp target/lambda/sums/bootstrap.zip s3://BUCKET/sums.zip";
    assert_eq!(commands[1], copy);
    assert_eq!(code, "sums.zip");
}

/// CloudFormation takes `[a-zA-Z][-a-zA-Z0-9]*`, and a deployment's name may have underscores, and
/// anything at its start.
#[test]
fn the_head_names_a_stack_as_cloudformation_allows() {
    for (deployment, stack) in [
        ("adder", "adder"),
        ("My-adder2", "My-adder2"),
        ("my_adder", "my-adder--4"),
        ("2024_adder", "stack-2024-adder--s10"),
        ("_adder", "stack--adder--s1"),
    ] {
        for template in [Template::Sam, Template::CloudFormation] {
            let text = named(deployment, Stage::named("times_two")).template(template);
            let text = text.unwrap();
            let option = format!(" --stack-name {stack} ");
            assert!(text.contains(&option), "{deployment}: {text}");
        }
    }
}

#[test]
fn functions_are_set_up_as_asked() {
    let options = TemplateOptions::new()
        .functions(FunctionOptions::new().memory(256).maximum_concurrency(7))
        .stage(
            "spread",
            FunctionOptions::new().batch_size(100).memory(1_024),
        );
    let text = invoices(180).template_with(Template::CloudFormation, &options);
    let template = parsed(&text.unwrap());
    let resources = &template["Resources"];
    // A sixth of 180 s; less if a large batch takes a second to gather.
    assert_eq!(resources["AgainFunction"]["Properties"]["Timeout"], 30);
    let spread = &resources["SpreadFunction"]["Properties"];
    assert_eq!(
        (&spread["Timeout"], &spread["MemorySize"]),
        (&json!(29), &json!(1_024))
    );
    assert_eq!(
        spread["Environment"]["Variables"],
        json!({"CATCHMENT_DEPLOYMENT": "invoices", "CATCHMENT_STAGE": "spread"})
    );
    let mapping = &resources["SpreadMapping"]["Properties"];
    assert_eq!(mapping["BatchSize"], 100);
    assert_eq!(mapping["MaximumBatchingWindowInSeconds"], 1);
    assert_eq!(mapping["ScalingConfig"]["MaximumConcurrency"], 7);
    assert_eq!(
        mapping["FunctionResponseTypes"],
        json!(["ReportBatchItemFailures"])
    );
    // Names that differ in a hyphen only, or begin with a digit, are distinguished.
    for id in ["ParseLineQueue", "xparseDlineQueue", "x0sumQueue"] {
        assert_eq!(resources[id]["Type"], "AWS::SQS::Queue", "{id}");
    }
    let queue = &resources["xparseDlineQueue"]["Properties"];
    assert_eq!(queue["QueueName"], "invoices--parse-line");
    assert_eq!(queue["RedrivePolicy"]["maxReceiveCount"], 1_000);
}

#[test]
fn queues_and_tables_are_those_of_the_backend() {
    let of = |backend: AwsBackend| {
        let adder = Pipeline::new()
            .map(|n: i64| n * 2)
            .with(Stage::named("double"));
        let adder = adder.deploy("adder", backend).unwrap();
        parsed(&adder.template(Template::CloudFormation).unwrap())
    };
    let name =
        |template: &Value, id: &str| template["Resources"][id]["Properties"]["TableName"].clone();
    let usual = of(AwsBackend::offline());
    assert_eq!(name(&usual, "ScratchpadTable"), "adder-scratchpad");
    assert_eq!(name(&usual, "ResultsTable"), "adder-results");
    let own = AwsBackend::offline().max_payload(256 * 1024);
    let own = of(own.tables("pad", "answers"));
    assert_eq!(name(&own, "ScratchpadTable"), "pad");
    assert_eq!(name(&own, "ResultsTable"), "answers");
    let largest = |template: &Value| {
        template["Resources"]["DoubleQueue"]["Properties"]["MaximumMessageSize"].clone()
    };
    assert_eq!(
        (largest(&usual), largest(&own)),
        (json!(1024 * 1024), json!(256 * 1024))
    );
}

#[test]
fn a_template_over_another_backend_is_refused_with_what_to_do() {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    let adder = adder.deploy("adder", Backend::memory()).unwrap();
    let text = refusal(&adder, &TemplateOptions::new());
    for part in [
        "deployment `adder`",
        "`AwsBackend`",
        "`AwsBackend::offline()`",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn the_map_function_may_not_read_results() {
    let text = adder(Stage::named("times_two"))
        .template(Template::Sam)
        .unwrap();
    let template = parsed(&text);
    let policy = &template["Resources"]["TimesTwoRole"]["Properties"]["Policies"][0];
    let statements = policy["PolicyDocument"]["Statement"].as_array().unwrap();
    let on_results: Vec<&Value> = statements
        .iter()
        .filter(|it| it["Resource"]["Fn::GetAtt"][0] == "ResultsTable")
        .collect();
    let [read, write] = on_results[..] else {
        panic!("{on_results:?}")
    };
    assert_eq!(read["Action"], json!(["dynamodb:GetItem"]));
    let condition = &read["Condition"];
    assert_eq!(
        condition["ForAllValues:StringEquals"]["dynamodb:Attributes"],
        json!(["arrayId", "generation", "arrayLength"])
    );
    assert_eq!(
        condition["StringEqualsIfExists"]["dynamodb:Select"],
        "SPECIFIC_ATTRIBUTES"
    );
    assert_eq!(write["Action"], json!(["dynamodb:UpdateItem"]));
    let condition = &write["Condition"];
    assert_eq!(
        condition["ForAllValues:StringEquals"]["dynamodb:Attributes"],
        json!(["arrayId", "expiresAt", "failures", "generation"])
    );
    assert_eq!(
        condition["StringEqualsIfExists"]["dynamodb:ReturnValues"],
        "NONE"
    );
}

#[test]
fn times_that_do_not_go_together_are_refused_with_what_to_set() {
    let seconds = Duration::from_secs;
    let plain = TemplateOptions::new();
    let timeout = |time| TemplateOptions::new().functions(FunctionOptions::new().timeout(time));
    let stage = || Stage::named("fetch");

    let text = refusal(&adder(stage().visibility_timeout(seconds(5))), &plain);
    assert!(
        text.contains("stage `fetch`") && text.contains("is 5 s"),
        "{text}"
    );
    assert!(text.contains("Stage::visibility_timeout to 6 s"), "{text}");
    let text = refusal(&adder(stage()), &timeout(seconds(60)));
    assert!(text.contains("360 s, and it is 30 s"), "{text}");
    let text = refusal(&adder(stage().timeout(seconds(60))), &plain);
    assert!(
        text.contains("Stage::visibility_timeout to 360 s"),
        "{text}"
    );
    let text = refusal(&adder(stage().timeout(seconds(901))), &plain);
    assert!(
        text.contains("901 s") && text.contains("after 900 s"),
        "{text}"
    );
    let patient = stage()
        .visibility_timeout(seconds(600))
        .timeout(seconds(60));
    let text = refusal(&adder(patient.clone()), &timeout(seconds(5)));
    assert!(
        text.contains("FunctionOptions::timeout to at least 60 s"),
        "{text}"
    );
    // As long as a function may run, and as long as a queue may hide.
    let longest = patient.visibility_timeout(seconds(12 * 60 * 60));
    let template = adder(longest).template(Template::CloudFormation).unwrap();
    let fetch = &parsed(&template)["Resources"]["FetchFunction"]["Properties"];
    assert_eq!(fetch["Timeout"], 900);
}

#[test]
fn options_that_lambda_does_not_take_are_refused() {
    let adder = adder(Stage::named("api"));
    let of = |options| TemplateOptions::new().functions(options);
    let api = |options| TemplateOptions::new().api(options);
    let key = |arn: &str| TemplateOptions::new().kms_key(arn);
    let function = FunctionOptions::new;
    for (options, part) in [
        (of(function().memory(64)), "memory is 64 MiB"),
        (of(function().batch_size(0)), "batch_size is 0"),
        (
            of(function().maximum_concurrency(1)),
            "maximum_concurrency is 1",
        ),
        (
            of(function().timeout(Duration::from_secs(901))),
            "timeout is 901 s",
        ),
        (
            of(function().batch_size(11).batching_window(Duration::ZERO)),
            "batching_window of at least 1 s",
        ),
        (api(ApiOptions::new()), "stage `api`"),
        (api(ApiOptions::at("adder")), "api path \"adder\""),
        (
            api(ApiOptions::new().throttle(0, 5)),
            "0 requests per second",
        ),
        (api(ApiOptions::new().throttle(5, 0)), "0 at once"),
        (api(ApiOptions::new().access_log(8)), "access_log is 8 days"),
        (
            api(ApiOptions::new().jwt("http://login.example.com", ["a"])),
            "begins with `https://`",
        ),
        (
            api(ApiOptions::new().jwt("https://login.example.com", [""; 0])),
            "name 1 to 50",
        ),
        (
            api(ApiOptions::new().jwt("https://login.example.com", [""])),
            "none empty",
        ),
        (key("alias/invoices"), "use a key's ARN"),
        (
            key("arn:aws:kms:eu-west-1:111122223333:alias/invoices"),
            "use a key's ARN",
        ),
        (
            key("arn:aws:kms:eu-west-1:111122223333:key/*"),
            "use a key's ARN",
        ),
        (
            TemplateOptions::new().point_in_time_recovery(36),
            "point_in_time_recovery is 36 days",
        ),
        (
            TemplateOptions::new().build("--bin a\nDescription: b"),
            "on one line",
        ),
        (
            TemplateOptions::new().log_retention(8),
            "log_retention is 8 days",
        ),
        (
            TemplateOptions::new().stage("sun", function()),
            "no such stage, but api, sum",
        ),
    ] {
        let text = refusal(&adder, &options);
        assert!(text.contains(part), "{part}: {text}");
    }
}
