//! What serde hides from every codec, as the documentation of `Codec` lists it: found by `travels`.

use std::collections::BTreeMap;

use catchment::testing::{MisfitKind, travels_in};
use catchment::{Codec, Data};
use serde::{Deserialize, Serialize};

fn kind<T: Data + PartialEq + std::fmt::Debug>(codec: Codec, value: &T) -> MisfitKind {
    travels_in(codec, value).unwrap_err().kind
}

fn altered<T: Data + PartialEq + std::fmt::Debug>(codec: Codec, value: &T) {
    let kind = kind(codec, value);
    assert!(matches!(kind, MisfitKind::Altered(_)), "{kind}");
}

fn unreadable<T: Data + PartialEq + std::fmt::Debug>(codec: Codec, value: &T) {
    let kind = kind(codec, value);
    assert!(matches!(kind, MisfitKind::Unreadable(_)), "{kind}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Size {
    Large(u128),
    Named(String),
    Share(f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Numbers { by_number: BTreeMap<u32, u8> },
    Large { number: i128 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rest {
    #[serde(default)]
    more: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: Option<Rest>,
    #[serde(flatten)]
    others: BTreeMap<String, u8>,
}

#[test]
fn what_serde_buffers() {
    altered(Codec::Json, &Size::Large(1));
    travels_in(Codec::Json, &Size::Named("1".into())).unwrap();
    travels_in(Codec::Json, &Size::Share(1.0)).unwrap();
    let numbers = |n| Tagged::Numbers {
        by_number: BTreeMap::from([(n, 1)]),
    };
    unreadable(Codec::Json, &numbers(1));
    unreadable(Codec::Json, &Tagged::Large { number: i128::MAX });
    let flat = |rest, key: &str| Flat {
        id: 1,
        rest,
        others: BTreeMap::from([(key.to_owned(), 2)]),
    };
    altered(Codec::Json, &flat(None, "a"));
    unreadable(Codec::Json, &flat(Some(Rest::default()), "id"));
}

#[cfg(feature = "postcard")]
#[test]
fn what_has_no_names() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[expect(dead_code, reason = "it only moves the others on")]
    enum Skips {
        #[serde(skip)]
        Cached,
        First,
        Second,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct OneWay {
        #[serde(skip_serializing, default)]
        cached: u8,
        number: u8,
    }
    travels_in(Codec::Json, &Skips::First).unwrap();
    altered(Codec::Postcard, &Skips::First);
    let value = OneWay {
        cached: 0,
        number: 1,
    };
    travels_in(Codec::Json, &value).unwrap();
    assert!(travels_in(Codec::Postcard, &value).is_err());
    unreadable(Codec::Postcard, &Size::Named("a".into()));
    unreadable(Codec::Postcard, &serde_json::json!({}));
}
