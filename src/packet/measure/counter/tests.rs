//! What a counter adds up.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::*;

fn bytes<T: Serialize>(value: &T) -> usize {
    let mut counter = Counter::new();
    value.serialize(&mut counter).unwrap();
    counter.bytes()
}

/// Within a fifth of what it should be.
#[track_caller]
fn about<T: Serialize>(value: &T, right: usize) {
    let bytes = bytes(value);
    let range = right - right / 5..=right + right / 5;
    assert!(range.contains(&bytes), "{bytes} is not about {right}");
}

#[test]
fn memory_on_the_heap_is_seen_through_every_shape() {
    #[derive(Clone, Serialize)]
    enum Shape {
        New(String),
        Tuple(u8, String),
        Struct { text: Box<str> },
        Unit,
    }
    let text = || "x".repeat(1_000);
    about(&text(), 1_000);
    about(&Some(Box::new(text())), 1_000);
    about(&Shape::New(text()), 1_000);
    about(&Shape::Tuple(1, text()), 1_000);
    let text = text().into_boxed_str();
    about(&Shape::Struct { text }, 1_000);
    assert!(bytes(&Shape::Unit) > 0);
    about(&vec![0f64; 500], 4_000);
    about(&vec![Some("x".repeat(100).into_boxed_str()); 40], 5_000);
    about(&(vec![1u32; 100], [vec![2u8; 400], Vec::new()]), 820);
}

#[test]
fn some_elements_stand_for_all() {
    let texts: Vec<String> = (0..100_000).map(|_| "x".repeat(100)).collect();
    about(&texts, 12_400_000);
    let lists = vec![vec![vec![7u64; 100]; 100]; 100];
    about(&lists, 8_000_000);
    let map: BTreeMap<u64, String> = (0..10_000).map(|n| (n, "x".repeat(100))).collect();
    about(&map, 1_400_000);
    let map: HashMap<String, String> = (0..10_000)
        .map(|n| (n.to_string(), "x".repeat(100)))
        .collect();
    about(&map, 1_600_000);
    // Its length is not known beforehand.
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        map: BTreeMap<String, String>,
    }
    let map = (0..10_000)
        .map(|n| (n.to_string(), "x".repeat(100)))
        .collect();
    about(&Flat { map }, 1_600_000);
}

/// Few elements are visited, however long the list is and however deep.
#[test]
fn a_long_list_costs_no_more_than_a_short_one() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static VISITED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone)]
    struct Seen;
    impl Serialize for Seen {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            VISITED.fetch_add(1, Relaxed);
            serializer.serialize_u64(1)
        }
    }
    about(&vec![Seen; 1_000_000], 8_000_000);
    assert_eq!(VISITED.swap(0, Relaxed), 1);
    about(&vec![Some(Seen); 1_000_000], 8_000_000);
    assert_eq!(VISITED.swap(0, Relaxed), 64);
    about(
        &vec![vec![vec![vec![Seen; 30]; 30]; 30]; 100],
        8 * 2_700_000 + 24 * 93_000,
    );
    assert!(VISITED.load(Relaxed) <= 64 * 16 * 4, "{VISITED:?}");
}

#[test]
fn a_pattern_in_a_list_is_not_hidden() {
    for period in [2usize, 16, 32] {
        let texts: Vec<_> = (0..3_200)
            .map(|n| "x".repeat(10_000 * usize::from(n % period == 0)))
            .collect();
        let real = 10_000 * 3_200 / period;
        let bytes = bytes(&texts);
        assert!((real / 4..real * 4).contains(&bytes), "{period}: {bytes}");
    }
}

#[test]
fn endless_nesting_ends() {
    #[derive(Serialize)]
    enum Tree {
        Leaf,
        Node(Box<Tree>),
    }
    let deep = |depth| (0..depth).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(tree)));
    assert!(bytes(&deep(100)) < bytes(&deep(150)));
    assert_eq!(bytes(&deep(300)), bytes(&deep(3_000)));
}
