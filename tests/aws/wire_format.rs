//! `docs/wire-format.schema.json`, checked against the bytes that are really written, and against
//! the reader.
#![cfg(unix)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use catchment::backends::sqs::SqsQueues;
use catchment::queue::{Queue, QueueOptions, Queues};
use catchment::testing::hostile;
use catchment::{Deployment, OnFailure, Pipeline, Stage, permanent};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::common::{Tables, config, ministack, unique};
use crate::python::script;

fn checker(arguments: &[&str]) -> Command {
    let mut command = script("tests/aws/wire_format.py", arguments);
    command
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "catchment")
        .env("AWS_SECRET_ACCESS_KEY", "catchment");
    command
}

/// The definitions seen, if everything fits the schema.
fn seen(arguments: &[&str]) -> String {
    let mut command = checker(arguments);
    command.env("AWS_ENDPOINT_URL", ministack());
    let ended = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(ended.stdout), text(ended.stderr));
    assert!(ended.status.success(), "{arguments:?}: {err}\n{out}");
    out
}

/// For each text the schema's complaint, if it has one.
fn verdicts(definition: &str, texts: &[Vec<u8>]) -> Vec<Option<String>> {
    let mut checker = checker(&["lines", definition])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = checker.stdin.take().unwrap();
    let lines: String = texts.iter().map(|text| hexadecimal(text) + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let ended = checker.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(ended.status.success());
    let out = String::from_utf8(ended.stdout).unwrap();
    let verdicts = out
        .lines()
        .map(|line| (line != "ok").then(|| line.to_owned()));
    let verdicts: Vec<_> = verdicts.collect();
    assert_eq!(verdicts.len(), texts.len());
    verdicts
}

fn hexadecimal(text: &[u8]) -> String {
    text.iter().map(|byte| format!("{byte:02x}")).collect()
}

const STAGES: [&str; 5] = ["keep", "twice", "careful", "strict", "all"];

/// It leaves out items in two ways, makes two values of others, fails for good and for once, and its partial results do not fit
/// into their group's item.
fn pipeline() -> Pipeline<u64, Vec<String>, catchment::pipeline::One> {
    Pipeline::new()
        .filter(|n: &u64| !n.is_multiple_of(3))
        .with(Stage::named("keep").packet_size(4))
        .flat_map(|n| [n, n])
        .with(Stage::named("twice"))
        .try_map(|n| match n {
            7 => Err("seven is not done"),
            n => Ok(n),
        })
        // The first delivery is to the test, which reads it.
        .with(
            Stage::named("careful")
                .attempts(2)
                .on_failure(OnFailure::Skip),
        )
        .try_map(|n| match n {
            40 => Err(permanent("forty is never done")),
            n => Ok("rain ".repeat(n as usize)),
        })
        .with(Stage::named("strict"))
        .collect()
        .with(Stage::named("all").fan_in(2))
}

async fn queue(deployment: &str, stage: &str) -> Arc<dyn Queue> {
    let queues = SqsQueues::new(&config(&ministack()));
    let name = format!("{deployment}--{stage}");
    queues.open(&name, &QueueOptions::default()).await.unwrap()
}

/// A worker for one stage until its queue is empty.
async fn work(deployment: &Deployment<u64, Vec<String>>, stage: &str) {
    let queue = queue(deployment.name(), stage).await;
    let worker = deployment.worker().stages([stage]).start();
    loop {
        let depth = queue.depth().await.unwrap();
        if depth.ready + depth.in_flight + depth.delayed == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.shutdown().await;
}

/// Every message and every item of real runs, stage by stage.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
async fn what_is_written_fits_the_schema() {
    let name = unique("wire");
    let deployment = pipeline()
        .deploy(&name, Tables::Ministack.backend())
        .unwrap();
    deployment.provision().await.unwrap();
    let good = deployment.submit_as("good", 0..24).await.unwrap();
    let items = futures::stream::iter(0..24);
    let streamed = deployment.submit_stream_as("streamed", items);
    let streamed = streamed.await.unwrap();
    let bad = deployment.submit_as("bad", 0..50).await.unwrap();
    let mut messages = String::new();
    for stage in STAGES {
        let shown = seen(&["queue", &format!("{name}--{stage}")]);
        println!("{stage}: {} messages", shown.lines().count());
        assert!(shown.lines().count() > 10, "{shown}");
        messages += &shown;
        work(&deployment, stage).await;
    }
    // JSON in JSON.
    for part in [
        r#"\"packetYields\":[0,1,1,0]"#,
        r#"\"packetYields\":[0,2,2,0]"#,
        r#"\"packetSkipped\":1,"#,
        r#"\"level\":1,\"group\":2}"#,
    ] {
        assert!(messages.contains(part), "{part} is not in {messages}");
    }
    let of_stream = messages.lines().filter(|line| line.contains("streamed"));
    assert!(of_stream.clone().count() > 10);
    let open = of_stream.filter(|line| line.contains("packetId") && !line.contains("arrayLength"));
    assert!(open.count() > 10, "{messages}");

    let result = good.outcome().await.unwrap();
    assert_eq!((result.value.len(), result.skipped), (30, 1));
    assert_eq!(streamed.result().await.unwrap(), result.value);
    assert!(bad.result().await.is_err());
    let letters = seen(&["dead", &format!("{name}--strict--dead")]);
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(letters.contains("forty is never done"), "{letters}");
    let items = seen(&["tables", &name]);
    println!("{} items", items.lines().count());
    for part in [
        "\"NULL\"",
        "slot#0000000001",
        "#attempts",
        "#dead",
        "#skipped",
        "#run",
        "\"retired\"",
        "\"result\"",
        "\"failures\"",
        "all#3#0",
    ] {
        assert!(items.contains(part), "{part} is not in {items}");
    }
    deployment.deprovision(&name).await.unwrap();
}

/// A run whose packets grow with it, before any work, and cancelled.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
async fn a_run_of_unknown_length_fits_the_schema() {
    let name = unique("open");
    let pipeline = Pipeline::new().map(|n: u64| n).count();
    let deployment = pipeline.deploy(&name, Tables::Ministack.backend()).unwrap();
    deployment.provision().await.unwrap();
    let run = deployment.submit_stream(futures::stream::iter(0..5_000));
    assert!(run.await.unwrap().cancel().await.unwrap());
    let items = seen(&["tables", &name]);
    for part in [
        r#"\"plan\":\"growing\""#,
        "cancelled",
        "#run",
        "\"packets\"",
    ] {
        assert!(items.contains(part), "{part} is not in {items}");
    }
    deployment.deprovision(&name).await.unwrap();
}

const MAP: &str = r#"{"version":1,"kind":"map","deployment":"adder","stage":"double","arrayId":"a","generation":"6b1f00c2a47e9002","fanIn":2,"packetId":"0/0","packetOffset":0,"arrayLength":4,"packetContains":2,"packetSkipped":1,"packetYields":[1,0,1],"packetValue":[1,2]}"#;
const GROUP: &str = r#"{"version":1,"kind":"reduce","deployment":"adder","stage":"sum","arrayId":"a","generation":"6b1f00c2a47e9002","fanIn":2,"level":1,"group":0}"#;
const PACKET: &str = r#"{"arrayId":"a","generation":"6b1f00c2a47e9002","packetId":"1/7","packetContains":2,"packetValue":null}"#;

#[test]
#[ignore = "needs scripts/lib/python-env"]
fn what_is_broken_does_not_fit_the_schema() {
    let without = |text: &str, field: &str| {
        let mut fields: serde_json::Map<_, _> = serde_json::from_str(text).unwrap();
        fields.remove(field).unwrap();
        serde_json::to_string(&fields).unwrap()
    };
    let mut broken: Vec<String> = Vec::new();
    for field in [
        "version",
        "kind",
        "deployment",
        "stage",
        "arrayId",
        "generation",
        "fanIn",
        "packetId",
        "packetContains",
        "packetValue",
    ] {
        broken.push(without(MAP, field));
    }
    for field in [
        "version",
        "kind",
        "deployment",
        "stage",
        "arrayId",
        "generation",
        "fanIn",
        "level",
        "group",
    ] {
        broken.push(without(GROUP, field));
    }
    for (good, bad) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""version":1"#, r#""version":"1""#),
        (r#""version":1"#, r#""version":1.0"#),
        (r#""kind":"map""#, r#""kind":"Map""#),
        (r#""deployment":"adder""#, r#""deployment":"""#),
        (r#""deployment":"adder""#, r#""deployment":"a--b""#),
        (r#""deployment":"adder""#, r#""deployment":"-a""#),
        (r#""deployment":"adder""#, r#""deployment":"a-""#),
        (r#""stage":"double""#, r#""stage":"""#),
        (r#""stage":"double""#, r#""stage":"dou--ble""#),
        (r#""stage":"double""#, r#""stage":"-double""#),
        (r#""stage":"double""#, r#""stage":"double-""#),
        (r#""stage":"double""#, r#""stage":7"#),
        (r#""arrayId":"a""#, r#""arrayId":"a b""#),
        (r#""arrayId":"a""#, r#""arrayId":"a#b""#),
        (r#""arrayId":"a""#, r#""arrayId":"a\n""#),
        (r#""arrayId":"a""#, r#""arrayId":"""#),
        (
            r#""generation":"6b1f00c2a47e9002""#,
            r#""generation":"6B1F00C2A47E9002""#,
        ),
        (
            r#""generation":"6b1f00c2a47e9002""#,
            r#""generation":"6b1f00c2a47e900""#,
        ),
        (r#""generation":"6b1f00c2a47e9002""#, r#""generation":7"#),
        (r#""fanIn":2"#, r#""fanIn":1"#),
        (r#""fanIn":2"#, r#""fanIn":1001"#),
        (r#""packetId":"0/0""#, r#""packetId":"1/0""#),
        (r#""packetId":"0/0""#, r#""packetId":"0""#),
        (r#""packetId":"0/0""#, r#""packetId":0"#),
        (r#""packetOffset":0"#, r#""packetOffset":-1"#),
        (r#""packetOffset":0"#, r#""packetOffset":-0"#),
        (r#""arrayLength":4"#, r#""arrayLength":1e3"#),
        (r#""packetContains":2"#, r#""packetContains":null"#),
        (r#""packetYields":[1,0,1]"#, r#""packetYields":[1,-1]"#),
        (
            r#""packetYields":[1,0,1]"#,
            r#""packetYields":[4294967296]"#,
        ),
        (r#""packetValue":[1,2]"#, r#""packetValue":7"#),
        (r#""packetValue":[1,2]"#, r#""packetValue":[NaN]"#),
        (r#""packetValue":[1,2]"#, r#""packetValue":[1,2"#),
        (r#""packetSkipped":1"#, r#""packetOffset":0"#),
    ] {
        assert!(MAP.contains(good), "{good}");
        broken.push(MAP.replace(good, bad));
    }
    broken.push(GROUP.replace(r#""level":1"#, r#""level":0"#));
    broken.push(GROUP.replace(r#""level":1"#, r#""level":67"#));
    broken.push(GROUP.replace(r#""group":0"#, r#""group":-1"#));
    let texts: Vec<Vec<u8>> = broken
        .iter()
        .map(|text| text.clone().into_bytes())
        .collect();
    let good = [MAP, GROUP].map(|text| text.as_bytes().to_vec());
    assert_eq!(verdicts("message", &good), [None, None]);
    for (text, verdict) in broken.iter().zip(verdicts("message", &texts)) {
        assert!(verdict.is_some(), "{text}");
    }
    let without_value = without(PACKET, "packetValue");
    let packets = [PACKET, &without_value].map(|text| text.as_bytes().to_vec());
    let packets = verdicts("packet", &packets);
    assert!(packets[0].is_none() && packets[1].is_some(), "{packets:?}");
}

/// Valid texts in which fields have other values, are left out, repeated or added; and some with
/// bytes changed anywhere.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let value = prop::sample::select(vec![
        "null",
        "-1",
        "-0",
        "0",
        "1",
        "2",
        "66",
        "67",
        "1000",
        "1001",
        "4294967295",
        "4294967296",
        "1.0",
        "1e2",
        "1e400",
        "9007199254740991",
        "18446744073709551615",
        "18446744073709551616",
        "[]",
        "[0,1,2]",
        "[4294967296]",
        "[[]]",
        "{}",
        "{\"a\":1,\"a\":2}",
        "true",
        "\"\"",
        "\"a\"",
        "\"a-b\"",
        "\"a--b\"",
        "\"a-\"",
        "\"map\"",
        "\"reduce\"",
        "\"0/0\"",
        "\"0/+1\"",
        "\"00/1\"",
        "\"2/7\"",
        "\"0/18446744073709551615\"",
        "\"0/9999999999999999\"",
        "\"a\\n\"",
        "\"a\\u0000\"",
        "\"\\ud800\"",
        "\"gr\u{f6}\u{df}er\"",
        "\"../../etc\"",
    ]);
    let name = prop::sample::select(vec![
        "version",
        "kind",
        "deployment",
        "stage",
        "arrayId",
        "generation",
        "fanIn",
        "level",
        "group",
        "packetId",
        "packetOffset",
        "arrayLength",
        "packetContains",
        "packetSkipped",
        "packetLeftOut",
        "packetYields",
        "packetValue",
        "newer",
        "",
        "\\ud800",
        "packet\\u0049d",
    ]);
    let edits = prop::collection::vec((name, prop::option::of(value)), 0..4);
    let good = prop::sample::select(vec![MAP, GROUP, PACKET]);
    let fields = (good, edits, any::<bool>()).prop_map(|(good, edits, again)| {
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(good).unwrap();
        let mut fields: Vec<(String, String)> = parsed
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect();
        for (name, value) in edits {
            if !again {
                fields.retain(|(present, _)| present != name);
            }
            fields.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        }
        let fields: Vec<String> = fields
            .into_iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    });
    let bytes = (fields.clone(), any::<prop::sample::Index>(), any::<u8>());
    let bytes = bytes.prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![4 => fields, 1 => bytes]
}

/// A writer that follows the schema is understood.
#[test]
#[ignore = "needs scripts/lib/python-env"]
fn what_fits_the_schema_can_be_read() {
    let mut runner = TestRunner::deterministic();
    let texts: Vec<Vec<u8>> = (0..20_000)
        .map(|_| mutated().new_tree(&mut runner).unwrap().current())
        .collect();
    type Read = fn(&[u8]) -> Result<(), String>;
    let readers: [(&str, Read); 2] = [("message", hostile::message), ("packet", hostile::packet)];
    for (definition, read) in readers {
        let (mut both, mut neither, mut stricter) = (0, 0, 0);
        for (text, verdict) in texts.iter().zip(verdicts(definition, &texts)) {
            match (verdict, read(text)) {
                (None, Ok(())) => both += 1,
                // A schema cannot say that one field is the end of another.
                (None, Err(problem)) if problem.contains("is not that of generation") => {}
                (None, Err(problem)) => {
                    panic!("{problem}: {}", String::from_utf8_lossy(text));
                }
                (Some(_), Err(_)) => neither += 1,
                (Some(_), Ok(())) => stricter += 1,
            }
        }
        println!(
            "{definition}: {both} fit and can be read, {neither} neither, {stricter} can only be read"
        );
        assert!(both > 500 && neither > 500);
    }
}

#[test]
#[ignore = "needs scripts/lib/python-env"]
fn the_examples_of_the_page_fit_the_schema() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire-format.md");
    let ended = checker(&["page", page]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let seen = String::from_utf8(ended.stdout).unwrap();
    for definition in [
        "message",
        "packet",
        "scratchpadItem",
        "resultsItem",
        "reason",
    ] {
        assert!(seen.contains(definition), "{definition} is not in {seen}");
    }
}
