//! The adder with its map stage in Python, `examples/python/minimal.py` and `times_two.py`, by
//! `docs/wire-format.md`: this side submits, and its workers serve `sum` only.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;

use catchment::backends::sqs::SqsQueues;
use catchment::queue::{Queue, QueueOptions, Queues};
use catchment::{Pipeline, Stage};

use crate::adder::{Adder, Process, SOON, until};
use crate::common::{Tables, config, ministack};

/// The interpreter that has what the scripts import.
pub(crate) fn interpreter() -> PathBuf {
    let made = std::env::var_os("CATCHMENT_PYTHON_ENV").map(PathBuf::from);
    let folder = made.unwrap_or_else(|| {
        // target/debug/deps/aws-…
        let tests = std::env::current_exe().unwrap();
        tests.ancestors().nth(3).unwrap().join("python-env")
    });
    let python = folder.join("bin/python");
    assert!(
        python.is_file() && folder.join(".installed").is_file(),
        "{} is missing, or was not finished: make it with scripts/lib/python-env",
        python.display()
    );
    python
}

/// A script of this project, to be run.
pub(crate) fn script(path: &str, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut command = Command::new(interpreter());
    // No files are left among the sources.
    command.arg("-B").arg(script).args(arguments);
    command
}

/// The stage as short as it can be, and all of it.
const SCRIPTS: [&str; 2] = ["minimal.py", "times_two.py"];

fn served_by(name: &str, adder: &Adder) -> Process {
    let command = script(&format!("examples/python/{name}"), &[adder.name()]);
    adder.process(command, name.to_owned(), &[])
}

fn times_two(adder: &Adder) -> Process {
    served_by("times_two.py", adder)
}

fn sum(adder: &Adder) -> Process {
    adder.start(&["worker", "--stages", "sum"])
}

async fn queue(name: &str) -> std::sync::Arc<dyn Queue> {
    let queues = SqsQueues::new(&config(&ministack()));
    let options = QueueOptions::default();
    queues.open(name, &options).await.unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn a_stage_in_python_gives_the_same_sums() {
    let all = [Tables::Ministack, Tables::DynamoDbLocal];
    for (tables, name) in all
        .into_iter()
        .flat_map(|tables| SCRIPTS.map(|name| (tables, name)))
    {
        let adder = Adder::provisioned(tables, &["--packet-size", "3"]);
        let (python, rust) = (served_by(name, &adder), sum(&adder));
        for (numbers, result) in [
            (&["1", "2", "3", "4", "5"][..], "30"),
            (&["--count", "1000"], "1001000"),
            (&["-4611686018427387904"], "-9223372036854775808"),
            (
                &["4611686018427387903", "-1", "1", "1"],
                "9223372036854775808",
            ),
        ] {
            let run = adder.answer(&[&["submit"], numbers].concat());
            if result == "9223372036854775808" {
                // Each packet's sum fits, but the total does not: the reduction must report it.
                let refusal = adder.refusal(&["result", &run], 1);
                assert!(refusal.contains("`sum`"), "{refusal}");
                assert!(refusal.contains("more than 64 bits hold"), "{refusal}");
                continue;
            }
            assert_eq!(adder.answer(&["result", &run]), result);
            let status = adder.answer(&["status", &run]);
            assert!(
                status.contains("state: done") && status.contains("failed messages: 0"),
                "{status}"
            );
        }
        python.killed();
        rust.told_to_end("TERM");
    }
}

/// A thousand packets, a third of them twice, two workers in Python of which three die.
#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn workers_in_python_that_die_take_nothing_along() {
    for name in SCRIPTS {
        take_nothing_along(name);
    }
}

fn take_nothing_along(name: &str) {
    let tuning = [&["--packet-size", "1"], &SOON[..]].concat();
    let adder = Adder::provisioned(Tables::Ministack, &tuning);
    let run = adder.answer(&["submit", "--count", "1000"]);
    let copies = wait(async {
        let queue = queue(&format!("{}--times_two", adder.name())).await;
        let mut copies = 0;
        while copies < 300 {
            let received = queue.receive(10, std::time::Duration::ZERO).await.unwrap();
            // The originals are delivered again by themselves.
            copies += received.len();
            let again = received.iter().map(catchment::queue::Outgoing::from);
            queue.send(again.collect()).await.unwrap();
        }
        copies
    });
    let worker = || served_by(name, &adder);
    let mut workers = vec![worker(), worker()];
    let rust = sum(&adder);
    let mut before = 0;
    for _ in 0..3 {
        let (done, all) = until("packets of a run", || {
            let (done, all) = adder.packets(&run);
            (done >= before + 100).then_some((done, all))
        });
        assert_eq!(all, 1_000);
        assert!(done < all, "not in the middle: {done} of {all}");
        println!("a worker is killed: {done} of {all} packets are done");
        workers.remove(0).killed();
        workers.push(worker());
        before = done;
    }
    assert_eq!(adder.answer(&["result", &run]), "1001000");
    // Late duplicates change nothing.
    until("the end of what was there twice", || {
        let depth = wait(async {
            let queue = queue(&format!("{}--times_two", adder.name())).await;
            queue.depth().await.unwrap()
        });
        (depth.ready + depth.in_flight + depth.delayed == 0).then_some(())
    });
    assert_eq!(adder.answer(&["result", &run]), "1001000");
    assert_eq!(adder.answer(&["dead-letters"]), "");
    println!("{copies} packets were there twice");
    for worker in workers {
        worker.killed();
    }
    rust.told_to_end("TERM");
}

/// A message that the short stage cannot process stays on its queue, and does not keep others from
/// being processed.
#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn what_the_short_stage_cannot_do_stays_on_its_queue() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let (python, rust) = (served_by("minimal.py", &adder), sum(&adder));
    let queue = || async { queue(&format!("{}--times_two", adder.name())).await };
    let bad = ["not json", "[1]", "null", r#"{"version":2}"#];
    let messages = bad.map(catchment::queue::Outgoing::new).to_vec();
    wait(async { queue().await.send(messages).await.unwrap() });
    let too_much = adder.answer(&["submit", "1", "4611686018427387904"]);
    let run = adder.answer(&["submit"]);
    assert_eq!(adder.answer(&["result", &run]), "30");
    until("the part of the run that can be done", || {
        (adder.packets(&too_much) == (1, 2)).then_some(())
    });
    until("all of what cannot be done, on its queue", || {
        let depth = wait(async { queue().await.depth().await.unwrap() });
        (depth.ready + depth.in_flight + depth.delayed == bad.len() as u64 + 1).then_some(())
    });
    python.killed();
    rust.told_to_end("TERM");
}

#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn what_python_refuses_is_a_dead_letter_with_its_reason() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let (python, rust) = (times_two(&adder), sum(&adder));
    let too_much = "4611686018427387904";
    let run = adder.answer(&["submit", "1", too_much, "7"]);
    let refusal = adder.refusal(&["result", &run], 1);
    let problem = format!("{too_much} times two is no 64-bit integer");
    for part in ["`times_two`, packet 1, item 1", &problem] {
        assert!(refusal.contains(part), "{refusal}");
    }
    let letters = |count: usize| {
        until("the dead letters", || {
            let letters = adder.answer(&["dead-letters"]);
            (letters.lines().count() == count).then_some(letters)
        })
    };
    let letter = format!("stage times_two, run {run}, packet 1, item 1, attempts 1: {problem}");
    assert_eq!(letters(1), letter);
    until("the rest of the run", || {
        (adder.packets(&run) == (2, 3)).then_some(())
    });

    // A failure is identified by its id: a redriven message that fails once more is one failure,
    // not two.
    assert_eq!(adder.answer(&["redrive", &run]), "1");
    assert_eq!(letters(1), letter);
    let status = adder.answer(&["status", &run]);
    assert!(status.contains("failed messages: 1"), "{status}");

    let reduce = format!(
        r#"{{"version":1,"kind":"reduce","deployment":"{}","stage":"sum","arrayId":"{run}","generation":"6b1f00c2a47e9020","fanIn":32,"level":1,"group":0}}"#,
        adder.name()
    );
    let next = r#"{"version":2,"kind":"map","stage":"times_two","arrayId":"a","fanIn":32,"packetId":"0/0","packetContains":1,"packetValue":[1]}"#;
    // The last is what the compact codec begins with.
    for body in ["not json", next, &reduce, "\u{1}"] {
        wait(async {
            let queue = queue(&format!("{}--times_two", adder.name())).await;
            queue.send(vec![body.to_owned().into()]).await.unwrap();
        });
    }
    let letters = letters(5);
    println!("{letters}");
    let count = |part: &str| letters.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count("the message cannot be read"), 3, "{letters}");
    assert_eq!(count("no map message for stage times_two"), 1, "{letters}");

    // The worker continues.
    let run = adder.answer(&["submit"]);
    assert_eq!(adder.answer(&["result", &run]), "30");
    python.killed();
    rust.told_to_end("TERM");
}

/// The result, after redriving whatever is necessary.
fn result_in_the_end(adder: &Adder, run: &str) -> String {
    until("the result", || {
        let result = adder.run(&["result", run]);
        if result.status.success() {
            return Some(result.out);
        }
        adder.answer(&["redrive", run]);
        None
    })
}

/// A slot that is taken is no reason not to ask: the worker that took it may have died before it
/// could.
#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn python_asks_for_a_reduction_that_nobody_has_asked_for() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let (python, rust) = (times_two(&adder), sum(&adder));
    let run = adder.answer(&["submit"]);
    assert_eq!(adder.answer(&["result", &run]), "30");
    rust.told_to_end("TERM");

    wait(async {
        let client = aws_sdk_sqs::Client::new(&config(&ministack()));
        let name = format!("{}--sum", adder.name());
        let url = client.get_queue_url().queue_name(name).send().await;
        let url = url.unwrap().queue_url.unwrap();
        client.delete_queue().queue_url(url).send().await.unwrap();
    });
    let run = adder.answer(&["submit"]);
    until("all packets in their slots", || {
        (adder.packets(&run) == (5, 5)).then_some(())
    });
    adder.answer(&["provision"]);
    let rust = sum(&adder);
    assert_eq!(result_in_the_end(&adder, &run), "30\n");
    python.killed();
    rust.told_to_end("TERM");
}

/// Without its tables a worker fails, message by message, and loses nothing.
#[test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
fn what_python_could_not_do_comes_back() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let run = adder.answer(&["submit"]);
    let command = script("examples/python/times_two.py", &[adder.name()]);
    // Nothing listens there.
    let nowhere = ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9");
    let what = "times_two.py without tables".to_owned();
    let blind = adder.process(command, what, &[nowhere, ("AWS_MAX_ATTEMPTS", "1")]);
    let ended = blind.ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.err.contains("http://127.0.0.1:9"), "{ended:?}");
    assert_eq!(adder.answer(&["dead-letters"]), "");

    let (python, rust) = (times_two(&adder), sum(&adder));
    // Some have used up their attempts.
    let refusal = adder.refusal(&["result", &run], 1);
    assert!(refusal.contains("and never finished"), "{refusal}");
    let redriven = until("what is to be redriven", || {
        let redriven: u32 = adder.answer(&["redrive", &run]).parse().unwrap();
        (redriven > 0).then_some(redriven)
    });
    println!("{redriven} of 5 packets had used up their attempts");
    assert_eq!(result_in_the_end(&adder, &run), "30\n");
    python.killed();
    rust.told_to_end("TERM");
}

/// Members that have items of their own, in groups of a hundred.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts, and scripts/lib/python-env"]
async fn python_fills_large_groups() {
    let adder = tokio::task::spawn_blocking(|| Adder::new(Tables::Ministack, &[]));
    let adder = adder.await.unwrap();
    let pipeline = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("times_two").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(100));
    let wide = pipeline
        .deploy(adder.name(), Tables::Ministack.backend())
        .unwrap();
    wide.provision().await.unwrap();
    let python = times_two(&adder);
    let run = wide.submit(1..=250).await.unwrap();
    let worker = wide.worker().stages(["sum"]).start();
    assert_eq!(run.result().await.unwrap(), 250 * 251);
    worker.shutdown().await;
    tokio::task::spawn_blocking(|| python.killed())
        .await
        .unwrap();
    tokio::task::spawn_blocking(|| drop(adder)).await.unwrap();
}
