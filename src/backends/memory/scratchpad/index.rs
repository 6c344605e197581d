//! The runs in the order of their lists: by state, and in each from the oldest to the newest.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::MemoryScratchpad;
use super::runs::Run;
use crate::backends::memory::lock;
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::scratchpad::{Cursor, Page, Place, RunFilter, RunState, RunSummary};

/// The name of this list in its cursors.
const LIST: &str = "memory-runs";

/// Every run of a store has one entry, under its state.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<RunState, BTreeSet<Place>>);

impl Index {
    /// Moves a run from one state to another; `None` is a run that is not there.
    pub(super) fn update(&mut self, place: Place, from: Option<RunState>, to: Option<RunState>) {
        let old = from.and_then(|state| self.0.get_mut(&state));
        let place = old.and_then(|places| places.take(&place)).unwrap_or(place);
        if let Some(state) = to {
            self.0.entry(state).or_default().insert(place);
        }
    }

    /// The newest `count` runs that the filter selects, older than `before`.
    fn newest(&self, filter: &RunFilter, before: Option<Place>, count: usize) -> Vec<Place> {
        let (since, until) = filter.milliseconds();
        let least = |at| Place {
            at,
            run: RunId::from(""),
        };
        let end = before.map_or_else(|| least(until), |before| before.min(least(until)));
        let begin = least(since);
        if begin >= end {
            return Vec::new();
        }
        let range = (Bound::Included(begin), Bound::Excluded(end));
        let states = self
            .0
            .iter()
            .filter(|(state, _)| filter.state.is_none_or(|one| one == **state));
        let mut places: Vec<Place> = states
            .flat_map(|(_, places)| places.range(range.clone()).rev().take(count).cloned())
            .collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        places.truncate(count);
        places
    }
}

impl MemoryScratchpad {
    /// Reads the newest runs off the index, then each of them. A run that leaves the state in between is left out.
    pub(super) fn list(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        let before = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        // One more shows whether there is another page.
        let count = limit.saturating_add(1);
        let mut places = lock(&self.store.index).newest(filter, before, count);
        let has_more = places.len() > limit;
        places.truncate(limit);
        let next = match places.last() {
            Some(last) if has_more => Some(Cursor::encode(LIST, last)?),
            _ => None,
        };
        let found = places.iter().filter_map(|place| {
            let run = self.read(&place.run, Run::summary)?;
            // Its id may be another run's by now.
            (Place::of(&run.record) == *place).then_some(run)
        });
        let selected = found.filter(|run| filter.state.is_none_or(|state| state == run.state));
        Ok(Page::new(selected.collect(), next))
    }
}
