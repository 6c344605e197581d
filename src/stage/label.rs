//! The function that a stage's failures name their items with, its item's type erased.

use std::any::{Any, TypeId, type_name};
use std::fmt::{self, Display, Write};
use std::sync::Arc;

use crate::core::excerpt::Excerpt;

/// Most characters of a label.
const LONGEST: usize = 200;

/// The type of a stage's items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ItemType {
    id: TypeId,
    name: &'static str,
}

impl ItemType {
    pub(crate) fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

/// Type names are not unique, so they do not count.
impl PartialEq for ItemType {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// What [`Stage::label`](super::Stage::label) was given.
#[derive(Clone)]
pub(crate) struct Labeller {
    item: ItemType,
    label: Arc<Label>,
}

/// The label of an item; `None` if it is of another type.
type Label = dyn Fn(&dyn Any) -> Option<String> + Send + Sync;

impl Labeller {
    pub(crate) fn new<T, L>(label: impl Fn(&T) -> L + Send + Sync + 'static) -> Self
    where
        T: 'static,
        L: Display,
    {
        let label = move |item: &dyn Any| {
            let label = label(item.downcast_ref()?);
            let mut excerpt = Excerpt::new(LONGEST);
            if write!(excerpt, "{label}").is_err() {
                excerpt.cut();
            }
            excerpt.finish()
        };
        Self {
            item: ItemType::of::<T>(),
            label: Arc::new(label),
        }
    }

    /// The type that the function takes.
    pub(crate) fn item(&self) -> ItemType {
        self.item
    }

    /// The label of an item; `None` if it is empty, or the item is of another type. Panics if the function does.
    pub(crate) fn label(&self, item: &dyn Any) -> Option<String> {
        (self.label)(item)
    }
}

/// Functions cannot be compared: only a clone is equal.
impl PartialEq for Labeller {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.label, &other.label)
    }
}

impl fmt::Debug for Labeller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "(of `{}`)", self.item.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_the_function_displays() {
        let number = Labeller::new(|order: &(u64, String)| order.0);
        assert_eq!(
            number.label(&(17u64, "x".to_owned())).as_deref(),
            Some("17")
        );
        assert_eq!(number.label(&17u64), None);
        assert_eq!(Labeller::new(|_: &u64| "").label(&17u64), None);
    }

    #[test]
    fn a_label_has_at_most_200_characters() {
        let long = Labeller::new(|_: &()| "é".repeat(1_000));
        let label = long.label(&()).unwrap();
        assert_eq!(label.chars().count(), 200);
        assert!(label.ends_with("é…"));
    }

    /// Writes its beginning, and then says that it cannot be written.
    struct Broken;

    impl Display for Broken {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("page 1")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_label_that_breaks_off_is_cut_there() {
        let broken = Labeller::new(|_: &()| Broken);
        assert_eq!(broken.label(&()).as_deref(), Some("page 1…"));
    }

    #[test]
    fn only_a_clone_is_equal() {
        let label = |item: &u64| item.to_string();
        let (one, other) = (Labeller::new(label), Labeller::new(label));
        assert_eq!(one, one.clone());
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "(of `u64`)");
    }
}
