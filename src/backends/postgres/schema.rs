//! The tables: migrations, each applied once, by whoever comes first.

use tokio_postgres::types::Type;

use super::database::{Database, quoted};
use super::errors::{SERVICE, failed};
use crate::core::error::{Error, Result};
use crate::core::provision::Change;

/// The statements of a migration, with `@.` for the schema.
struct Migration {
    /// What it is about.
    name: &'static str,
    statements: &'static str,
}

/// In order; the first is version 1. One that has been released is never changed.
const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "queues, dead letters, runs and their trees",
        statements: include_str!("schema/0001_tables.sql"),
    },
    Migration {
        name: "the outbox",
        statements: include_str!("schema/0002_outbox.sql"),
    },
];

/// The table of the migrations that have been applied.
const BEGIN: &str = "CREATE TABLE IF NOT EXISTS @.migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);";

/// The version of the schema that this library works with.
fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// The text of one migration, complete with the note that it has been applied.
fn text(database: &Database, version: i32, migration: &Migration) -> String {
    let statements = migration.statements.trim_end();
    let note = format!(
        "INSERT INTO @.migrations (version, name) VALUES ({version}, '{}');",
        migration.name.replace('\'', "''")
    );
    database.text(&format!(
        "-- Migration {version}: {}\n{statements}\n{note}\n",
        migration.name
    ))
}

/// Migrations with a higher version than `present`.
fn missing(present: i32) -> impl Iterator<Item = (i32, &'static Migration)> {
    let numbered = (1..).zip(MIGRATIONS);
    numbered.filter(move |(version, _)| *version > present)
}

/// Everything that is needed after this version, as one SQL script.
pub(super) fn script(database: &Database, schema: &str, present: i32) -> String {
    let mut script = String::new();
    if present == 0 {
        script.push_str(&format!(
            "CREATE SCHEMA IF NOT EXISTS {};\n",
            quoted(schema)
        ));
        script.push_str(&database.text(BEGIN));
        script.push('\n');
    }
    for (version, migration) in missing(present) {
        script.push_str(&text(database, version, migration));
    }
    match script.is_empty() {
        true => script,
        false => format!("BEGIN;\n{script}COMMIT;\n"),
    }
}

/// The version of the schema; 0 if there is none.
pub(super) async fn version(database: &Database) -> Result<i32> {
    const FIND: &str = "SELECT coalesce(max(version), 0) FROM @.migrations";
    match database
        .query_opt("reading the schema's version", FIND, &[])
        .await
    {
        Ok(row) => Ok(row.map_or(0, |row| row.get(0))),
        Err(Error::NotProvisioned { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Checks that this library can work with the schema.
///
/// # Errors
/// [`Error::NotProvisioned`] if migrations are missing; not retryable if the schema is newer.
pub(super) async fn check(database: &Database) -> Result<()> {
    match version(database).await? {
        present if present > newest() => Err(Error::refused(
            SERVICE,
            format!("checking the schema of {database:?}"),
            format!(
                "the schema has version {present}, and this version of catchment knows {} only: upgrade the program",
                newest()
            ),
        )),
        present => match missing(present).next() {
            Some((version, migration)) if present > 0 => Err(Error::not_provisioned(
                format!(
                    "migration {version} ({}) of the schema of catchment",
                    migration.name
                ),
                format!("{database:?}, which has version {present}"),
            )),
            Some(_) => Err(Error::not_provisioned(
                "the schema of catchment",
                format!("{database:?}"),
            )),
            None => Ok(()),
        },
    }
}

/// Applies the migrations that are missing, all of them or none. Safe from many processes at once: one applies them, and
/// the others wait for it.
pub(super) async fn provision(database: &Database, schema: &str) -> Result<Change> {
    let resource = format!("PostgreSQL schema {schema}");
    if version(database).await? >= newest() {
        check(database).await?;
        return Ok(Change::unchanged(resource));
    }
    const WHAT: &str = "provisioning the schema";
    let fail = |error| failed(WHAT, &database.place, error);
    let mut client = database.dial(WHAT).await?;
    let transaction = client.transaction().await.map_err(fail)?;
    // Held until the transaction ends, so that a pooler that hands out connections by transaction is no obstacle.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7243))";
    transaction
        .query_typed(lock, &[(&schema, Type::TEXT)])
        .await
        .map_err(fail)?;
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    let table = format!("{}.migrations", quoted(schema));
    let exists = transaction
        .query_typed(exists, &[(&table, Type::TEXT)])
        .await
        .map_err(fail)?;
    let present: i32 = match exists.first().map(|row| row.get(0)) {
        Some(true) => {
            let find = database.text("SELECT coalesce(max(version), 0) FROM @.migrations");
            let found = transaction.query_typed(&find, &[]).await.map_err(fail)?;
            found.first().map_or(0, |row| row.get(0))
        }
        _ => {
            // Only if it is missing: one who may not create schemas may have been given an empty one.
            let known = "SELECT to_regnamespace($1) IS NOT NULL";
            let name = quoted(schema);
            let known = transaction
                .query_typed(known, &[(&name, Type::TEXT)])
                .await
                .map_err(fail)?;
            let is_known = known.first().is_some_and(|row| row.get(0));
            if !is_known {
                let create = format!("CREATE SCHEMA {name}");
                transaction.batch_execute(&create).await.map_err(fail)?;
            }
            let begin = database.text(BEGIN);
            transaction.batch_execute(&begin).await.map_err(fail)?;
            0
        }
    };
    for (version, migration) in missing(present) {
        let text = text(database, version, migration);
        transaction.batch_execute(&text).await.map_err(fail)?;
    }
    transaction.commit().await.map_err(fail)?;
    Ok(match present {
        0 => Change::created(resource),
        present if present < newest() => {
            Change::updated(resource, format!("from version {present} to {}", newest()))
        }
        _ => Change::unchanged(resource),
    })
}
