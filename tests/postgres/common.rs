//! The server that the tests run on, and a schema for each of them.

use catchment::Backend;
use catchment::backends::postgres::PostgresBackend;
use uuid::Uuid;

/// The URL of the server's database.
pub(crate) fn url() -> String {
    let variable = "CATCHMENT_TEST_POSTGRES";
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run scripts/test --only postgres, or eval \"$(scripts/services env postgres)\" after scripts/services start postgres")
    })
}

/// A database with a schema that no other test uses.
pub(crate) fn database() -> PostgresBackend {
    database_in(&unique("test"))
}

pub(crate) fn database_in(schema: &str) -> PostgresBackend {
    PostgresBackend::from_url(&url()).unwrap().schema(schema)
}

pub(crate) fn backend() -> Backend {
    database().into()
}

/// A name that nobody else uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", &Uuid::new_v4().simple().to_string()[..12])
}

/// A connection of a test's own, to look at what the backend has written or to get in its way.
pub(crate) async fn client() -> tokio_postgres::Client {
    let connected = tokio_postgres::connect(&url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}
