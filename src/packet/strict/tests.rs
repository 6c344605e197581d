//! What is refused and with which words; the property tests in `tests/values` hold the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::core::error::describe;
use crate::packet::codec::{self, Codec, Payload};

/// The whole error, on one line.
fn refusal<T: Serialize + ?Sized>(value: &T, codec: Codec) -> String {
    let error = codec::write(value, codec, "it").unwrap_err();
    describe(&error)
}

fn comes_back<T: Serialize + DeserializeOwned + Clone + 'static>(value: &T, codec: Codec) -> T {
    codec::decode(&codec::write(value, codec, "it").unwrap(), "it").unwrap()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    name: String,
    scores: BTreeMap<String, f64>,
    shape: Option<Shape>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Circle { radius: f32 },
    Line(f64, f64),
    Empty(Box<Option<()>>),
}

fn sample(shape: Shape) -> Sample {
    Sample {
        name: "a".into(),
        scores: BTreeMap::from([("mean".into(), 1.0)]),
        shape: Some(shape),
    }
}

#[test]
fn the_error_names_path_reason_and_way_out() {
    let mut bad = sample(Shape::Line(0.0, 1.0));
    bad.scores.insert("worst".into(), f64::NAN);
    assert_eq!(
        refusal(&vec![sample(Shape::Line(0.0, 1.0)), bad], Codec::Json),
        "cannot encode it: at `[1].scores[\"worst\"]`: JSON has no number for NaN; write a string, or None for \
         a number that is missing, or use Codec::Postcard (feature `postcard`)"
    );
    for (shape, path) in [
        (
            Shape::Circle {
                radius: f32::INFINITY,
            },
            "`shape.Circle.radius`",
        ),
        (Shape::Line(0.0, f64::NEG_INFINITY), "`shape.Line.1`"),
        (Shape::Empty(Box::new(Some(()))), "`shape.Empty`"),
    ] {
        let text = refusal(&sample(shape), Codec::Json);
        assert!(text.contains(path), "{text}");
    }
    assert!(refusal(&f64::NAN, Codec::Json).starts_with("cannot encode it: JSON has no number"));
}

#[test]
fn some_of_nothing_is_not_json() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Newtype<T>(T);
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Untagged {
        Nothing,
    }
    let null = || RawValue::from_string("null".into()).unwrap();
    let refused = [
        refusal(&Some(()), Codec::Json),
        refusal(&Some(None::<u8>), Codec::Json),
        refusal(&Some(Some(None::<u8>)), Codec::Json),
        refusal(&Some(Unit), Codec::Json),
        refusal(&Some(Newtype(Newtype(()))), Codec::Json),
        refusal(&Some(Newtype(Some(Newtype(None::<u8>)))), Codec::Json),
        refusal(&Some(Untagged::Nothing), Codec::Json),
        refusal(&Some(serde_json::Value::Null), Codec::Json),
        refusal(&Some(null()), Codec::Json),
        refusal(&Some(std::marker::PhantomData::<u8>), Codec::Json),
    ];
    for text in refused {
        assert!(text.contains("read as None"), "{text}");
    }
    let accepted = [
        codec::write(&((), None::<u8>, Unit, null()), Codec::Json, "it"),
        codec::write(&Some([()]), Codec::Json, "it"),
        codec::write(&Some((None::<u8>,)), Codec::Json, "it"),
        codec::write(&Some(Some("null")), Codec::Json, "it"),
        codec::write(
            &Some(BTreeMap::from([("a", None::<u8>)])),
            Codec::Json,
            "it",
        ),
        codec::write(&Some(Newtype(Some(3))), Codec::Json, "it"),
    ];
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
}

#[test]
fn keys_that_are_not_text_are_refused_as_json_with_the_map_named() {
    #[derive(Serialize)]
    struct Grid {
        cells: BTreeMap<(u8, u8), u8>,
    }
    let grid = Grid {
        cells: BTreeMap::from([((1, 2), 3)]),
    };
    let text = refusal(&grid, Codec::Json);
    assert!(
        text.contains("at `cells`: JSON has only text as keys"),
        "{text}"
    );
    assert!(text.contains("list of pairs"), "{text}");
    assert!(refusal(&BTreeMap::from([(None::<u8>, 1)]), Codec::Json).contains("only text"));
}

#[test]
fn the_float_that_is_rounded_twice_comes_back() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Buffered {
        Number(f32),
    }
    for sign in [1.0, -1.0] {
        let value = sign * f32::from_bits(0x15ae_43fd);
        assert_eq!(comes_back(&value, Codec::Json).to_bits(), value.to_bits());
        let Buffered::Number(back) = comes_back(&Buffered::Number(value), Codec::Json);
        assert_eq!(back.to_bits(), value.to_bits());
    }
}

/// A value that is nested as deep as `depth` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

impl Nested {
    fn of(depth: u16) -> Self {
        (1..depth).fold(Self(Vec::new()), |inner, _| Self(vec![inner]))
    }
}

#[test]
fn what_json_accepts_is_read_and_one_level_more_is_not() {
    let deepest = Nested::of(super::JSON_NESTING);
    assert_eq!(comes_back(&deepest, Codec::Json), deepest);
    let written = codec::write(&deepest, Codec::Json, "it").unwrap();
    let list = codec::list_of_one(&written);
    assert!(codec::decode::<Vec<Nested>>(&list, "it").is_ok());

    let deeper = Nested::of(super::JSON_NESTING + 1);
    let text = refusal(&deeper, Codec::Json);
    assert!(text.contains("nested more than 126 levels"), "{text}");
    assert!(text.len() < 500, "the path is cut: {text}");
    let unchecked = serde_json::to_vec(&vec![deeper]).unwrap();
    assert!(codec::decode::<Vec<Nested>>(&Payload::json(unchecked.into()), "it").is_err());
}

/// Every shape that takes a level of the reader's is counted as one: otherwise some of these would be written and not read.
#[test]
fn every_shape_is_counted_as_the_reader_counts_it() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Bytes(Bytes),
        Newtype(Box<Tree>),
        Tuple(Box<Tree>, u8),
        Struct { inner: Box<Tree> },
        Option(Option<Box<Tree>>),
        Map(BTreeMap<String, Tree>),
    }
    let wraps: [fn(Tree) -> Tree; 5] = [
        |tree| Tree::Newtype(Box::new(tree)),
        |tree| Tree::Tuple(Box::new(tree), 1),
        |tree| Tree::Struct {
            inner: Box::new(tree),
        },
        |tree| Tree::Option(Some(Box::new(tree))),
        |tree| Tree::Map(BTreeMap::from([("a".into(), tree)])),
    ];
    for (place, wrap) in wraps.iter().enumerate() {
        for leaf in [Tree::Leaf, Tree::Bytes(Bytes(vec![1]))] {
            let mut tree = leaf;
            let mut written = 0;
            while let Ok(payload) = codec::write(&tree, Codec::Json, "it") {
                let list = codec::list_of_one(&payload);
                assert_eq!(
                    codec::decode::<Vec<Tree>>(&list, "it").unwrap(),
                    [tree.clone()]
                );
                tree = wrap(tree);
                written += 1;
            }
            assert!(written >= 62, "{place}: {written}");
            // The first that is refused could not be read two levels further, so little is given away.
            let deeper = serde_json::to_vec(&[[[tree]]]).unwrap();
            assert!(
                codec::decode::<[[[Tree; 1]; 1]; 1]>(&Payload::json(deeper.into()), "it").is_err()
            );
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(Self)
    }
}

/// A chain of newtypes and options takes no text, and could take all of the stack.
#[test]
fn a_value_that_is_endless_and_takes_no_text_is_refused() {
    #[derive(Serialize)]
    struct Chain(Option<Box<Chain>>);
    let chain = (0..5_000).fold(Chain(None), |chain, _| Chain(Some(Box::new(chain))));
    let text = refusal(&chain, Codec::Json);
    assert!(text.contains("nested more than"), "{text}");
    // Dropping it would overflow the stack.
    std::mem::forget(chain);
}

/// `serde_json` ends a list that is announced as empty at once.
#[test]
fn entries_after_an_empty_list_are_refused() {
    struct Wrong;
    impl Serialize for Wrong {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = to.serialize_seq(Some(0))?;
            list.serialize_element(&1)?;
            list.end()
        }
    }
    let text = refusal(&Wrong, Codec::Json);
    assert!(text.contains("announced 0 entries and wrote 1"), "{text}");
}

#[test]
fn what_a_type_says_is_kept() {
    struct Unhappy;
    impl Serialize for Unhappy {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("the connection is open"))
        }
    }
    let text = refusal(&vec![(1, Unhappy)], Codec::Json);
    assert_eq!(text, "cannot encode it: at `[0].1`: the connection is open");
}

#[cfg(feature = "postcard")]
mod postcard {
    use super::*;

    #[test]
    fn what_only_names_or_lengths_make_readable_is_refused() {
        #[derive(Serialize)]
        struct Skips {
            #[serde(skip_serializing_if = "Option::is_none")]
            a: Option<u8>,
            b: u8,
        }
        #[derive(Serialize)]
        enum Variants {
            Skips {
                #[serde(skip_serializing_if = "Option::is_none")]
                a: Option<u8>,
            },
        }
        #[derive(Serialize)]
        struct Flat {
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        }
        let text = refusal(&vec![Skips { a: None, b: 7 }], Codec::Postcard);
        assert!(
            text.contains("at `[0]`: the field `a` is left out"),
            "{text}"
        );
        assert!(text.contains("skip_serializing_if"), "{text}");
        assert!(codec::write(&Skips { a: Some(1), b: 7 }, Codec::Postcard, "it").is_ok());
        let text = refusal(&Variants::Skips { a: None }, Codec::Postcard);
        assert!(text.contains("at `Skips`: the field `a`"), "{text}");
        let text = refusal(
            &Flat {
                rest: BTreeMap::new(),
            },
            Codec::Postcard,
        );
        assert!(text.contains("flatten"), "{text}");
        let raw = RawValue::from_string("1".into()).unwrap();
        assert!(refusal(&raw, Codec::Postcard).contains("RawValue"));
    }

    #[test]
    fn an_announced_length_that_is_wrong_is_refused() {
        struct Wrong(usize);
        impl Serialize for Wrong {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeSeq;
                let mut list = to.serialize_seq(Some(self.0))?;
                list.serialize_element(&1)?;
                list.end()
            }
        }
        for announced in [0, 2] {
            assert!(refusal(&Wrong(announced), Codec::Postcard).contains("and wrote 1"));
        }
        assert!(codec::write(&Wrong(1), Codec::Postcard, "it").is_ok());
    }

    #[test]
    fn what_json_has_not_comes_back() {
        assert!(comes_back(&f64::NAN, Codec::Postcard).is_nan());
        assert_eq!(comes_back(&Some(None::<u8>), Codec::Postcard), Some(None));
        assert_eq!(comes_back(&Some(()), Codec::Postcard), Some(()));
        let map = BTreeMap::from([((1u8, 2u8), 3u8)]);
        assert_eq!(comes_back(&map, Codec::Postcard), map);
    }

    /// A syntax tree with a dozen fields to a node, to take more of the stack than most types do.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Wide {
        Leaf,
        Call {
            names: [String; 4],
            numbers: (u128, f64, i64, Option<u32>),
            first: Option<Box<Wide>>,
            rest: Vec<Wide>,
            table: BTreeMap<String, Wide>,
        },
        Block(Wider),
        Pair(Box<Wide>, Box<Wide>),
        Bytes([[u8; 32]; 4]),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wider {
        a: String,
        b: Option<String>,
        c: [u64; 16],
        d: Vec<String>,
        e: Shape,
        f: Option<Sample>,
        g: (String, String, String),
        inner: Box<Wide>,
    }

    /// Threads have 2 MiB of stack by default, as tokio's have. Half of it stays for wider types, and for what is called around it.
    #[test]
    fn the_deepest_value_is_written_and_read_on_an_ordinary_thread() {
        let call: fn(Wide) -> Wide = |inner| Wide::Call {
            names: Default::default(),
            numbers: (1, 2.0, 3, None),
            first: Some(Box::new(inner)),
            rest: Vec::new(),
            table: BTreeMap::new(),
        };
        let block: fn(Wide) -> Wide = |inner| {
            Wide::Block(Wider {
                a: "a".into(),
                b: None,
                c: [7; 16],
                d: Vec::new(),
                e: Shape::Line(0.0, 1.0),
                f: None,
                g: Default::default(),
                inner: Box::new(inner),
            })
        };
        let entry: fn(Wide) -> Wide = |inner| Wide::Call {
            names: Default::default(),
            numbers: (1, 2.0, 3, None),
            first: None,
            rest: Vec::new(),
            table: BTreeMap::from([("a".into(), inner)]),
        };
        let pair: fn(Wide) -> Wide = |inner| Wide::Pair(Box::new(Wide::Leaf), Box::new(inner));
        let on_a_thread = move || {
            for wrap in [call, block, entry, pair] {
                let mut tree = Wide::Leaf;
                while let Ok(written) = codec::write(&tree, Codec::Postcard, "it") {
                    assert_eq!(codec::decode::<Wide>(&written, "it").unwrap(), tree);
                    tree = wrap(tree);
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(1024 * 1024);
        thread.spawn(on_a_thread).unwrap().join().unwrap();
    }
}
