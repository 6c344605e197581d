//! Random values.

use std::env;

use proptest::collection::{btree_map, hash_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::types::*;

/// 2,000 values, or as many as the environment variable `CATCHMENT_VALUES` says: the same at each run.
pub(crate) fn values() -> impl Iterator<Item = Value> {
    let count = env::var("CATCHMENT_VALUES").map_or(2_000, |count| count.parse().unwrap());
    let (mut runner, values) = (TestRunner::deterministic(), value());
    (0..count).map(move |_| values.new_tree(&mut runner).unwrap().current())
}

fn single() -> impl Strategy<Value = Single> + Clone {
    let known = [0x15ae_43fd, 0x95ae_43fd, 0x8000_0000].map(|bits| Single(f32::from_bits(bits)));
    prop_oneof![
        // Any bits: NaN of every kind, infinities, denormals.
        2 => any::<u32>().prop_map(|bits| Single(f32::from_bits(bits))),
        6 => any::<f32>().prop_map(Single),
        1 => proptest::sample::select(known.to_vec()),
    ]
}

fn double() -> impl Strategy<Value = Double> + Clone {
    prop_oneof![
        1 => any::<u64>().prop_map(|bits| Double(f64::from_bits(bits))),
        1 => proptest::num::f64::ANY.prop_map(Double),
        6 => any::<f64>().prop_map(Double),
        2 => (-3i8..3).prop_map(|n| Double(n.into())),
    ]
}

fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        4 => vec(any::<char>(), 0..6).prop_map(String::from_iter),
        2 => vec(0u8..0x80, 0..6).prop_map(|ascii| ascii.into_iter().map(char::from).collect()),
        1 => proptest::sample::select(vec!["null", "true", "1", "", "\u{ffff}", "\u{2028}\0", "{}"])
            .prop_map(str::to_owned),
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> + Clone {
    vec(any::<u8>(), 0..5).prop_map(Bytes)
}

fn color() -> impl Strategy<Value = Color> + Clone {
    proptest::sample::select(vec![Color::DarkRed, Color::Null])
}

fn json() -> impl Strategy<Value = serde_json::Value> + Clone {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(), inner), 0..3).prop_map(Value::from_iter),
        ]
    })
}

fn inner() -> impl Strategy<Value = Inner> + Clone {
    (single(), of(double())).prop_map(|(x, y)| Inner { x, y })
}

fn internal(
    value: impl Strategy<Value = Buffered> + Clone,
) -> impl Strategy<Value = Internal> + Clone {
    prop_oneof![
        Just(Internal::Unit),
        (value, of(double())).prop_map(|(a, b)| Internal::Struct { a, b }),
        inner().prop_map(Internal::Wrapped),
    ]
}

fn buffered() -> impl Strategy<Value = Buffered> + Clone {
    let leaf = prop_oneof![
        Just(Buffered::Unit),
        any::<i64>().prop_map(Buffered::Signed),
        any::<u64>().prop_map(Buffered::Unsigned),
        single().prop_map(Buffered::Single),
        double().prop_map(Buffered::Double),
        any::<char>().prop_map(Buffered::Char),
        text().prop_map(Buffered::Text),
        bytes().prop_map(Buffered::Bytes),
        of(Just(())).prop_map(Buffered::OptionOfUnit),
        btree_map(color(), any::<u8>(), 0..3).prop_map(Buffered::ByColor),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            of(boxed.clone()).prop_map(Buffered::Option),
            vec(inner.clone(), 0..3).prop_map(Buffered::List),
            (boxed, of(single())).prop_map(|(a, b)| Buffered::Struct { a, b }),
            btree_map(text(), inner.clone(), 0..3).prop_map(Buffered::Map),
            internal(inner).prop_map(|it| Buffered::Internal(Box::new(it))),
        ]
    })
}

fn untagged() -> impl Strategy<Value = Untagged> + Clone {
    let leaf = prop_oneof![
        Just(Untagged::Nothing),
        any::<i64>().prop_map(Untagged::Integer),
        double().prop_map(Untagged::Double),
        text().prop_map(Untagged::Text),
        of(single()).prop_map(|option| Untagged::Option { option }),
        buffered().prop_map(|it| Untagged::Struct {
            untagged: Box::new(it)
        }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| vec(inner, 0..3).prop_map(Untagged::List))
}

fn flat() -> impl Strategy<Value = Flat> + Clone {
    let key = text().prop_map(|key| format!("_{key}"));
    let rest = btree_map(key, buffered(), 0..3);
    (any::<u8>(), inner(), rest).prop_map(|(id, inner, rest)| Flat { id, inner, rest })
}

fn leaf() -> impl Strategy<Value = Value> + Clone {
    let numbers = prop_oneof![
        (any::<i8>(), any::<u16>()).prop_map(|(a, b)| Value::Small(a, b)),
        any::<i64>().prop_map(Value::Signed),
        any::<u64>().prop_map(Value::Unsigned),
        any::<i128>().prop_map(Value::Signed128),
        any::<u128>().prop_map(Value::Unsigned128),
        single().prop_map(Value::Single),
        double().prop_map(Value::Double),
        any::<[u8; 3]>().prop_map(Value::Array),
        any::<std::time::Duration>().prop_map(Value::Duration),
    ];
    let empty = prop_oneof![
        Just(Value::Unit),
        Just(Value::Nothing(())),
        Just(Value::UnitStruct(Unit)),
        any::<bool>().prop_map(Value::Bool),
        (0usize..4).prop_map(|count| Value::Units(vec![(); count])),
        of(of(of(any::<u8>()))).prop_map(Value::Options),
        of(Just(())).prop_map(Value::OptionOfUnit),
        of(Just(Unit)).prop_map(Value::OptionOfUnitStruct),
        of(of(any::<u8>()).prop_map(Newtype)).prop_map(Value::OptionOfNewtype),
        of(double()).prop_map(Value::OptionOfFloat),
        of(json()).prop_map(Value::OptionOfJson),
    ];
    let texts = prop_oneof![
        any::<char>().prop_map(Value::Char),
        text().prop_map(Value::Text),
        bytes().prop_map(Value::Bytes),
    ];
    let buffers = prop_oneof![
        internal(buffered()).prop_map(Value::Internal),
        untagged().prop_map(Value::Untagged),
        flat().prop_map(Value::Flat),
        json().prop_map(Value::Json),
    ];
    prop_oneof![4 => numbers, 4 => empty, 3 => texts, 3 => buffers, 3 => maps()]
}

fn maps() -> impl Strategy<Value = Value> + Clone {
    let n = any::<u8>;
    prop_oneof![
        btree_map(any::<char>(), n(), 0..3).prop_map(Value::ByChar),
        btree_map(any::<i64>(), n(), 0..3).prop_map(Value::ByInteger),
        btree_map(any::<bool>(), n(), 0..3).prop_map(Value::ByBool),
        btree_map(color(), n(), 0..3).prop_map(Value::ByUnitVariant),
        btree_map(any::<u32>().prop_map(Newtype), n(), 0..3).prop_map(Value::ByNewtype),
        btree_map(any::<u128>(), any::<i128>(), 0..3).prop_map(Value::ByInteger128),
        prop_oneof![
            btree_map(double(), n(), 0..3).prop_map(Value::ByFloat),
            btree_map(single(), n(), 0..3).prop_map(Value::BySingle),
            btree_map(any::<(u8, u8)>(), n(), 0..3).prop_map(Value::ByTuple),
            btree_map(vec(n(), 0..3), n(), 0..3).prop_map(Value::ByList),
            btree_map(bytes(), n(), 0..3).prop_map(Value::ByBytes),
            btree_map(of(n()), n(), 0..3).prop_map(Value::ByOption),
            btree_map(Just(()), n(), 0..2).prop_map(Value::ByUnit),
        ],
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 16, 4, |value| {
        let boxed = value.clone().prop_map(Box::new);
        let two = (value.clone(), any::<u8>(), value.clone());
        prop_oneof![
            of(boxed.clone()).prop_map(Value::Option),
            vec(value.clone(), 0..4).prop_map(Value::List),
            two.prop_map(|all| Value::Tuple(Box::new(all))),
            (boxed.clone(), any::<i64>()).prop_map(|(a, b)| Value::TupleVariant(a, b)),
            (boxed.clone(), of(any::<u8>())).prop_map(|(a, b)| Value::StructVariant { a, b }),
            structs(value.clone()),
            boxed.clone().prop_map(|it| Value::Result(Ok(it))),
            text().prop_map(|it| Value::Result(Err(it))),
            btree_map(text(), value.clone(), 0..4).prop_map(Value::Map),
            hash_map(any::<u32>(), boxed.clone(), 0..4).prop_map(Value::Hashed),
            adjacent(boxed),
        ]
    })
}

fn structs(value: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Value> {
    let option = of(double().prop_map(Newtype));
    let plain = (value.clone(), option).prop_map(|(value, option)| Struct {
        value,
        option,
        cache: (),
    });
    let skips = (of(of(any::<u8>())), any::<u8>(), vec(value.clone(), 0..2));
    prop_oneof![
        plain.prop_map(|it| Value::Struct(Box::new(it))),
        (value.clone(), single()).prop_map(|(a, b)| Value::Pair(Box::new(Pair(a, b)))),
        value.prop_map(|it| Value::Newtype(Box::new(Newtype(it)))),
        skips.prop_map(|(a, b, list)| Value::Skips(Skips { a, b, list })),
    ]
}

fn adjacent(
    value: impl Strategy<Value = Box<Value>> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let adjacent = prop_oneof![
        Just(Adjacent::Unit),
        value.clone().prop_map(Adjacent::Newtype),
        of(Just(())).prop_map(Adjacent::OptionOfUnit),
        (value.clone(), single()).prop_map(|(a, b)| Adjacent::Tuple(a, b)),
        value.prop_map(|a| Adjacent::Struct { a }),
    ];
    adjacent.prop_map(Value::Adjacent)
}
