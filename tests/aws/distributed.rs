//! The example `distributed` as a user runs it: each command a process of its own, killed now and
//! then.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Instant;

use crate::adder::{Adder, SOON, until};
use crate::common::Tables;

fn four_processes_make_one_sum(tables: Tables) {
    let adder = Adder::provisioned(tables, &[]);
    let again = adder.answer(&["provision"]);
    assert_eq!(again.matches(": unchanged").count(), 6, "{again}");
    let workers = [adder.worker(), adder.worker()];
    let begin = Instant::now();
    let submitted = adder.run(&["submit", "--count", "100000"]);
    println!("submit: {}", submitted.requests());
    let run = submitted.out.trim_end();
    let result = adder.run(&["result", run]);
    assert_eq!(result.out, "10000100000\n", "{result:?}");
    println!("result: {}", result.requests());
    println!(
        "{:.1} s from submit to result",
        begin.elapsed().as_secs_f64()
    );
    let status = adder.answer(&["status", run]);
    for line in [
        "state: done",
        "items: 100000 of 100000",
        "failed messages: 0",
    ] {
        assert!(status.lines().any(|given| given == line), "{status}");
    }
    for worker in workers {
        worker.told_to_end("TERM");
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn four_processes_make_one_sum_on_ministack() {
    four_processes_make_one_sum(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn four_processes_make_one_sum_on_dynamodb_local() {
    four_processes_make_one_sum(Tables::DynamoDbLocal);
}

/// Three workers die while they hold packets, and each is replaced.
fn workers_that_die_take_nothing_along(tables: Tables) {
    // So slow that the run takes some ten seconds.
    let slow = ["--packet-size", "100", "--items-per-second", "5000"];
    let adder = Adder::provisioned(tables, &[slow.as_slice(), &SOON].concat());
    let mut workers = vec![adder.worker(), adder.worker()];
    let run = adder.answer(&["submit", "--count", "100000"]);
    let mut before = 0;
    for _ in 0..3 {
        let (done, all) = until("packets of a run", || {
            let (done, all) = adder.packets(&run);
            (done >= before + 100).then_some((done, all))
        });
        assert!(
            (1..all).contains(&done),
            "not in the middle: {done} of {all}"
        );
        println!("a worker is killed: {done} of {all} packets are done");
        workers.remove(0).killed();
        workers.push(adder.worker());
        before = done;
    }
    assert_eq!(adder.answer(&["result", &run]), "10000100000");
    for worker in workers {
        worker.told_to_end("TERM");
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn workers_that_die_take_nothing_along_on_ministack() {
    workers_that_die_take_nothing_along(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn workers_that_die_take_nothing_along_on_dynamodb_local() {
    workers_that_die_take_nothing_along(Tables::DynamoDbLocal);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_dead_letter_is_redriven_to_a_better_worker() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let weak = adder.start(&["worker", "--limit", "100"]);
    let run = adder.answer(&["submit", "1", "101", "7"]);
    let problem = "101 is above this worker's limit of 100";
    let refusal = adder.refusal(&["result", &run], 1);
    for part in [&run, "`times_two`, packet 1, item 1", problem] {
        assert!(refusal.contains(part), "{refusal}");
    }
    // The dead letter is in its queue a moment after the failure is on record.
    let letters = until("the dead letter", || {
        let letters = adder.answer(&["dead-letters", &run]);
        (!letters.is_empty()).then_some(letters)
    });
    println!("{letters}");
    assert_eq!(
        letters,
        format!("stage times_two, run {run}, packet 1, item 1, attempts 1: {problem}")
    );
    assert_eq!(adder.answer(&["dead-letters"]), letters);
    until("the rest of the run", || {
        (adder.packets(&run) == (2, 3)).then_some(())
    });
    let status = adder.answer(&["status", &run]);
    println!("{status}");
    for line in ["state: failed", "items: 2 of 3", "failed messages: 1"] {
        assert!(status.lines().any(|given| given == line), "{status}");
    }

    weak.told_to_end("TERM");
    let strong = adder.worker();
    assert_eq!(adder.answer(&["redrive", &run]), "1");
    assert_eq!(adder.answer(&["result", &run]), "218");
    assert_eq!(adder.answer(&["dead-letters"]), "");

    let overflow = ["submit", "--id", "too-much", "1", "9223372036854775807"];
    assert_eq!(adder.answer(&overflow), "too-much");
    let refusal = adder.refusal(&["result", "too-much"], 1);
    assert!(
        refusal.contains("item 1 (9223372036854775807): "),
        "{refusal}"
    );
    assert_eq!(adder.answer(&["cancel", "too-much"]), "cancelled");
    let refusal = adder.refusal(&["result", "too-much"], 1);
    assert!(refusal.contains("was cancelled"), "{refusal}");
    strong.told_to_end("TERM");
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_signal_ends_a_worker_in_order() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    for signal in ["TERM", "INT"] {
        let workers = ["times_two", "sum"].map(|stage| adder.start(&["worker", "--stages", stage]));
        // Without either of them there is no result: both have worked.
        let run = adder.answer(&["submit"]);
        assert_eq!(adder.answer(&["result", &run]), "30");
        for worker in workers {
            let ended = worker.told_to_end(signal);
            assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
            assert!(ended.requests().contains("SQS ReceiveMessage"), "{ended:?}");
        }
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn what_is_missing_is_said_in_a_line() {
    let mut adder = Adder::new(Tables::Ministack, &[]);
    let queue = format!("SQS queue `{}--times_two`", adder.name());
    let table = format!("DynamoDB table `{}-results`", adder.name());
    for (command, missing) in [
        (["submit", "1"].as_slice(), &queue),
        (&["dead-letters"], &queue),
        (&["redrive", "none"], &table),
        (&["status", "none"], &table),
        (&["result", "none"], &table),
        (&["cancel", "none"], &table),
    ] {
        let refusal = adder.refusal(command, 1);
        assert!(refusal.contains(missing), "{refusal}");
        assert!(refusal.contains("provision"), "{refusal}");
    }
    for (arguments, problem) in [
        (["worker"].as_slice(), queue.as_str()),
        (
            &["worker", "--stages", "times_three"],
            "stage `times_three`",
        ),
    ] {
        // The library logs it as well.
        let worker = adder.run(arguments);
        assert_eq!(worker.status.code(), Some(1), "{worker:?}");
        let last = worker.err.lines().last().unwrap();
        assert!(
            last.starts_with("distributed: ") && last.contains(problem),
            "{worker:?}"
        );
    }

    adder.answer(&["provision"]);
    for command in ["status", "result", "cancel"] {
        let refusal = adder.refusal(&[command, "nobodys"], 1);
        assert!(refusal.contains("no run nobodys"), "{refusal}");
    }
    let refusal = adder.refusal(&["deprovision", "another"], 1);
    assert!(refusal.contains(adder.name()), "{refusal}");
    for (arguments, problem) in [
        (["--backend", "memory", "status", "x"].as_slice(), "memory"),
        (&["submit", "1", "two"], "two"),
        (&["1", "2"], "subcommand"),
        (&[], "subcommand"),
    ] {
        let refusal = adder.refusal(arguments, 2);
        assert!(refusal.contains(problem), "{refusal}");
    }

    adder.has_credentials = false;
    for command in [["provision"].as_slice(), &["submit", "1"], &["result", "x"]] {
        let refusal = adder.refusal(command, 1);
        assert!(refusal.contains("no credentials"), "{refusal}");
    }
    adder.has_credentials = true;
}
