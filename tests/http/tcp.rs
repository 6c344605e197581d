//! Over a real connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use catchment::Backend;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{Act, Call, Hook, Store, adder};

/// Only a request that hangs takes this long.
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// One request on a connection of its own; the answer's code and body.
async fn ask(address: SocketAddr, request: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.expect("no answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_run_from_one_end_to_the_other() {
    let (adder, _) = adder(Backend::memory());
    let worker = adder.worker().start();
    let address = serve(Router::new().nest("/adder", adder.router())).await;
    let (code, answer) = ask(address, "POST /adder/runs", "[1,2,3,4,5]").await;
    assert_eq!((code, &answer["status"]), (202, &"accepted".into()));
    let id = answer["data"]["arrayId"].as_str().unwrap();
    let (code, answer) = ask(address, &format!("GET /adder/runs/{id}/result?wait=20"), "").await;
    assert_eq!((code, &answer["data"]["result"]), (200, &30.into()));
    let (code, _) = ask(address, "PUT /adder/runs/a%2Fb", "[1]").await;
    assert_eq!(code, 202);
    let (code, answer) = ask(address, "GET /adder/runs/a%2Fb/result?wait=20", "").await;
    assert_eq!((code, &answer["data"]["arrayId"]), (200, &"a/b".into()));
    let (code, answer) = ask(address, "POST /adder/runs", "[1,2").await;
    assert_eq!((code, &answer["status"]), (400, &"invalid".into()));
    worker.shutdown().await;
}

/// Reports when a call that never returns has begun, and when it is dropped.
struct Stuck {
    begun: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<()>,
    at: fn(&Call<'_>) -> bool,
}

struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

#[async_trait]
impl Hook for Stuck {
    async fn before(&self, call: &Call<'_>) -> Act {
        if (self.at)(call) {
            let _dropped = OnDrop(self.dropped.clone());
            self.begun.send(()).unwrap();
            std::future::pending::<()>().await;
        }
        Act::Go
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_waited_for_no_longer() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let (dropped, mut was_dropped) = mpsc::unbounded_channel();
    let store = Store::new();
    let (adder, _) = adder(store.hooked(Arc::new(Stuck {
        begun,
        dropped,
        at: |call| matches!(call, Call::Wait),
    })));
    let address = serve(adder.router()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /runs/a/result?wait=30 HTTP/1.1\r\nhost: test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    timeout(LONG, has_begun.recv())
        .await
        .expect("nobody waits")
        .unwrap();
    drop(stream);
    // Sooner than the wait would have ended by itself.
    let gone = timeout(Duration::from_secs(20), was_dropped.recv()).await;
    gone.expect("it is still waiting").unwrap();
    let (code, _) = ask(address, "GET /dead-letters", "").await;
    assert_eq!(code, 200);
}

/// A body that the client has sent completely is submitted completely.
#[tokio::test]
async fn a_client_that_goes_away_leaves_no_half_submission() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    struct Gate(mpsc::UnboundedSender<()>, Arc<tokio::sync::Semaphore>);
    #[async_trait]
    impl Hook for Gate {
        async fn before(&self, call: &Call<'_>) -> Act {
            if let Call::Send(..) = call {
                self.0.send(()).unwrap();
                drop(self.1.acquire().await.unwrap());
            }
            Act::Go
        }
    }
    let store = Store::new();
    let hook = Gate(begun, Arc::clone(&gate));
    let (gated, _) = adder(store.hooked(Arc::new(hook)));
    let address = serve(gated.router()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"PUT /runs/a HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n[1,2]";
    stream.write_all(request).await.unwrap();
    timeout(LONG, has_begun.recv())
        .await
        .expect("nothing is sent")
        .unwrap();
    drop(stream);
    // Another request is answered, so that the server has had its time to notice.
    assert_eq!(ask(address, "GET /dead-letters", "").await.0, 200);
    gate.add_permits(1);
    let (adder, _) = adder(store.backend());
    let worker = adder.worker().start();
    let result = timeout(LONG, adder.attach("a").result()).await;
    assert_eq!(result.expect("it was not submitted").unwrap(), 6);
    let state = adder.attach("a").status().await.unwrap().state;
    assert_eq!(state, catchment::RunState::Done);
    worker.shutdown().await;
}

/// Sends these bytes; what the server answers before it closes the connection.
async fn send(address: SocketAddr, request: &[u8], end: End) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    if let End::Gone = end {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    // A server may close a connection hard if bytes are left that it has not read.
    let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
    drop(read.expect("no answer"));
    String::from_utf8(answer).unwrap()
}

/// What a client does after it has sent its bytes.
#[derive(Clone, Copy)]
enum End {
    Waits,
    Gone,
}

/// A body that does not come whole submits nothing: the same id is free for the repetition.
#[tokio::test]
async fn a_body_that_breaks_off_submits_nothing() {
    let store = crate::Store::new();
    let (adder, _) = adder(store.backend());
    let address = serve(adder.router()).await;
    const HEAD: &str = "PUT /runs/a HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n";
    for rest in [
        "content-length: 9\r\n\r\n[1,2,3]",
        "content-length: 9\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n7\r\n[1,2,3]\r\n",
        "transfer-encoding: chunked\r\n\r\n7\r\n[1,2",
    ] {
        // Nobody is there to read an answer.
        send(address, format!("{HEAD}{rest}").as_bytes(), End::Gone).await;
        let (code, _) = ask(address, "GET /runs/a", "").await;
        assert_eq!(code, 404, "{rest:?}");
    }
    for (rest, code) in [
        (
            "transfer-encoding: chunked\r\n\r\nseven\r\n[1,2,3]\r\n0\r\n\r\n",
            400,
        ),
        (
            "transfer-encoding: chunked\r\n\r\n3\r\n[1,2,3]\r\n0\r\n\r\n",
            400,
        ),
        (
            "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n[1]",
            400,
        ),
        ("content-length: 2\r\n\r\n[1]", 400),
        ("content-length: 11000000\r\n\r\n[1]", 413),
        (
            "content-encoding: gzip\r\ncontent-length: 3\r\n\r\n[1]",
            415,
        ),
    ] {
        let answer = send(address, format!("{HEAD}{rest}").as_bytes(), End::Waits).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {code} ")),
            "{rest:?}: {answer}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body["message"].is_string(), "{rest:?}");
        let (code, _) = ask(address, "GET /runs/a", "").await;
        assert_eq!(code, 404, "{rest:?}");
    }
    assert_eq!(store.depth(&adder).await, Default::default());
    let worker = adder.worker().start();
    let whole = "transfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n4\r\n2,3]\r\n0\r\n\r\n";
    let answer = send(address, format!("{HEAD}{whole}").as_bytes(), End::Waits).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let (_, answer) = ask(address, "GET /runs/a/result?wait=20", "").await;
    assert_eq!(answer["data"]["result"], 12);
    worker.shutdown().await;
}

/// `.` and `..` as a client sends them that does not take them out of a path.
#[tokio::test]
async fn ids_that_are_dots_are_ids_on_the_wire() {
    let (adder, _) = adder(Backend::memory());
    let worker = adder.worker().start();
    let address = serve(Router::new().nest("/adder", adder.router())).await;
    for (written, id) in [
        (".", "."),
        ("..", ".."),
        ("%2e", "."),
        ("%2E.", ".."),
        (".%2F..", "./.."),
    ] {
        let (code, answer) = ask(address, &format!("PUT /adder/runs/{written}"), "[1]").await;
        assert_eq!((code, &answer["data"]["arrayId"]), (202, &id.into()));
        let (code, answer) = ask(
            address,
            &format!("GET /adder/runs/{written}/result?wait=20"),
            "",
        )
        .await;
        assert_eq!((code, &answer["data"]["result"]), (200, &2.into()));
    }
    worker.shutdown().await;
}

/// The clock stands while a body is on its way, and runs as fast as it can once the run has begun.
#[tokio::test]
async fn eight_megabytes_are_submitted_while_a_worker_is_slow() {
    use crate::progress::{eighty_texts_of, lengths, packets};
    use catchment::http::HttpOptions;

    struct Begun(mpsc::UnboundedSender<()>, crate::Record);
    #[async_trait]
    impl Hook for Begun {
        async fn before(&self, call: &Call<'_>) -> Act {
            if let Call::Begin = call {
                tokio::time::pause();
                self.0.send(()).unwrap();
            }
            self.1.before(call).await
        }
    }
    let each = Duration::from_secs(20);
    // Over one connection, whatever the time; and over many, of which each has its time.
    for options in [
        HttpOptions::new(),
        HttpOptions::new().submission_limit(Duration::from_secs(300)),
    ] {
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let hook = Arc::new(Begun(begun, crate::Record::default()));
        let lengths = lengths(crate::Store::new().hooked(hook.clone()), each);
        let address = serve(lengths.router_with(options.clone())).await;
        let worker = lengths.worker().start();
        let body = eighty_texts_of(100_000);
        let mut codes = Vec::new();
        while codes.last() != Some(&202) {
            assert!(codes.len() < 20, "it never completes");
            let request = format!(
                "PUT /runs/a HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
            has_begun.recv().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            tokio::time::resume();
            codes.push(answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap());
        }
        let given_up = codes.iter().filter(|code| **code == 503).count();
        assert_eq!(given_up + 1, codes.len(), "{codes:?}");
        assert_eq!(given_up > 1, options != HttpOptions::new(), "{codes:?}");
        assert_eq!(packets(&hook.1), 80, "each packet was sent once");
        tokio::time::pause();
        assert_eq!(lengths.attach("a").result().await.unwrap(), 8_000_000);
        tokio::time::resume();
        worker.shutdown().await;
    }
}
