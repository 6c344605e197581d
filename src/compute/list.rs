//! Lists of values with their type erased, as they pass from one function of a stage to the next.

use std::any::{Any, type_name};
use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

use crate::core::error::{BoxError, permanent};

/// A `Vec<T>` whose type only its producer and its consumer know.
pub(crate) struct List(Box<dyn Values>);

trait Values: Any + Send {
    fn len(&self) -> usize;
    fn append(&mut self, other: List) -> Result<(), OtherType>;
    fn supply(self: Box<Self>) -> Box<dyn Supply>;
    fn any(self: Box<Self>) -> Box<dyn Any>;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Send + 'static> Values for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn append(&mut self, other: List) -> Result<(), OtherType> {
        if other.len() > 0 {
            self.append(&mut other.take::<T>()?);
        }
        Ok(())
    }

    fn supply(self: Box<Self>) -> Box<dyn Supply> {
        Box::new(self.into_iter())
    }

    fn any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The values of a list, handed out from its beginning.
pub(crate) trait Supply: Send {
    fn len(&self) -> usize;

    /// The next values: `count`, or what is left if that is less. If this panics, because a value cannot be cloned, they are
    /// still the next ones.
    fn next(&mut self, count: usize) -> List;

    /// Leaves out the next value.
    fn skip(&mut self);
}

impl<T: Send + 'static> Supply for IntoIter<T> {
    fn len(&self) -> usize {
        ExactSizeIterator::len(self)
    }

    fn next(&mut self, count: usize) -> List {
        if count >= ExactSizeIterator::len(self) {
            // All that is left keeps its memory.
            return List::new(std::mem::take(self).collect());
        }
        List::new(self.by_ref().take(count).collect())
    }

    fn skip(&mut self) {
        drop(Iterator::next(self));
    }
}

/// Values that are kept, so that any of them can be had again.
pub(super) trait Kept: Send + Sync {
    /// The values from position `begin` on; each is cloned when it is handed out.
    fn from(&self, begin: usize) -> Box<dyn Supply>;

    /// A list of a clone of the value at this position, if there is one.
    fn one(&self, position: usize) -> List;

    fn len(&self) -> usize;
}

impl<T: Clone + Send + Sync + 'static> Kept for Shared<T> {
    fn from(&self, begin: usize) -> Box<dyn Supply> {
        let begin = self.left.start.saturating_add(begin).min(self.left.end);
        let left = begin..self.left.end;
        Box::new(Self::new(Arc::clone(&self.all), left))
    }

    fn one(&self, position: usize) -> List {
        let place = self.left.start.saturating_add(position);
        let value = self.all.get(place).filter(|_| place < self.left.end);
        List::new(value.cloned().into_iter().collect::<Vec<T>>())
    }

    fn len(&self) -> usize {
        self.left.len()
    }
}

/// Items of a list that others may read as well: each is cloned when it is handed out.
pub(super) struct Shared<T> {
    all: Arc<Vec<T>>,
    left: Range<usize>,
}

impl<T> Shared<T> {
    pub(super) fn new(all: Arc<Vec<T>>, left: Range<usize>) -> Self {
        Self { all, left }
    }

    pub(super) fn of(values: Vec<T>) -> Self {
        let left = 0..values.len();
        Self::new(Arc::new(values), left)
    }
}

impl<T: Clone + Send + Sync + 'static> Supply for Shared<T> {
    fn len(&self) -> usize {
        self.left.len()
    }

    fn next(&mut self, count: usize) -> List {
        let begin = self.left.start;
        let end = begin + count.min(self.left.len());
        let next = self.all.get(begin..end);
        let next = next.map_or_else(Vec::new, <[T]>::to_vec);
        self.left.start = end;
        List::new(next)
    }

    fn skip(&mut self) {
        self.left.start += usize::from(!self.left.is_empty());
    }
}

impl List {
    pub(crate) fn new<T: Send + 'static>(values: Vec<T>) -> Self {
        Self(Box::new(values))
    }

    /// Takes the place of a list that was taken. Of a `Vec<()>`, which takes no memory.
    pub(super) fn none() -> Self {
        Self::new(Vec::<()>::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends the values of a list that is empty or has the same type.
    pub(super) fn append(&mut self, other: Self) -> Result<(), OtherType> {
        self.0.append(other)
    }

    pub(super) fn supply(self) -> Box<dyn Supply> {
        self.0.supply()
    }

    pub(super) fn take<T: 'static>(self) -> Result<Vec<T>, OtherType> {
        let values = self.0.any().downcast();
        values
            .map(|values| *values)
            .map_err(|_| OtherType::than::<T>())
    }

    pub(super) fn get_mut<T: 'static>(&mut self) -> Result<&mut Vec<T>, OtherType> {
        let values = self.0.any_mut().downcast_mut();
        values.ok_or_else(OtherType::than::<T>)
    }
}

/// A list came to a function of another type. The builder never connects such functions.
#[derive(Debug, thiserror::Error)]
#[error("a list of another type came to a function that takes `{expected}`: please report this")]
pub(crate) struct OtherType {
    expected: &'static str,
}

impl OtherType {
    fn than<T>() -> Self {
        Self {
            expected: type_name::<T>(),
        }
    }

    pub(super) fn permanent(self) -> BoxError {
        permanent(self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_by_their_type_alone() {
        let mut list = List::new(vec![1u32, 2, 3]);
        list.get_mut::<u32>().unwrap().push(4);
        assert!(list.get_mut::<i32>().is_err());
        assert_eq!(
            (list.len(), list.take::<u32>().unwrap()),
            (4, vec![1, 2, 3, 4])
        );
        let error = List::new(vec!["a".to_owned()]).take::<u32>().unwrap_err();
        assert!(error.to_string().contains("`u32`"), "{error}");
    }

    #[test]
    fn a_supply_hands_out_each_value_once() {
        let mut supply = List::new(vec![1, 2, 3, 4, 5]).supply();
        let mut next = |count| supply.next(count).take::<i32>().unwrap();
        assert_eq!(
            (next(2), next(0), next(9), next(9)),
            (vec![1, 2], vec![], vec![3, 4, 5], vec![])
        );
        let all = Arc::new(vec![0, 1, 2, 3, 4, 5, 6]);
        let mut supply = Shared::new(Arc::clone(&all), 1..6);
        let mut next = |count| supply.next(count).take::<i32>().unwrap();
        assert_eq!(
            (next(2), next(0), next(9), next(9)),
            (vec![1, 2], vec![], vec![3, 4, 5], vec![])
        );
        assert_eq!(all.len(), 7);
    }
}
