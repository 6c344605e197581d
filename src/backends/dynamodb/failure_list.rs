//! Failures in pages: two partitions, of dead letters and of skipped items, merged into one order. Skipped items of a
//! message that stands as a dead letter, which a process that died may have left, are passed over.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::DynamoDbScratchpad;
use super::failures::{Kind, message_key, read_failure};
use super::groups::{GROUP, SLOT};
use super::item::{self, Item, Terms};
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::natural;
use crate::scratchpad::{Cursor, Failure, Page};

/// The name of the list in its cursors.
const LIST: &str = "dynamodb-failures";
/// Items of a request: more would not fit into the service's megabyte.
const MOST_ITEMS: usize = 1_000;

/// Where a list goes on.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Position {
    /// The sort keys in each partition up to which everything has been read.
    dead: Option<String>,
    skipped: Option<String>,
    /// The last failure that was returned. Any before it has been recorded since then in the other partition.
    last: Option<Key>,
}

/// What failures are ordered by: stage, [sort key](natural::sort_key) of the message, item, and whether the item was skipped.
type Key = (String, String, Option<u64>, bool);

fn key(failure: &Failure) -> Key {
    let message = natural::sort_key(&failure.message);
    let skipped = failure.is_skipped();
    (failure.stage.clone(), message, failure.item, skipped)
}

/// A part of a partition, in the order of its sort keys.
struct Part {
    items: std::vec::IntoIter<Item>,
    /// The sort key of the last of them, if the partition has more.
    more_after: Option<String>,
    /// The next of `items`, with its sort key.
    head: Option<(String, Failure)>,
}

impl Part {
    /// Fills `head`. Items that are not failures are passed over.
    fn advance(&mut self) {
        self.head = self.items.by_ref().find_map(|item| {
            let slot = item::get_text(&item, SLOT)?.to_owned();
            Some((slot, read_failure(&item)?))
        });
    }

    /// Whether it is not known which failure of this partition comes next.
    fn is_cut_off(&self) -> bool {
        self.head.is_none() && self.more_after.is_some()
    }
}

impl DynamoDbScratchpad {
    pub(super) async fn list_page(
        &self,
        run: &RunKey,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>> {
        let position: Option<Position> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let mut position = position.unwrap_or_default();
        let limit = limit.max(1);
        let dead = self.part(run, Kind::Dead, position.dead.clone(), limit);
        let skipped = self.part(run, Kind::Skipped, position.skipped.clone(), limit);
        let (mut dead, mut skipped) = futures::try_join!(dead, skipped)?;
        let mut failures = Vec::new();
        while failures.len() < limit && !dead.is_cut_off() && !skipped.is_cut_off() {
            let is_dead = match (&dead.head, &skipped.head) {
                (Some((_, dead)), Some((_, skipped))) => key(dead) <= key(skipped),
                (dead, _) => dead.is_some(),
            };
            let is_replaced = !is_dead && {
                // The message's dead letter is the next one, or the last one that was read.
                let skipped = skipped.head.as_ref();
                let message =
                    skipped.map(|(_, failure)| message_key(&failure.stage, &failure.message));
                let next = dead.head.as_ref().map(|(slot, _)| slot);
                message.is_some() && [next, position.dead.as_ref()].contains(&message.as_ref())
            };
            let (part, last) = match is_dead {
                true => (&mut dead, &mut position.dead),
                false => (&mut skipped, &mut position.skipped),
            };
            let Some((slot, failure)) = part.head.take() else {
                break;
            };
            *last = Some(slot);
            let key = key(&failure);
            if !is_replaced && position.last.as_ref() < Some(&key) {
                position.last = Some(key);
                failures.push(failure);
            }
            part.advance();
        }
        // Past items that are not failures, too, or a page of nothing else would lead to itself.
        for (part, last) in [
            (&mut dead, &mut position.dead),
            (&mut skipped, &mut position.skipped),
        ] {
            if part.is_cut_off() {
                *last = part.more_after.clone();
            }
        }
        let has_more = |part: &Part| part.head.is_some() || part.more_after.is_some();
        let next = match has_more(&dead) || has_more(&skipped) {
            true => Some(Cursor::encode(LIST, &position)?),
            false => None,
        };
        Ok(Page::new(failures, next))
    }

    /// At most about `limit` items of a partition after a sort key.
    async fn part(
        &self,
        run: &RunKey,
        kind: Kind,
        after: Option<String>,
        limit: usize,
    ) -> Result<Part> {
        let table = &self.tables.scratchpad;
        let group = kind.partition(run);
        let mut terms = Terms::default();
        let condition = terms.equal(GROUP, item::text(group.as_str()));
        let (names, values) = terms.into_parts();
        // The service goes on after a key, whether or not there still is an item of it.
        let start = after.map(|slot| {
            let key = [(GROUP, group), (SLOT, slot)];
            Item::from(key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value))))
        });
        let asked = self.client.query().table_name(table).consistent_read(true);
        let answer = asked
            .key_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit.min(MOST_ITEMS)).unwrap_or(i32::MAX))
            .send()
            .await;
        let answer = answer.map_err(|error| self.failed("Query", table, error))?;
        let mut part = Part {
            items: answer.items.unwrap_or_default().into_iter(),
            more_after: answer
                .last_evaluated_key
                .and_then(|key| item::get_text(&key, SLOT).map(str::to_owned)),
            head: None,
        };
        part.advance();
        Ok(part)
    }
}
