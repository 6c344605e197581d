//! The scratchpad: runs, the groups of their trees, and their failures.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::database::Database;
use super::shared_calls::SharedCalls;
use super::watch::Watch;
use super::{runs, schema};
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::provision::Change;
use crate::scratchpad::Scratchpad;

/// A run, as the tables know it: its deployment and its id.
pub(super) type Watched = (Arc<str>, RunId);

/// A scratchpad in a PostgreSQL database. Cloning it gives another handle on the same connections.
///
/// - Every deployment has runs of its own, in the same tables.
/// - Partial results are dropped when their group is retired, and the whole tree when its run is done or cancelled.
/// - A run is removed when it has not been written to for the [retention](super::PostgresBackend::retention). That is done in
///   passing, by whoever begins runs.
/// - A value has at most 256 MiB.
#[derive(Clone)]
pub struct PostgresScratchpad {
    pub(super) shared: Arc<Shared>,
    /// Whose runs they are.
    pub(super) deployment: Arc<str>,
    pub(super) shared_calls: Arc<SharedCalls>,
}

pub(super) struct Shared {
    pub(super) database: Arc<Database>,
    schema: Arc<str>,
    pub(super) retention: Duration,
    pub(super) watch: Watch<Watched>,
    /// When to remove runs whose time is up.
    pub(super) sweep_at: Mutex<Instant>,
}

impl PostgresScratchpad {
    pub(super) fn new(database: Arc<Database>, schema: Arc<str>, retention: Duration) -> Self {
        let watch = {
            let of = Arc::clone(&database);
            Watch::new(database.notices.word(), move |keys| {
                let database = Arc::clone(&of);
                async move {
                    database.notices.listen(&database);
                    runs::ended(&database, keys).await
                }
                .boxed()
            })
        };
        let deployment: Arc<str> = "".into();
        Self {
            shared_calls: Arc::new(SharedCalls::new(&database, &deployment)),
            deployment,
            shared: Arc::new(Shared {
                database,
                schema,
                retention,
                watch,
                sweep_at: Mutex::new(Instant::now()),
            }),
        }
    }

    pub(super) fn key(&self, run: &RunId) -> Watched {
        (Arc::clone(&self.deployment), run.clone())
    }

    pub(super) fn database(&self) -> &Database {
        &self.shared.database
    }
}

impl std::fmt::Debug for PostgresScratchpad {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresScratchpad")
            .field("database", &self.shared.database)
            .field("retention", &self.shared.retention)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Scratchpad for PostgresScratchpad {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        let deployment: Arc<str> = deployment.into();
        let shared = Arc::clone(&self.shared);
        Some(Arc::new(Self {
            shared_calls: Arc::new(SharedCalls::new(&shared.database, &deployment)),
            shared,
            deployment,
        }))
    }

    async fn provision(&self) -> Result<Vec<Change>> {
        let schema = schema::provision(self.database(), &self.shared.schema).await?;
        Ok(vec![schema])
    }

    /// Removes the runs of this deployment. The tables stay, since they are other deployments' as well.
    async fn deprovision(&self) -> Result<Vec<Change>> {
        const REMOVE: &str =
            "WITH gone AS (DELETE FROM @.runs WHERE deployment = $1 RETURNING number),
            groups AS (DELETE FROM @.groups g USING gone WHERE g.run = gone.number),
            partials AS (DELETE FROM @.partials p USING gone WHERE p.run = gone.number),
            failures AS (DELETE FROM @.failures f USING gone WHERE f.run = gone.number)
            SELECT count(*) FROM gone";
        let runs = format!("PostgreSQL runs of {}", self.deployment);
        let params = [(&&*self.deployment as _, Type::TEXT)];
        let removed = self.database().query_opt("removing runs", REMOVE, &params);
        match removed.await {
            Ok(row) if row.as_ref().is_some_and(|row| row.get::<_, i64>(0) > 0) => {
                Ok(vec![Change::deleted(runs)])
            }
            Ok(_) | Err(Error::NotProvisioned { .. }) => Ok(vec![Change::unchanged(runs)]),
            Err(error) => Err(error),
        }
    }
}
