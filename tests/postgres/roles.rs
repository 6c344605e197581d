//! The least privileges of each kind of program, as docs/postgres.md grants them.

use catchment::backends::postgres::PostgresBackend;
use catchment::{Deployment, Error, Pipeline, RunFilter, Stage};
use tokio_postgres::Client;

use crate::common::{client, unique, url};

const ROLES: [&str; 5] = ["provisioner", "applicant", "submitter", "worker", "looker"];

/// The statements of a section of the page, for these roles, database and schema.
fn grants(section: &str, suffix: &str, schema: &str) -> String {
    let page = include_str!("../../docs/postgres.md");
    let section = page.split(&format!("## {section}\n")).nth(1).unwrap();
    let block = section
        .split("```sql")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let mut text = block.replace("DATABASE app", "DATABASE postgres");
    for role in ROLES {
        text = text.replace(role, &format!("{role}_{suffix}"));
    }
    text = text.replace("catchment.", &format!("{schema}."));
    text.replace("SCHEMA catchment", &format!("SCHEMA {schema}"))
}

fn adder(role: &str, suffix: &str, schema: &str) -> Deployment<i64, i64> {
    let url = url().replace(
        "postgres://postgres@",
        &format!("postgres://{role}_{suffix}@"),
    );
    let backend = PostgresBackend::from_url(&url).unwrap().schema(schema);
    let adder = Pipeline::new()
        .try_map(|n: i64| {
            if n == 13 {
                Err(catchment::permanent("thirteen"))
            } else {
                Ok(n * 2)
            }
        })
        .with(Stage::named("times_two").packet_size(5))
        .reduce(|| 0, |a, b| a + b);
    adder.deploy("adder", backend).unwrap()
}

fn is_refused<T: std::fmt::Debug>(what: &str, outcome: Result<T, Error>) {
    let error = outcome.expect_err(what);
    let cause = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(
        cause.contains("permission denied"),
        "{what}: {error} {cause}"
    );
    assert!(!error.is_retryable());
}

/// A worker may vacuum once it has been granted that, where there is such a privilege.
async fn vacuums(client: &Client, suffix: &str, schema: &str, grants: &str) {
    let version = "SELECT current_setting('server_version_num')::int4";
    let version: i32 = client.query_one(version, &[]).await.unwrap().get(0);
    if version < 170_000 {
        return;
    }
    let url = url().replace(
        "postgres://postgres@",
        &format!("postgres://worker_{suffix}@"),
    );
    let (worker, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let count = "SELECT coalesce(sum(vacuum_count), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = $1";
    for is_granted in [false, true] {
        if is_granted {
            client.batch_execute(grants).await.unwrap();
        }
        for table in ["messages", "bodies", "partials", "groups"] {
            let text = format!("VACUUM (SKIP_LOCKED, TRUNCATE true) {schema}.{table}");
            worker.batch_execute(&text).await.unwrap();
        }
        let count: i64 = client.query_one(count, &[&schema]).await.unwrap().get(0);
        assert_eq!(count, if is_granted { 4 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn each_role_does_its_own_work_and_no_more() {
    let suffix = unique("r").replace('-', "_");
    let schema = format!("schema_{suffix}");
    let client = client().await;
    for role in ROLES {
        client
            .batch_execute(&format!("CREATE ROLE {role}_{suffix} LOGIN"))
            .await
            .unwrap();
    }
    let vacuum = grants("Why the tables stay small", &suffix, &schema);
    let grants = grants("Permissions", &suffix, &schema);
    let (first, others) = grants.split_once("-- everybody else").unwrap();
    client.batch_execute(first).await.unwrap();
    adder("provisioner", &suffix, &schema)
        .provision()
        .await
        .unwrap();
    client.batch_execute(others).await.unwrap();
    vacuums(&client, &suffix, &schema, &vacuum).await;

    let [submitter, worker, looker] =
        ["submitter", "worker", "looker"].map(|role| adder(role, &suffix, &schema));
    is_refused(
        "a looker submits",
        looker.submit(1..=10).await.map(|run| run.id().clone()),
    );
    let good = submitter.submit(1..=10).await.unwrap();
    let bad = submitter.submit_as("bad", 1..=20).await.unwrap();
    let empty = submitter.submit([]).await.unwrap();
    let working = worker.worker().start();
    assert_eq!(good.result().await.unwrap(), 110);
    assert_eq!(empty.result().await.unwrap(), 0);
    assert!(matches!(bad.result().await, Err(Error::Failed { .. })));
    is_refused(
        "a submitter cancels nothing of others' work",
        submitter.attach("bad").redrive().await,
    );
    let seen = looker.runs(RunFilter::new()).limit(10).await.unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(
        looker
            .attach("bad")
            .failures()
            .limit(10)
            .await
            .unwrap()
            .len(),
        1
    );
    worker.attach("bad").settled().await.unwrap();
    assert_eq!(looker.dead_letters().limit(10).await.unwrap().len(), 1);
    is_refused("a looker cancels", looker.attach("bad").cancel().await);
    assert_eq!(worker.attach("bad").discard().await.unwrap().discarded, 1);
    assert!(worker.attach("bad").cancel().await.unwrap());
    applies(&suffix, &schema, &worker).await;
    is_refused(
        "a worker provisions",
        adder("worker", &suffix, &format!("other_{suffix}"))
            .provision()
            .await,
    );
    working.shutdown().await;
    client
        .batch_execute(&format!("DROP SCHEMA {schema} CASCADE"))
        .await
        .unwrap();
    for role in ROLES {
        client
            .batch_execute(&format!(
                "DROP OWNED BY {role}_{suffix}; DROP ROLE {role}_{suffix}"
            ))
            .await
            .unwrap();
    }
}

/// An applicant submits by the outbox, and can neither read nor change what is there.
async fn applies(suffix: &str, schema: &str, worker: &Deployment<i64, i64>) {
    let role = format!("postgres://applicant_{suffix}@");
    let url = url().replace("postgres://postgres@", &role);
    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    let applicant = adder("applicant", suffix, schema);
    applicant
        .submit_in(&client, "by-outbox", 1..=10)
        .await
        .unwrap();
    let row = format!(
        "INSERT INTO {schema}.outbox (deployment, id, items) VALUES ('adder', 'by-hand', '[1, 2]')"
    );
    client.batch_execute(&row).await.unwrap();
    for statement in [
        format!("SELECT FROM {schema}.outbox"),
        format!("DELETE FROM {schema}.outbox"),
        format!("UPDATE {schema}.outbox SET id = 'other'"),
        format!(
            "INSERT INTO {schema}.outbox (deployment, id, items, number) VALUES ('adder', 'a', '[]', 1)"
        ),
        format!(
            "INSERT INTO {schema}.outbox (deployment, id, items, error) VALUES ('adder', 'a', '[]', '')"
        ),
        format!("SELECT FROM {schema}.runs"),
        format!("SELECT FROM {schema}.bodies"),
    ] {
        let error = client.batch_execute(&statement).await.unwrap_err();
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        assert!(
            matches!(code, Some("42501" | "428C9")),
            "{statement}: {error:?}"
        );
    }
    is_refused(
        "an applicant submits otherwise",
        applicant.submit(1..=10).await.map(|run| run.id().clone()),
    );
    assert_eq!(worker.attach("by-outbox").result().await.unwrap(), 110);
    assert_eq!(worker.attach("by-hand").result().await.unwrap(), 6);
}
