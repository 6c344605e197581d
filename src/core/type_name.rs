//! The names of types as people write them.

use std::any::type_name;
use std::fmt::{self, Write};
use std::marker::PhantomData;

use super::excerpt::Excerpt;

/// Most characters of a name: types can be nested deeply.
const LONGEST: usize = 200;

/// Displays the name of a type without the paths of its parts, such as `HashMap<(String, u16), u64>`.
pub(crate) struct Short<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Short<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: ?Sized> fmt::Display for Short<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&without_paths(type_name::<T>()))
    }
}

/// The name of a type without paths, of one that has them.
pub(crate) fn without_paths(name: &str) -> String {
    let mut short = Excerpt::new(LONGEST);
    // Braces are part of `{{closure}}`, which stands for a function's body.
    let is_part = |character: char| character.is_alphanumeric() || "_{}".contains(character);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = match is_part(first) {
            true => rest.find(|character| !is_part(character)),
            false => Some(first.len_utf8()),
        };
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = match after.strip_prefix("::") {
            // What stands before these is a path, unless it ends with generics.
            Some(inside) if is_part(first) => inside,
            _ => {
                if short.write_str(part).is_err() {
                    break;
                }
                after
            }
        };
    }
    short.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Order;

    fn short<T: ?Sized>() -> String {
        Short::<T>::new().to_string()
    }

    #[test]
    fn paths_are_left_out() {
        assert_eq!(short::<u64>(), "u64");
        assert_eq!(short::<Order>(), "Order");
        assert_eq!(
            short::<HashMap<(String, u16), Vec<Option<Order>>>>(),
            "HashMap<(String, u16), Vec<Option<Order>>>"
        );
        assert_eq!(short::<&'static [String]>(), "&[String]");
        assert_eq!(short::<[u8; 4]>(), "[u8; 4]");
        assert_eq!(short::<dyn Fn(String) -> u8>(), "dyn Fn(String) -> u8");
        assert_eq!(without_paths("a::b::{{closure}}"), "{{closure}}");
        assert_eq!(without_paths("a::main::{{closure}}::Order"), "Order");
        assert_eq!(without_paths("a::f<b::C>::D"), "f<C>::D");
    }

    #[test]
    fn a_long_name_is_cut() {
        let long = without_paths(&"Vec<".repeat(1_000));
        assert_eq!(long.chars().count(), LONGEST);
    }
}
