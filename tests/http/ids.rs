//! Ids in every legal spelling, and in illegal ones.

use axum::http::Method;
use catchment::Backend;

use crate::client::Client;
use crate::{adder, idle, soon};

/// Every character of `id` as an escape, in capital letters or small ones.
fn escaped(id: &str, capitals: bool) -> String {
    let escape = |byte: u8| match capitals {
        true => format!("%{byte:02X}"),
        false => format!("%{byte:02x}"),
    };
    id.bytes().map(escape).collect()
}

/// Only what a path has to have escaped.
fn plain(id: &str) -> String {
    id.replace('/', "%2F")
}

/// Ids that have every legal character, alone and all together, and such as look like paths.
fn legal() -> Vec<String> {
    let all: String = ('!'..='~').filter(|c| is_legal(*c)).collect();
    let alone = "-_.:/@=+,7bC".chars().map(String::from);
    let whole = [
        "invoices/2026-11-21",
        "/a/",
        "a//b",
        "a/result",
        "..",
        "../a",
        "a/..",
        "result",
        "openapi.json",
    ];
    let long = ["x".repeat(128), "/".repeat(128), "+".repeat(128)];
    let ids = alone.chain(whole.map(str::to_owned));
    ids.chain(long).chain([all.clone()]).collect()
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:/@=+,".contains(c)
}

#[tokio::test(start_paused = true)]
async fn a_run_is_reached_by_every_spelling_of_its_id() {
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    let application = axum::Router::new().nest("/the/adder", adder.router());
    for client in [
        Client::new(adder.router()),
        Client::under(application, "/the/adder"),
    ] {
        for (n, id) in legal().iter().enumerate() {
            let body = format!("[{n}]");
            let spellings = [plain(id), escaped(id, true), escaped(id, false)];
            for spelling in &spellings {
                // Other items would be a conflict.
                let reply = client.submit_as(spelling, body.clone()).await;
                assert_eq!(reply.is(202, "accepted").run(), id);
            }
            for spelling in &spellings {
                let path = format!("/runs/{spelling}/result?wait=30");
                let reply = soon(client.get(&path)).await;
                assert_eq!(reply.is(200, "success").run(), id);
                assert_eq!(reply.data()["result"], 2 * n);
                for path in ["", "/failures", "/dead-letters"] {
                    let path = format!("/runs/{spelling}{path}");
                    client.get(&path).await.is(200, "success");
                }
                let path = format!("/runs/{spelling}/redrive");
                assert_eq!(client.post(&path).await.is(200, "success").run(), id);
                let path = format!("/runs/{spelling}/cancel");
                assert_eq!(client.post(&path).await.is(409, "conflict").run(), id);
            }
        }
    }
}

#[tokio::test]
async fn an_id_that_cannot_be_kept_is_refused_everywhere() {
    let (client, _) = idle();
    let long = "a".repeat(129);
    let long_escaped = escaped(&long, true);
    let mut refused: Vec<(String, &str)> = vec![
        ("".into(), "it is empty"),
        ("%C3%A4".into(), "only ASCII letters"),
        ("%FF".into(), "not UTF-8"),
        ("a%2".into(), "only ASCII letters"),
        ("a%zz".into(), "only ASCII letters"),
        // Decoded once, and not once more.
        ("a%252Fb".into(), "only ASCII letters"),
        (long, "more than 128 characters"),
        (long_escaped, "more than 128 characters"),
    ];
    for byte in (0..=0x7f).filter(|byte| !is_legal(char::from(*byte))) {
        refused.push((format!("a%{byte:02X}"), "only ASCII letters"));
        refused.push((format!("%{byte:02x}"), "only ASCII letters"));
    }
    refused.push(("a~b".into(), "only ASCII letters"));
    refused.push(("a;b=c".into(), "only ASCII letters"));
    for (id, reason) in &refused {
        let mut replies = vec![client.submit_as(id, "[1]").await];
        for (method, path) in [
            (Method::GET, ""),
            (Method::GET, "/result"),
            (Method::GET, "/failures"),
            (Method::GET, "/dead-letters"),
            (Method::POST, "/redrive"),
            (Method::POST, "/cancel"),
        ] {
            replies.push(client.ask(method, &format!("/runs/{id}{path}")).await);
        }
        for reply in replies {
            reply.is(400, "invalid");
            let message = reply.message();
            assert!(message.contains(reason), "{id}: {message}");
        }
    }
}
