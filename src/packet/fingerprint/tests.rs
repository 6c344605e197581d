use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::*;

fn of<T: Serialize>(packets: &[&[T]]) -> Fingerprint {
    let mut fingerprinter = Fingerprinter::new();
    for packet in packets {
        fingerprinter.add(packet).unwrap();
    }
    fingerprinter.fingerprint()
}

fn one<T: Serialize>(item: T) -> Fingerprint {
    of(&[&[item]])
}

#[derive(Clone, Serialize)]
struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<u8>,
}

#[derive(Clone, Serialize)]
enum Shape {
    Unit,
    Other,
    Newtype(u8),
    Tuple(u8, u8),
    Struct { first: u8 },
}

#[test]
fn where_packets_end_is_part_of_it() {
    let together = of(&[&[1, 2, 3]]);
    assert_eq!(together, of(&[&[1, 2, 3]]));
    let others = [
        of(&[&[1, 2], &[3]]),
        of(&[&[1], &[2, 3]]),
        of(&[&[1, 3, 2]]),
        of(&[&[1, 2]]),
        of(&[&[1, 2, 3, 3]]),
        of::<i32>(&[&[]]),
        of::<i32>(&[]),
    ];
    for (place, other) in others.iter().enumerate() {
        assert_ne!(*other, together);
        assert!(!others[..place].contains(other), "{place}");
    }
}

#[test]
fn packets_of_any_size_are_hashed_piece_by_piece() {
    let items: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let mut changed = items.clone();
    assert_eq!(of(&[&items]), of(&[&changed]));
    changed[13_000].push('0');
    assert_ne!(of(&[&items]), of(&[&changed]));
}

#[test]
fn the_order_of_a_map_is_none_and_that_of_a_list_is_one() {
    let entries: Vec<(String, u64)> = (0..100).map(|n| (n.to_string(), n)).collect();
    let tree: BTreeMap<_, _> = entries.iter().cloned().collect();
    for _ in 0..3 {
        // Each has keys of its own, and so an order of its own.
        let map: HashMap<_, _> = entries.iter().cloned().collect();
        assert_eq!(one(map), one(&tree));
    }
    let nested =
        |inner: [(u8, u8); 2]| HashMap::from([(1, HashMap::from(inner)), (2, HashMap::new())]);
    assert_eq!(one(nested([(1, 2), (3, 4)])), one(nested([(3, 4), (1, 2)])));
    assert_ne!(one(nested([(1, 2), (3, 4)])), one(nested([(1, 4), (3, 2)])));
    assert_ne!(
        one(HashMap::from([(1, 1)])),
        one(HashMap::<i32, i32>::new())
    );
    let reversed: Vec<_> = entries.iter().rev().collect();
    assert_ne!(one(entries.iter().collect::<Vec<_>>()), one(reversed));
}

#[test]
fn values_that_differ_have_other_fingerprints() {
    let all = [
        one(()),
        one(false),
        one(true),
        one(0),
        one(1u8),
        one(-1i8),
        one(u64::MAX),
        one(i128::MIN),
        one(u128::MAX),
        one(0.0),
        one(-0.0),
        one(1.0),
        one(f64::NAN),
        one(f64::INFINITY),
        one(""),
        one("a"),
        one("ab"),
        one("a".repeat(253)),
        one("a".repeat(254)),
        one("a".repeat(300)),
        one(Some(None::<()>)),
        one(Some(Some(()))),
        one(["a", "b"]),
        one(["ab", ""]),
        one([["a"], ["b"]]),
        one(vec![vec!["a", "b"], vec![]]),
        one(Vec::<u8>::new()),
        one(BTreeMap::<u8, u8>::new()),
        one(Shape::Unit),
        one(Shape::Other),
        one(Shape::Newtype(1)),
        one(Shape::Tuple(1, 1)),
        one(Shape::Struct { first: 1 }),
        one(Record {
            first: None,
            second: None,
        }),
        one(Record {
            first: Some(1),
            second: None,
        }),
        one(Record {
            first: None,
            second: Some(1),
        }),
        one(vec![
            Record {
                first: None,
                second: None,
            },
            Record {
                first: Some(1),
                second: None,
            },
        ]),
        one(vec![
            Record {
                first: Some(1),
                second: None,
            },
            Record {
                first: None,
                second: None,
            },
        ]),
    ];
    for (place, fingerprint) in all.iter().enumerate() {
        let twin = all[..place].iter().position(|other| other == fingerprint);
        assert_eq!(twin, None, "value {place}");
    }
}

/// A field that becomes wider does not make another run of the same numbers.
#[test]
fn the_type_of_a_number_is_no_part_of_it() {
    assert_eq!(one(7u8), one(7i128));
    assert_eq!(one(u64::MAX), one(i128::from(u64::MAX)));
    assert_eq!(one(1.5f32), one(1.5f64));
    assert_eq!(one('a'), one("a"));
}

/// A run may be repeated by a later version of the program: if this test fails, the form has changed, which must not
/// happen.
#[test]
fn the_form_stays() {
    let record = Record {
        first: Some(1),
        second: None,
    };
    let map = HashMap::from([("a", Some(1.5)), ("b", None)]);
    let item = (record, map, Shape::Tuple(1, 2), ["x"], u128::MAX, true);
    let fingerprint = of(&[std::slice::from_ref(&item), &[item.clone(), item.clone()]]);
    assert_eq!(fingerprint.to_string(), "81b6f18acc4e2246dfa56129ff6bd602");
    assert_eq!(
        of(&[&[1, 2, 3]]).to_string(),
        "60a8c0f94457010e6b17d9a23cb136e9"
    );
}
