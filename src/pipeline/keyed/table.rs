//! The values of a grouped reduction by key.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::{Hashed, Known};

/// A value is absent only while its successor is computed.
pub(super) type Map<K, V> = HashMap<Hashed<K>, Option<V>, BuildHasherDefault<Known>>;

/// Every key with its value, in one map or in parts by the key's hash. A clone shares the maps.
///
/// It is written as a list of pairs in the order of the keys.
pub(crate) struct Table<K, V> {
    maps: Vec<Arc<Map<K, V>>>,
}

impl<K, V> Table<K, V> {
    /// The table of these maps: one, or one for each part of the keys.
    pub(super) fn new(maps: Vec<Map<K, V>>) -> Self {
        Self {
            maps: maps.into_iter().map(Arc::new).collect(),
        }
    }

    pub(super) fn maps(self) -> Vec<Arc<Map<K, V>>> {
        self.maps
    }

    /// How many maps it has.
    pub(super) fn parts(&self) -> usize {
        self.maps.len()
    }

    pub(super) fn len(&self) -> usize {
        self.maps.iter().map(|map| map.len()).sum()
    }

    fn pairs(&self) -> impl Iterator<Item = (&K, &V)> {
        let pairs = self.maps.iter().flat_map(|map| map.iter());
        pairs.filter_map(|(key, value)| Some((&key.key, value.as_ref()?)))
    }
}

impl<K: Ord, V> Table<K, V> {
    /// The pairs in the order of their keys.
    pub(super) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut pairs: Vec<(&K, &V)> = self.pairs().collect();
        pairs.sort_unstable_by(|one, other| one.0.cmp(other.0));
        pairs
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// The pairs in the order of their keys, moved out of the maps that no other table shares.
    pub(super) fn into_sorted(self) -> Vec<(K, V)> {
        let mut pairs = Vec::with_capacity(self.len());
        for map in self.maps {
            match Arc::try_unwrap(map) {
                Ok(map) => {
                    let entries = map.into_iter();
                    pairs.extend(entries.filter_map(|(key, value)| Some((key.key, value?))));
                }
                Err(map) => {
                    let entries = map.iter();
                    let clone = |(key, value): (&Hashed<K>, &Option<V>)| {
                        Some((key.key.clone(), value.clone()?))
                    };
                    pairs.extend(entries.filter_map(clone));
                }
            }
        }
        pairs.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        pairs
    }
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let key = Hashed::new(key.clone());
        self.maps
            .get(key.part(self.maps.len()))?
            .get(&key)?
            .as_ref()
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self {
            maps: self.maps.clone(),
        }
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Table<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted())
    }
}

impl<'de, K, V> Deserialize<'de> for Table<K, V>
where
    K: Deserialize<'de> + Hash + Eq,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs(PhantomData))
    }
}

/// Reads pairs.
struct Pairs<K, V>(PhantomData<fn() -> (K, V)>);

impl<'de, K, V> Visitor<'de> for Pairs<K, V>
where
    K: Deserialize<'de> + Hash + Eq,
    V: Deserialize<'de>,
{
    type Value = Table<K, V>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of keys with their values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
        let mut map = Map::default();
        while let Some((key, value)) = pairs.next_element()? {
            if map.insert(Hashed::new(key), Some(value)).is_some() {
                return Err(serde::de::Error::custom("a key is there twice"));
            }
        }
        Ok(Table::new(vec![map]))
    }
}
