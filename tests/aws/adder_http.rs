//! The example `adder_http` as a user runs it over SQS and DynamoDB: a server that is killed, and
//! started again.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::adder::{Adder, Process, SOON, until};
use crate::common::Tables;

/// Longer than any answer may take: a server waits 30 s for its backend, and 30 s for a result.
const LONG: Duration = Duration::from_secs(90);

struct Server {
    process: Process,
    /// Host and port.
    address: String,
}

impl Server {
    /// On a port of its own; returns once it listens.
    fn start(adder: &Adder, arguments: &[&str]) -> Self {
        let mut process = adder.example("adder_http", &[&["--port", "0"], arguments].concat());
        let line = until("the address of a server", || {
            assert!(!process.has_ended(), "adder_http has ended");
            let said = process.said();
            said.ends_with('\n').then_some(said)
        });
        let address = line.trim_end().strip_prefix("http://");
        let address = address.and_then(|address| address.strip_suffix("/adder"));
        let address = address.unwrap_or_else(|| panic!("no address: {line}"));
        Self {
            address: address.to_owned(),
            process,
        }
    }

    /// One request on a connection of its own; the answer's code and body. `path` is below the
    /// runs.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        let request = format!(
            "{method} /adder/runs{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap())
    }

    /// The result of a run, requested as often as necessary.
    fn result(&self, id: &str) -> Value {
        until("the result", || {
            let (code, answer) = self.ask("GET", &format!("/{id}/result?wait=20"), "");
            assert!(code == 200 || code == 202, "{code}: {answer}");
            (code == 200).then(|| answer["data"]["result"].clone())
        })
    }

    fn told_to_end(self) {
        self.process.signal("TERM");
        let ended = self.process.ended();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}

fn a_server_that_dies_takes_no_run_along(tables: Tables) {
    let adder = Adder::new(tables, &SOON);
    // It creates its queues and tables itself. A run of 500 takes it some ten seconds.
    let server = Server::start(&adder, &["--items-per-second", "50"]);
    let (code, answer) = server.ask("POST", "", "[1, 2, 3, 4, 5]");
    assert_eq!((code, &answer["status"]), (202, &"accepted".into()));
    let id = answer["data"]["arrayId"].as_str().unwrap();
    assert_eq!(server.result(id), 30);

    let numbers: Vec<i64> = (1..=500).collect();
    let array = serde_json::to_string(&numbers).unwrap();
    let (code, answer) = server.ask("PUT", "/invoices%2F1", &array);
    assert_eq!((code, &answer["status"]), (202, &"accepted".into()));
    let (done, all) = until("packets of the run", || {
        let (code, answer) = server.ask("GET", "/invoices%2F1", "");
        assert_eq!(code, 200, "{answer}");
        let count = |member: &str| answer["data"][member].as_u64();
        let (done, all) = (count("packetsDone")?, count("packets")?);
        (done >= 50).then_some((done, all))
    });
    assert!(done < all, "not in the middle: {done} of {all}");
    println!("the server is killed: {done} of {all} packets are done");
    server.process.killed();

    let server = Server::start(&adder, &[]);
    assert_eq!(server.result("invoices%2F1"), 250_500);
    // A client that got no answer submits once more, and it is the same run.
    let (code, answer) = server.ask("PUT", "/invoices%2F1", &array);
    assert_eq!((code, &answer["status"]), (202, &"accepted".into()));
    let (_, answer) = server.ask("GET", "/invoices%2F1", "");
    assert_eq!(answer["data"]["state"], "done", "{answer}");
    assert_eq!(server.result(id), 30);
    server.told_to_end();
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_server_that_dies_takes_no_run_along_on_ministack() {
    a_server_that_dies_takes_no_run_along(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_server_that_dies_takes_no_run_along_on_dynamodb_local() {
    a_server_that_dies_takes_no_run_along(Tables::DynamoDbLocal);
}
