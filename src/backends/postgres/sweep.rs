//! Removing what nobody needs any more.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::scratchpad::PostgresScratchpad;
use crate::core::error::{Result, describe};
use crate::core::id::RunId;

/// How often a process looks for runs whose time is up.
const EVERY: Duration = Duration::from_secs(60);
/// Runs that are removed at once.
const MOST_RUNS: i64 = 50;

impl PostgresScratchpad {
    /// Removes some runs whose time is up, if it is time to look for them. A problem is only logged: the next one to look
    /// removes them.
    pub(super) async fn sweep(&self) {
        {
            let mut at = self
                .shared
                .sweep_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now < *at {
                return;
            }
            *at = now + EVERY;
        }
        if let Err(error) = self.remove_expired().await {
            // One that may only submit may not remove.
            tracing::debug!(error = %describe(&error), "runs whose time is up could not be removed");
        }
    }

    /// A run that has not ended is kept as long as its groups are written to.
    async fn remove_expired(&self) -> Result<()> {
        const EXPIRE: &str = "WITH late AS MATERIALIZED (
                SELECT number FROM @.runs r
                WHERE written_at < now() - make_interval(secs => $1) AND (
                    state IN ('done', 'cancelled') OR NOT EXISTS (
                        SELECT FROM @.groups g
                        WHERE g.run = r.number AND g.written_at >= now() - make_interval(secs => $1)
                    )
                )
                ORDER BY written_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ),
            gone AS (DELETE FROM @.runs r USING late WHERE r.number = late.number RETURNING r.number),
            groups AS (DELETE FROM @.groups g USING gone WHERE g.run = gone.number),
            partials AS (DELETE FROM @.partials p USING gone WHERE p.run = gone.number),
            failures AS (DELETE FROM @.failures f USING gone WHERE f.run = gone.number)
            SELECT count(*) FROM gone";
        let kept = self.shared.retention.as_secs_f64().min(1e9);
        let params = [(&kept as _, Type::FLOAT8), (&MOST_RUNS as _, Type::INT8)];
        self.database()
            .query("removing expired runs", EXPIRE, &params)
            .await?;
        Ok(())
    }

    /// Drops the tree of a run that is over. What cannot be dropped now goes with the run.
    pub(super) async fn drop_tree(&self, run: &RunId) {
        const DROP: &str = "WITH r AS (
                SELECT number FROM @.runs
                WHERE deployment = $1 AND id = $2 AND (result IS NOT NULL OR cancelled)
            ),
            groups AS (DELETE FROM @.groups g USING r WHERE g.run = r.number)
            DELETE FROM @.partials p USING r WHERE p.run = r.number";
        let params = [
            (&&*self.deployment as _, Type::TEXT),
            (&run.as_str() as _, Type::TEXT),
        ];
        let dropped = self
            .database()
            .query("dropping a tree", DROP, &params)
            .await;
        if let Err(error) = dropped {
            tracing::warn!(%run, error = %describe(&error), "the tree of a run that is over could not be dropped");
        }
    }
}
