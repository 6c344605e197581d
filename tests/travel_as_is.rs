//! Inside one process every value travels as it is: no format's limits, and one clone for each delivery.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use catchment::{Backoff, OnFailure, Pipeline, Stage};
use serde::{Deserialize, Serialize, Serializer, de};

#[tokio::test]
async fn an_infinite_float_in_an_option_comes_back() {
    let largest = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    let pipeline = Pipeline::new().map(|n: i64| 1.0 / n as f64).fold(
        || None,
        move |most, n| largest(most, Some(n)),
        largest,
    );
    let most = pipeline.run([1, 0, 2]).await.unwrap();
    assert_eq!(most, Some(f64::INFINITY));
}

#[tokio::test]
async fn an_option_of_nothing_comes_back() {
    let seen = Pipeline::new().map(|n: u8| n).fold(
        || None::<()>,
        |_, _| Some(()),
        |one: Option<()>, other| one.or(other),
    );
    assert_eq!(seen.run([1]).await.unwrap(), Some(()));
    // More packets than one, and a stage after the reduction.
    let pipeline = seen.map(|seen: Option<()>| Some(seen));
    assert_eq!(pipeline.run(0..100).await.unwrap(), Some(Some(())));
}

#[tokio::test]
async fn options_in_options_come_back() {
    let items = [None, Some(None), Some(Some(3))];
    let pipeline = Pipeline::new().map(|n: Option<Option<u32>>| n);
    // As items, as what lies between two stages, and as partial results.
    let pipeline = pipeline.with(Stage::named("first")).map(|n| n).collect();
    assert_eq!(pipeline.run(items).await.unwrap(), items);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    place: String,
    celsius: f64,
    wind: Option<f32>,
}

#[tokio::test]
async fn every_float_keeps_its_bits_in_a_struct() {
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    let readings = [
        odd,
        -0.0,
        f64::NEG_INFINITY,
        f64::from_bits(0xfff0_0000_0000_0001),
    ];
    let readings = readings.map(|celsius| Reading {
        place: "valley".into(),
        celsius,
        wind: Some(f32::NAN),
    });
    let pipeline = Pipeline::new().map(|reading: Reading| reading).collect();
    let back = pipeline.run(readings.clone()).await.unwrap();
    for (back, reading) in back.iter().zip(&readings) {
        assert_eq!(back.place, reading.place);
        assert_eq!(back.celsius.to_bits(), reading.celsius.to_bits());
        let bits = |reading: &Reading| reading.wind.map(f32::to_bits);
        assert_eq!(bits(back), bits(reading));
    }
    assert_eq!(back.len(), 4);
}

#[tokio::test]
async fn maps_have_keys_of_any_kind() {
    let grid = HashMap::from([((1u32, 2u32), 3u64), ((4, 5), 6)]);
    let words = BTreeMap::from([(b"rain".to_vec(), 1u64), (vec![0xff], 2)]);
    type Maps = (HashMap<(u32, u32), u64>, BTreeMap<Vec<u8>, u64>);
    let pipeline = Pipeline::new().map(|maps: Maps| maps).reduce(
        Default::default,
        |(mut grid, mut words), (more, others)| {
            more.into_iter()
                .for_each(|(at, n)| *grid.entry(at).or_default() += n);
            others
                .into_iter()
                .for_each(|(word, n)| *words.entry(word).or_default() += n);
            (grid, words)
        },
    );
    let items = std::iter::repeat_n((grid, words), 100);
    let (grid, words) = pipeline.run(items).await.unwrap();
    assert_eq!(grid, HashMap::from([((1, 2), 300), ((4, 5), 600)]));
    assert_eq!(
        words,
        BTreeMap::from([(b"rain".to_vec(), 100), (vec![0xff], 200)])
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

impl Tree {
    fn of(depth: usize) -> Self {
        (0..depth).fold(Self::Leaf, |tree, _| Self::Node(Box::new(tree)))
    }
}

#[tokio::test]
async fn nesting_may_be_deep() {
    let deeper = |tree| Tree::Node(Box::new(tree));
    let pipeline = Pipeline::new()
        .map(deeper)
        .reduce(|| Tree::Leaf, |a, b| if a == Tree::Leaf { b } else { a });
    let back = pipeline.run([Tree::of(300), Tree::of(300)]).await.unwrap();
    assert_eq!(back, Tree::of(301));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Amount {
    N(u128),
    S(String),
    F(f64),
}

#[tokio::test]
async fn a_variant_stays_that_variant() {
    let items = [
        Amount::N(1),
        Amount::S("1".into()),
        Amount::F(1.0),
        Amount::N(u128::MAX),
    ];
    let pipeline = Pipeline::new().map(|amount: Amount| amount).collect();
    assert_eq!(pipeline.run(items.clone()).await.unwrap(), items);
}

/// A type that no format can write or read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Unwritable {
    text: String,
    panics: bool,
}

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        assert!(!self.panics, "it is never written");
        Err(serde::ser::Error::custom("it cannot be written"))
    }
}

impl<'de> Deserialize<'de> for Unwritable {
    fn deserialize<D: de::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("it cannot be read"))
    }
}

#[tokio::test]
async fn a_type_that_cannot_be_written_goes_through() {
    let pipeline = Pipeline::new()
        .map(|value: Unwritable| value)
        .with(Stage::named("first"))
        .then(|value| async move { Ok::<_, Infallible>(vec![value]) })
        .reduce(Vec::new, |a, b| [a, b].concat());
    for panics in [false, true] {
        let value = Unwritable {
            text: "rain".into(),
            panics,
        };
        let items = vec![value; 3];
        assert_eq!(pipeline.run(items.clone()).await.unwrap(), items);
    }
}

/// Writing a value that owns no memory on the heap is not even tried.
#[tokio::test]
async fn nothing_is_measured_that_need_not_be() {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);

    #[derive(Clone, Copy, Debug, Deserialize)]
    struct Plain(u64);

    impl Serialize for Plain {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            WRITTEN.fetch_add(1, Relaxed);
            serializer.serialize_u64(self.0)
        }
    }

    let pipeline = Pipeline::new()
        .map(|n: Plain| n)
        .reduce(|| Plain(0), |Plain(a), Plain(b)| Plain(a + b));
    assert_eq!(pipeline.run((0..100).map(Plain)).await.unwrap().0, 4_950);
    assert_eq!(WRITTEN.load(Relaxed), 0);
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn a_codec_is_for_deployments() {
    let pipeline = Pipeline::new()
        .map(|n: Option<Unwritable>| n)
        .collect()
        .codec(catchment::Codec::Postcard);
    let items = [None, Some(Unwritable::default())];
    assert_eq!(pipeline.run(items.clone()).await.unwrap(), items);
}

/// Two types that count their clones.
macro_rules! counted {
    ($name:ident, $clones:ident) => {
        static $clones: AtomicUsize = AtomicUsize::new(0);

        #[derive(Debug, Serialize, Deserialize)]
        struct $name(u64, String);

        impl Clone for $name {
            fn clone(&self) -> Self {
                $clones.fetch_add(1, Relaxed);
                Self(self.0, self.1.clone())
            }
        }
    };
}

counted!(Item, ITEMS);
counted!(Between, BETWEEN);
counted!(Partial, PARTIALS);

#[tokio::test]
async fn a_delivery_is_one_clone() {
    let pipeline = Pipeline::new()
        .map(|Item(n, text)| Between(n, text))
        .with(Stage::named("first").packet_size(10))
        .then(|Between(n, text)| async move { Ok::<_, Infallible>(Partial(n, text)) })
        .reduce(|| Partial(0, String::new()), |a, b| Partial(a.0 + b.0, b.1));
    let items = (0..100).map(|n| Item(n, n.to_string()));
    let Partial(sum, last) = pipeline.run(items).await.unwrap();
    assert_eq!((sum, last.as_str()), (4_950, "99"));
    let clones = [&ITEMS, &BETWEEN, &PARTIALS].map(|clones| clones.load(Relaxed));
    // Of ten packets each partial result is read once, for their group, and so is the result.
    assert_eq!(clones, [100, 100, 10 + 1]);
}

/// A value whose clone panics if it is 7.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unclonable(u64);

impl Clone for Unclonable {
    fn clone(&self) -> Self {
        assert_ne!(self.0, 7, "no clone");
        Self(self.0)
    }
}

/// Each delivery gets a clone. One that panics is a failure like any other.
#[tokio::test]
async fn a_clone_that_panics_fails_the_run() {
    let options = || Stage::named("clones").attempts(2).backoff(Backoff::none());
    let in_turn = Pipeline::new().map(|value: Unclonable| value.0);
    let side_by_side =
        Pipeline::new().then(|value: Unclonable| async move { Ok::<_, String>(value.0) });
    for pipeline in [in_turn, side_by_side] {
        for packet_size in [1, 20] {
            let sum = pipeline
                .clone()
                .with(options().packet_size(packet_size))
                .reduce(|| 0, |a, b| a + b);
            assert_eq!(sum.run((8..20).map(Unclonable)).await.unwrap(), 162);
            let error = sum.run((0..20).map(Unclonable)).await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("clones") && text.contains("no clone"),
                "{text}"
            );
        }
    }
}

/// Under a skip policy it is left out, and its neighbours are not.
#[tokio::test]
async fn an_item_whose_clone_panics_is_left_out() {
    let options = || {
        Stage::named("clones")
            .attempts(1)
            .on_failure(OnFailure::Skip)
    };
    let in_turn = Pipeline::new().map(|value: Unclonable| value.0);
    let side_by_side =
        Pipeline::new().then(|value: Unclonable| async move { Ok::<_, String>(value.0) });
    for pipeline in [in_turn, side_by_side] {
        for packet_size in [1, 20] {
            let sum = pipeline
                .clone()
                .with(options().packet_size(packet_size))
                .reduce(|| 0, |a, b| a + b);
            assert_eq!(sum.run((0..20).map(Unclonable)).await.unwrap(), 190 - 7);
        }
    }
}
