//! Whether an answer is as the OpenAPI document says: as much of JSON Schema as the document uses.

use std::sync::LazyLock;

use axum::http::Method;
use serde_json::{Map, Value};

pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(catchment::http::openapi()).unwrap());

/// Panics if the document does not have this answer to this request.
pub(crate) fn check_answer(method: &Method, path: &str, code: u16, answer: &Value) {
    let name = method.as_str().to_ascii_lowercase();
    let operation = operations().find(|(template, verb, _)| *verb == name && fits(template, path));
    let codes = operation.map(|(_, _, operation)| &operation["responses"]);
    let response = match (codes, code) {
        (Some(codes), _) if codes.get(code.to_string()).is_some() => &codes[code.to_string()],
        // Answers that any request may get, by the description.
        (None, 404) => &DOCUMENT["components"]["responses"]["NotFound"],
        (None, 405) => &DOCUMENT["components"]["responses"]["MethodNotAllowed"],
        _ => panic!("{method} {path}: {code} is not in the document"),
    };
    let schema = &resolve(response)["content"]["application/json"]["schema"];
    if let Err(problem) = check(schema, answer, "answer") {
        panic!("{method} {path}: {code}: {problem}: {answer}");
    }
}

/// Path, method and description of each operation.
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    paths().flat_map(|(path, item)| {
        let verbs = item.as_object().unwrap().iter();
        let verbs = verbs.filter(|(verb, _)| *verb != "parameters");
        verbs.map(move |(verb, operation)| (path, verb.as_str(), operation))
    })
}

pub(crate) fn paths() -> impl Iterator<Item = (&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| (path.as_str(), item))
}

fn fits(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || a.starts_with('{') => {}
            _ => return false,
        }
    }
}

pub(crate) fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(pointer) => DOCUMENT.pointer(pointer.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

pub(crate) fn check(schema: &'static Value, value: &Value, at: &str) -> Result<(), String> {
    let keywords = resolve(schema).as_object().unwrap();
    keywords.iter().try_for_each(|(keyword, said)| {
        keep(keywords, keyword, said, value, at).map_err(|problem| match problem.is_empty() {
            true => format!("{at} breaks {keyword}: {said}"),
            false => problem,
        })
    })
}

/// One keyword of a schema. The error is empty if this keyword itself is violated.
fn keep(
    schema: &'static Map<String, Value>,
    keyword: &str,
    said: &'static Value,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let holds = match keyword {
        // These do not restrict values of another type.
        "required" | "additionalProperties" | "properties" if !value.is_object() => true,
        "items" if !value.is_array() => true,
        "description" => true,
        "type" => match said {
            Value::Array(types) => types.iter().any(|name| is_a(name, value)),
            name => is_a(name, value),
        },
        "const" => said == value,
        "enum" => said.as_array().unwrap().contains(value),
        "minimum" => value.is_null() || value.as_u64() >= said.as_u64(),
        "minLength" => value.as_str().unwrap_or_default().len() as u64 >= said.as_u64().unwrap(),
        "maxLength" => value.as_str().unwrap_or_default().len() as u64 <= said.as_u64().unwrap(),
        "pattern" => {
            assert_eq!(said, "^[A-Za-z0-9_.:/@=+,-]+$");
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:/@=+,-".contains(c);
            value.as_str().unwrap_or_default().chars().all(allowed)
        }
        "required" => {
            let mut names = said.as_array().unwrap().iter();
            names.all(|name| value.get(name.as_str().unwrap()).is_some())
        }
        "additionalProperties" => {
            assert_eq!(said, false);
            let known = &schema["properties"];
            let mut names = value.as_object().unwrap().keys();
            names.all(|name| known.get(name).is_some())
        }
        "properties" => {
            for (name, schema) in said.as_object().unwrap() {
                if let Some(member) = value.get(name) {
                    check(schema, member, &format!("{at}.{name}"))?;
                }
            }
            true
        }
        "items" => {
            for (index, item) in value.as_array().unwrap().iter().enumerate() {
                check(said, item, &format!("{at}[{index}]"))?;
            }
            true
        }
        "oneOf" => {
            let choices = said.as_array().unwrap().iter();
            choices
                .filter(|schema| check(schema, value, at).is_ok())
                .count()
                == 1
        }
        other => panic!("the document uses {other}, which this does not know"),
    };
    if holds { Ok(()) } else { Err(String::new()) }
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("the document has type {other}, which this does not know"),
    }
}
