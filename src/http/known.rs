//! Parameters of a query that a path does not take.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use axum::extract::{Query, Request};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::answer::{Answer, Kind};
use super::endpoint::Endpoint;
use super::openapi;

/// The names of an operation's parameters, by its path and method: those of the OpenAPI document.
static KNOWN: LazyLock<HashMap<(String, String), Vec<String>>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(openapi()).unwrap_or_default();
    let paths = document.get("paths").and_then(Value::as_object);
    let operations = paths.into_iter().flatten().flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| ((path.clone(), method.clone()), operation))
    });
    let names = |operation: &Value| {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let parameters = parameters.into_iter().flatten();
        let names = parameters.filter_map(|parameter| name(&document, parameter));
        names.map(str::to_owned).collect()
    };
    operations
        .map(|(of, operation)| (of, names(operation)))
        .collect()
});

/// The name of a parameter, if it stands in a query.
fn name<'a>(document: &'a Value, parameter: &'a Value) -> Option<&'a str> {
    let parameter = match parameter.get("$ref").and_then(Value::as_str) {
        Some(pointer) => document.pointer(pointer.strip_prefix('#')?)?,
        None => parameter,
    };
    let is_in_query = parameter.get("in")?.as_str()? == "query";
    parameter.get("name")?.as_str().filter(|_| is_in_query)
}

/// Refuses a request with a parameter that its path and method do not take, or that it has twice: one that was misspelt
/// would otherwise select everything.
pub(super) async fn check(endpoint: Endpoint, request: Request, next: Next) -> Response {
    match problem(endpoint, request.method(), request.uri()) {
        Some(problem) => Answer::new(Kind::Invalid, problem).into_response(),
        None => next.run(request).await,
    }
}

fn problem(endpoint: Endpoint, method: &Method, uri: &Uri) -> Option<String> {
    let method = match *method {
        Method::HEAD => "get".to_owned(),
        _ => method.as_str().to_ascii_lowercase(),
    };
    let known = KNOWN.get(&(endpoint.path().to_owned(), method))?;
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let mut seen = BTreeSet::new();
    for (name, _) in &given {
        if !known.contains(name) {
            return Some(format!(
                "{name:?} is not a parameter here: {}",
                advice(known)
            ));
        }
        if !seen.insert(name) {
            return Some(format!("the parameter {name} is there twice: give it once"));
        }
    }
    None
}

fn advice(known: &[String]) -> String {
    match known {
        [] => "this request takes none".to_owned(),
        known => format!("this request takes {}", known.join(", ")),
    }
}
