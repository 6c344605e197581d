//! A service whose answers a test sets, for answers that emulators do not give.
//!
//! It is a server on a port of its own, so that all of the client takes part in a test. Tests with
//! it pause the clock, which advances by itself when nothing is under way, so that no backoff takes
//! real time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::config::{AsyncSleep, SharedAsyncSleep, Sleep};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::common;

/// How long a request may take to arrive, in real time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The client's backoffs are below this. What it waits longer for is a limit, such as that of an
/// attempt.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Such as `SendMessageBatch`.
    pub(crate) operation: String,
    pub(crate) body: Value,
}

impl Request {
    /// A field of the body, as text; empty if there is none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The head and a part of the body, then the connection is closed.
    CutOff,
    /// The connection is closed without an answer.
    Closed,
    /// The answer that the test gives, when it gives it.
    Held(oneshot::Receiver<Reply>),
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self::Whole {
            status: 200,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// A refusal of a type such as `com.amazonaws.sqs#QueueDoesNotExist`.
    pub(crate) fn refused(status: u16, kind: &str, message: &str) -> Self {
        Self::refused_with(status, kind, message, json!({}))
    }

    /// Adds further fields.
    pub(crate) fn refused_with(status: u16, kind: &str, message: &str, mut fields: Value) -> Self {
        fields["__type"] = json!(kind);
        fields["message"] = json!(message);
        Self::Whole {
            status,
            headers: Vec::new(),
            body: fields.to_string(),
        }
    }

    /// An answer that comes from something before the service.
    pub(crate) fn bare(status: u16) -> Self {
        Self::Whole {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Whole { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    /// A reply that is still to be given.
    pub(crate) fn held() -> (oneshot::Sender<Reply>, Self) {
        let (give, reply) = oneshot::channel();
        (give, Self::Held(reply))
    }
}

type Answer = Box<dyn FnOnce(&Request) -> Reply + Send>;
type Rule = Box<dyn FnMut(&Request) -> Reply + Send>;

#[derive(Default)]
struct Script {
    /// The next answers to an operation.
    next: HashMap<String, VecDeque<Answer>>,
    /// The answer to an operation after these.
    rules: HashMap<String, Rule>,
    /// * In the order of arrival.
    requests: Vec<Request>,
}

/// A running service.
pub(crate) struct Fake {
    address: SocketAddr,
    region: String,
    script: Arc<Mutex<Script>>,
    arrivals: watch::Receiver<()>,
}

impl Fake {
    /// A service that answers with `otherwise` the operations for which the test sets no answer.
    pub(crate) async fn start(otherwise: fn(&Request) -> Reply) -> Self {
        static FAKES: AtomicU32 = AtomicU32::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::<Mutex<Script>>::default();
        let (arrived, arrivals) = watch::channel(());
        let service = Service {
            script: Arc::clone(&script),
            otherwise,
            arrived: Arc::new(arrived),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(stream));
            }
        });
        Self {
            address,
            region: format!("fake-{}", FAKES.fetch_add(1, Ordering::Relaxed)),
            script,
            arrivals,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The clients of a process share a quota of retries by region: each fake has a region of its
    /// own, so that no test uses up another's.
    pub(crate) fn config(&self) -> SdkConfig {
        common::config(&self.endpoint())
            .into_builder()
            .region(Region::new(self.region.clone()))
            .sleep_impl(SharedAsyncSleep::new(Backoffs))
            .build()
    }

    /// Sets the next answer to this operation that is not set yet.
    pub(crate) fn next(
        &self,
        operation: &str,
        answer: impl FnOnce(&Request) -> Reply + Send + 'static,
    ) {
        let mut script = self.script();
        let answers = script.next.entry(operation.to_owned()).or_default();
        answers.push_back(Box::new(answer));
    }

    /// Sets the next answers to this operation, whatever the request.
    pub(crate) fn replies(&self, operation: &str, replies: impl IntoIterator<Item = Reply>) {
        for reply in replies {
            self.next(operation, move |_| reply);
        }
    }

    /// Sets all further answers to this operation, after those that were set for the next requests.
    pub(crate) fn always(
        &self,
        operation: &str,
        rule: impl FnMut(&Request) -> Reply + Send + 'static,
    ) {
        let mut script = self.script();
        script.rules.insert(operation.to_owned(), Box::new(rule));
    }

    /// The requests since the last call of this, in the order in which they came.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.script().requests)
    }

    /// Waits until a request for this operation has arrived, however many others arrive before it.
    pub(crate) async fn arrival(&self, operation: &str) {
        let mut arrivals = self.arrivals.clone();
        // The clock of the test is paused, so it cannot measure a timeout.
        let (late, is_late) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            late.send(()).ok();
        });
        let come = async {
            while !self
                .script()
                .requests
                .iter()
                .any(|it| it.operation == operation)
            {
                arrivals.changed().await.unwrap();
            }
        };
        tokio::select! {
            () = come => {}
            _ = is_late => panic!("no request for {operation} has come: {:?}", self.take()),
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

/// The operations of requests, in order.
pub(crate) fn operations(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|it| it.operation.as_str()).collect()
}

/// The error and what it wraps, as a log shows it.
pub(crate) fn said(error: &catchment::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Waits for backoffs only. A paused clock advances while the system carries bytes from one socket
/// to another, which must not look like an attempt that takes too long.
#[derive(Debug)]
struct Backoffs;

impl AsyncSleep for Backoffs {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(async move {
            if duration > LONGEST_BACKOFF {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(duration).await;
        })
    }
}

#[derive(Clone)]
struct Service {
    script: Arc<Mutex<Script>>,
    otherwise: fn(&Request) -> Reply,
    arrived: Arc<watch::Sender<()>>,
}

impl Service {
    /// One connection.
    async fn serve(self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut received = Vec::new();
        while let Some(request) = read(&mut stream, &mut received).await {
            let mut reply = self.answer(request);
            while let Reply::Held(given) = reply {
                // A test that ends without an answer closes the connection.
                reply = given.await.unwrap_or(Reply::Closed);
            }
            let (bytes, is_last) = match reply {
                Reply::Whole {
                    status,
                    headers,
                    body,
                } => (whole(status, &headers, &body), false),
                Reply::CutOff => (
                    "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"".to_owned(),
                    true,
                ),
                Reply::Closed | Reply::Held(_) => return,
            };
            // A client that has gone does not matter.
            if stream.write_all(bytes.as_bytes()).await.is_err() || is_last {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Reply {
        let mut script = self.script.lock().unwrap();
        script.requests.push(request.clone());
        self.arrived.send_replace(());
        let next = script.next.get_mut(&request.operation);
        if let Some(answer) = next.and_then(VecDeque::pop_front) {
            return answer(&request);
        }
        match script.rules.get_mut(&request.operation) {
            Some(rule) => rule(&request),
            None => (self.otherwise)(&request),
        }
    }
}

fn whole(status: u16, headers: &[(&'static str, String)], body: &str) -> String {
    let mut head = format!(
        "HTTP/1.1 {status} it\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}\r\n{body}")
}

/// The next request of a connection; `None` if the client has closed it.
async fn read(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            None => more(stream, received).await?,
        }
    };
    let head = String::from_utf8(received.drain(..end).collect()).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = found.unwrap_or_else(|| panic!("no {name} in {head}"));
        value.to_owned()
    };
    let length: usize = header("content-length").parse().unwrap();
    while received.len() < length {
        more(stream, received).await?;
    }
    let body: Vec<u8> = received.drain(..length).collect();
    let target = header("x-amz-target");
    let (_, operation) = target.split_once('.').unwrap();
    Some(Request {
        operation: operation.to_owned(),
        body: serde_json::from_slice(&body).unwrap(),
    })
}

async fn more(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<()> {
    let count = stream.read_buf(received).await.ok()?;
    (count > 0).then_some(())
}
