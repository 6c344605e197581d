//! The example's API function.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use catchment::{Deployment, Pipeline, Stage, permanent};
use serde_json::{Value, json};

use super::*;

fn adder(store: &Store) -> Deployment<i64, i64> {
    let double = |n: i64| {
        n.checked_mul(2)
            .ok_or_else(|| permanent("too large to double"))
    };
    let adder = Pipeline::new()
        .try_map(double)
        .with(Stage::named("times_two"));
    let adder = adder.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    adder.deploy("adder", store.backend()).unwrap()
}

fn request(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0",
        "rawPath": path,
        "headers": { "content-type": "application/json" },
        "requestContext": { "stage": "$default", "http": { "method": method, "path": path } },
        "isBase64Encoded": false,
    })
}

fn post(body: &str) -> Value {
    let mut request = request("POST", "/adder");
    request["body"] = body.into();
    request
}

async fn respond(adder: &Deployment<i64, i64>, request: Value) -> ApiGatewayV2httpResponse {
    let request: ApiGatewayV2httpRequest = serde_json::from_value(request).unwrap();
    api::answer(adder, request).await
}

async fn ask(adder: &Deployment<i64, i64>, request: Value) -> (i64, Value) {
    let response = respond(adder, request).await;
    assert_eq!(response.headers["content-type"], "application/json");
    let Some(Body::Text(body)) = response.body else {
        panic!("{response:?}");
    };
    (response.status_code, serde_json::from_str(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_array_is_submitted_and_its_sum_told() {
    let store = Store::new();
    let adder = adder(&store);
    let (code, submitted) = ask(&adder, post("[1, 2, 3, 4, 5]")).await;
    let id = submitted["arrayId"].as_str().unwrap().to_owned();
    let expected = json!({ "status": "success", "array": [1, 2, 3, 4, 5], "arrayId": id });
    assert_eq!((code, submitted), (200, expected));

    let path = format!("/adder/{id}");
    let (code, seen) = ask(&adder, request("GET", &path)).await;
    assert_eq!((code, &seen["status"]), (200, &json!("running")));
    assert_eq!(seen["result"], Value::Null);
    let times_two = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    let sum = Mapping::new(&store, adder.lambda("sum").unwrap()).await;
    work_off(&[&times_two, &sum]).await;
    // The API's stage precedes the path if the API has one.
    let mut staged = request("GET", &format!("/prod{path}/"));
    staged["requestContext"]["stage"] = "prod".into();
    let (code, seen) = ask(&adder, staged).await;
    assert_eq!(code, 200);
    assert_eq!(
        (&seen["status"], &seen["result"]),
        (&json!("done"), &json!(30))
    );

    let mut encoded = post(&STANDARD.encode("[]"));
    encoded["isBase64Encoded"] = true.into();
    let (code, submitted) = ask(&adder, encoded).await;
    assert_eq!((code, &submitted["array"]), (200, &json!([])));
    let path = format!("/adder/{}", submitted["arrayId"].as_str().unwrap());
    work_off(&[&times_two, &sum]).await;
    let (_, seen) = ask(&adder, request("GET", &path)).await;
    assert_eq!(seen["result"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_says_why() {
    let store = Store::new();
    let adder = adder(&store);
    let (_, submitted) = ask(&adder, post("[9223372036854775807]")).await;
    let times_two = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    work_off(&[&times_two]).await;
    let path = format!("/adder/{}", submitted["arrayId"].as_str().unwrap());
    let (code, seen) = ask(&adder, request("GET", &path)).await;
    assert_eq!((code, &seen["status"]), (200, &json!("failed")));
    let message = seen["message"].as_str().unwrap();
    assert!(message.contains("too large to double"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn anything_else_is_refused_with_the_reason() {
    let store = Store::new();
    let adder = adder(&store);
    let many = format!("[{}0]", "0,".repeat(100_000));
    let huge = format!("[{}]", " ".repeat(5 * 1024 * 1024));
    let long = format!("\"{}\"", "x".repeat(100));
    let refused = [
        ("", "the body is empty"),
        (" \n", "the body is empty"),
        ("1,2", "not JSON: trailing characters at line 1 column 2"),
        ("[1,", "not JSON: EOF"),
        (
            "{\"array\":[1]}",
            "the body is {\"array\":[1]}: send a JSON array",
        ),
        ("null", "the body is null"),
        (&long, "x…: send a JSON array"),
        ("[1, \"2\"]", "item 1 of the array is \"2\", not an integer"),
        ("[1.5]", "item 0 of the array is 1.5, not an integer"),
        ("[1, 2, 1e3]", "item 2 of the array is 1e3, not an integer"),
        ("[[1]]", "item 0 of the array is [1], not an integer"),
        ("[null]", "item 0 of the array is null, not an integer"),
        ("[9223372036854775808]", "outside of what 64 bits hold"),
        (&many, "the array has 100001 items, the limit is 100000"),
        (&huge, "the limit is 4194304"),
    ];
    for (body, reason) in refused {
        let (code, answer) = ask(&adder, post(body)).await;
        assert_eq!(
            (code, &answer["status"]),
            (400, &json!("error")),
            "{reason}"
        );
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
        assert!(message.len() < 200, "{message}");
    }
    let mut broken = post("?");
    broken["isBase64Encoded"] = true.into();
    let (code, answer) = ask(&adder, broken).await;
    assert_eq!(code, 400);
    assert!(answer["message"].as_str().unwrap().contains("base64"));
    let (code, _) = ask(&adder, request("POST", "/adder")).await;
    assert_eq!(code, 400, "no body at all");
    let depth = store.depth(&adder).await;
    assert_eq!(depth.ready, 0, "nothing was submitted");
}

#[tokio::test(start_paused = true)]
async fn other_paths_and_methods() {
    let store = Store::new();
    let adder = adder(&store);
    for (method, path, expected, allow) in [
        ("GET", "/adder/nobody", 404, None),
        ("GET", "/adder/two words", 404, None),
        ("GET", "/", 404, None),
        ("POST", "/adders", 404, None),
        ("GET", "/adder/a/b", 404, None),
        ("DELETE", "/adder/a", 405, Some("GET")),
        ("GET", "/adder", 405, Some("POST")),
    ] {
        let response = respond(&adder, request(method, path)).await;
        assert_eq!(response.status_code, expected, "{method} {path}");
        let allowed = response.headers.get("allow");
        assert_eq!(allowed.map(|value| value.to_str().unwrap()), allow);
        let (_, answer) = ask(&adder, request(method, path)).await;
        assert_eq!(answer["status"], "error");
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
}
