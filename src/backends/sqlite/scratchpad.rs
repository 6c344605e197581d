//! A scratchpad in the file.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::store::Store;
use super::trash;
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::provision::Change;
use crate::scratchpad::Scratchpad;

/// A scratchpad in a [`SqliteFile`](super::SqliteFile). A clone is another handle on the same store.
///
/// It keeps the contract of [`Scratchpad`], and one file serves any number of deployments, each with runs of its own. Values
/// are removed when their group is retired, and a run's whole tree soon after the run is done or cancelled.
///
/// A run that is done or cancelled is kept for 14 days unless
/// [set otherwise](super::SqliteOptions::retention), whether or not its result has been read: submitting its items under
/// its id again returns the result. It is removed when another run begins after that. A run that has not ended, or has
/// failed, is kept.
#[derive(Clone, Debug)]
pub struct SqliteScratchpad {
    pub(super) store: Arc<Store>,
    /// The deployment whose part of the store this is; empty for none.
    pub(super) scope: Arc<str>,
    /// How long a run that has ended is kept, in milliseconds.
    pub(super) retention: i64,
}

#[async_trait]
impl Scratchpad for SqliteScratchpad {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        Some(Arc::new(Self {
            scope: deployment.into(),
            ..self.clone()
        }))
    }

    async fn deprovision(&self) -> Result<Vec<Change>> {
        let scope = Arc::clone(&self.scope);
        let removed = self.store.write("removing runs", move |session| {
            let runs: Vec<i64> = session
                .db
                .prepare_cached("SELECT id FROM run WHERE scope = ?1")?
                .query_map([&*scope], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for run in &runs {
                remove(session, *run)?;
            }
            Ok(runs.len())
        });
        let resource = format!("runs of deployment {}", self.scope);
        Ok(vec![match removed.await? {
            0 => Change::unchanged(resource),
            _ => Change::deleted(resource),
        }])
    }
}

/// Removes a run. What it has in other tables follows little by little.
pub(super) fn remove(session: &super::job::Session<'_>, run: i64) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM run WHERE id = ?1",
        "DELETE FROM result WHERE run = ?1",
    ] {
        session.db.prepare_cached(statement)?.execute([run])?;
    }
    session.effects.borrow_mut().run();
    trash::add(session, run)
}

/// The number of a run that is not over; `None` if it is, or is unknown.
pub(super) fn open_run(
    db: &Connection,
    scope: &str,
    run: &RunKey,
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(
        "SELECT id FROM run WHERE scope = ?1 AND name = ?2 AND generation = ?3 AND state NOT IN ('done', 'cancelled')",
    )?
    .query_row((scope, run.id.as_str(), run.generation.to_string()), |row| row.get(0))
    .optional()
}
