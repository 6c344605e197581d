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

async fn serve(router: Router) -> SocketAddr {
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
