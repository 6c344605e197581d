//! What a person finds in the file with `sqlite3`, and what is removed from it.

use std::time::{Duration, SystemTime};

use catchment::backends::sqlite::SqliteOptions;
use catchment::scratchpad::{Begun, PacketPlan, RunRecord, Runs};
use catchment::{Backend, Pipeline, Stage, permanent};
use rusqlite::Connection;

use crate::files::{Folder, until};

/// The rows of a query, each as text.
fn rows(folder: &Folder, query: &str) -> Vec<String> {
    let db = Connection::open(folder.path()).unwrap();
    let mut statement = db.prepare(query).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let text = |column| {
            row.get::<_, rusqlite::types::Value>(column)
                .map(|value| match value {
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    rusqlite::types::Value::Null => "-".to_owned(),
                    other => format!("{other:?}"),
                })
        };
        (0..columns)
            .map(text)
            .collect::<Result<Vec<_>, _>>()
            .map(|row| row.join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn runs_queues_and_dead_letters_are_readable() {
    let folder = Folder::new();
    let pipeline = Pipeline::new()
        .try_map(|text: String| text.parse::<u64>().map_err(permanent))
        .with(Stage::named("parse"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"));
    let sum = pipeline
        .deploy("numbers", Backend::file(folder.path()).unwrap())
        .unwrap();
    let good = sum
        .submit_as("good", ["1", "2"].map(String::from))
        .await
        .unwrap();
    assert_eq!(
        rows(
            &folder,
            "SELECT queue, ready, in_flight, delayed, dead FROM queues"
        ),
        ["numbers--parse 2 0 0 0"]
    );
    let worker = sum.worker().start();
    good.result().await.unwrap();
    let bad = sum
        .submit_as("bad", ["1", "two"].map(String::from))
        .await
        .unwrap();
    bad.settled().await.unwrap();
    worker.shutdown().await;
    assert_eq!(
        rows(
            &folder,
            "SELECT run, deployment, state, items, packets, dead_letters, created > '2026' FROM runs ORDER BY run"
        ),
        ["bad numbers failed 2 2 1 1", "good numbers done 2 2 0 1"]
    );
    let results = rows(&folder, "SELECT result FROM runs WHERE run = 'good'");
    assert!(results[0].contains("\"packetValue\":3"), "{results:?}");
    let letters = rows(&folder, "SELECT queue, reason, body FROM dead_letters");
    assert!(
        letters[0].starts_with("numbers--parse ") && letters[0].contains("two"),
        "{letters:?}"
    );
    assert_eq!(
        rows(&folder, "SELECT queue, ready, dead FROM queues"),
        ["numbers--parse 0 1", "numbers--sum 0 0"]
    );
}

/// Nothing of a run that is done stays but its record and its result, and after its time not even that.
#[tokio::test]
async fn a_run_that_is_done_leaves_little() {
    let folder = Folder::new();
    let counts = |folder: &Folder| {
        rows(folder, "SELECT (SELECT COUNT(*) FROM run), (SELECT COUNT(*) FROM result), (SELECT COUNT(*) FROM tree),
            (SELECT COUNT(*) FROM member), (SELECT COUNT(*) FROM message), (SELECT COUNT(*) FROM body),
            (SELECT COUNT(*) FROM failure), (SELECT COUNT(*) FROM trash)").remove(0)
    };
    {
        let pipeline = Pipeline::new()
            .map(|n: u64| n)
            .with(Stage::new().packet_size(1))
            .count();
        let count = pipeline
            .deploy("count", Backend::file(folder.path()).unwrap())
            .unwrap();
        let worker = count.worker().start();
        let run = count.submit_as("big", 0..3_000).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 3_000);
        worker.shutdown().await;
        // What is left of the tree goes little by little.
        until("the tree is gone", || {
            (counts(&folder) == "1 1 0 0 0 0 0 0").then_some(())
        });
    }
    let file = SqliteOptions::new()
        .retention(Duration::ZERO)
        .open(folder.path())
        .unwrap();
    // The millisecond in which it was done has to be over.
    let ended = SystemTime::now();
    until("time passes", || {
        (SystemTime::now() > ended + Duration::from_millis(1)).then_some(())
    });
    let record = RunRecord::new(
        "next",
        SystemTime::now(),
        "map",
        "sum",
        32,
        PacketPlan::Fixed(1),
    );
    assert_eq!(file.scratchpad().begin(&record).await.unwrap(), Begun::New);
    until("the older run is gone", || {
        (counts(&folder) == "1 0 0 0 0 0 0 0").then_some(())
    });
}
