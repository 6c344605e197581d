//! Receipts: which message, and which delivery of it.
//!
//! Statements find the messages of receipts by the primary key, one by one, and are written so that the planner has no other
//! choice. By its statistics a queue has few messages, now and then none, and it would look through all that the index on
//! the queue has for it, or through the whole table, both of which may consist of dead versions for the most part: beside an
//! old transaction that takes most of the time. So the arrays are subqueries, of which it expects few elements, and the
//! queue is an expression that no index has.

use std::sync::Arc;

use crate::queue::Receipt;

/// Messages and their deliveries, as a statement takes them: sorted, so that two statements that lock the same rows do so
/// in the same order.
#[derive(Default)]
pub(super) struct Held {
    pub(super) ids: Vec<i64>,
    pub(super) deliveries: Vec<i32>,
}

impl Held {
    /// Those of these receipts that this queue can have issued.
    pub(super) fn of<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> Self {
        let mut held: Vec<(i64, i32)> = receipts.into_iter().filter_map(read).collect();
        held.sort_unstable();
        held.dedup();
        let (ids, deliveries) = held.into_iter().unzip();
        Self { ids, deliveries }
    }
}

pub(super) fn write(id: i64, delivery: i32) -> Receipt {
    let text: Arc<str> = format!("{id}-{delivery}").into();
    Receipt::new(text)
}

pub(super) fn read(receipt: &Receipt) -> Option<(i64, i32)> {
    let (id, delivery) = receipt.as_str()?.split_once('-')?;
    Some((id.parse().ok()?, delivery.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        assert_eq!(read(&write(7, 2)), Some((7, 2)));
        for foreign in [
            Receipt::from(7),
            Receipt::new("7"),
            Receipt::new("a-b"),
            Receipt::new("7-2-1"),
        ] {
            assert_eq!(read(&foreign), None, "{foreign}");
        }
    }

    #[test]
    fn rows_are_locked_in_one_order() {
        let receipts = [write(9, 1), write(3, 2), Receipt::from(1), write(9, 1)];
        let held = Held::of(&receipts);
        assert_eq!((held.ids, held.deliveries), (vec![3, 9], vec![2, 1]));
    }
}
