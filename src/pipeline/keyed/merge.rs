//! Merging the tables of a group key by key, in the order of their slots.
//!
//! A packet's table is one map. Tables with many keys are merged into parts by the keys' hashes, and from then on part by
//! part: parts have no key in common, so that threads need nothing of each other.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::hash::Hashed;
use super::table::{Map, Table};
use crate::core::cores::cores;
use crate::core::error::BoxError;

/// The number of parts of a table with many keys.
const PARTS: usize = 64;
/// From this many keys on, of all tables to be merged, their sum has parts.
const MANY: usize = 8_192;

/// Combines two values of one key, the earlier one first.
pub(super) trait Merge<V>: Fn(V, V) -> Result<V, BoxError> + Sync {}
impl<V, F: Fn(V, V) -> Result<V, BoxError> + Sync> Merge<V> for F {}

/// All keys of the tables, each with its values combined in the tables' order.
///
/// # Errors
/// The operator's first error of those that were met.
pub(super) fn merge<K, V>(
    tables: Vec<Table<K, V>>,
    operator: impl Merge<V>,
) -> Result<Table<K, V>, BoxError>
where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync,
{
    let keys: usize = tables.iter().map(Table::len).sum();
    let has_parts = tables.iter().any(|table| table.parts() > 1);
    if keys < MANY && !has_parts {
        let maps = tables.into_iter().flat_map(Table::maps).collect();
        return Ok(Table::new(vec![merge_part(maps, &operator)?]));
    }
    if !has_parts {
        return merge_into_parts(tables, &operator);
    }
    let mut parts: Vec<Vec<Arc<Map<K, V>>>> = (0..PARTS).map(|_| Vec::new()).collect();
    for table in tables {
        for (part, map) in parts.iter_mut().zip(in_parts(table)) {
            part.push(map);
        }
    }
    side_by_side(parts, |maps| merge_part(maps, &operator)).map(Table::new)
}

/// A table's maps by part.
fn in_parts<K: Clone + Hash + Eq, V: Clone>(table: Table<K, V>) -> Vec<Arc<Map<K, V>>> {
    if table.parts() == PARTS {
        return table.maps();
    }
    let mut parts: Vec<Map<K, V>> = (0..PARTS).map(|_| Map::default()).collect();
    for map in table.maps() {
        each(map, |key, value| {
            if let Some(part) = parts.get_mut(key.part(PARTS)) {
                part.insert(key, Some(value));
            }
        });
    }
    parts.into_iter().map(Arc::new).collect()
}

fn merge_into_parts<K, V>(
    tables: Vec<Table<K, V>>,
    operator: &impl Merge<V>,
) -> Result<Table<K, V>, BoxError>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    let mut parts: Vec<Map<K, V>> = (0..PARTS).map(|_| Map::default()).collect();
    let mut result = Ok(());
    for map in tables.into_iter().flat_map(Table::maps) {
        each(map, |key, value| {
            if let Some(part) = parts.get_mut(key.part(PARTS))
                && result.is_ok()
            {
                result = add(part, key, value, operator);
            }
        });
        std::mem::replace(&mut result, Ok(()))?;
    }
    Ok(Table::new(parts))
}

/// Merges maps into the first of them.
fn merge_part<K, V>(
    maps: Vec<Arc<Map<K, V>>>,
    operator: &impl Merge<V>,
) -> Result<Map<K, V>, BoxError>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    let mut maps = maps.into_iter();
    let mut whole = match maps.next() {
        Some(first) => Arc::try_unwrap(first).unwrap_or_else(|first| Map::clone(&first)),
        None => Map::default(),
    };
    let mut result = Ok(());
    for map in maps {
        each(map, |key, value| {
            if result.is_ok() {
                result = add(&mut whole, key, value, operator);
            }
        });
        std::mem::replace(&mut result, Ok(()))?;
    }
    Ok(whole)
}

fn add<K: Eq, V>(
    map: &mut Map<K, V>,
    key: Hashed<K>,
    value: V,
    operator: &impl Merge<V>,
) -> Result<(), BoxError> {
    let place = map.entry(key).or_insert(None);
    *place = Some(match place.take() {
        Some(earlier) => operator(earlier, value)?,
        None => value,
    });
    Ok(())
}

/// Every pair of a map: moved out of it, unless another delivery may want it again.
fn each<K: Clone, V: Clone>(map: Arc<Map<K, V>>, mut take: impl FnMut(Hashed<K>, V)) {
    match Arc::try_unwrap(map) {
        Ok(map) => {
            for (key, value) in map {
                if let Some(value) = value {
                    take(key, value);
                }
            }
        }
        Err(map) => {
            for (key, value) in map.iter() {
                if let Some(value) = value {
                    take(key.clone(), value.clone());
                }
            }
        }
    }
}

/// Does the work of each part on as many threads as there are cores, and returns the parts in order.
fn side_by_side<P: Send, T: Send>(
    parts: Vec<P>,
    work: impl Fn(P) -> Result<T, BoxError> + Sync,
) -> Result<Vec<T>, BoxError> {
    let threads = cores().min(parts.len()).max(1);
    let count = parts.len();
    let parts: Vec<std::sync::Mutex<Option<P>>> = parts
        .into_iter()
        .map(|part| std::sync::Mutex::new(Some(part)))
        .collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(place) else {
                return Ok(done);
            };
            let part = part.lock().map_or(None, |mut part| part.take());
            if let Some(part) = part {
                match work(part) {
                    Ok(made) => done.push((place, made)),
                    Err(error) => {
                        // The others need not go on.
                        next.store(count, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        }
    };
    let all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut all = vec![run()];
        for other in others {
            match other.join() {
                Ok(done) => all.push(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    let mut made = Vec::with_capacity(count);
    for done in all {
        made.extend(done?);
    }
    made.sort_unstable_by_key(|(place, _)| *place);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}
