//! Runs in pages: a global secondary index on the table of results.
//!
//! An entry of the index is in a partition of its phase and shard, `open#2`, and sorted by when its run was created. One
//! partition would bound how many runs can begin in a second; several have to be merged. A run leaves phase `open` once,
//! for good, so that reading that phase first meets each run at least once.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::ProvideErrorKind;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::failures::Kind;
use super::groups::GROUP;
use super::item::{self, Item, Terms};
use super::runs::{FAILURES, SUBMITTED, read_record};
use super::{DynamoDbScratchpad, SERVICE, SIDE_BY_SIDE};
use crate::backends::aws;
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{Cursor, Page, Place, RunFilter, RunState, RunSummary};

/// The name of the index.
pub(super) const INDEX: &str = "runs";
/// The keys of the index. An item without them, of a run that began before there was an index, is not in it.
pub(super) const LISTED: &str = "listed";
pub(super) const LISTED_AT: &str = "listedAt";
/// The name of the list in its cursors.
const LIST: &str = "dynamodb-runs";
/// Partitions of the index for each phase.
const SHARDS: u32 = 4;
/// Entries that one request reads at least if only some of them are looked for, and at most.
const LEAST_READ: usize = 100;
const MOST_READ: usize = 1_000;

/// How far a run is, as far as its item alone says. Phases that are read last come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Done,
    Cancelled,
}

impl Phase {
    fn partition(self, shard: u32) -> String {
        let phase = match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        };
        format!("{phase}#{shard}")
    }

    /// The partition of a run in this phase.
    pub(super) fn of(self, run: &RunId) -> AttributeValue {
        let sum: u32 = run.as_str().bytes().map(u32::from).sum();
        item::text(self.partition(sum % SHARDS))
    }

    /// The phases in which there may be runs that a filter selects.
    fn selected(filter: &RunFilter) -> &'static [Self] {
        match filter.state {
            None => &[Self::Open, Self::Done, Self::Cancelled],
            Some(RunState::Done) => &[Self::Done],
            Some(RunState::Cancelled) => &[Self::Cancelled],
            Some(RunState::Open | RunState::Running | RunState::Failed) => &[Self::Open],
        }
    }
}

/// The sort key of a run. Its order as text is that of places.
pub(super) fn sort_key(place: &Place) -> String {
    format!("{}#{}", time_key(place.at), place.run)
}

/// Sorts before every run that was created at this time, and after every earlier one.
fn time_key(milliseconds: u64) -> String {
    format!("{milliseconds:020}")
}

fn place(sort_key: &str) -> Option<Place> {
    let (at, run) = sort_key.split_once('#')?;
    Some(Place {
        at: at.parse().ok()?,
        run: run.into(),
    })
}

/// An entry of the index, by its sort key.
struct Entry {
    key: String,
    phase: Phase,
    item: Item,
}

/// What one request is for.
struct Range<'a> {
    low: &'a str,
    high: &'a str,
    state: Option<RunState>,
    most: usize,
}

impl DynamoDbScratchpad {
    pub(super) async fn list(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        let before: Option<Place> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        let (since, until) = filter.milliseconds();
        let low = time_key(since);
        let last = before.map(|place| sort_key(&place));
        let high = last.map_or(time_key(until), |last| last.min(time_key(until)));
        if low > high {
            return Ok(Page::default());
        }
        let (mut entries, horizon) = self.entries(filter, &low, &high, limit).await?;
        // A range includes its end, which the page before had. Of a run that was met in two phases, the later one holds.
        entries.retain(|entry| entry.key != high);
        entries.sort_unstable_by(|a, b| (&b.key, b.phase).cmp(&(&a.key, a.phase)));
        entries.dedup_by(|next, first| next.key == first.key);
        // Below the horizon, a partition may have entries that have not been read.
        if let Some(horizon) = &horizon {
            entries.retain(|entry| entry.key >= *horizon);
        }
        let summaries = stream::iter(entries).map(|entry| self.summary(entry));
        let mut summaries = summaries.buffered(SIDE_BY_SIDE);
        let mut page = Page::default();
        let mut last = None;
        while let Some((key, summary)) = summaries.try_next().await? {
            if page.len() == limit {
                let place = last.as_deref().and_then(place);
                page.next = place.map(|at| Cursor::encode(LIST, &at)).transpose()?;
                return Ok(page);
            }
            let is_selected =
                |run: &RunSummary| filter.state.is_none_or(|state| state == run.state);
            page.items.extend(summary.filter(is_selected));
            last = Some(key);
        }
        let place = horizon.as_deref().and_then(place);
        page.next = place.map(|at| Cursor::encode(LIST, &at)).transpose()?;
        Ok(page)
    }

    /// Entries between two sort keys, of every partition that the filter selects, and the sort key down to which all of
    /// them have been read; `None` if that is the end.
    async fn entries(
        &self,
        filter: &RunFilter,
        low: &str,
        high: &str,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<String>)> {
        // One more shows whether there is another page, and one is the end of the page before.
        let enough = limit.saturating_add(2);
        let is_exact = matches!(
            filter.state,
            None | Some(RunState::Done | RunState::Cancelled)
        );
        let most = match is_exact {
            true => enough,
            false => enough.max(LEAST_READ),
        };
        let range = Range {
            low,
            high,
            state: filter.state,
            most: most.min(MOST_READ),
        };
        let (mut entries, mut horizon) = (Vec::new(), None);
        for phase in Phase::selected(filter) {
            let parts = (0..SHARDS).map(|shard| self.part_of_index(*phase, shard, &range));
            for (part, unread) in try_join_all(parts).await? {
                entries.extend(part);
                horizon = horizon.max(unread);
            }
        }
        Ok((entries, horizon))
    }

    /// The newest entries of one partition, and the sort key of the last that was read if there are more.
    async fn part_of_index(
        &self,
        phase: Phase,
        shard: u32,
        range: &Range<'_>,
    ) -> Result<(Vec<Entry>, Option<String>)> {
        let table = &self.tables.results;
        let mut terms = Terms::default();
        let partition = terms.equal(LISTED, item::text(phase.partition(shard)));
        let key = terms.name(LISTED_AT);
        let [low, high] = [range.low, range.high].map(|key| terms.value(item::text(key)));
        let condition = format!("{partition} AND {key} BETWEEN {low} AND {high}");
        let filter = match range.state {
            Some(RunState::Failed) => Some(terms.exists(FAILURES)),
            Some(RunState::Open) => Some(terms.lacks(SUBMITTED)),
            Some(RunState::Running) => Some(terms.exists(SUBMITTED)),
            _ => None,
        };
        let (names, values) = terms.into_parts();
        let asked = self.client.query().table_name(table).index_name(INDEX);
        let answer = asked
            .key_condition_expression(condition)
            .set_filter_expression(filter)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .scan_index_forward(false)
            .limit(i32::try_from(range.most).unwrap_or(i32::MAX))
            .send()
            .await;
        let answer = answer.map_err(|error| self.failed_at_index(error))?;
        let entries = answer.items.unwrap_or_default().into_iter();
        let entries = entries.filter_map(|item| {
            let key = item::get_text(&item, LISTED_AT)?.to_owned();
            Some(Entry { key, phase, item })
        });
        let unread = answer.last_evaluated_key;
        let unread = unread.and_then(|key| item::get_text(&key, LISTED_AT).map(str::to_owned));
        Ok((entries.collect(), unread))
    }

    /// What the list says of an entry. A record that cannot be read does not keep the others from being listed.
    async fn summary(&self, entry: Entry) -> Result<(String, Option<RunSummary>)> {
        let Entry { key, phase, item } = entry;
        let record = match read_record(&item) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(run = key, %error, "a run is not listed: its record cannot be read");
                return Ok((key, None));
            }
        };
        let state = match phase {
            Phase::Done => RunState::Done,
            Phase::Cancelled => RunState::Cancelled,
            Phase::Open => {
                let has_failures = item::get_flag(&item, FAILURES);
                if has_failures && self.has_dead(&record.key()).await? {
                    RunState::Failed
                } else if item::get_flag(&item, SUBMITTED) {
                    RunState::Running
                } else {
                    RunState::Open
                }
            }
        };
        Ok((key, Some(RunSummary::new(record, state))))
    }

    /// Whether a dead letter of the run stands.
    async fn has_dead(&self, run: &RunKey) -> Result<bool> {
        let table = &self.tables.scratchpad;
        let mut terms = Terms::default();
        let condition = terms.equal(GROUP, item::text(Kind::Dead.partition(run)));
        let (names, values) = terms.into_parts();
        let asked = self.client.query().table_name(table).select(Select::Count);
        let answer = asked
            .consistent_read(true)
            .key_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .limit(1)
            .send()
            .await;
        let answer = answer.map_err(|error| self.failed("Query", table, error))?;
        Ok(answer.count > 0)
    }

    /// A table that an earlier version made has no index, until it is provisioned again.
    fn failed_at_index<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + ProvideErrorKind + std::error::Error + Send + Sync + 'static,
    {
        let table = &self.tables.results;
        let message = error.as_service_error().and_then(|error| error.message());
        let says = |text| message.is_some_and(|message| message.contains(text));
        if aws::code(&error) == Some("ValidationException") && says("specified index") {
            return Error::NotProvisioned {
                resource: format!("index `{INDEX}` of DynamoDB table `{table}`"),
                place: self.place.clone(),
            };
        }
        if says("backfilling") {
            return Error::Backend {
                service: SERVICE,
                operation: format!("Query on index `{INDEX}` of table `{table}`"),
                retryable: true,
                source: "the index is still being made".into(),
            };
        }
        self.failed("Query", table, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_are_in_the_order_of_places() {
        let at = |at, run: &str| Place {
            at,
            run: run.into(),
        };
        let places = [
            at(0, "z"),
            at(9, "a"),
            at(9, "a#b"),
            at(10, "+"),
            at(u64::MAX, "a"),
        ];
        for (first, second) in places.iter().zip(&places[1..]) {
            assert!(first < second);
            assert!(sort_key(first) < sort_key(second));
            assert_eq!(place(&sort_key(first)).as_ref(), Some(first));
            assert!(time_key(first.at) < sort_key(first));
        }
        assert!(time_key(10) > sort_key(&at(9, "~")));
    }
}
