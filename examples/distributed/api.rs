//! The adder's HTTP API: it takes arrays, and returns their status and results.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use catchment::{Deployment, Error, RunState};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The answer repeats the array, and Lambda limits answers to 6 MB.
const MOST_ITEMS: usize = 100_000;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The number of characters of a wrong item that are quoted.
const SHOWN: usize = 40;

/// A status code and a body.
type Reply = (i64, Value);

/// Answers a request in the format of HTTP APIs and function URLs.
pub(crate) async fn answer(
    adder: &Deployment<i64, i64>,
    request: ApiGatewayV2httpRequest,
) -> ApiGatewayV2httpResponse {
    let method = request.request_context.http.method.as_str().to_owned();
    let path = path(&request);
    let (reply, allowed) = match (method.as_str(), path.as_slice()) {
        ("POST", ["adder"]) => (submit(adder, &request).await, None),
        (_, ["adder"]) => (wrong_method(&method, "POST"), Some("POST")),
        ("GET", ["adder", id]) => (look(adder, id).await, None),
        (_, ["adder", _]) => (wrong_method(&method, "GET"), Some("GET")),
        _ => {
            let asked = path.join("/");
            let known = "POST /adder and GET /adder/{arrayId}";
            let message = format!("there is no /{asked}: this API has {known}");
            (error(404, message), None)
        }
    };
    let (status_code, body) = reply;
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status_code;
    response.body = Some(body.to_string().into());
    let headers = [
        ("content-type", Some("application/json")),
        ("allow", allowed),
    ];
    for (name, value) in headers {
        if let Some(Ok(value)) = value.map(str::parse) {
            response.headers.insert(name, value);
        }
    }
    response
}

/// The path's segments, without the API's stage, which is the first segment if the API has one.
fn path(request: &ApiGatewayV2httpRequest) -> Vec<&str> {
    let path = request.raw_path.as_deref().unwrap_or_default();
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let stage = request.request_context.stage.as_deref();
    if segments.len() > 1 && stage.is_some() && segments.first().copied() == stage {
        segments.remove(0);
    }
    segments
}

fn error(status: i64, message: impl Into<String>) -> Reply {
    let message: String = message.into();
    (status, json!({ "status": "error", "message": message }))
}

fn wrong_method(method: &str, allowed: &str) -> Reply {
    error(405, format!("{method} is not allowed here: use {allowed}"))
}

/// An error of the deployment.
fn failed(problem: &Error) -> Reply {
    match problem {
        Error::NoSuchRun { .. } | Error::InvalidRunId { .. } => error(404, problem.to_string()),
        _ => {
            tracing::error!(error = %problem, "a request could not be answered");
            // What a service said, and where it was reached, is for the log.
            match problem.is_retryable() {
                true => error(503, "the backend does not answer: try again"),
                false => error(500, "an error of the server, which is in its log"),
            }
        }
    }
}

async fn submit(adder: &Deployment<i64, i64>, request: &ApiGatewayV2httpRequest) -> Reply {
    let array = match body(request).and_then(|body| numbers(&body)) {
        Ok(array) => array,
        Err(reason) => return error(400, reason),
    };
    match adder.submit(array.iter().copied()).await {
        Ok(run) => {
            let id = run.id().as_ref();
            let body = json!({ "status": "success", "array": array, "arrayId": id });
            (200, body)
        }
        Err(problem) => failed(&problem),
    }
}

fn body(request: &ApiGatewayV2httpRequest) -> Result<Vec<u8>, String> {
    let text = request.body.as_deref().unwrap_or_default();
    let body = match request.is_base64_encoded {
        true => STANDARD
            .decode(text)
            .map_err(|problem| format!("the body is said to be base64, and is not: {problem}"))?,
        false => text.as_bytes().to_vec(),
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("the body is empty: send a JSON array of integers, such as [1,2,3]".into());
    }
    if body.len() > MOST_BYTES {
        return Err(format!(
            "the body has {} bytes, the limit is {MOST_BYTES}: send the array in parts",
            body.len()
        ));
    }
    Ok(body)
}

/// The array in a body.
fn numbers(body: &[u8]) -> Result<Vec<i64>, String> {
    let whole: &RawValue = serde_json::from_slice(body)
        .map_err(|problem| format!("the body is not JSON: {problem}"))?;
    let items: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(|_| {
        let shown = shown(whole.get());
        format!("the body is {shown}: send a JSON array of integers, such as [1,2,3]")
    })?;
    if items.len() > MOST_ITEMS {
        return Err(format!(
            "the array has {} items, the limit is {MOST_ITEMS}: send it in parts",
            items.len()
        ));
    }
    let items = items.iter().enumerate();
    items
        .map(|(place, item)| number(place, item.get()))
        .collect()
}

fn number(place: usize, item: &str) -> Result<i64, String> {
    item.parse().map_err(|_| {
        let is_whole = item
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
        let problem = match is_whole {
            true => "outside of what 64 bits hold",
            false => "not an integer",
        };
        format!("item {place} of the array is {}, {problem}", shown(item))
    })
}

fn shown(json: &str) -> String {
    match json.char_indices().nth(SHOWN) {
        None => json.to_owned(),
        Some((end, _)) => format!("{}…", json.split_at(end).0),
    }
}

async fn look(adder: &Deployment<i64, i64>, id: &str) -> Reply {
    let run = adder.attach(id);
    let status = match run.status().await {
        Ok(status) => status,
        Err(problem) => return failed(&problem),
    };
    let (mut result, mut message) = (None, None);
    match status.state {
        RunState::Done => match run.result().await {
            Ok(sum) => result = Some(sum),
            Err(problem) => return failed(&problem),
        },
        RunState::Failed => message = status.failure.map(|failure| failure.to_string()),
        _ => {}
    }
    let body = json!({
        "status": status.state.to_string(),
        "arrayId": id,
        "items": status.items,
        "itemsDone": status.items_done,
        "result": result,
        "message": message,
    });
    (200, body)
}
