//! The failed attempts at each message: an item with the list that is kept for people, beside the counts that
//! `beginnings.rs` keeps.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::beginnings::Counting;
use super::failures::{Kind, message_key};
use super::groups::EXPIRES;
use super::item::{self, Item, Terms};
use super::{DynamoDbScratchpad, RETRY, SERVICE, is_condition, is_size};
use crate::core::attempts;
use crate::core::error::{Error, Result};
use crate::scratchpad::{Attempt, FailureReport};

pub(super) const ATTEMPTS: &str = "attempts";

/// Attempts on record for one message.
const MOST_ATTEMPTS: usize = 100;
/// Bytes of one report's attempts that go into that record, which has to stay below 400 KB.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// Bytes of a text as JSON, where a control character takes six.
fn written_size(text: &str) -> usize {
    serde_json::to_string(text).map_or(0, |text| text.len())
}

/// Those that fit, at most about so many bytes as they are written.
pub(super) fn fit(attempts: &[Attempt], bytes: usize) -> Vec<Attempt> {
    attempts::fit(attempts, MOST_ATTEMPTS, bytes, |attempt| {
        let label = attempt.label.as_deref();
        let label = label.map_or(0, |label| written_size(label) + 9);
        written_size(&attempt.error) + label + 98
    })
}

pub(super) fn write_attempts(attempts: &[Attempt]) -> AttributeValue {
    let texts = attempts.iter().filter_map(write_attempt);
    AttributeValue::L(texts.map(AttributeValue::S).collect())
}

/// Numbers and text: this cannot fail.
fn write_attempt(attempt: &Attempt) -> Option<String> {
    serde_json::to_string(attempt).ok()
}

pub(super) fn read_attempts(item: &Item) -> Vec<Attempt> {
    let list = item.get(ATTEMPTS).and_then(|list| list.as_l().ok());
    list.into_iter()
        .flatten()
        .filter_map(|attempt| serde_json::from_str(attempt.as_s().ok()?).ok())
        .collect()
}

impl DynamoDbScratchpad {
    /// Adds to the attempts at a message, and returns all of them. A list to which the last one has been added stays as it
    /// is: then this very write was repeated, because the answer to it was lost.
    pub(super) async fn append(&self, report: &FailureReport) -> Result<Vec<Attempt>> {
        let table = &self.tables.scratchpad;
        let new = fit(&report.attempts, MOST_BYTES);
        let counting = Counting::of(report);
        let key = Kind::Attempts.key(&report.run, message_key(&report.stage, &report.message));
        let mut delays = RETRY.delays();
        loop {
            let mut terms = Terms::default();
            let (name, list) = (terms.name(ATTEMPTS), terms.value(write_attempts(&new)));
            let none = terms.value(AttributeValue::L(Vec::new()));
            let expires = terms.equal(EXPIRES, self.expires_at());
            let most = terms.value(item::number(MOST_ATTEMPTS - new.len()));
            let lacks = terms.lacks(ATTEMPTS);
            let is_new = new.last().and_then(write_attempt).map(|last| {
                let last = terms.value(AttributeValue::S(last));
                format!("NOT contains({name}, {last}) AND ")
            });
            let is_new = is_new.unwrap_or_default();
            let mut condition = format!("{lacks} OR {is_new}size({name}) <= {most}");
            if let Some(room) = counting.room(&mut terms) {
                condition = format!("({condition}) AND ({room})");
            }
            let counts = counting.add(&mut terms);
            let expression = format!(
                "SET {name} = list_append(if_not_exists({name}, {none}), {list}), {expires}{counts}"
            );
            let written = self
                .update(table, key.clone(), expression, terms)
                .condition_expression(condition)
                .return_values(ReturnValue::AllNew)
                .send()
                .await;
            match written {
                Ok(written) => {
                    let item = written.attributes.unwrap_or_default();
                    return Ok(read_attempts(&item));
                }
                Err(error) if is_condition(&error) || is_size(&error) => {
                    if let Some(log) = self.replace_attempts(&key, &counting, &new).await? {
                        return Ok(log);
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

    /// Makes room in the attempts at a message and in their counts, and adds to them. `None` if another report came in
    /// between.
    async fn replace_attempts(
        &self,
        key: &Item,
        counting: &Counting<'_>,
        new: &[Attempt],
    ) -> Result<Option<Vec<Attempt>>> {
        let table = &self.tables.scratchpad;
        let found = self.get(table, key.clone()).await?.unwrap_or_default();
        let mut attempts = read_attempts(&found);
        let mut terms = Terms::default();
        let mut set = Vec::new();
        let mut conditions = Vec::new();
        // It may be on record as an equal one of another delivery, whose end is still to be written down.
        let is_on_record = new.last().is_some_and(|last| attempts.contains(last));
        if !is_on_record {
            attempts = fit(&[attempts.as_slice(), new].concat(), 3 * MOST_BYTES);
            set.push(terms.equal(ATTEMPTS, write_attempts(&attempts)));
            // All that are stored, also those that another version wrote and this one cannot read: or no replacement would
            // ever fit.
            let stored = found.get(ATTEMPTS).and_then(|list| list.as_l().ok());
            conditions.push(match stored {
                Some(stored) => terms.has_size(ATTEMPTS, stored.len()),
                None => terms.lacks(ATTEMPTS),
            });
        }
        set.push(terms.equal(EXPIRES, self.expires_at()));
        let counts = counting.add_to(&found, &mut terms, &mut conditions);
        let expression = format!("SET {}{counts}", set.join(", "));
        let mut update = self.update(table, key.clone(), expression, terms);
        if !conditions.is_empty() {
            update = update.condition_expression(conditions.join(" AND "));
        }
        match update.send().await {
            Ok(_) => Ok(Some(attempts)),
            Err(error) if is_condition(&error) => Ok(None),
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }
}
