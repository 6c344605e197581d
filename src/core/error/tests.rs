use super::text::LONGEST_TEXT;
use super::*;

#[test]
fn the_mark_survives_wrapping() {
    let wrapped = anyhow::Error::new(permanent("no such column")).context("row 3");
    assert!(is_permanent(&wrapped.into()));
    assert!(is_permanent(&permanent("gone").into()));
    assert!(!is_permanent(&"busy".into()));
    let unwritable = Error::encode("a partial result", "JSON has no number for NaN");
    assert!(is_permanent(&unwritable.into()));
}

/// An error that is its own cause, and whose text is what its function writes.
#[derive(Debug)]
struct Odd(fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result);

impl std::fmt::Display for Odd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.0)(formatter)
    }
}

impl std::error::Error for Odd {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self)
    }
}

#[test]
fn an_error_may_be_its_own_cause_and_have_no_text_or_no_end() {
    let text = |odd: Odd| {
        assert!(!is_permanent(&Odd(odd.0).into()));
        describe(&odd)
    };
    assert_eq!(text(Odd(|to| to.write_str("round"))), "round");
    let nothing = "an error whose text cannot be written";
    assert_eq!(text(Odd(|_| Err(std::fmt::Error))), nothing);
    assert_eq!(text(Odd(|_| panic!("never mind"))), nothing);
    let cut_short = Odd(|to| to.write_str("half").and(Err(std::fmt::Error)));
    assert_eq!(text(cut_short), "half…");
    let endless = text(Odd(|to| {
        loop {
            to.write_str("é")?;
        }
    }));
    assert_eq!(endless.chars().count(), LONGEST_TEXT / 2 + 1);
}

#[test]
fn a_description_says_each_cause_once() {
    let error: BoxError = permanent("no such column").into();
    assert_eq!(describe(error.as_ref()), "no such column");
    let error = Error::decode("packet 3", "expected a number");
    assert_eq!(
        describe(&error),
        "cannot decode packet 3: expected a number"
    );
}
