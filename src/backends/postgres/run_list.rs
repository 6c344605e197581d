//! Runs in a list, off an index: newest first, of all states or of one.

use tokio_postgres::types::Type;

use super::runs::record;
use super::scratchpad::PostgresScratchpad;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::scratchpad::{Cursor, Page, Place, RunFilter, RunState, RunSummary};

/// The name of the list in its cursors.
const LIST: &str = "postgres-runs";

impl PostgresScratchpad {
    pub(super) async fn list(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        const ALL: &str = "SELECT record, array_length, packets, state FROM @.runs
            WHERE deployment = $1 AND created_ms >= $2 AND created_ms < $3 AND (created_ms, id) < ($4, $5)
            ORDER BY created_ms DESC, id DESC LIMIT $6";
        const OF_STATE: &str = "SELECT record, array_length, packets, state FROM @.runs
            WHERE deployment = $1 AND created_ms >= $2 AND created_ms < $3 AND (created_ms, id) < ($4, $5) AND state = $7
            ORDER BY created_ms DESC, id DESC LIMIT $6";
        let before: Option<Place> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        self.sweep().await;
        let before = before.unwrap_or(Place {
            at: u64::MAX,
            run: RunId::from(""),
        });
        let (since, until) = filter.milliseconds();
        let (since, until, at) = (time(since), time(until), time(before.at));
        let limit = limit.max(1);
        // One more shows whether there is another page.
        let count = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let deployment = &*self.deployment;
        let run = before.run.as_str();
        let state = filter.state.map(|state| state.to_string());
        let mut params = vec![
            (&deployment as _, Type::TEXT),
            (&since as _, Type::INT8),
            (&until as _, Type::INT8),
            (&at as _, Type::INT8),
            (&run as _, Type::TEXT),
            (&count as _, Type::INT8),
        ];
        let statement = match &state {
            Some(state) => {
                params.push((state as _, Type::TEXT));
                OF_STATE
            }
            None => ALL,
        };
        let rows = self
            .database()
            .query("listing runs", statement, &params)
            .await?;
        let runs = rows.iter().take(limit).map(|row| {
            let state: &str = row.get(3);
            Ok(RunSummary::new(record(row)?, state_of(state)?))
        });
        let runs: Vec<RunSummary> = runs.collect::<Result<_>>()?;
        let next = match runs.last() {
            Some(last) if rows.len() > limit => {
                Some(Cursor::encode(LIST, &Place::of(&last.record))?)
            }
            _ => None,
        };
        Ok(Page::new(runs, next))
    }
}

fn time(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

fn state_of(text: &str) -> Result<RunState> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|source| Error::decode("the state of a run", source))
}
