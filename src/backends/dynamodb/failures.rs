//! What failed, in three partitions of the scratchpad's table for each run: the failed attempts at each message, the
//! dead letters that stand, and the items that were left out.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, PutRequest, ReturnValue, Select, WriteRequest,
};

use super::beginnings;
use super::groups::{EXPIRES, GROUP, SLOT};
use super::item::{self, Item, Terms};
use super::{DynamoDbScratchpad, RETRY, SERVICE, is_condition, is_size};
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::scratchpad::{
    Attempt, Beginning, Cursor, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport,
    Failures, Page, Verdict,
};

const ATTEMPTS: &str = "attempts";
const STAGE: &str = "stage";
const MESSAGE: &str = "message";
const ITEM: &str = "item";
const LABEL: &str = "label";
const ERROR: &str = "error";
const ID: &str = "id";
const SINCE: &str = "since";

/// Attempts on record for one message.
const MOST_ATTEMPTS: usize = 100;
/// Bytes of one report's attempts that go into that record, which has to stay below 400 KB.
const MOST_BYTES: usize = 64 * 1024;
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
    pub(super) fn partition(self, run: &RunId) -> String {
        let kind = match self {
            Self::Attempts => "attempts",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        };
        format!("{run}#{kind}")
    }

    pub(super) fn key(self, run: &RunId, slot: impl Into<String>) -> Item {
        Item::from([
            (GROUP.to_owned(), item::text(self.partition(run))),
            (SLOT.to_owned(), item::text(slot)),
        ])
    }
}

/// The sort key of a message.
pub(super) fn message_key(stage: &str, message: &str) -> String {
    format!("{stage}#{message}")
}

/// Bytes of a text as JSON, where a control character takes six.
fn written_size(text: &str) -> usize {
    serde_json::to_string(text).map_or(0, |text| text.len())
}

/// The newest that fit.
fn fit(attempts: &[Attempt], most: usize, bytes: usize) -> &[Attempt] {
    let mut left = bytes;
    let fitting = attempts.iter().rev().take(most).take_while(|attempt| {
        let size = written_size(&attempt.error) + 98;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    let count = fitting.count();
    attempts.split_at(attempts.len() - count).1
}

fn write_attempts(attempts: &[Attempt]) -> AttributeValue {
    let texts = attempts.iter().filter_map(write_attempt);
    AttributeValue::L(texts.map(AttributeValue::S).collect())
}

/// Numbers and text: this cannot fail.
fn write_attempt(attempt: &Attempt) -> Option<String> {
    serde_json::to_string(attempt).ok()
}

fn read_attempts(item: &Item) -> Vec<Attempt> {
    let list = item.get(ATTEMPTS).and_then(|list| list.as_l().ok());
    list.into_iter()
        .flatten()
        .filter_map(|attempt| serde_json::from_str(attempt.as_s().ok()?).ok())
        .collect()
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
            Verdict::Retry => {}
            Verdict::Skip => self.write_skipped(report, &attempts).await?,
            Verdict::Dead(id) => self.write_dead(report, id, &attempts).await?,
        }
        Ok(FailureLog {
            skipped: self.count_skipped(&report.run).await?,
            attempts,
        })
    }

    /// First the items that were left out and what is known of deliveries, then the dead letter: repeated after a crash
    /// in between, it does the rest.
    async fn clear(&self, run: &RunId, stage: &str, name: &str, id: DeadLetterId) -> Result<()> {
        let table = &self.tables.scratchpad;
        let message = message_key(stage, name);
        let key = Kind::Dead.key(run, message.as_str());
        let found = self.get(table, key.clone()).await?;
        let id = id.to_string();
        let stands = found.as_ref().and_then(|item| item::get_text(item, ID));
        if stands != Some(id.as_str()) {
            return Ok(());
        }
        let prefix = format!("{message}#");
        let skipped = self.query(Kind::Skipped.partition(run), Some(&prefix));
        let deletes = skipped.await?.into_iter().map(|mut item| {
            item.retain(|name, _| name == GROUP || name == SLOT);
            let delete = DeleteRequest::builder().set_key(Some(item)).build();
            delete.map(|delete| WriteRequest::builder().delete_request(delete).build())
        });
        let deletes: Result<Vec<_>, _> = deletes.collect();
        let deletes = deletes.map_err(|error| self.malformed("an item", table, error))?;
        self.write_all(deletes).await?;
        self.remove_deliveries(run, stage, name).await?;
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
        self.list_page(run, cursor, limit).await
    }
}

impl DynamoDbScratchpad {
    /// Adds to the attempts at a message, and returns all of them. A list to which the last one has been added stays as it
    /// is: then this very write was repeated, because the answer to it was lost.
    async fn append(&self, report: &FailureReport) -> Result<Vec<Attempt>> {
        let table = &self.tables.scratchpad;
        let new = fit(&report.attempts, MOST_ATTEMPTS, MOST_BYTES);
        let key = Kind::Attempts.key(&report.run, message_key(&report.stage, &report.message));
        let mut delays = RETRY.delays();
        loop {
            let mut terms = Terms::default();
            let (name, list) = (terms.name(ATTEMPTS), terms.value(write_attempts(new)));
            let none = terms.value(AttributeValue::L(Vec::new()));
            let expires = terms.equal(EXPIRES, self.expires_at());
            let most = terms.value(item::number(MOST_ATTEMPTS - new.len()));
            let lacks = terms.lacks(ATTEMPTS);
            let is_new = new.last().and_then(write_attempt).map(|last| {
                let last = terms.value(AttributeValue::S(last));
                format!("NOT contains({name}, {last}) AND ")
            });
            let is_new = is_new.unwrap_or_default();
            let condition = format!("{lacks} OR {is_new}size({name}) <= {most}");
            let failed = beginnings::failed(&mut terms, report);
            let expression = format!(
                "SET {name} = list_append(if_not_exists({name}, {none}), {list}), {expires}{failed}"
            );
            let written = self
                .update(table, key.clone(), expression, terms)
                .condition_expression(condition)
                .return_values(ReturnValue::AllNew)
                .send()
                .await;
            match written {
                Ok(written) => {
                    return Ok(read_attempts(&written.attributes.unwrap_or_default()));
                }
                Err(error) if is_condition(&error) || is_size(&error) => {
                    if let Some(attempts) = self.replace_attempts(&key, report, new).await? {
                        return Ok(attempts);
                    }
                    if !delays.wait().await {
                        let operation = format!("UpdateItem on table `{table}`");
                        let problem = "others add to the same message's attempts all the time";
                        return Err(Error::unavailable(SERVICE, operation, problem));
                    }
                }
                Err(error) => return Err(self.failed("UpdateItem", table, error)),
            }
        }
    }

    /// Makes room in the attempts at a message, and adds to them. `None` where somebody else came in between.
    async fn replace_attempts(
        &self,
        key: &Item,
        report: &FailureReport,
        new: &[Attempt],
    ) -> Result<Option<Vec<Attempt>>> {
        let table = &self.tables.scratchpad;
        let found = self.get(table, key.clone()).await?.unwrap_or_default();
        let old = read_attempts(&found);
        // All that are stored, also those that another version wrote and this one cannot read: or no replacement would ever fit.
        let stored = found.get(ATTEMPTS).and_then(|list| list.as_l().ok());
        let stored = stored.map_or(0, Vec::len);
        let last = new.last().and_then(write_attempt);
        if last.is_some() && old.iter().any(|attempt| write_attempt(attempt) == last) {
            // It may be an equal one of another delivery, whose end is still to be written down.
            let mut terms = Terms::default();
            let expires = terms.equal(EXPIRES, self.expires_at());
            let failed = beginnings::failed(&mut terms, report);
            let written = self.update(table, key.clone(), format!("SET {expires}{failed}"), terms);
            let written = written.send().await;
            return match written {
                Ok(_) => Ok(Some(old)),
                Err(error) => Err(self.failed("UpdateItem", table, error)),
            };
        }
        let kept = fit(
            &old,
            MOST_ATTEMPTS.saturating_sub(new.len()),
            2 * MOST_BYTES,
        );
        let attempts = [kept, new].concat();
        let mut terms = Terms::default();
        let set = terms.equal(ATTEMPTS, write_attempts(&attempts));
        let expires = terms.equal(EXPIRES, self.expires_at());
        let count = terms.value(item::number(stored));
        let condition = format!("size({}) = {count}", terms.name(ATTEMPTS));
        let failed = beginnings::failed(&mut terms, report);
        let expression = format!("SET {set}, {expires}{failed}");
        let written = self
            .update(table, key.clone(), expression, terms)
            .condition_expression(condition)
            .send()
            .await;
        match written {
            Ok(_) => Ok(Some(attempts)),
            Err(error) if is_condition(&error) => Ok(None),
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }

    /// In place of an older dead letter of the same message, whose age it takes over.
    async fn write_dead(
        &self,
        report: &FailureReport,
        id: DeadLetterId,
        attempts: &[Attempt],
    ) -> Result<()> {
        let table = &self.tables.scratchpad;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let last = report.attempts.last();
        let mut terms = Terms::default();
        let attempts = fit(attempts, MOST_ATTEMPTS, 4 * MOST_BYTES);
        let mut set = vec![
            terms.equal(ID, item::text(id.to_string())),
            terms.equal(STAGE, item::text(report.stage.as_ref())),
            terms.equal(MESSAGE, item::text(&report.message)),
            terms.equal(
                ERROR,
                item::text(last.map_or("", |last| last.error.as_str())),
            ),
            terms.equal(ATTEMPTS, write_attempts(attempts)),
            terms.keep(SINCE, item::number(now)),
            terms.equal(EXPIRES, self.expires_at()),
        ];
        let mut remove = String::new();
        match last.and_then(|last| last.item) {
            Some(item) => set.push(terms.equal(ITEM, item::number(item))),
            None => remove = format!(" REMOVE {}", terms.name(ITEM)),
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
        let mut items = std::collections::BTreeMap::new();
        for attempt in &report.attempts {
            let Some(number) = attempt.item else { continue };
            let history: Vec<Attempt> = log
                .iter()
                .filter(|attempt| attempt.item == Some(number))
                .cloned()
                .collect();
            let own = std::slice::from_ref(attempt);
            let history = if history.is_empty() { own } else { &history };
            let history = fit(history, MOST_ATTEMPTS, 2 * MOST_BYTES);
            let slot = format!("{message}#{number:020}");
            let mut item = Kind::Skipped.key(&report.run, slot);
            item.extend([
                (STAGE.to_owned(), item::text(report.stage.as_ref())),
                (MESSAGE.to_owned(), item::text(&report.message)),
                (ITEM.to_owned(), item::number(number)),
                (ERROR.to_owned(), item::text(&attempt.error)),
                (ATTEMPTS.to_owned(), write_attempts(history)),
                (EXPIRES.to_owned(), self.expires_at()),
            ]);
            // The last error of an item is the one that is kept; a request may not write one item twice.
            items.insert(number, item);
        }
        let puts = items.into_values().map(|item| {
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

    async fn count_skipped(&self, run: &RunId) -> Result<u64> {
        let table = &self.tables.scratchpad;
        let mut count = 0;
        let mut after = None;
        loop {
            let mut terms = Terms::default();
            let condition = terms.equal(GROUP, item::text(Kind::Skipped.partition(run)));
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

    pub(super) async fn standing(&self, run: &RunId) -> Result<Standing> {
        let dead = self.query(Kind::Dead.partition(run), None);
        let (dead, skipped) = futures::try_join!(dead, self.count_skipped(run))?;
        let oldest = dead
            .iter()
            .min_by_key(|item| item::get_number::<u128>(item, SINCE));
        Ok(Standing {
            first: oldest.and_then(read_failure),
            dead: dead.len() as u64,
            dead_items: dead.iter().filter(|item| item.contains_key(ITEM)).count() as u64,
            skipped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_attempts_are_kept() {
        let attempt = |number: u32| Attempt {
            number,
            at: UNIX_EPOCH,
            item: None,
            label: None,
            error: "x".repeat(100),
        };
        let attempts: Vec<Attempt> = (1..=10).map(attempt).collect();
        let numbers = |kept: &[Attempt]| kept.iter().map(|a| a.number).collect::<Vec<_>>();
        assert_eq!(numbers(fit(&attempts, 3, 10_000)), [8, 9, 10]);
        assert_eq!(numbers(fit(&attempts, 100, 450)), [9, 10]);
        assert_eq!(numbers(fit(&attempts, 100, 10)), [0; 0]);
    }
}
