//! The server that the tests run on, and a schema for each of them.

use std::sync::Arc;

use catchment::Backend;
use catchment::backends::postgres::PostgresBackend;
use catchment::queue::{Depth, Queue, QueueOptions, Queues};
use catchment::scratchpad::Scratchpad;
use catchment::testing::faults::Crash;
use tokio_postgres::Client;
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
pub(crate) async fn client() -> Client {
    let connected = tokio_postgres::connect(&url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

#[path = "../common/mod.rs"]
mod shared;

pub(crate) use shared::{Concat, counting, ok};

/// What outlives every process: the tables of one schema.
pub(crate) struct Store {
    queues: Arc<dyn Queues>,
    scratchpad: Arc<dyn Scratchpad>,
    client: Client,
    schema: String,
}

impl Store {
    pub(crate) async fn new() -> Self {
        let schema = unique("once");
        // With one connection, a statement is over when a later one has its answer.
        let (queues, scratchpad) = database_in(&schema).connections(1).parts();
        scratchpad.provision().await.unwrap();
        Self {
            queues: Arc::new(queues),
            scratchpad: Arc::new(scratchpad),
            client: client().await,
            schema,
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend::new(self.queues.clone(), self.scratchpad.clone())
    }

    /// A backend over the same tables, for a process that dies as `crash` says.
    pub(crate) fn crashing(&self, crash: &Crash) -> Backend {
        Backend::new(
            crash.queues(self.queues.clone()),
            crash.scratchpad(self.scratchpad.clone()),
        )
    }

    /// A backend over the same tables, with faults around it.
    pub(crate) fn with(
        &self,
        queues: impl FnOnce(Arc<dyn Queues>) -> Arc<dyn Queues>,
        scratchpad: impl FnOnce(Arc<dyn Scratchpad>) -> Arc<dyn Scratchpad>,
    ) -> Backend {
        Backend::new(
            queues(self.queues.clone()),
            scratchpad(self.scratchpad.clone()),
        )
    }

    pub(crate) async fn queue(&self, name: &str) -> Arc<dyn Queue> {
        let options = QueueOptions::default();
        self.queues.open(name, &options).await.unwrap()
    }

    /// Removes everything but the queues themselves.
    pub(crate) async fn clear(&self) {
        let tables = [
            "messages",
            "bodies",
            "dead_letters",
            "runs",
            "groups",
            "partials",
            "failures",
        ];
        let schema = &self.schema;
        // The rows of no queue, which are for the planner, stay.
        let all = tables.map(|table| match table {
            "messages" | "bodies" => format!("DELETE FROM \"{schema}\".{table} WHERE id > 0;"),
            _ => format!("DELETE FROM \"{schema}\".{table};"),
        });
        self.client.batch_execute(&all.concat()).await.unwrap();
    }

    /// So much time passes that whatever a process has held is visible to others. What it asked of the server before it
    /// died has been done by then.
    pub(crate) async fn time_passes(&self) {
        let bound = self.scratchpad.bind("nobody").unwrap();
        bound.status(&"nothing".into()).await.unwrap();
        let schema = &self.schema;
        let text = format!(
            "UPDATE \"{schema}\".messages SET visible_at = now() WHERE visible_at > now() AND queue > 0"
        );
        self.client.batch_execute(&text).await.unwrap();
    }

    /// How many messages all queues hold together.
    pub(crate) async fn depth(&self) -> Depth {
        let schema = &self.schema;
        let text = format!(
            "SELECT coalesce(sum(ready), 0)::int8, coalesce(sum(in_flight), 0)::int8,
                coalesce(sum(delayed), 0)::int8, coalesce(sum(dead), 0)::int8
            FROM \"{schema}\".queue_depths"
        );
        let row = self.client.query_one(&text, &[]).await.unwrap();
        let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap();
        let depth = Depth::new().ready(count(0)).in_flight(count(1));
        depth.delayed(count(2)).dead(count(3))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.schema)
    }
}
