//! What is on record of a message's deliveries and its items' attempts, beside the list of those attempts. These are sets,
//! so that a request that is repeated after its answer was lost counts once, and one request adds to them without reading:
//! the unfinished deliveries, the numbers of the failed attempts at the message as a whole, and an entry `item:number` for
//! the highest number that each report has of an item. The item that an unfinished delivery is at has an attribute of its
//! own, which bears the delivery's name.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::failures::{Kind, message_key};
use super::groups::EXPIRES;
use super::item::{self, Item, Terms};
use super::{DynamoDbScratchpad, is_condition};
use crate::core::attempts::{LEFT_OUT, MOST_ITEMS, count, failed_as_a_whole, keep_highest};
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::scratchpad::{Beginning, Deliveries, DeliveryId, FailureReport, ItemAttempts, Verdict};

const UNFINISHED: &str = "unfinished";
const FAILED: &str = "failed";
const FAILED_ITEMS: &str = "failedItems";
/// The id of the message's dead letter, from the moment before that is written.
const DEAD: &str = "dead";

/// Entries of items' attempts, of which an item has several if several reports had higher numbers. About 60 KB at most.
const MOST_ENTRIES: usize = 2 * MOST_ITEMS;

fn set(delivery: DeliveryId) -> AttributeValue {
    AttributeValue::Ns(vec![delivery.as_u64().to_string()])
}

/// The attribute with the item that a delivery is at.
fn at(delivery: &str) -> String {
    format!("at_{delivery}")
}

fn key(beginning: &Beginning) -> Item {
    let message = message_key(&beginning.stage, &beginning.message);
    Kind::Attempts.key(&beginning.run, message)
}

/// The entries of a set of numbers.
fn numbers<'a>(item: &'a Item, name: &str) -> impl Iterator<Item = &'a str> {
    let set = item.get(name).and_then(|set| set.as_ns().ok());
    set.into_iter().flatten().map(String::as_str)
}

/// The entries of items' attempts, as they are stored.
fn entries(item: &Item) -> &[String] {
    let set = item.get(FAILED_ITEMS).and_then(|set| set.as_ss().ok());
    set.map_or(&[], Vec::as_slice)
}

fn read_counts(item: &Item) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    let entries = entries(item).iter();
    for (item, number) in entries.filter_map(|entry| entry.split_once(':')) {
        let (Ok(item), Ok(number)) = (item.parse(), number.parse::<u32>()) else {
            continue;
        };
        let failed: &mut u32 = counts.entry(item).or_default();
        *failed = number.max(*failed);
    }
    counts
}

fn write_counts(counts: &BTreeMap<u64, u32>) -> AttributeValue {
    let entries = counts.iter();
    AttributeValue::Ss(
        entries
            .map(|(item, failed)| format!("{item}:{failed}"))
            .collect(),
    )
}

/// Of a dead letter's message no item is left out, though it may have been before.
fn read_deliveries(message: &Item, is_dead: bool) -> Deliveries {
    let counts = read_counts(message).into_iter();
    let counts = counts.filter(|(_, failed)| !(is_dead && *failed == LEFT_OUT));
    let mut items: BTreeMap<u64, ItemAttempts> = counts
        .map(|(item, failed)| (item, ItemAttempts::new(item, failed, 0)))
        .collect();
    let mut unfinished: u32 = 0;
    for delivery in numbers(message, UNFINISHED) {
        unfinished = unfinished.saturating_add(1);
        if let Some(item) = item::get_number(message, &at(delivery)) {
            let attempts = items.entry(item);
            let attempts = attempts.or_insert_with(|| ItemAttempts::new(item, 0, 0));
            attempts.unfinished += 1;
        }
    }
    let failed = numbers(message, FAILED).filter_map(|number| number.parse().ok());
    let failed = failed.max().unwrap_or(0);
    Deliveries::new(unfinished, failed).items(items.into_values().collect())
}

/// What a report changes in the counts.
pub(super) struct Counting<'a> {
    report: &'a FailureReport,
    items: BTreeMap<u64, u32>,
}

impl<'a> Counting<'a> {
    pub(super) fn of(report: &'a FailureReport) -> Self {
        let mut items = BTreeMap::new();
        count(&mut items, &report.attempts, report.verdict);
        keep_highest(&mut items, MOST_ITEMS);
        Self { report, items }
    }

    /// Whether a dead letter of this message was about to be written, or is on record.
    pub(super) fn is_marked(message: &Item) -> bool {
        message.contains_key(DEAD)
    }

    /// The condition that its items fit; `None` if it has none.
    pub(super) fn room(&self, terms: &mut Terms) -> Option<String> {
        if self.items.is_empty() {
            return None;
        }
        let lacks = terms.lacks(FAILED_ITEMS);
        let (name, most) = (
            terms.name(FAILED_ITEMS),
            terms.value(item::number(MOST_ENTRIES - self.items.len())),
        );
        Some(format!("{lacks} OR size({name}) <= {most}"))
    }

    /// The rest of an expression that begins with SET, if there is room.
    pub(super) fn add(&self, terms: &mut Terms) -> String {
        self.clauses(terms, None)
    }

    /// The rest of an expression that begins with SET. If there is no room in the message's item as it was found, the
    /// highest counts take the place of all of them, under a condition.
    pub(super) fn add_to(
        &self,
        found: &Item,
        terms: &mut Terms,
        conditions: &mut Vec<String>,
    ) -> String {
        let stored = entries(found).len();
        if self.items.is_empty() || stored + self.items.len() <= MOST_ENTRIES {
            return self.add(terms);
        }
        let mut counts = read_counts(found);
        count(&mut counts, &self.report.attempts, self.report.verdict);
        keep_highest(&mut counts, MOST_ITEMS);
        conditions.push(terms.has_size(FAILED_ITEMS, stored));
        let replaced = terms.equal(FAILED_ITEMS, write_counts(&counts));
        self.clauses(terms, Some(replaced))
    }

    /// `replaced` is an assignment of the counts of items, which are added otherwise.
    fn clauses(&self, terms: &mut Terms, replaced: Option<String>) -> String {
        let mut expression = String::new();
        let mut added = Vec::new();
        match replaced {
            Some(assignment) => expression = format!(", {assignment}"),
            None if self.items.is_empty() => {}
            None => added.push((FAILED_ITEMS, write_counts(&self.items))),
        }
        if let Verdict::Dead(id) = self.report.verdict {
            let mark = terms.equal(DEAD, item::text(id.to_string()));
            expression.push_str(&format!(", {mark}"));
        }
        let failed = failed_as_a_whole(&self.report.attempts);
        if failed > 0 {
            added.push((FAILED, AttributeValue::Ns(vec![failed.to_string()])));
        }
        let added = added.into_iter();
        let added: Vec<String> = added
            .map(|(name, value)| format!("{} {}", terms.name(name), terms.value(value)))
            .collect();
        if !added.is_empty() {
            expression.push_str(&format!(" ADD {}", added.join(", ")));
        }
        if let Some(delivery) = self.report.delivery {
            expression.push_str(&end(delivery, terms));
        }
        expression
    }
}

/// The clauses by which a delivery is unfinished no longer.
fn end(delivery: DeliveryId, terms: &mut Terms) -> String {
    let (name, value) = (terms.name(UNFINISHED), terms.value(set(delivery)));
    let at = terms.name(&at(&delivery.as_u64().to_string()));
    format!(" DELETE {name} {value} REMOVE {at}")
}

impl DynamoDbScratchpad {
    pub(super) async fn add_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let table = &self.tables.scratchpad;
        let mut terms = Terms::default();
        let mut assignments = terms.equal(EXPIRES, self.expires_at());
        if let Some(item) = beginning.item {
            let name = at(&beginning.delivery.as_u64().to_string());
            let at = terms.equal(&name, item::number(item));
            assignments = format!("{assignments}, {at}");
        }
        let (name, delivery) = (terms.name(UNFINISHED), terms.value(set(beginning.delivery)));
        let expression = format!("SET {assignments} ADD {name} {delivery}");
        let written = self
            .update(table, key(beginning), expression, terms)
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let written = written.map_err(|error| self.failed("UpdateItem", table, error))?;
        let message = written.attributes.unwrap_or_default();
        let is_dead = match Counting::is_marked(&message) {
            true => {
                let name = message_key(&beginning.stage, &beginning.message);
                let key = Kind::Dead.key(&beginning.run, name);
                self.get(table, key).await?.is_some()
            }
            false => false,
        };
        Ok(read_deliveries(&message, is_dead))
    }

    pub(super) async fn remove_beginning(&self, beginning: &Beginning) -> Result<()> {
        let mut terms = Terms::default();
        let expression = end(beginning.delivery, &mut terms);
        let condition = terms.exists(UNFINISHED);
        self.update_where(
            key(beginning),
            expression.trim_start().to_owned(),
            condition,
            terms,
        )
        .await
    }

    /// Forgets a message's deliveries, its items' attempts and the mark of this dead letter; nothing if the mark is that of
    /// another one, which was written meanwhile. The items that unfinished deliveries were at need no removal: without its
    /// delivery, none of them is read.
    pub(super) async fn remove_deliveries(
        &self,
        run: &RunKey,
        message: &str,
        id: &str,
    ) -> Result<()> {
        let key = Kind::Attempts.key(run, message);
        let mut terms = Terms::default();
        let names = [UNFINISHED, FAILED, FAILED_ITEMS, DEAD];
        let removed = names.map(|name| terms.name(name));
        let expression = format!("REMOVE {}", removed.join(", "));
        let known = names.map(|name| terms.exists(name)).join(" OR ");
        let (lacks, equal) = (terms.lacks(DEAD), terms.equal(DEAD, item::text(id)));
        let condition = format!("({known}) AND ({lacks} OR {equal})");
        self.update_where(key, expression, condition, terms).await
    }

    /// Makes an update where the condition holds: anywhere else it would write an item of nothing.
    async fn update_where(
        &self,
        key: Item,
        expression: String,
        condition: String,
        terms: Terms,
    ) -> Result<()> {
        let table = &self.tables.scratchpad;
        let written = self
            .update(table, key, expression, terms)
            .condition_expression(condition)
            .send()
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_condition(&error) => Ok(()),
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }
}
