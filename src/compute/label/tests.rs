use std::sync::{Arc, Mutex};

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};

use super::*;
use crate::core::id::RunId;

fn context() -> Context {
    Context::new(RunId::random(), Arc::from("fetch"), 1)
}

fn labelled<T: Data>(value: T, labeller: Option<Labeller>, form: Form) -> Option<String> {
    let labels = Labels::new(Naming::of::<T>(), labeller);
    labels.label(List::new(vec![value]), &context(), form)
}

fn shown<T: Data>(value: T) -> Option<String> {
    labelled(value, None, Form::Local)
}

#[derive(Clone, Deserialize)]
struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        loop {
            list.serialize_element(&17)?;
        }
    }
}

/// Nests without end, and writes nothing.
#[derive(Clone, Deserialize)]
struct Bottomless;

impl Serialize for Bottomless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Bottomless", self)
    }
}

#[derive(Clone, Deserialize)]
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = serializer.serialize_struct("Panics", 1)?;
        assert!(fields.end().is_err(), "this one cannot be written");
        unreachable!()
    }
}

#[test]
fn a_value_is_shown_as_its_json() {
    assert_eq!(shown(17u64).as_deref(), Some("17"));
    assert_eq!(
        shown((17, "rain".to_owned())).as_deref(),
        Some(r#"[17,"rain"]"#)
    );
    assert_eq!(
        shown("https://example.org/17".to_owned()).as_deref(),
        Some("https://example.org/17")
    );
    assert_eq!(
        shown("a \"b\"\nc".to_owned()).as_deref(),
        Some("a \"b\"\\nc")
    );
    assert_eq!(shown(String::new()), None);
}

#[test]
fn a_long_value_is_cut() {
    for long in ["x", "é", "🌧", "\u{1}", "\"", "\\"] {
        let label = shown(long.repeat(10_000)).unwrap();
        assert_eq!(label.chars().count(), 60, "{label}");
        assert!(label.ends_with('…'), "{label}");
        assert!(!label.starts_with('"') || long == "\"", "{label}");
    }
    let list = shown(vec![1u64; 1_000_000]).unwrap();
    assert_eq!(list, format!("[{}…", "1,".repeat(29)));
}

#[test]
fn whatever_a_type_writes_ends() {
    let endless = shown(Endless).unwrap();
    assert_eq!(endless.chars().count(), 60, "{endless}");
    assert_eq!(shown(Bottomless), None);
    assert_eq!(shown(Panics), None);
    // JSON has no number for it.
    assert_eq!(shown(f64::NAN), None);
    assert_eq!(shown((17, f64::NAN)).as_deref(), Some("[17,…"));
}

#[test]
fn values_are_shown_where_a_person_can_read_them() {
    let label = |form| labelled(17u64, None, form);
    assert_eq!(label(Form::Wire(Codec::Json)).as_deref(), Some("17"));
    #[cfg(feature = "postcard")]
    assert_eq!(label(Form::Wire(Codec::Postcard)), None);
}

#[test]
fn the_function_decides_in_every_form() {
    let page = Labeller::new(|number: &u64| format!("page {number}"));
    #[cfg(feature = "postcard")]
    assert_eq!(
        labelled(17u64, Some(page.clone()), Form::Wire(Codec::Postcard)).as_deref(),
        Some("page 17")
    );
    assert_eq!(
        labelled(17u64, Some(page), Form::Local).as_deref(),
        Some("page 17")
    );
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_function_that_panics_gives_no_label_and_one_warning() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fussy = Labeller::new(|number: &u64| {
        assert!(*number != 17, "no label for this one");
        *number
    });
    let labels = Labels::new(Naming::of::<u64>(), Some(fussy));
    let label = |number: u64| labels.label(List::new(vec![number]), &context(), Form::Local);
    assert_eq!((label(17), label(17)), (None, None));
    assert_eq!(label(18).as_deref(), Some("18"));
    assert_eq!(
        labels
            .clone()
            .label(List::new(vec![17u64]), &context(), Form::Local),
        None
    );

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let begin = "WARN the function given to `Stage::label` failed";
    assert!(text.trim().starts_with(begin), "{text}");
    assert!(
        text.contains("stage=\"fetch\" error=\"panicked: no label for this one\""),
        "{text}"
    );
}

#[test]
fn a_value_that_cannot_be_read_is_shown_unless_there_is_a_function() {
    let labels = |labeller| Labels::new(Naming::of::<u64>(), labeller);
    let shown = |json: &str| labels(None).label_of_unread(json.as_bytes());
    assert_eq!(shown("\"two\"").as_deref(), Some("two"));
    let long = shown(&format!("{{\"text\":\"{}\"}}", "é".repeat(1_000))).unwrap();
    assert_eq!(long.chars().count(), 60, "{long}");
    let secret = Labeller::new(|_: &u64| "a customer");
    assert_eq!(labels(Some(secret)).label_of_unread(b"\"two\""), None);
}

#[test]
fn nothing_comes_of_a_list_of_another_type() {
    let labels = Labels::new(Naming::of::<u64>(), None);
    assert_eq!(
        labels.label(List::new(vec!["x"]), &context(), Form::Local),
        None
    );
    assert_eq!(labels.label(List::none(), &context(), Form::Local), None);
}
