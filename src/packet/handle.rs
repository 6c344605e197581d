//! A value that never leaves the process: it is shared as it is, and each reader gets a clone.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::measure;

/// A shared value of any type, or a part of a shared list. It has no type of its own, so that queues and scratchpads can
/// carry it: a reader names the type.
#[derive(Clone)]
pub(crate) struct Handle {
    all: Arc<dyn Any + Send + Sync>,
    /// Of a list that was cut: some of its items.
    part: Option<Range<usize>>,
    bytes: usize,
}

impl Handle {
    /// Keeps a value, and estimates its memory.
    pub(crate) fn of_value<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self {
            bytes: measure::value(&value),
            all: Arc::new(value),
            part: None,
        }
    }

    /// Keeps a list that is to be cut. Its items take `bytes`.
    pub(crate) fn of_list<T: Send + Sync + 'static>(items: Vec<T>, bytes: usize) -> Self {
        Self {
            part: Some(0..items.len()),
            all: Arc::new(items),
            bytes,
        }
    }

    /// Some of the items, which take `bytes`. They are counted from the start of the list that was cut first; those
    /// beyond its end are found missing by the reader.
    pub(crate) fn part(&self, items: Range<usize>, bytes: usize) -> Self {
        Self {
            all: Arc::clone(&self.all),
            part: Some(items),
            bytes,
        }
    }

    /// The items that it has of a list that was cut.
    pub(crate) fn items(&self) -> Option<Range<usize>> {
        self.part.clone()
    }

    /// Estimated memory in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A clone of the value; `None` if it is of another type.
    pub(crate) fn value<T: Clone + 'static>(&self) -> Option<T> {
        match self.part {
            None => self.all.downcast_ref::<T>().cloned(),
            // Packets of items are read as lists.
            Some(_) => None,
        }
    }

    /// The list that it is, or has a part of, and which part; `None` if it is no list of these items.
    pub(crate) fn shared<T: Send + Sync + 'static>(&self) -> Option<(Arc<Vec<T>>, Range<usize>)> {
        let all: Arc<Vec<T>> = Arc::clone(&self.all).downcast().ok()?;
        let part = self.part.clone().unwrap_or(0..all.len());
        all.get(part.clone())?;
        Some((all, part))
    }

    /// A clone of the items of a list, or of a single value as the list of one; `None` if the items are of another type.
    pub(crate) fn list<T: Clone + 'static>(&self) -> Option<Vec<T>> {
        let all = self.all.downcast_ref::<Vec<T>>();
        match &self.part {
            Some(part) => all?.get(part.clone()).map(<[T]>::to_vec),
            None => match all {
                Some(all) => Some(all.clone()),
                None => self.value().map(|value| vec![value]),
            },
        }
    }
}

/// Two handles are equal if they share their value.
impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.all, &other.all) && self.part == other.part
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            None => formatter.write_str("(a value)"),
            Some(part) => write!(formatter, "(items {part:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Own(&'static str);

    #[test]
    fn a_value_is_read_as_often_as_it_takes_and_as_nothing_else() {
        let kept = Handle::of_value(Own("rain"));
        assert_eq!(kept.value(), Some(Own("rain")));
        assert_eq!(kept.value(), Some(Own("rain")));
        assert_eq!(kept.list(), Some(vec![Own("rain")]));
        assert_eq!(kept.value::<String>(), None);
        assert_eq!(kept.list::<String>(), None);
    }

    #[test]
    fn a_list_is_read_whole_and_in_part() {
        let kept = Handle::of_value(vec![Own("a"), Own("b")]);
        assert_eq!(kept.list(), Some(vec![Own("a"), Own("b")]));
        // A list may be one value, too.
        assert_eq!(kept.list(), Some(vec![vec![Own("a"), Own("b")]]));

        let cut = Handle::of_list(vec![Own("a"), Own("b"), Own("c")], 30);
        assert_eq!(cut.list::<Own>().map(|items| items.len()), Some(3));
        let part = |items| cut.part(items, 10).list();
        assert_eq!(part(1..3), Some(vec![Own("b"), Own("c")]));
        assert_eq!(part(3..3), Some(Vec::new()));
        assert_eq!(part(2..4), None);
        assert_eq!(cut.list::<u8>(), None);
        assert_eq!(cut.value::<Vec<Own>>(), None);
    }
}
