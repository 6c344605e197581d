//! Each fault of a body has its code and says what it is, for both ways to submit.

use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use catchment::http::HttpOptions;
use futures::stream;

use crate::client::Client;
use crate::{Store, adder};

/// One fault: the headers and the body of a request, and the answer.
struct Fault {
    kind: Option<&'static str>,
    header: Option<(&'static str, &'static str)>,
    body: Parts,
    answer: (u16, &'static str),
    message: &'static str,
}

/// A body, or what there is of it.
#[derive(Clone, Copy)]
enum Parts {
    Whole(&'static [u8]),
    /// These bytes, and then an error of the connection.
    BreaksOff(&'static [u8]),
}

impl Parts {
    fn body(self) -> Body {
        match self {
            Self::Whole(bytes) => bytes.into(),
            Self::BreaksOff(bytes) => {
                let broken = Err(std::io::Error::other("gone"));
                Body::from_stream(stream::iter([Ok(Bytes::from_static(bytes)), broken]))
            }
        }
    }
}

fn fault(
    kind: Option<&'static str>,
    body: Parts,
    answer: (u16, &'static str),
    message: &'static str,
) -> Fault {
    Fault {
        kind,
        header: None,
        body,
        answer,
        message,
    }
}

fn invalid(body: &'static [u8], message: &'static str) -> Fault {
    let body = Parts::Whole(body);
    fault(Some("application/json"), body, (400, "invalid"), message)
}

fn media(kind: Option<&'static str>, body: &'static [u8]) -> Fault {
    let message = "send a JSON array, with the header `content-type: application/json`";
    let answer = (415, "unsupported_media_type");
    fault(kind, Parts::Whole(body), answer, message)
}

fn encoded(encoding: &'static str, message: &'static str) -> Fault {
    let body = Parts::Whole(b"[1]");
    let answer = (415, "unsupported_media_type");
    Fault {
        header: Some(("content-encoding", encoding)),
        ..fault(Some("application/json"), body, answer, message)
    }
}

fn faults() -> Vec<Fault> {
    let too_large = (413, "too_large");
    let json = Some("application/json");
    vec![
        invalid(b"", "the body is empty: send a JSON array"),
        invalid(b" \r\n", "the body is empty: send a JSON array"),
        invalid(b"nope", "not a JSON array, it begins with `n`"),
        invalid(b"{\"a\":1}", "not a JSON array, it begins with `{`"),
        invalid(b"null", "not a JSON array, it begins with `n`"),
        // A line for each item is another format.
        invalid(b"1\n2\n", "not a JSON array, it begins with `1`"),
        invalid(b"[1]\n[2]\n", "the array is followed by `[`"),
        invalid(b"[1,2", "the array is not closed: the body ends at item 2"),
        invalid(b"[1,", "the array is not closed: the body ends at item 1"),
        invalid(b"[1,[", "item 1: invalid type: sequence, expected i64"),
        invalid(b"[1,,2]", "item 1: expected value"),
        invalid(
            b"[1,2,\"3\"]",
            "item 2: invalid type: string \"3\", expected i64",
        ),
        invalid(b"[1,2.5]", "item 1: invalid type: floating point `2.5`"),
        invalid(b"[9223372036854775808]", "item 0: invalid value: integer"),
        invalid(
            b"[1,\"\xff\"]",
            "the body is not UTF-8: the byte 0xff is at offset 4",
        ),
        invalid(
            b"\xff\xfe[\0",
            "the body is not UTF-8: the byte 0xff is at offset 0",
        ),
        invalid(b"[\0", "item 0: expected value"),
        // gzip that does not say so.
        invalid(b"\x1f\x8b\x08\x00", "the body is not UTF-8"),
        fault(
            json,
            Parts::BreaksOff(b"[1,"),
            (400, "invalid"),
            "the body broke off after 3 bytes",
        ),
        // Even if what came is an array.
        fault(
            json,
            Parts::BreaksOff(b"[1]"),
            (400, "invalid"),
            "the body broke off after 3 bytes",
        ),
        fault(
            json,
            Parts::Whole(b"[1,2,3,4,5,6,7,8,9,10,11,12,13]"),
            too_large,
            "the body is larger than the limit of 30 bytes",
        ),
        Fault {
            header: Some(("content-length", "31")),
            ..fault(
                json,
                Parts::Whole(b"[1]"),
                too_large,
                "larger than the limit of 30 bytes",
            )
        },
        media(None, b"[1]"),
        media(Some(""), b"[1]"),
        media(Some("text/plain"), b"[1]"),
        media(Some("text/json"), b"[1]"),
        media(Some("application/jsonp"), b"[1]"),
        media(Some("application/x-www-form-urlencoded"), b"[1]"),
        media(Some("multipart/form-data; boundary=a"), b"[1]"),
        media(Some("application/x-ndjson"), b"1\n2\n"),
        media(Some("application/jsonl"), b"1\n2\n"),
        // What a body is said to be comes before what it is.
        media(Some("application/octet-stream"), b"\xff"),
        encoded("gzip", "`content-encoding: gzip` is not read"),
        encoded("br", "`content-encoding: br` is not read"),
        encoded("identity, zstd", "`content-encoding: identity, zstd`"),
    ]
}

#[tokio::test]
async fn every_fault_of_a_body_has_its_code_and_says_what_it_is() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router_with(HttpOptions::new().body_limit(30)));
    for fault in faults() {
        for (method, path) in [(Method::POST, "/runs"), (Method::PUT, "/runs/a")] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(kind) = fault.kind {
                request = request.header("content-type", kind);
            }
            if let Some((name, value)) = fault.header {
                request = request.header(name, value);
            }
            let reply = client.send(request.body(fault.body.body()).unwrap()).await;
            let (code, status) = fault.answer;
            reply.is(code, status);
            let message = reply.message();
            assert!(message.contains(fault.message), "{message}");
            let accepts = reply
                .headers
                .get("accept-encoding")
                .map(|value| value.as_bytes());
            let is_encoded = fault
                .header
                .is_some_and(|(name, _)| name == "content-encoding");
            assert_eq!(accepts, is_encoded.then_some(&b"identity"[..]));
        }
    }
    assert_eq!(store.depth(&adder).await, Default::default());
    client.get("/runs/a").await.is(404, "not_found");
    assert!(
        client.get("/runs").await.data()["runs"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_only_looks_like_a_fault_is_accepted() {
    let (client, _) = crate::idle();
    for (name, value) in [
        ("content-encoding", "identity"),
        ("content-encoding", ""),
        ("content-type", "application/json; charset=utf-8"),
        ("content-type", "Application/Vnd.Us+JSON"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
    ] {
        let mut request = Request::post("/runs").header(name, value);
        if name != "content-type" {
            request = request.header("content-type", "application/json");
        }
        let reply = client.send(request.body("[1, 2]".into()).unwrap()).await;
        reply.is(202, "accepted");
    }
}

#[tokio::test]
async fn every_fault_of_a_query_is_told() {
    let (client, _) = crate::idle();
    client.submit_as("a", "[1]").await.is(202, "accepted");
    for (method, path, reason) in [
        (
            Method::GET,
            "/runs?limt=5",
            "\"limt\" is not a parameter here: this request takes state, since, until, limit, cursor",
        ),
        (
            Method::GET,
            "/runs?wait=5",
            "\"wait\" is not a parameter here",
        ),
        (
            Method::GET,
            "/runs/a/failures?state=failed",
            "\"state\" is not a parameter here: this request takes limit, cursor",
        ),
        (
            Method::GET,
            "/runs/a/result?color=blue",
            "\"color\" is not a parameter here: this request takes wait",
        ),
        (
            Method::GET,
            "/runs/a/result?Wait=1",
            "\"Wait\" is not a parameter here",
        ),
        (
            Method::GET,
            "/runs/a?limit=5",
            "\"limit\" is not a parameter here: this request takes none",
        ),
        (
            Method::PUT,
            "/runs/a?wait=5",
            "\"wait\" is not a parameter here: this request takes none",
        ),
        (Method::POST, "/runs?id=b", "\"id\" is not a parameter here"),
        (
            Method::POST,
            "/runs/a/cancel?=",
            "\"\" is not a parameter here",
        ),
        (
            Method::POST,
            "/runs/a/redrive?limit=1",
            "\"limit\" is not a parameter here",
        ),
        (
            Method::GET,
            "/runs?limit=5&limit=5",
            "the parameter limit is there twice",
        ),
        (
            Method::GET,
            "/runs?limit=5&%6Cimit=6",
            "the parameter limit is there twice",
        ),
        (
            Method::GET,
            "/runs/a/result?wait=1&wait=2",
            "the parameter wait is there twice",
        ),
        (
            Method::GET,
            "/runs?limit=-1",
            "limit=\"-1\" cannot be used: give a number from 1 to 1000",
        ),
        (
            Method::GET,
            "/dead-letters?bodies=yes",
            "bodies=\"yes\" cannot be used: give true or false",
        ),
        (Method::GET, "/runs?limit=%FF", "a number from 1 to 1000"),
        (Method::GET, "/runs?limit=5%00", "a number from 1 to 1000"),
    ] {
        let reply = client.ask(method, path).await;
        reply.is(400, "invalid");
        let message = reply.message();
        assert!(message.contains(reason), "{path}: {message}");
    }
    for path in ["/runs?", "/runs?&", "/runs/a?", "/runs/a/result?wait=%30"] {
        let reply = client.get(path).await;
        assert!(reply.code < 300, "{path}: {}", reply.json);
    }
    let data = client.get("/runs/a").await;
    assert_eq!(data.data()["state"], "running", "it was not cancelled");
}
