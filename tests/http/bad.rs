//! Bodies, ids and parameters that are refused, before anything is submitted.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use catchment::http::HttpOptions;
use catchment::{Backend, Pipeline};
use futures::{StreamExt, stream};
use serde::{Deserialize, Deserializer, Serialize};

use crate::client::{Client, Reply};
use crate::{Store, adder, idle};

/// A client of an adder, and the store to look for messages in.
fn watched(options: HttpOptions) -> (Client, Store, crate::Adder) {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    (Client::new(adder.router_with(options)), store, adder)
}

#[tokio::test]
async fn a_body_that_is_no_array_of_items_is_refused() {
    let (client, store, adder) = watched(HttpOptions::new());
    let many = format!("[{}\"x\"]", "1,".repeat(2_000));
    for (body, reason) in [
        ("", "the body is empty"),
        ("  ", "the body is empty"),
        ("{\"items\": [1]}", "not a JSON array, it begins with `{`"),
        ("5", "not a JSON array, it begins with `5`"),
        ("hello", "not a JSON array, it begins with `h`"),
        ("[1, 2", "the array is not closed"),
        ("[1, 2,]", "item 2: expected value"),
        ("[1, 2] 3", "the array is followed by `3`"),
        (
            "[1, 2, 3, \"four\"]",
            "item 3: invalid type: string \"four\", expected i64",
        ),
        ("[1, null]", "item 1: invalid type: null, expected i64"),
        ("[1.5]", "item 0: invalid type: floating point"),
        ("[[1]]", "item 0: invalid type: sequence"),
        (many.as_str(), "item 2000: invalid type: string"),
    ] {
        for reply in [
            client.submit(body.to_owned()).await,
            client.submit_as("bad", body.to_owned()).await,
        ] {
            reply.is(400, "invalid");
            assert!(
                reply.message().contains(reason),
                "{body}: {}",
                reply.message()
            );
            assert!(!reply.message().contains('\n'));
        }
    }
    client
        .submit(Bytes::from_static(b"[\"\xff\"]"))
        .await
        .is(400, "invalid");
    assert_eq!(store.depth(&adder).await, Default::default());
    client.get("/runs/bad").await.is(404, "not_found");
}

#[tokio::test]
async fn a_value_that_is_quoted_does_not_make_the_message_long() {
    let (client, _) = idle();
    let reply = client
        .submit(format!("[\"{}\"]", "long ".repeat(100_000)))
        .await;
    reply.is(400, "invalid");
    assert!(reply.message().starts_with("item 0: invalid type: string"));
    assert!(reply.message().len() < 1_000);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whoever_says_how_long_it_is() {
    let (client, store, adder) = watched(HttpOptions::new().body_limit(9));
    client.submit("[1,2,3,4]").await.is(202, "accepted");
    let before = store.depth(&adder).await;
    let too_large = |reply: &Reply| {
        reply.is(413, "too_large");
        assert!(
            reply.message().contains("the limit of 9 bytes"),
            "{}",
            reply.message()
        );
    };
    too_large(&client.submit("[1,2,3,4,5]").await);
    // Nothing is read of a body that says it is too large.
    let never = stream::pending::<Result<Bytes, std::io::Error>>();
    let request = post("application/json").header("content-length", "10");
    too_large(
        &client
            .send(request.body(Body::from_stream(never)).unwrap())
            .await,
    );
    // And a body that does not say so, or lies, is not read to its end.
    for length in [None, Some("3")] {
        let part = || Ok::<_, std::io::Error>(Bytes::from_static(b"[1,2,"));
        let endless = stream::repeat_with(part);
        let mut request = post("application/json");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        too_large(
            &client
                .send(request.body(Body::from_stream(endless)).unwrap())
                .await,
        );
    }
    assert_eq!(store.depth(&adder).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_stops_is_refused() {
    let (client, store, adder) = watched(HttpOptions::new().time_limit(Duration::from_secs(7)));
    let part = || stream::iter([Ok(Bytes::from_static(b"[1,"))]);
    let broken = part().chain(stream::iter([Err(std::io::Error::other("gone"))]));
    let request = post("application/json")
        .body(Body::from_stream(broken))
        .unwrap();
    let reply = client.send(request).await;
    reply.is(400, "invalid");
    assert_eq!(reply.message(), "the body broke off after 3 bytes");
    let stopped = part().chain(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = post("application/json")
        .body(Body::from_stream(stopped))
        .unwrap();
    let reply = client.send(request).await;
    reply.is(408, "timeout");
    assert_eq!(reply.message(), "the body stopped after 3 bytes, for 7 s");
    assert_eq!(store.depth(&adder).await, Default::default());
}

fn post(kind: &str) -> axum::http::request::Builder {
    Request::post("/runs").header("content-type", kind)
}

#[tokio::test]
async fn parameters_are_checked() {
    let (client, _) = idle();
    client.submit_as("a", "[1]").await.is(202, "accepted");
    for (path, reason) in [
        (
            "/runs/a/result?wait=soon",
            "wait=\"soon\" cannot be used: give whole seconds",
        ),
        ("/runs/a/result?wait=-1", "whole seconds"),
        ("/runs/a/result?wait=1.5", "whole seconds"),
        ("/runs/a/result?wait=", "whole seconds"),
        ("/runs/a/result?wait=99999999999999999999", "whole seconds"),
        ("/runs/a/failures?limit=all", "a number from 1 to 1000"),
        ("/runs/a/dead-letters?limit=1001", "a number from 1 to 1000"),
        ("/dead-letters?limit=-1", "a number from 1 to 1000"),
        ("/runs?limit=0", "a number from 1 to 1000"),
        ("/runs?state=lost", "give open, running, done"),
        ("/runs?since=yesterday", "milliseconds since 1970"),
        ("/runs?until=-1", "milliseconds since 1970"),
        (
            "/runs?until=18446744073709551616",
            "milliseconds since 1970",
        ),
        ("/runs?cursor=x", "is not a cursor of this list"),
        ("/runs/a/failures?cursor=", "is not a cursor of this list"),
        (
            "/runs/a/dead-letters?cursor=memory-runs.00",
            "is not a cursor of this list",
        ),
        // It goes on in a stage of another deployment.
        (
            "/dead-letters?cursor=dead-letters.7b227374616765223a226c6f7374227d",
            "stage `lost`",
        ),
    ] {
        let reply = client.get(path).await;
        reply.is(400, "invalid");
        assert!(
            reply.message().contains(reason),
            "{path}: {}",
            reply.message()
        );
    }
}

/// A type whose reading panics at one value, and whose writing panics at another.
#[derive(Clone, Debug)]
struct Odd(i64);

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = i64::deserialize(deserializer)?;
        assert_ne!(n, 13, "made up for a test");
        Ok(Self(n))
    }
}

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, 14, "made up for a test");
        self.0.serialize(serializer)
    }
}

#[tokio::test]
async fn a_panic_of_the_applications_is_an_answer() {
    let pipeline = Pipeline::new().then(crate::ok::<Odd>).count();
    let deployment = pipeline.deploy("odd", Backend::memory()).unwrap();
    let client = Client::new(deployment.router());
    let unread = client.submit("[12, 13]").await;
    unread.is(500, "error");
    assert!(unread.message().contains("panicked"));
    // An item that cannot be written is named, whether its type says why or panics.
    let unwritten = client.submit("[12, 14]").await;
    unwritten.is(400, "invalid");
    assert_eq!(unwritten.message(), "cannot encode packet 1 (item 1)");
    // Its id is not known to anybody.
    let mut looks = 0;
    while client.get("/runs").await.data()["runs"][0]["state"] != "cancelled" {
        looks += 1;
        assert!(looks < 10_000, "the run is still open");
    }
    client.submit("[12]").await.is(202, "accepted");
}
