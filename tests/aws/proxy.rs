//! A listener in front of an emulator that records every request.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// As IAM calls it, such as `sqs:SendMessage`.
    pub(crate) action: String,
    /// The queues or tables it is about.
    pub(crate) resources: BTreeSet<String>,
    pub(crate) body: Value,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Proxy {
    /// `upstream` is an endpoint such as `http://127.0.0.1:4566`.
    pub(crate) async fn start(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&proxy.requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, upstream.clone(), Arc::clone(&requests)));
            }
        });
        proxy
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request per connection, which ends with the answer.
async fn pass(mut client: TcpStream, upstream: String, requests: Arc<Mutex<Vec<Recorded>>>) {
    let mut received = Vec::new();
    let end = loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            // A client that connected, and then sent no request.
            None if !more(&mut client, &mut received).await => return,
            None => {}
        }
    };
    let head = String::from_utf8(received[..end].to_vec()).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name} in {head}")).1
    };
    let length: usize = header("content-length").parse().unwrap();
    while received.len() < end + length {
        if !more(&mut client, &mut received).await {
            return;
        }
    }
    let body = serde_json::from_slice(&received[end..]).unwrap();
    let recorded = record(header("x-amz-target"), body);
    requests.lock().unwrap().push(recorded);
    let mut server = TcpStream::connect(upstream).await.unwrap();
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await.unwrap();
    server.write_all(&received[end..]).await.unwrap();
    // A client that has given up does not matter.
    tokio::io::copy(&mut server, &mut client).await.ok();
}

async fn more(stream: &mut TcpStream, received: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(received).await, Ok(count) if count > 0)
}

fn record(target: &str, body: Value) -> Recorded {
    let (service, operation) = target.split_once('.').unwrap();
    let (prefix, resources) = match service {
        "AmazonSQS" => {
            let url = body["QueueUrl"].as_str().or(body["QueueName"].as_str());
            let name = url.unwrap().rsplit('/').next().unwrap();
            ("sqs", BTreeSet::from([name.to_owned()]))
        }
        _ => {
            let tables = match body["RequestItems"].as_object() {
                Some(items) => items.keys().cloned().collect(),
                None => BTreeSet::from([body["TableName"].as_str().unwrap().to_owned()]),
            };
            ("dynamodb", tables)
        }
    };
    // Requests of several messages need the same permission as those of one.
    let operation = match prefix {
        "sqs" => operation.trim_end_matches("Batch"),
        _ => operation,
    };
    Recorded {
        action: format!("{prefix}:{operation}"),
        resources,
        body,
    }
}
