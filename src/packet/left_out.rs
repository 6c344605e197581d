//! Which items were left out of a packet. The list travels with the value: it says of exactly this value what is not in it,
//! whatever other deliveries of the same messages have done, and what they have on record.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::attempts::LISTED;

/// An item that was left out: its packet's number and its own.
type Place = (u64, u64);

/// The first items that were left out, by stage. Without one it has nothing on the heap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LeftOut(BTreeMap<String, BTreeSet<Place>>);

/// An item that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lost<'a> {
    pub(crate) stage: &'a str,
    pub(crate) packet: u64,
    pub(crate) item: u64,
}

impl LeftOut {
    /// Items of a stage's packet.
    pub(crate) fn of(stage: &str, packet: u64, items: impl IntoIterator<Item = u64>) -> Self {
        let items: BTreeSet<Place> = items.into_iter().map(|item| (packet, item)).collect();
        if items.is_empty() {
            return Self::default();
        }
        let mut list = Self(BTreeMap::from([(stage.to_owned(), items)]));
        list.cut();
        list
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether it is longer than any that this library writes.
    pub(crate) fn is_too_long(&self) -> bool {
        self.len() > LISTED
    }

    /// Adds those of another packet.
    pub(crate) fn add(&mut self, other: &Self) {
        for (stage, items) in &other.0 {
            match self.0.get_mut(stage) {
                Some(known) => known.extend(items),
                None => drop(self.0.insert(stage.clone(), items.clone())),
            }
        }
        self.cut();
    }

    /// By stage name, packet and item.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Lost<'_>> {
        self.0.iter().flat_map(|(stage, items)| {
            items.iter().map(move |(packet, item)| Lost {
                stage,
                packet: *packet,
                item: *item,
            })
        })
    }

    /// Keeps the first ones. Merged in any order, lists come to the same one.
    fn cut(&mut self) {
        let mut room = LISTED;
        self.0.retain(|_, items| {
            while items.len() > room {
                items.pop_last();
            }
            room -= items.len();
            !items.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_stay_however_they_are_merged() {
        let parts = [
            LeftOut::of("parse", 2, 100..160),
            LeftOut::of("fetch", 1, 50..70),
            LeftOut::of("parse", 10, 800..900),
            LeftOut::of("parse", 0, [3]),
        ];
        let merge = |order: [usize; 4]| {
            let mut all = LeftOut::default();
            for part in order {
                all.add(&parts[part]);
            }
            all
        };
        let all = merge([0, 1, 2, 3]);
        assert_eq!((all.len(), merge([3, 2, 1, 0])), (100, all.clone()));
        let places: Vec<_> = all.iter().collect();
        assert!(places.is_sorted());
        let last = Lost {
            stage: "parse",
            packet: 10,
            item: 818,
        };
        assert_eq!(places.last(), Some(&last));
    }
}
