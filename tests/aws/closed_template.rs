//! Templates are closed by default: nothing in them answers strangers, and nothing that is sent
//! travels unencrypted. Opening takes an option.

use catchment::template::{ApiOptions, Template, TemplateOptions};
use serde_json::{Value, json};

use crate::template::{invoices, parsed};

const KINDS: [Template; 2] = [Template::Sam, Template::CloudFormation];

fn made(template: Template, options: &TemplateOptions) -> Value {
    let text = invoices(180).template_with(template, options).unwrap();
    parsed(&text)
}

/// The resources whose type has this in it, by their ids.
fn of_kind<'a>(template: &'a Value, kind: &str) -> Vec<(&'a String, &'a Value)> {
    let resources = template["Resources"].as_object().unwrap().iter();
    let resources = resources.filter(|(_, it)| it["Type"].as_str().unwrap().contains(kind));
    resources.collect()
}

#[test]
fn a_template_has_no_public_api_unless_it_is_asked_for() {
    for kind in KINDS {
        let template = made(kind, &TemplateOptions::new());
        assert_eq!(of_kind(&template, "Api"), [], "{kind:?}");
        assert_eq!(template.get("Outputs"), None, "{kind:?}");
        let functions = of_kind(&template, "Function");
        assert_eq!(functions.len(), 5, "{kind:?}: a function for each stage");
        let text = invoices(180).template(kind).unwrap();
        assert!(!text.contains("HTTP API"), "{text}");
    }
}

#[test]
fn every_queue_refuses_requests_without_tls() {
    for kind in KINDS {
        let template = made(kind, &TemplateOptions::new());
        let mut open: Vec<_> = of_kind(&template, "AWS::SQS::Queue");
        open.retain(|(_, it)| it["Type"] == "AWS::SQS::Queue");
        assert_eq!(open.len(), 10);
        for (_, policy) in of_kind(&template, "AWS::SQS::QueuePolicy") {
            let properties = &policy["Properties"];
            let [queue] = properties["Queues"].as_array().unwrap().as_slice() else {
                panic!("{policy}")
            };
            let id = queue["Ref"].as_str().unwrap();
            // A policy of a queue's names that queue alone.
            let statement = json!([{
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": {"Fn::GetAtt": [id, "Arn"]},
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }]);
            assert_eq!(properties["PolicyDocument"]["Statement"], statement);
            assert_eq!(properties["PolicyDocument"]["Version"], "2012-10-17");
            open.retain(|(queue, _)| *queue != id);
        }
        assert_eq!(open, [], "{kind:?}: queues without a policy");
    }
}

/// Each API's authorizer, by what makes the caller known to it.
#[test]
fn an_api_lets_in_callers_with_aws_credentials_unless_it_is_said_otherwise() {
    let cloud = |api: ApiOptions| made(Template::CloudFormation, &TemplateOptions::new().api(api));
    let routes = |template: &Value| {
        let routes = of_kind(template, "ApiGatewayV2::Route");
        assert_eq!(routes.len(), 2);
        let types = routes.iter().map(|(_, route)| {
            let properties = &route["Properties"];
            (
                properties["AuthorizationType"].as_str().unwrap().to_owned(),
                properties["AuthorizerId"].clone(),
            )
        });
        let types: Vec<_> = types.collect();
        assert_eq!(types[0], types[1]);
        types[0].clone()
    };
    let signed = routes(&cloud(ApiOptions::at("/v1")));
    assert_eq!(signed, ("AWS_IAM".to_owned(), Value::Null));
    let public = routes(&cloud(ApiOptions::at("/v1").public()));
    assert_eq!(public, ("NONE".to_owned(), Value::Null));
    let token = ApiOptions::at("/v1").jwt("https://login.example.com/", ["invoices"]);
    let template = cloud(token.clone());
    let authorizer = json!({"Ref": "HttpApiAuthorizer"});
    assert_eq!(routes(&template), ("JWT".to_owned(), authorizer));
    let authorizer = &template["Resources"]["HttpApiAuthorizer"]["Properties"];
    let jwt = json!({"Issuer": "https://login.example.com/", "Audience": ["invoices"]});
    assert_eq!(authorizer["JwtConfiguration"], jwt);

    let sam = |api: ApiOptions| {
        let template = made(Template::Sam, &TemplateOptions::new().api(api));
        template["Resources"]["HttpApi"]["Properties"]["Auth"].clone()
    };
    assert_eq!(
        sam(ApiOptions::new()),
        json!({"EnableIamAuthorizer": true, "DefaultAuthorizer": "AWS_IAM"})
    );
    assert_eq!(sam(ApiOptions::new().public()), Value::Null);
    assert_eq!(sam(token)["DefaultAuthorizer"], "HttpApiAuthorizer");
}

#[test]
fn an_api_is_throttled_and_its_access_log_names_no_run() {
    for (kind, stage) in [
        (Template::Sam, "HttpApi"),
        (Template::CloudFormation, "HttpApiStage"),
    ] {
        let of = |api: ApiOptions| made(kind, &TemplateOptions::new().api(api));
        let usual = of(ApiOptions::new());
        let properties = &usual["Resources"][stage]["Properties"];
        assert_eq!(
            properties["DefaultRouteSettings"],
            json!({"ThrottlingRateLimit": 100, "ThrottlingBurstLimit": 200})
        );
        assert_eq!(properties.get("AccessLogSettings"), None);

        let logged = of(ApiOptions::new().throttle(3, 4).access_log(90));
        let properties = &logged["Resources"][stage]["Properties"];
        assert_eq!(
            properties["DefaultRouteSettings"],
            json!({"ThrottlingRateLimit": 3, "ThrottlingBurstLimit": 4})
        );
        let settings = &properties["AccessLogSettings"];
        let group = json!({"Fn::GetAtt": ["HttpApiAccessLog", "Arn"]});
        assert_eq!(settings["DestinationArn"], group);
        let line: Value = serde_json::from_str(settings["Format"].as_str().unwrap()).unwrap();
        for value in line.as_object().unwrap().values() {
            let value = value.as_str().unwrap();
            assert!(value.starts_with("$context."), "{value}");
            assert!(
                !value.contains("path") && !value.contains("Path"),
                "{value}"
            );
        }
        let group = &logged["Resources"]["HttpApiAccessLog"]["Properties"];
        assert_eq!(group["RetentionInDays"], 90);
    }
}

#[test]
fn a_key_encrypts_all_that_is_stored_and_every_role_may_use_it() {
    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let api = ApiOptions::new().access_log(7);
    let options = TemplateOptions::new().kms_key(KEY).api(api);
    for kind in KINDS {
        let template = made(kind, &options);
        let mut encrypted = 0;
        for (id, resource) in template["Resources"].as_object().unwrap() {
            let properties = &resource["Properties"];
            let key = match resource["Type"].as_str().unwrap() {
                "AWS::SQS::Queue" => &properties["KmsMasterKeyId"],
                "AWS::DynamoDB::Table" => &properties["SSESpecification"]["KMSMasterKeyId"],
                "AWS::Logs::LogGroup" => &properties["KmsKeyId"],
                "AWS::IAM::Role" => {
                    let statements = &properties["Policies"][0]["PolicyDocument"]["Statement"];
                    let mut statements = statements.as_array().unwrap().iter();
                    let of_key = statements.find(|it| it["Resource"] == KEY).unwrap();
                    let through = &of_key["Condition"]["StringEquals"]["kms:ViaService"];
                    assert_eq!(through.as_array().unwrap().len(), 2);
                    &of_key["Resource"]
                }
                _ => continue,
            };
            assert_eq!(key, KEY, "{kind:?}: {id}");
            encrypted += 1;
        }
        // Five stages' queues, logs and roles, the API's, the access log and the tables.
        assert_eq!(encrypted, 5 * 4 + 2 + 1 + 2, "{kind:?}");
    }
}

#[test]
fn what_is_stored_goes_with_the_stack_unless_it_is_to_stay() {
    let kept = TemplateOptions::new()
        .retain_data()
        .point_in_time_recovery(35);
    for kind in KINDS {
        for (options, policy, days) in [
            (TemplateOptions::new(), "Delete", None),
            (kept.clone(), "Retain", Some(35)),
        ] {
            let template = made(kind, &options);
            let mut stored = of_kind(&template, "AWS::SQS::Queue");
            stored.retain(|(_, it)| it["Type"] == "AWS::SQS::Queue");
            let tables = of_kind(&template, "AWS::DynamoDB::Table");
            for (_, table) in &tables {
                let recovery = &table["Properties"]["PointInTimeRecoverySpecification"];
                assert_eq!(recovery["RecoveryPeriodInDays"].as_u64(), days);
            }
            stored.extend(tables);
            stored.extend(of_kind(&template, "AWS::Logs::LogGroup"));
            assert_eq!(stored.len(), 10 + 2 + 5);
            for (id, resource) in stored {
                assert_eq!(resource["DeletionPolicy"], policy, "{kind:?}: {id}");
                assert_eq!(resource["UpdateReplacePolicy"], policy, "{kind:?}: {id}");
            }
            let text = invoices(180).template_with(kind, &options).unwrap();
            let said = match policy {
                "Retain" => "# Deleting the stack leaves queues, tables and logs",
                _ => "# Deleting the stack deletes queues and tables",
            };
            assert!(text.contains(said), "{text}");
        }
    }
}
