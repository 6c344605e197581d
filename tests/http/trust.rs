//! What a client, a page of another site and a backend's words may do.

use std::net::SocketAddr;

use axum::Router;
use catchment::http::HttpOptions;
use catchment::queue::Outgoing;
use catchment::{Backend, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::tcp::serve;
use crate::{Act, Call, On, Store, adder, soon};

/// One request with these headers; the answer's code.
async fn send(address: SocketAddr, request: &str, headers: &[&str], body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

const HOST: &str = "host: here:8080";
const JSON: &str = "content-type: application/json";

/// Everything that changes something, with a code if it is done.
const CHANGES: [(&str, &str, u16); 6] = [
    ("POST /adder/runs", "[1]", 202),
    ("PUT /adder/runs/b", "[1]", 202),
    ("POST /adder/runs/a/redrive", "", 200),
    ("DELETE /adder/runs/a/dead-letters", "", 200),
    ("DELETE /adder/dead-letters?letter=all", "", 200),
    ("POST /adder/runs/a/cancel", "", 200),
];

async fn served(options: HttpOptions) -> (SocketAddr, crate::Adder) {
    let (adder, _) = adder(Backend::memory());
    adder.submit_as("a", [1]).await.unwrap();
    let router = Router::new().nest("/adder", adder.router_with(options));
    (serve(router).await, adder)
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let (address, adder) = served(HttpOptions::new()).await;
    for (request, body, _) in CHANGES {
        // What a form, an image or a beacon of any page may send without asking first.
        for kind in [
            "content-type: text/plain",
            "content-type: text/plain;application/json",
            "content-type: application/x-www-form-urlencoded",
            "content-type: multipart/form-data; boundary=a",
            "x-nothing: here",
        ] {
            for origin in [
                "origin: http://evil.example",
                "origin: http://here:8080",
                "x-no: origin",
            ] {
                let code = send(address, request, &[HOST, kind, origin], body).await;
                let is_foreign = origin.contains("evil");
                assert_eq!(
                    code,
                    if is_foreign { 403 } else { 415 },
                    "{request} {kind} {origin}"
                );
            }
        }
        // With the header all the same.
        for origin in [
            &["origin: http://evil.example"][..],
            &["origin: null"],
            &["origin: http://here:8081"],
            &["origin: http://here:8080.evil.example"],
            &["origin: \u{e4}"],
            &["sec-fetch-site: cross-site"],
            &["sec-fetch-site: same-site", "origin: http://here:8080"],
        ] {
            let headers = [&[HOST, JSON][..], origin].concat();
            let code = send(address, request, &headers, body).await;
            assert_eq!(code, 403, "{request} {origin:?}");
        }
    }
    let state = adder.attach("a").status().await.unwrap().state;
    assert_eq!(state, catchment::RunState::Running);
    let runs = adder.runs(catchment::RunFilter::new()).await.unwrap();
    assert_eq!(runs.len(), 1);
}

#[tokio::test]
async fn a_program_and_a_page_of_the_own_site_change_what_they_may() {
    for headers in [
        &[HOST, JSON][..],
        &[HOST, JSON, "origin: http://here:8080"],
        &[HOST, JSON, "origin: https://HERE:8080"],
        // A proxy has another name for the server.
        &[
            "host: inside",
            JSON,
            "origin: https://here",
            "sec-fetch-site: same-origin",
        ],
        &[
            HOST,
            JSON,
            "origin: https://console.example",
            "sec-fetch-site: cross-site",
        ],
    ] {
        let options = HttpOptions::new().allow_origin("https://console.example");
        let (address, _) = served(options).await;
        for (request, body, done) in CHANGES {
            let code = send(address, request, headers, body).await;
            assert_eq!(code, done, "{request} {headers:?}");
        }
    }
    // A request without a body may say so by another header.
    let (address, _) = served(HttpOptions::new()).await;
    for (request, body, done) in CHANGES {
        let code = send(address, request, &[HOST, "x-requested-with: curl"], body).await;
        assert_eq!(code, if body.is_empty() { done } else { 415 }, "{request}");
    }
    // Reading is anybody's.
    let foreign = [
        HOST,
        "origin: http://evil.example",
        "content-type: text/plain",
    ];
    assert_eq!(send(address, "GET /adder/runs/a", &foreign, "").await, 200);
}

/// A page whose name leads to this server is of its origin, for its browser.
#[tokio::test]
async fn a_host_that_is_not_the_servers_is_refused() {
    let options = HttpOptions::new()
        .allow_host("localhost")
        .allow_host("127.0.0.1");
    let (address, adder) = served(options).await;
    let reads = ["runs", "runs/a", "runs/a/result", "openapi.json"];
    let reads = reads.map(|path| (format!("GET /adder/{path}"), ""));
    let changes = CHANGES.map(|(request, body, _)| (request.to_owned(), body));
    for (request, body) in reads.iter().chain(&changes) {
        let rebound = [
            "host: evil.example:8080",
            JSON,
            "origin: http://evil.example:8080",
            "sec-fetch-site: same-origin",
        ];
        assert_eq!(send(address, request, &rebound, body).await, 403);
        let forged = ["host: localhost.evil.example", JSON];
        assert_eq!(send(address, request, &forged, body).await, 403);
    }
    let state = adder.attach("a").status().await.unwrap().state;
    assert_eq!(state, catchment::RunState::Running);
    for host in ["host: localhost:1", "host: 127.0.0.1", "host: LOCALHOST"] {
        for (request, body, done) in CHANGES {
            assert_eq!(send(address, request, &[host, JSON], body).await, done);
        }
        assert_eq!(send(address, "GET /adder/runs/a", &[host], "").await, 200);
    }
}

const REFUSAL: &str =
    "AccessDenied: User: arn:aws:sts::123456789012:assumed-role/web/i-0 is not authorized";

/// Every answer of an API whose backend refuses with a text that is nobody's business.
#[tokio::test(start_paused = true)]
async fn no_text_of_a_backend_reaches_a_client() {
    for refuse in [
        (|| Error::refused("SQS", "SendMessage on queue `123456789012`", REFUSAL)) as fn() -> Error,
        || Error::unavailable("SQS", "SendMessage on queue `123456789012`", REFUSAL),
        || {
            Error::not_provisioned(
                "queue `123456789012`",
                "eu-west-1 at http://10.0.0.1:4566, arn:",
            )
        },
        || Error::decode("the reply of 123456789012", REFUSAL),
        || Error::invalid_pipeline("123456789012 has the name already"),
    ] {
        let hook = On(move |_: &Call<'_>| Act::Fail(refuse()));
        let (broken, _) = adder(Store::new().hooked(std::sync::Arc::new(hook)));
        let client = Client::new(broken.router());
        let mut replies = vec![
            soon(client.submit("[1]")).await,
            soon(client.submit_as("a", "[1]")).await,
        ];
        for path in [
            "/runs",
            "/runs/a",
            "/runs/a/result",
            "/runs/a/failures",
            "/runs/a/dead-letters",
            "/dead-letters",
        ] {
            replies.push(soon(client.get(path)).await);
        }
        for path in ["/runs/a/redrive", "/runs/a/cancel"] {
            replies.push(soon(client.post(path)).await);
        }
        for path in ["/runs/a/dead-letters", "/dead-letters?letter=all"] {
            replies.push(soon(client.ask(axum::http::Method::DELETE, path)).await);
        }
        for reply in replies {
            let text = reply.json.to_string();
            let is_hidden = ["123456789012", "arn:", "10.0.0.1"]
                .iter()
                .all(|word| !text.contains(word));
            assert!(is_hidden, "{text}");
            assert!([500, 503].contains(&reply.code), "{text}");
        }
    }
}

/// A submission that the queue refuses for good is a failure on record, which any client may read.
#[tokio::test(start_paused = true)]
async fn no_text_of_a_backend_gets_on_the_record_of_a_run() {
    let store = Store::new();
    let refuses = On(|call: &Call<'_>| match call {
        Call::Send(..) => Act::Fail(Error::refused("SQS", "SendMessage on queue `a`", REFUSAL)),
        _ => Act::Go,
    });
    let (broken, _) = adder(store.hooked(std::sync::Arc::new(refuses)));
    let reply = soon(Client::new(broken.router()).submit_as("a", "[1]")).await;
    reply.is(500, "error");
    let message = reply.message();
    assert!(
        message.starts_with("SQS: SendMessage failed: the log has the reason under id "),
        "{message}"
    );
    // Another process refuses what is computed.
    let (adder, _) = adder(store.backend());
    adder.submit_as("b", [1]).await.unwrap();
    let refuses = On(|call: &Call<'_>| match call {
        Call::Arrive(..) => Act::Fail(Error::refused("DynamoDB", "TransactWriteItems", REFUSAL)),
        _ => Act::Go,
    });
    let (worker, _) = crate::adder(store.hooked(std::sync::Arc::new(refuses)));
    let _worker = worker.worker().start();
    let client = Client::new(adder.router());
    soon(client.get("/runs/b/result?wait=30"))
        .await
        .is(409, "failed");
    let mut seen = Vec::new();
    for run in ["a", "b"] {
        for path in ["", "/result", "/failures", "/dead-letters?bodies=true"] {
            let reply = soon(client.get(&format!("/runs/{run}{path}"))).await;
            let text = reply.json.to_string();
            assert!(!text.contains("arn:"), "{path}: {text}");
            seen.push(text);
        }
    }
    assert!(
        seen.iter()
            .any(|text| text.contains("SQS: SendMessage failed")),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|text| text.contains("DynamoDB: TransactWriteItems failed")),
        "{seen:?}"
    );
}

/// What is a line for a person has no character that a terminal obeys.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() && c != '\u{202e}')
}

#[tokio::test(start_paused = true)]
async fn what_a_forged_message_says_is_shown_escaped() {
    const EVIL: &str = r"\u001b[2J\r\nRUN COMPLETE\u009b\u202e";
    let store = Store::new();
    let (adder, limit) = adder(store.backend());
    let queue = store.queue("adder--times_two").await;
    let forged = |deployment: &str, stage: &str, kind: &str| {
        format!(
            r#"{{"version":1,"kind":"{kind}","deployment":"{deployment}","stage":"{stage}","arrayId":"a","generation":"6b1f00c2a47e9002","fanIn":2,"packetId":"0/0","packetContains":1,"packetValue":[1]}}"#
        )
    };
    let good = "times_two";
    let letters = [
        forged("adder", EVIL, "map"),
        forged(EVIL, good, "map"),
        forged("adder", good, EVIL),
        forged("other", EVIL, "map"),
        forged("adder", good, "map").replace(r#""a""#, &format!("\"{EVIL}\"")),
        forged("adder", good, "map").replace("[1]", &format!("[\"{EVIL}\"]")),
    ];
    let sent = letters.map(|body| Outgoing::new(body.into_bytes()));
    let count = sent.len();
    queue.send(sent.to_vec()).await.unwrap();
    let worker = adder.worker().start();
    let client = Client::new(adder.router());
    let mut letters = Vec::new();
    let mut looks = 0;
    while letters.len() < count - 1 {
        looks += 1;
        assert!(looks < 100, "{letters:?}");
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        letters = adder.dead_letters().limit(1_000).await.unwrap().items;
    }
    // And a reason that another program wrote.
    let second = std::time::Duration::from_secs(1);
    queue
        .send(vec![Outgoing::new(b"x".to_vec())])
        .await
        .unwrap();
    drop(worker);
    drop(limit);
    for delivery in queue.receive(10, second).await.unwrap() {
        queue
            .bury(delivery, "\u{1b}[2J\r\nRUN COMPLETE")
            .await
            .unwrap();
    }
    letters.extend(adder.dead_letters().limit(1_000).await.unwrap().items);
    for letter in &letters {
        let attempts = letter.attempts.iter().map(|attempt| &attempt.error);
        for text in attempts.chain([&letter.error]) {
            assert!(is_printable(text), "{text:?}");
        }
        assert!(letter.message.as_deref().is_none_or(is_printable));
    }
    let seen: Vec<&str> = letters.iter().map(|letter| letter.error.as_str()).collect();
    assert!(
        seen.iter().any(|text| text.contains(r"\u{1b}[2J")),
        "{seen:?}"
    );
    let reply = client.get("/dead-letters?limit=1000").await;
    for letter in reply.is(200, "success").data()["deadLetters"]
        .as_array()
        .unwrap()
    {
        assert!(is_printable(letter["error"].as_str().unwrap()), "{letter}");
        assert!(letter["body"].is_null() && letter["bodyEncoding"].is_null());
    }
}

/// A failure that a foreign writer put on a run's record, or a stage of the application with an odd text.
#[tokio::test(start_paused = true)]
async fn what_a_record_says_is_shown_escaped() {
    use catchment::scratchpad::{Attempt, FailureReport, Scratchpad, Verdict};

    const EVIL: &str = "\u{1b}[2J\r\nRUN COMPLETE\u{9b}\u{202e}";
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let run = adder.submit_as("a", [1]).await.unwrap();
    let attempt = Attempt::new(1, std::time::SystemTime::now(), EVIL)
        .item(0)
        .label(EVIL);
    let verdict = Verdict::Dead(catchment::scratchpad::DeadLetterId::random());
    let recorded = store.recorded(&adder, "a").await;
    let key = recorded.record.key();
    let report = FailureReport::new(key, EVIL, EVIL.to_owned(), vec![attempt], verdict);
    let bound = store.scratchpad.bind("adder").unwrap();
    bound.record(&report).await.unwrap();
    let failures = run.failures().await.unwrap();
    let failed = run.result().await.unwrap_err();
    let status = run.status().await.unwrap().failure.unwrap();
    assert!(is_printable(&failed.to_string()), "{failed}");
    for failure in failures.iter().chain([&status]) {
        let attempt = &failure.attempts[0];
        let texts = [
            &failure.stage,
            &failure.message,
            &failure.error,
            &attempt.error,
        ];
        let labels = failure.label.iter().chain(&attempt.label);
        for text in texts.into_iter().chain(labels) {
            assert!(is_printable(text), "{text:?}");
            assert!(text.starts_with(r"\u{1b}[2J\r\nRUN"), "{text:?}");
        }
    }
    let raw = failures[0].clone();
    let mut unread = raw.clone();
    unread.error = EVIL.to_owned();
    unread.stage = EVIL.to_owned();
    assert!(
        is_printable(&unread.to_string()),
        "a failure that was made by hand"
    );
}
