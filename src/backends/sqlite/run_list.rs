//! Listing runs: newest first, page by page.

use std::sync::Arc;

use super::run_row::summary;
use super::scratchpad::SqliteScratchpad;
use crate::core::error::Result;
use crate::scratchpad::{Cursor, Page, Place, RunFilter, RunSummary};

/// The name of this list in its cursors.
const LIST: &str = "sqlite-runs";

/// All runs of a deployment that were created at some time or later, and stand before a place in the list.
const ALL: &str = "SELECT record, state FROM run
    WHERE scope = ?1 AND ?5 IS NULL AND created_at >= ?2 AND (created_at, name) < (?3, ?4)
    ORDER BY created_at DESC, name DESC LIMIT ?6";
/// Those of them that are in one state.
const OF_STATE: &str = "SELECT record, state FROM run
    WHERE scope = ?1 AND state = ?5 AND created_at >= ?2 AND (created_at, name) < (?3, ?4)
    ORDER BY created_at DESC, name DESC LIMIT ?6";

impl SqliteScratchpad {
    /// One page, which reads what it returns off an index.
    pub(super) async fn list(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        let before: Option<Place> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (since, until) = filter.milliseconds();
        // No id is before the empty one: this place is before all runs of its millisecond.
        let (at, run) = match before {
            Some(place) if place.at < until => (signed(place.at), place.run.to_string()),
            _ => (signed(until), String::new()),
        };
        let (scope, since) = (Arc::clone(&self.scope), signed(since));
        let state = filter.state.map(|state| state.to_string());
        // One more shows whether there is another page.
        let count = signed(limit.saturating_add(1) as u64);
        let found = self.store.read("listing runs", move |db| {
            let statement = if state.is_some() { OF_STATE } else { ALL };
            let mut runs = db.prepare_cached(statement)?;
            let runs = runs.query_map((&*scope, since, at, run, state, count), summary)?;
            runs.map(|run| Ok(run??))
                .collect::<Result<Vec<RunSummary>, _>>()
        });
        let mut runs = found.await?;
        let has_more = runs.len() > limit;
        runs.truncate(limit);
        let next = match runs.last() {
            Some(last) if has_more => Some(Cursor::encode(LIST, &Place::of(&last.record))?),
            _ => None,
        };
        Ok(Page::new(runs, next))
    }
}
