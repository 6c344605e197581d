//! What failed, in three partitions of the scratchpad's table for each run: the failed attempts at each message, the
//! dead letters that stand, and the items that were left out.
//!
//! A message may have both a dead letter and items that were left out. A list passes over those items as long as the dead
//! letter stands; they are counted until it is cleared.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, Select, WriteRequest};

use super::attempts::{ATTEMPTS, MOST_BYTES, fit, read_attempts, write_attempts};
use super::groups::{EXPIRES, GROUP, SLOT};
use super::item::{self, Item, Terms};
use super::{DynamoDbScratchpad, RETRY, is_condition};
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::natural;
use crate::scratchpad::{
    Attempt, Beginning, Cursor, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport,
    Failures, Page, Runs, Verdict,
};

const STAGE: &str = "stage";
const MESSAGE: &str = "message";
const ITEM: &str = "item";
const LABEL: &str = "label";
const ERROR: &str = "error";
const ID: &str = "id";
const SINCE: &str = "since";
/// Skipped items of a message that were on record when it became a dead letter.
const REPLACED: &str = "replaced";

/// Writes a request of the service may have.
const MOST_WRITES: usize = 25;

/// The failures that stand.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) first: Option<Failure>,
    pub(super) dead: u64,
    pub(super) dead_items: u64,
    pub(super) skipped: u64,
}

/// What is kept in a partition of its own.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Attempts,
    Dead,
    Skipped,
}

impl Kind {
    pub(super) fn partition(self, run: &RunKey) -> String {
        let kind = match self {
            Self::Attempts => "attempts",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        };
        format!("{run}#{kind}")
    }

    pub(super) fn key(self, run: &RunKey, slot: impl Into<String>) -> Item {
        Item::from([
            (GROUP.to_owned(), item::text(self.partition(run))),
            (SLOT.to_owned(), item::text(slot)),
        ])
    }
}

/// The sort key of a message, in the order of the list of failures.
pub(super) fn message_key(stage: &str, message: &str) -> String {
    format!("{stage}#{}", natural::sort_key(message))
}

pub(super) fn read_failure(item: &Item) -> Option<Failure> {
    let verdict = match item::get_text(item, ID) {
        Some(id) => Verdict::Dead(id.parse().ok()?),
        None => Verdict::Skip,
    };
    Some(Failure {
        stage: item::get_text(item, STAGE)?.to_owned(),
        message: item::get_text(item, MESSAGE)?.to_owned(),
        item: item::get_number(item, ITEM),
        label: item::get_text(item, LABEL).map(str::to_owned),
        error: item::get_text(item, ERROR)?.to_owned(),
        verdict,
        attempts: read_attempts(item),
    })
}

#[async_trait]
impl Failures for DynamoDbScratchpad {
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        self.add_beginning(beginning).await
    }

    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()> {
        self.remove_beginning(beginning).await
    }

    /// A run that is unknown has no failures. That an attempt failed and comes back is written down without looking
    /// whether the run is known, since it shows in nothing but the history of a later dead letter.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let is_mark = report.verdict != Verdict::Retry;
        if is_mark && !self.mark_failures(&report.run).await? {
            return Ok(FailureLog::default());
        }
        let attempts = self.append(report).await?;
        match report.verdict {
            Verdict::Skip => self.write_skipped(report, &attempts).await?,
            Verdict::Retry | Verdict::Dead(_) => {}
        }
        let skipped = self.count_skipped(&report.run, None).await?;
        if let Verdict::Dead(id) = report.verdict {
            let message = message_key(&report.stage, &report.message);
            let replaced = match skipped {
                0 => 0,
                _ => self.count_skipped(&report.run, Some(&message)).await?,
            };
            self.write_dead(report, id, &attempts, replaced).await?;
        }
        Ok(FailureLog { attempts, skipped })
    }

    /// First the items that were left out and what is known of deliveries, then the dead letter: repeated after a crash
    /// in between, it does the rest.
    async fn clear(&self, run: &RunKey, stage: &str, name: &str, id: DeadLetterId) -> Result<()> {
        let table = &self.tables.scratchpad;
        let message = message_key(stage, name);
        let key = Kind::Dead.key(run, message.as_str());
        let found = self.get(table, key.clone()).await?;
        let id = id.to_string();
        let stands = found.as_ref().and_then(|item| item::get_text(item, ID));
        if stands != Some(id.as_str()) {
            return Ok(());
        }
        self.remove_skipped(run, &message).await?;
        self.remove_deliveries(run, &message, &id).await?;
        let mut terms = Terms::default();
        let condition = terms.equal(ID, item::text(id));
        let (names, values) = terms.into_parts();
        let deleted = self
            .client
            .delete_item()
            .table_name(table)
            .set_key(Some(key))
            .condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if is_condition(&error) => Ok(()),
            Err(error) => Err(self.failed("DeleteItem", table, error)),
        }
    }

    async fn list_failures(
        &self,
        run: &RunId,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>> {
        match self.outline(run).await? {
            Some(outline) => {
                let run = RunKey::new(run, outline.generation);
                self.list_page(&run, cursor, limit).await
            }
            None => Ok(Page::new(Vec::new(), None)),
        }
    }
}

impl DynamoDbScratchpad {
    /// Takes a message's skipped items off the record.
    async fn remove_skipped(&self, run: &RunKey, message: &str) -> Result<()> {
        let prefix = format!("{message}#");
        let skipped = self.query(Kind::Skipped.partition(run), Some(&prefix));
        let deletes = skipped.await?.into_iter().map(|mut item| {
            item.retain(|name, _| name == GROUP || name == SLOT);
            let delete = DeleteRequest::builder().set_key(Some(item)).build();
            delete.map(|delete| WriteRequest::builder().delete_request(delete).build())
        });
        let deletes: Result<Vec<_>, _> = deletes.collect();
        let table = &self.tables.scratchpad;
        let deletes = deletes.map_err(|error| self.malformed("an item", table, error))?;
        self.write_all(deletes).await
    }

    /// In place of an older dead letter of the same message, whose age it takes over.
    async fn write_dead(
        &self,
        report: &FailureReport,
        id: DeadLetterId,
        attempts: &[Attempt],
        replaced: u64,
    ) -> Result<()> {
        let table = &self.tables.scratchpad;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let last = report.attempts.last();
        let mut terms = Terms::default();
        let attempts = fit(attempts, 4 * MOST_BYTES);
        let mut set = vec![
            terms.equal(ID, item::text(id.to_string())),
            terms.equal(STAGE, item::text(report.stage.as_ref())),
            terms.equal(MESSAGE, item::text(&report.message)),
            terms.equal(
                ERROR,
                item::text(last.map_or("", |last| last.error.as_str())),
            ),
            terms.equal(ATTEMPTS, write_attempts(&attempts)),
            terms.equal(REPLACED, item::number(replaced)),
            terms.keep(SINCE, item::number(now)),
            terms.equal(EXPIRES, self.expires_at()),
        ];
        let item = last.and_then(|last| last.item).map(item::number);
        let label = last.and_then(|last| last.label.as_ref()).map(item::text);
        let mut absent = Vec::new();
        for (name, value) in [(ITEM, item), (LABEL, label)] {
            match value {
                Some(value) => set.push(terms.equal(name, value)),
                None => absent.push(terms.name(name)),
            }
        }
        let mut remove = String::new();
        if !absent.is_empty() {
            remove = format!(" REMOVE {}", absent.join(", "));
        }
        let key = Kind::Dead.key(&report.run, message_key(&report.stage, &report.message));
        let expression = format!("SET {}{remove}", set.join(", "));
        let written = self.update(table, key, expression, terms).send().await;
        written
            .map(drop)
            .map_err(|error| self.failed("UpdateItem", table, error))
    }

    async fn write_skipped(&self, report: &FailureReport, log: &[Attempt]) -> Result<()> {
        let message = message_key(&report.stage, &report.message);
        let mut reported: BTreeMap<u64, Vec<Attempt>> = BTreeMap::new();
        for attempt in &report.attempts {
            let Some(number) = attempt.item else { continue };
            reported.entry(number).or_default().push(attempt.clone());
        }
        let mut logged: BTreeMap<u64, Vec<Attempt>> = BTreeMap::new();
        for attempt in log {
            let Some(number) = attempt.item else { continue };
            logged.entry(number).or_default().push(attempt.clone());
        }
        // One for each item: a request may not write one item twice.
        let items = reported.into_iter().filter_map(|(number, reported)| {
            let last = reported.last()?.clone();
            // A log that is full may lack the attempts of this very report.
            let logged = logged.remove(&number);
            let logged = logged.filter(|logged| logged.contains(&last));
            let history = fit(&logged.unwrap_or(reported), 2 * MOST_BYTES);
            let slot = format!("{message}#{number:020}");
            let mut item = Kind::Skipped.key(&report.run, slot);
            item.extend([
                (STAGE.to_owned(), item::text(report.stage.as_ref())),
                (MESSAGE.to_owned(), item::text(&report.message)),
                (ITEM.to_owned(), item::number(number)),
                (ERROR.to_owned(), item::text(last.error)),
                (ATTEMPTS.to_owned(), write_attempts(&history)),
                (EXPIRES.to_owned(), self.expires_at()),
            ]);
            let label = last.label.map(item::text);
            item.extend(label.map(|label| (LABEL.to_owned(), label)));
            Some(item)
        });
        let puts = items.map(|item| {
            let put = PutRequest::builder().set_item(Some(item)).build();
            put.map(|put| WriteRequest::builder().put_request(put).build())
        });
        let puts: Result<Vec<_>, _> = puts.collect();
        let puts =
            puts.map_err(|error| self.malformed("an item", &self.tables.scratchpad, error))?;
        self.write_all(puts).await
    }

    /// Writes items in batches, again and again those that the service leaves unprocessed.
    async fn write_all(&self, mut pending: Vec<WriteRequest>) -> Result<()> {
        let table = &self.tables.scratchpad;
        let mut delays = RETRY.delays();
        while !pending.is_empty() {
            let rest = pending.split_off(pending.len().min(MOST_WRITES));
            let count = pending.len();
            let request = self.client.batch_write_item();
            let answer = request.request_items(table, pending).send().await;
            let answer = answer.map_err(|error| self.failed("BatchWriteItem", table, error))?;
            let unprocessed = answer.unprocessed_items.unwrap_or_default();
            pending = unprocessed.into_values().flatten().collect();
            if pending.len() < count {
                delays.restart();
            }
            if !pending.is_empty() && !delays.wait().await {
                return Err(self.unprocessed("BatchWriteItem", table, pending.len()));
            }
            pending.extend(rest);
        }
        Ok(())
    }

    /// Skipped items on record: those of a message, if one is given.
    async fn count_skipped(&self, run: &RunKey, message: Option<&str>) -> Result<u64> {
        let table = &self.tables.scratchpad;
        let mut count = 0;
        let mut after = None;
        loop {
            let mut terms = Terms::default();
            let mut condition = terms.equal(GROUP, item::text(Kind::Skipped.partition(run)));
            if let Some(message) = message {
                let (name, value) = (
                    terms.name(SLOT),
                    terms.value(item::text(format!("{message}#"))),
                );
                condition = format!("{condition} AND begins_with({name}, {value})");
            }
            let (names, values) = terms.into_parts();
            let asked = self.client.query().table_name(table).select(Select::Count);
            let answer = asked
                .consistent_read(true)
                .key_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .set_exclusive_start_key(after)
                .send()
                .await;
            let answer = answer.map_err(|error| self.failed("Query", table, error))?;
            count += u64::from(answer.count.unsigned_abs());
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    /// The items of a partition of the scratchpad's table, in the order of their sort keys; only those whose
    /// sort keys begin so, if that is given.
    pub(super) async fn query(&self, group: String, prefix: Option<&str>) -> Result<Vec<Item>> {
        let table = &self.tables.scratchpad;
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let mut terms = Terms::default();
            let mut condition = terms.equal(GROUP, item::text(group.as_str()));
            if let Some(prefix) = prefix {
                let (name, value) = (terms.name(SLOT), terms.value(item::text(prefix)));
                condition = format!("{condition} AND begins_with({name}, {value})");
            }
            let (names, values) = terms.into_parts();
            let asked = self.client.query().table_name(table).consistent_read(true);
            let answer = asked
                .key_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .set_exclusive_start_key(after)
                .send()
                .await;
            let answer = answer.map_err(|error| self.failed("Query", table, error))?;
            items.extend(answer.items.unwrap_or_default());
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    pub(super) async fn standing(&self, run: &RunKey) -> Result<Standing> {
        let dead = self.query(Kind::Dead.partition(run), None);
        let (dead, skipped) = futures::try_join!(dead, self.count_skipped(run, None))?;
        let oldest = dead
            .iter()
            .min_by_key(|item| item::get_number::<u128>(item, SINCE));
        let replaced = dead
            .iter()
            .filter_map(|item| item::get_number::<u64>(item, REPLACED));
        let replaced: u64 = replaced.fold(0, u64::saturating_add);
        Ok(Standing {
            first: oldest.and_then(read_failure),
            dead: dead.len() as u64,
            dead_items: dead.iter().filter(|item| item.contains_key(ITEM)).count() as u64,
            skipped: skipped.saturating_sub(replaced),
        })
    }
}
