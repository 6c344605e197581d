//! The schema: made, migrated, removed, and refused if it is another version's.

use catchment::provision::{Action, Change};
use catchment::{Deployment, Error, Pipeline};
use futures::future::try_join_all;

use crate::common::{client, database_in, unique};

fn adder(schema: &str) -> Deployment<i64, i64> {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    adder.deploy("adder", database_in(schema)).unwrap()
}

fn has(changes: &[Change], action: &Action) -> bool {
    changes.iter().any(|change| change.action == *action)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn many_provision_at_once() {
    let schema = unique("many");
    let deployments: Vec<_> = (0..6).map(|_| adder(&schema)).collect();
    let made = try_join_all(deployments.iter().map(Deployment::provision))
        .await
        .unwrap();
    let created = made
        .iter()
        .flatten()
        .filter(|change| change.action == Action::Created);
    assert_eq!(
        created.count(),
        3,
        "the schema and two queues, each once: {made:?}"
    );
    let again = deployments[0].provision().await.unwrap();
    assert!(!has(&again, &Action::Created), "{again:?}");
    let removed = deployments[0].deprovision("adder").await.unwrap();
    assert!(has(&removed, &Action::Deleted), "{removed:?}");
    deployments[0].deprovision("adder").await.unwrap();
    deployments[1].provision().await.unwrap();
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn what_would_be_done_is_shown() {
    let schema = unique("shown");
    let database = database_in(&schema);
    let script = database.missing_migrations().await.unwrap();
    assert_eq!(script, database.migrations());
    // A person may run it.
    client().await.batch_execute(&script).await.unwrap();
    assert_eq!(database.missing_migrations().await.unwrap(), "");
    let changes = adder(&schema).provision().await.unwrap();
    assert!(
        changes[0].to_string().ends_with(": unchanged"),
        "{changes:?}"
    );
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn what_is_missing_is_named() {
    let schema = unique("missing");
    let adder = adder(&schema);
    let error = adder.submit([1]).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
    assert!(
        text.contains("127.0.0.1") && text.contains("Deployment::provision()"),
        "{text}"
    );
    adder.provision().await.unwrap();
    let other = Pipeline::new()
        .map(|n: i64| n)
        .count()
        .deploy("other", database_in(&schema))
        .unwrap();
    let error = other.submit([1]).await.unwrap_err().to_string();
    assert!(error.contains("queue `other--"), "{error}");
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_newer_schema_is_refused() {
    let schema = unique("newer");
    adder(&schema).provision().await.unwrap();
    let newer =
        format!("INSERT INTO \"{schema}\".migrations (version, name) VALUES (1000, 'of tomorrow')");
    client().await.batch_execute(&newer).await.unwrap();
    let adder = adder(&schema);
    for error in [
        adder.provision().await.unwrap_err(),
        adder.submit([1]).await.unwrap_err(),
    ] {
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains("has version 1000") && cause.contains("upgrade the program"),
            "{cause}"
        );
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_url_has_settings_and_shows_no_password() {
    let url =
        "postgres://worker:geheim@db.example:6432/app?schema=jobs&connect_timeout=3&connections=2";
    let backend = catchment::Backend::postgres(url).unwrap();
    let text = format!("{backend:?}");
    assert!(
        text.contains("db.example:6432/app") && text.contains("jobs"),
        "{text}"
    );
    assert!(!text.contains("geheim"), "{text}");
    for (url, part) in [
        (
            "postgres://h/d?connections=many",
            "connections=many is not a number",
        ),
        ("postgres://h/d?schema=", "schema="),
        #[cfg(not(feature = "postgres-tls"))]
        ("postgres://h/d?sslmode=require", "with_tls"),
        #[cfg(not(feature = "postgres-tls"))]
        (
            "postgres://h/d?sslmode=verify-full",
            "the feature `postgres-tls`",
        ),
        #[cfg(not(feature = "postgres-tls"))]
        (
            "postgres://h/d?sslrootcert=/nowhere",
            "the feature `postgres-tls`",
        ),
        #[cfg(feature = "postgres-tls")]
        (
            "postgres://h/d?sslmode=require&sslrootcert=/nowhere.pem",
            "/nowhere.pem",
        ),
        ("postgres://h/d?sslmode=always", "sslmode=always"),
        ("postgres://h/d?colour=blue", "colour"),
        ("mysql://h/d", "not the URL of a PostgreSQL database"),
    ] {
        let error = catchment::Backend::postgres(url).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::InvalidArgument {
                    argument: "url",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains(part), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_backend_is_named_by_a_url() {
    for (url, part) in [
        ("memory:", "MemoryQueues"),
        ("postgres://db.example/app", "PostgresQueues"),
        ("postgresql://db.example/app", "PostgresQueues"),
    ] {
        let backend = catchment::Backend::from_url(url).await.unwrap();
        assert!(format!("{backend:?}").contains(part), "{url}: {backend:?}");
    }
    for (url, part) in [
        ("", "names no backend"),
        (
            "postgress://user:geheim@host/db",
            "\"postgress:\" names no backend",
        ),
        #[cfg(not(feature = "sqlite"))]
        ("sqlite:run.db", "built without the feature `sqlite`"),
    ] {
        let error = catchment::Backend::from_url(url)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(part) && !error.contains("geheim"),
            "{url}: {error}"
        );
    }
}
