//! The groups of the reduction tree: a partition each.
//!
//! A group's item has its state and the members whose values are small: then an arrival is a single write, which
//! neighbours that arrive together share. A larger value has an item of its own in the same partition, written
//! before the slot is added to the group; the group's item then has a mark in the place of the value.
//! Whichever of the two is first in that place stays, so a slot keeps its first value however often it
//! arrives.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::item::{self, Item, Terms};
use super::{DynamoDbScratchpad, RETRY, SIDE_BY_SIDE, check_size, is_condition};
use crate::core::error::Result;
use crate::scratchpad::{Arrival, GroupId, GroupState, Groups, Members};

/// The table's keys.
pub(super) const GROUP: &str = "groupId";
pub(super) const SLOT: &str = "slot";
/// When the item expires.
pub(crate) const EXPIRES: &str = "expiresAt";
/// The sort key of a group's own item.
const STATE: &str = "group";
const ARRIVED: &str = "arrived";
const EXPECTED: &str = "expected";
const ROOT: &str = "root";
const RETIRED: &str = "retired";
const VALUE: &str = "value";
/// Stands for a size that nobody has told yet, so that one write returns the whole state.
const UNTOLD: i64 = -1;

/// A write is billed by the size of the whole item, in steps of 1 KB: above this size a value is cheaper on its own.
const SMALL: usize = 512;
/// Slots whose values may be in the group's item; it stays below 34 KB.
const SMALL_SLOTS: u32 = 64;
/// Arrivals a write: an expression may have 4 KB.
const MOST_ARRIVALS: usize = 50;
/// Groups a request of the service may ask for.
const MOST_KEYS: usize = 100;

/// The places of arrivals in the caller's list, and their group's state after they were written.
type Stored = (Vec<usize>, GroupState);

/// Arrivals at one group, with their places in the caller's list.
type Batch = (GroupId, Vec<(usize, u32, Bytes)>);

fn key(group: &GroupId, slot: &str) -> Item {
    Item::from([
        (GROUP.to_owned(), item::text(group.to_string())),
        (SLOT.to_owned(), item::text(slot)),
    ])
}

/// The sort key of a member's own item: in the order of the numbers.
fn slot_key(slot: u32) -> String {
    format!("slot#{slot:010}")
}

/// The attribute of the group's item that has a member's value, or a mark that it has an item of its own.
fn slot_name(slot: u32) -> String {
    format!("s{slot}")
}

fn is_small(slot: u32, value: &Bytes) -> bool {
    slot < SMALL_SLOTS && value.len() <= SMALL
}

fn state(item: &Item) -> GroupState {
    let expected = item::get_number::<i64>(item, EXPECTED);
    GroupState {
        arrived: arrived(item).count() as u32,
        expected: expected.and_then(|expected| u32::try_from(expected).ok()),
        root: item::get_flag(item, ROOT),
        retired: item::get_flag(item, RETIRED),
    }
}

fn arrived(item: &Item) -> impl Iterator<Item = u32> + '_ {
    let slots = item.get(ARRIVED).and_then(|slots| slots.as_ns().ok());
    slots
        .into_iter()
        .flatten()
        .filter_map(|slot| slot.parse().ok())
}

#[async_trait]
impl Groups for DynamoDbScratchpad {
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        let set = |terms: &mut Terms| {
            vec![
                terms.equal(EXPECTED, item::number(expected)),
                terms.equal(ROOT, AttributeValue::Bool(root)),
            ]
        };
        Ok(state(
            &self.set_state(group, set, ReturnValue::AllNew).await?,
        ))
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let mut states = vec![GroupState::default(); arrivals.len()];
        for arrival in &arrivals {
            let Arrival { group, slot, value } = arrival;
            check_size(
                || {
                    let GroupId {
                        run,
                        stage,
                        level,
                        index,
                        ..
                    } = group;
                    let run = &run.id;
                    format!(
                        "the partial result for slot {slot} of group {level}/{index} of stage {stage} in run {run}"
                    )
                },
                value,
            )?;
        }
        let writes: Vec<BoxFuture<'_, Result<Stored>>> = batches(arrivals)
            .into_iter()
            .map(|(group, members)| self.store_members(group, members).boxed())
            .collect();
        let stored: Vec<Stored> = futures::stream::iter(writes)
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        for (places, state) in stored {
            for place in places {
                if let Some(slot) = states.get_mut(place) {
                    *slot = state;
                }
            }
        }
        Ok(states)
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let mut own = None;
        let mut large: HashMap<u32, AttributeValue> = HashMap::new();
        for mut item in self.query(group.to_string(), None).await? {
            let slot = item::get_text(&item, SLOT).unwrap_or_default();
            if slot == STATE {
                own = Some(item);
            } else if let Some(slot) = slot.strip_prefix("slot#").and_then(|s| s.parse().ok())
                && let Some(value) = item.remove(VALUE)
            {
                large.insert(slot, value);
            }
        }
        let own: Item = own.unwrap_or_default();
        let state = state(&own);
        if state.retired {
            return Ok(Members::Retired);
        }
        let mut slots: Vec<u32> = arrived(&own).collect();
        slots.sort_unstable();
        let values = slots.into_iter().filter_map(|slot| {
            let value = match own.get(&slot_name(slot))? {
                AttributeValue::Null(_) => large.get(&slot)?,
                value => value,
            };
            Some((slot, item::get_bytes(value)?))
        });
        let values = values.collect();
        Ok(Members::Present { state, values })
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        let set = |terms: &mut Terms| vec![terms.equal(RETIRED, AttributeValue::Bool(true))];
        self.set_state(group, set, ReturnValue::None).await?;
        Ok(())
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        let table = &self.tables.scratchpad;
        let mut seen = HashSet::new();
        let wanted = groups.iter().filter(|group| seen.insert(*group));
        let mut pending: Vec<Item> = wanted.map(|group| key(group, STATE)).collect();
        let mut found: HashMap<String, Vec<u32>> = HashMap::new();
        let mut delays = RETRY.delays();
        while !pending.is_empty() {
            let rest = pending.split_off(pending.len().min(MOST_KEYS));
            let count = pending.len();
            let mut terms = Terms::default();
            let projection = format!("{}, {}", terms.name(GROUP), terms.name(ARRIVED));
            let (names, _) = terms.into_parts();
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(pending))
                .consistent_read(true)
                .projection_expression(projection)
                .set_expression_attribute_names(names)
                .build()
                .map_err(|error| self.malformed("the keys", table, error))?;
            let asked = self.client.batch_get_item().request_items(table, keys);
            let answer = asked.send().await;
            let answer = answer.map_err(|error| self.failed("BatchGetItem", table, error))?;
            let items = answer.responses.unwrap_or_default().remove(table.as_str());
            for item in items.unwrap_or_default() {
                if let Some(group) = item::get_text(&item, GROUP) {
                    let mut slots: Vec<u32> = arrived(&item).collect();
                    slots.sort_unstable();
                    found.insert(group.to_owned(), slots);
                }
            }
            let unprocessed = answer
                .unprocessed_keys
                .unwrap_or_default()
                .remove(table.as_str());
            pending = unprocessed.map(|keys| keys.keys).unwrap_or_default();
            if pending.len() < count {
                delays.restart();
            }
            if !pending.is_empty() && !delays.wait().await {
                return Err(self.unprocessed("BatchGetItem", table, pending.len()));
            }
            pending.extend(rest);
        }
        let slots = groups.iter().map(|group| {
            let slots = found.get(&group.to_string());
            slots.cloned().unwrap_or_default()
        });
        Ok(slots.collect())
    }
}

impl DynamoDbScratchpad {
    /// Writes members of one group, and returns its state after that.
    async fn store_members(
        &self,
        group: GroupId,
        members: Vec<(usize, u32, Bytes)>,
    ) -> Result<Stored> {
        let places = members.iter().map(|(place, ..)| *place).collect();
        // Of two values for one slot the first is the one that counts.
        let mut values: BTreeMap<u32, Bytes> = BTreeMap::new();
        for (_, slot, value) in members {
            values.entry(slot).or_insert(value);
        }
        let mut large: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        for (slot, value) in &values {
            if !is_small(*slot, value) {
                large.push(self.store_value(&group, *slot, value).boxed());
            }
        }
        futures::stream::iter(large)
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect::<()>()
            .await?;

        let item = self.add_slots(&group, &values).await?;
        let is_whole = [ARRIVED, EXPECTED, ROOT]
            .iter()
            .all(|name| item.contains_key(*name));
        let state = match is_whole || item.contains_key(RETIRED) {
            true => state(&item),
            // A service that leaves out what the write did not change.
            false => {
                let table = &self.tables.scratchpad;
                let found = self.get(table, key(&group, STATE)).await?;
                found.as_ref().map(state).unwrap_or_default()
            }
        };
        Ok((places, state))
    }

    /// Adds slots to the group's item, with the values that are small enough for it, and returns
    /// what the service tells of the item after that. A retired group stays as it is.
    async fn add_slots(&self, group: &GroupId, values: &BTreeMap<u32, Bytes>) -> Result<Item> {
        let mut terms = Terms::default();
        let slots = values.keys().map(u32::to_string).collect();
        let add = format!(
            "ADD {} {}",
            terms.name(ARRIVED),
            terms.value(AttributeValue::Ns(slots))
        );
        let mut set = vec![
            terms.keep(EXPECTED, item::number(UNTOLD)),
            terms.keep(ROOT, AttributeValue::Bool(false)),
            terms.equal(EXPIRES, self.expires_at()),
        ];
        for (slot, value) in values {
            let value = match is_small(*slot, value) {
                true => item::bytes(value),
                false => AttributeValue::Null(true),
            };
            set.push(terms.keep(&slot_name(*slot), value));
        }
        let condition = terms.lacks(RETIRED);
        let table = &self.tables.scratchpad;
        let expression = format!("{add} SET {}", set.join(", "));
        let written = self
            .update(table, key(group, STATE), expression, terms)
            .condition_expression(condition)
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match written {
            Ok(written) => Ok(written.attributes.unwrap_or_default()),
            // It is retired, and its slots are as they will stay.
            Err(error) if is_condition(&error) => {
                let old = match error.into_service_error() {
                    UpdateItemError::ConditionalCheckFailedException(old) => old.item,
                    _ => None,
                };
                Ok(old.unwrap_or_default())
            }
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }

    /// Writes a value that is too large for the group's item, if its place is empty.
    async fn store_value(&self, group: &GroupId, slot: u32, value: &Bytes) -> Result<()> {
        let mut terms = Terms::default();
        let condition = terms.lacks(GROUP);
        let (names, _) = terms.into_parts();
        let mut item = key(group, &slot_key(slot));
        item.insert(VALUE.to_owned(), item::bytes(value));
        item.insert(EXPIRES.to_owned(), self.expires_at());
        let written = self
            .client
            .put_item()
            .table_name(&self.tables.scratchpad)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_names(names)
            .send()
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_condition(&error) => Ok(()),
            Err(error) => Err(self.failed("PutItem", &self.tables.scratchpad, error)),
        }
    }

    async fn set_state(
        &self,
        group: &GroupId,
        set: impl FnOnce(&mut Terms) -> Vec<String>,
        answer: ReturnValue,
    ) -> Result<Item> {
        let table = &self.tables.scratchpad;
        let mut terms = Terms::default();
        let mut set = set(&mut terms);
        set.push(terms.equal(EXPIRES, self.expires_at()));
        let expression = format!("SET {}", set.join(", "));
        let written = self
            .update(table, key(group, STATE), expression, terms)
            .return_values(answer)
            .send()
            .await;
        let written = written.map_err(|error| self.failed("UpdateItem", table, error))?;
        Ok(written.attributes.unwrap_or_default())
    }
}

/// By group, in writes of as many arrivals as one may have.
fn batches(arrivals: Vec<Arrival>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut open: HashMap<GroupId, usize> = HashMap::new();
    for (place, arrival) in arrivals.into_iter().enumerate() {
        let Arrival { group, slot, value } = arrival;
        let member = (place, slot, value);
        let batch = open.get(&group).and_then(|batch| batches.get_mut(*batch));
        match batch {
            Some((_, members)) if members.len() < MOST_ARRIVALS => members.push(member),
            _ => {
                open.insert(group.clone(), batches.len());
                batches.push((group, vec![member]));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_write() {
        let arrival = |index, slot| Arrival {
            group: GroupId::new("a", "sum", 1, index),
            slot,
            value: Bytes::new(),
        };
        let arrivals: Vec<Arrival> = (0..120).map(|n| arrival(n % 2, n as u32)).collect();
        let batches = batches(arrivals);
        let sizes: Vec<_> = batches
            .iter()
            .map(|(group, members)| (group.index, members.len()))
            .collect();
        assert_eq!(sizes, [(0, 50), (1, 50), (0, 10), (1, 10)]);
        let places: usize = batches.iter().map(|(_, members)| members.len()).sum();
        assert_eq!(places, 120);
    }

    #[test]
    fn slots_sort_by_their_numbers() {
        assert!(slot_key(9) < slot_key(10) && slot_key(999) < slot_key(1_000));
    }
}
