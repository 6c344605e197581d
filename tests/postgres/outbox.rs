//! Submissions inside the application's own transactions.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catchment::{Deployment, Error, Pipeline, RunFilter, RunState, Stage};
use futures::future::try_join_all;
use tokio_postgres::Client;

use crate::common::{client, database_in, unique, url};

/// Names the schema for a process of [`a_process_that_takes_up`].
const SCHEMA: &str = "CATCHMENT_TEST_OUTBOX";
const PATIENCE: Duration = Duration::from_secs(120);

fn adder(schema: &str) -> Deployment<i64, i64> {
    // What a process held when it was killed comes back soon.
    let soon = Duration::from_secs(2);
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("times_two").visibility_timeout(soon))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").visibility_timeout(soon));
    adder.deploy("adder", database_in(schema)).unwrap()
}

async fn provisioned(name: &str) -> (String, Deployment<i64, i64>, Client) {
    let schema = unique(name);
    let adder = adder(&schema);
    adder.provision().await.unwrap();
    let client = client().await;
    let table = format!("CREATE TABLE \"{schema}\".orders (id bigint PRIMARY KEY)");
    client.batch_execute(&table).await.unwrap();
    (schema, adder, client)
}

async fn count(client: &Client, schema: &str, what: &str) -> i64 {
    // The rows that the schema begins with are for the planner, and no messages.
    let what = match what {
        "messages" => "messages WHERE id > 0",
        what => what,
    };
    let count = format!("SELECT count(*) FROM \"{schema}\".{what}");
    client.query_one(&count, &[]).await.unwrap().get(0)
}

/// Waits until the table has this many rows.
async fn until(client: &Client, schema: &str, what: &str, rows: i64) {
    let begin = Instant::now();
    loop {
        let found = count(client, schema, what).await;
        if found == rows {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{found} rows of {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn result(run: &catchment::Run<i64>) -> Result<i64, Error> {
    let result = tokio::time::timeout(PATIENCE, run.result()).await;
    result.expect("the run ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_run_exists_if_its_transaction_commits() {
    let (schema, adder, mut client) = provisioned("commits").await;
    let order = format!("INSERT INTO \"{schema}\".orders VALUES (7)");

    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(&order).await.unwrap();
    let run = adder
        .submit_in(&transaction, "orders/7", 1..=5)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    for table in ["orders", "outbox", "outbox_leases", "runs", "messages"] {
        assert_eq!(count(&client, &schema, table).await, 0, "{table}");
    }
    let unknown = run.status().await.unwrap_err();
    assert!(matches!(unknown, Error::NoSuchRun { .. }), "{unknown:?}");

    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(&order).await.unwrap();
    let run = adder
        .submit_in(&transaction, "orders/7", 1..=5)
        .await
        .unwrap();
    assert!(matches!(run.status().await, Err(Error::NoSuchRun { .. })));
    transaction.commit().await.unwrap();
    // Nobody has taken it up: it is on its way.
    let status = run.wait(Duration::from_millis(50)).await.unwrap();
    assert_eq!((status.state, status.items), (RunState::Open, Some(5)));

    let worker = adder.worker().start();
    assert_eq!(result(&run).await.unwrap(), 30);
    until(&client, &schema, "outbox", 0).await;
    until(&client, &schema, "outbox_leases", 0).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn two_hundred_submit_at_once() {
    const RUNS: i64 = 200;
    let (schema, adder, client) = provisioned("many").await;
    let workers = [(); 3].map(|()| self::adder(&schema).worker().start());
    // Twenty applications with a connection each. Every second transaction is rolled back.
    let applications = (0..20).map(|application| {
        let (schema, adder) = (schema.clone(), adder.clone());
        tokio::spawn(async move {
            let mut client = crate::common::client().await;
            for order in (0..2 * RUNS).filter(|order| order % 20 == application) {
                let transaction = client.transaction().await.unwrap();
                let statement = format!("INSERT INTO \"{schema}\".orders VALUES ({order})");
                transaction.batch_execute(&statement).await.unwrap();
                let id = format!("orders/{order}");
                adder.submit_in(&transaction, id, 0..=order).await.unwrap();
                match order / 20 % 2 {
                    0 => transaction.commit().await.unwrap(),
                    _ => transaction.rollback().await.unwrap(),
                }
            }
        })
    });
    try_join_all(applications).await.unwrap();
    let orders = format!("SELECT id FROM \"{schema}\".orders");
    let orders = client.query(&orders, &[]).await.unwrap();
    assert_eq!(orders.len() as i64, RUNS);
    for order in orders {
        let order: i64 = order.get(0);
        let run = adder.attach(format!("orders/{order}"));
        assert_eq!(result(&run).await.unwrap(), order * (order + 1), "{order}");
    }
    until(&client, &schema, "outbox", 0).await;
    assert_eq!(count(&client, &schema, "runs").await, RUNS);
    for worker in workers {
        worker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn any_client_submits() {
    let (schema, adder, client) = provisioned("any").await;
    let worker = adder.worker().start();
    // Texts as parameters.
    let insert = adder.outbox("with-parameters", 1..=5).unwrap();
    let params: Vec<_> = insert.params().iter().map(|value| value as _).collect();
    client.execute(insert.text(), &params).await.unwrap();
    // A file for psql, with a transaction in it.
    let insert = adder.outbox("psql", 1..=6).unwrap();
    let script =
        format!("BEGIN;\nINSERT INTO \"{schema}\".orders VALUES (6);\n{insert};\nCOMMIT;\n");
    let psql = Command::new("psql")
        .args([&url(), "-v", "ON_ERROR_STOP=1", "-q", "-c", &script])
        .status()
        .unwrap();
    assert!(psql.success());
    // A row that a person writes.
    let row = format!(
        "INSERT INTO \"{schema}\".outbox (deployment, id, items) VALUES ('adder', 'by-hand', '[1, 2, 3, 4, 5, 6, 7]')"
    );
    client.batch_execute(&row).await.unwrap();
    for (id, sum) in [("with-parameters", 30), ("psql", 42), ("by-hand", 56)] {
        assert_eq!(result(&adder.attach(id)).await.unwrap(), sum, "{id}");
    }
    // What is no list is refused at once.
    for items in ["7", "[1, 2", "{}"] {
        let row = row.replace("[1, 2, 3, 4, 5, 6, 7]", items);
        client.batch_execute(&row).await.unwrap_err();
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn texts_arrive_as_they_are() {
    let schema = unique("te\"xt$1s");
    let texts = Pipeline::new()
        .map(|text: String| text)
        .collect()
        .deploy("texts", database_in(&schema))
        .unwrap();
    texts.provision().await.unwrap();
    let worker = texts.worker().start();
    let client = client().await;
    let items = [
        "it's",
        "a \\ and \\'",
        "$1 and @.",
        "\u{0}\n\t",
        "😀",
        "\"",
        "E'",
    ];
    let items: Vec<String> = items.map(String::from).to_vec();
    let insert = texts.outbox("literals", items.clone()).unwrap();
    client.batch_execute(&insert.to_string()).await.unwrap();
    let old = format!(
        "SET standard_conforming_strings = off; {}",
        texts.outbox("old", items.clone()).unwrap()
    );
    client.batch_execute(&old).await.unwrap();
    texts
        .submit_in(&client, "parameters", items.clone())
        .await
        .unwrap();
    for id in ["literals", "old", "parameters"] {
        let run = texts.attach(id);
        let result = tokio::time::timeout(PATIENCE, run.result()).await.unwrap();
        assert_eq!(result.unwrap(), items, "{id}");
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn an_id_stands_for_its_items() {
    let (schema, adder, client) = provisioned("same").await;
    // Three submissions under one id before anybody takes one up: the first one is the run, and its repetition harmless.
    let first = adder.outbox("orders/1", 1..=5).unwrap();
    client
        .batch_execute(&format!("{first}; {first}"))
        .await
        .unwrap();
    assert_eq!(count(&client, &schema, "outbox").await, 1);
    for items in [1..=5, 2..=6] {
        adder.submit_in(&client, "orders/1", items).await.unwrap();
    }
    let workers = [(); 3].map(|()| self::adder(&schema).worker().start());
    let run = adder.attach("orders/1");
    assert_eq!(result(&run).await.unwrap(), 30);
    until(&client, &schema, "outbox WHERE error IS NULL", 0).await;
    let look = format!("SELECT id, state, error, items::int8 FROM \"{schema}\".outbox_submissions");
    let refused = client.query(&look, &[]).await.unwrap();
    assert_eq!(refused.len(), 1);
    let (id, state): (&str, &str) = (refused[0].get(0), refused[0].get(1));
    assert_eq!(
        (id, state, refused[0].get::<_, i64>(3)),
        ("orders/1", "refused", 5)
    );
    let error: &str = refused[0].get(2);
    assert!(
        error.contains("orders/1") && error.contains("submit"),
        "{error}"
    );
    // Also long after the run is done, and after its statement has been run again.
    client.batch_execute(&first.to_string()).await.unwrap();
    adder.submit_in(&client, "orders/1", 1..=4).await.unwrap();
    until(&client, &schema, "outbox WHERE error IS NULL", 0).await;
    assert_eq!(count(&client, &schema, "outbox").await, 2);
    assert_eq!(result(&adder.attach("orders/1")).await.unwrap(), 30);
    assert_eq!(adder.runs(RunFilter::new()).await.unwrap().len(), 1);
    for worker in workers {
        worker.shutdown().await;
    }
    // It goes with the deployment.
    adder.deprovision("adder").await.unwrap();
    assert_eq!(count(&client, &schema, "outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn what_cannot_be_read_fails_its_run() {
    let (schema, adder, client) = provisioned("bad").await;
    let worker = adder.worker().start();
    let insert = |id: &str, others: &str, items: &str| {
        format!(
            "INSERT INTO \"{schema}\".outbox (deployment, id, items{others} ('adder', '{id}', '{items}'"
        )
    };
    let bad = format!("{})", insert("bad", ") VALUES", "[1, 2, \"three\", 4]"));
    client.batch_execute(&bad).await.unwrap();
    let error = result(&adder.attach("bad")).await.unwrap_err();
    let Error::Failed { failure, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(failure.error.contains("item 2"), "{failure:?}");
    // The right items complete it.
    adder.submit_in(&client, "bad", 1..=4).await.unwrap();
    until(&client, &schema, "outbox WHERE error IS NULL", 0).await;
    assert_eq!(result(&adder.attach("bad")).await.unwrap(), 20);

    // An id that no run can have, and a part that is missing.
    let odd = format!("{})", insert("an odd id", ") VALUES", "[1]"));
    let lacks = format!("{}, 2)", insert("lacks", ", part) VALUES", "[1]"));
    client
        .batch_execute(&format!("{odd}; {lacks}"))
        .await
        .unwrap();
    until(&client, &schema, "outbox WHERE error IS NOT NULL", 3).await;
    let error = result(&adder.attach("lacks")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Submission { problem, .. } if problem.contains("1 of its 3 parts")),
        "{error:?}"
    );
    worker.shutdown().await;
}

#[tokio::test]
async fn an_outbox_is_a_table_of_a_database() {
    let adder = Pipeline::new().map(|n: i64| n).count();
    let memory = adder.deploy("adder", catchment::Backend::memory()).unwrap();
    let error = memory.outbox("orders/1", 1..=5).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::InvalidArgument {
                argument: "backend",
                ..
            }
        ),
        "{error:?}"
    );
    let database = adder.deploy("adder", database_in_nothing()).unwrap();
    let error = database.outbox("an odd id", 1..=5).unwrap_err();
    assert!(matches!(error, Error::InvalidRunId { .. }), "{error:?}");
    let floats = Pipeline::new().map(|n: f64| n).count();
    let floats = floats.deploy("floats", database_in_nothing()).unwrap();
    let error = floats.outbox("a", [1.0, f64::NAN]).unwrap_err().to_string();
    assert!(error.contains("item 1"), "{error}");
    let mut parts = floats.outbox_parts("a", [1.0, f64::NAN, 2.0]).unwrap();
    assert!(parts.next().unwrap().is_err());
    assert!(parts.next().is_none());
}

fn database_in_nothing() -> catchment::Backend {
    catchment::Backend::postgres("postgres://nobody@127.0.0.1:1/nothing").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn large_inputs_are_many_rows() {
    const ITEMS: i64 = 400_000;
    let (schema, adder, mut client) = provisioned("large").await;
    let transaction = client.transaction().await.unwrap();
    let items = futures::stream::iter(1..=ITEMS);
    let run = adder
        .submit_stream_in(&transaction, "large", items)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let look = format!(
        "SELECT count(*), max(octet_length(items::text)), sum(length)::bigint FROM \"{schema}\".outbox"
    );
    let look = client.query_one(&look, &[]).await.unwrap();
    let (parts, largest, items): (i64, i32, i64) = (look.get(0), look.get(1), look.get(2));
    assert!(
        parts >= 4 && largest <= 600_000,
        "{parts} parts, {largest} bytes"
    );
    assert_eq!(items, ITEMS);
    // The same as one statement, and as an ordinary submission.
    client
        .batch_execute(&adder.outbox("large", 1..=ITEMS).unwrap().to_string())
        .await
        .unwrap();
    let worker = adder.worker().start();
    assert_eq!(result(&run).await.unwrap(), ITEMS * (ITEMS + 1));
    until(&client, &schema, "outbox", 0).await;
    adder.submit_as("large", 1..=ITEMS).await.unwrap();
    worker.shutdown().await;
}

#[cfg(feature = "postcard")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn items_travel_in_the_deployments_codec() {
    let schema = unique("compact");
    let floats = Pipeline::new()
        .map(|n: f64| n.is_nan())
        .collect()
        .codec(catchment::Codec::Postcard)
        .deploy("floats", database_in(&schema))
        .unwrap();
    floats.provision().await.unwrap();
    let worker = floats.worker().start();
    let client = client().await;
    let items: Vec<f64> = (0..300)
        .map(|n| if n % 2 == 0 { f64::NAN } else { 1.0 })
        .collect();
    let run = floats
        .submit_in(&client, "floats", items.clone())
        .await
        .unwrap();
    let nans = tokio::time::timeout(PATIENCE, run.result())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(nans, Vec::from_iter(items.iter().map(|n| n.is_nan())));
    worker.shutdown().await;
}

/// Takes up submissions until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that another test starts"]
async fn a_process_that_takes_up() {
    let Ok(schema) = std::env::var(SCHEMA) else {
        return;
    };
    let _worker = adder(&schema).worker().start();
    std::future::pending::<()>().await;
}

struct Process(Child);

impl Process {
    fn start(schema: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "outbox::a_process_that_takes_up"]);
        command
            .env(SCHEMA, schema)
            .env("CATCHMENT_TEST_POSTGRES", url());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes are killed after they have claimed a submission: before it is a run, while its packets are sent, and when all of
/// them are sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn killed_while_taking_up() {
    const ITEMS: i64 = 60_000;
    let (schema, adder, client) = provisioned("killed").await;
    let leases = format!("UPDATE \"{schema}\".outbox_leases SET until = now()");
    for (run, moment) in [
        "outbox_leases",
        "runs",
        "messages",
        "runs WHERE submitted",
        "runs WHERE sent_packets > 0",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("run-{run}");
        let run = adder
            .submit_in(&client, id.as_str(), 1..=ITEMS)
            .await
            .unwrap();
        let before = count(&client, &schema, moment).await;
        let process = Process::start(&schema);
        let begin = Instant::now();
        while count(&client, &schema, moment).await <= before {
            assert!(begin.elapsed() < PATIENCE, "{moment}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(process);
        // As if the time of the lease had passed.
        client.batch_execute(&leases).await.unwrap();
        let worker = adder.worker().start();
        assert_eq!(result(&run).await.unwrap(), ITEMS * (ITEMS + 1), "{moment}");
        until(&client, &schema, "outbox", 0).await;
        worker.shutdown().await;
    }
    assert_eq!(count(&client, &schema, "runs").await, 5);
}
