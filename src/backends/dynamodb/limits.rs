//! What the service takes, told before anything is made.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{LEAST_RETENTION, Tables};
use crate::core::error::{Error, Result};

/// Characters of a table's name.
const NAME: RangeInclusive<usize> = 3..=255;

/// Checks the names of a deployment's tables, and for how long their items are kept.
///
/// # Errors
/// [`Error::InvalidPipeline`], which names the setting and the limit.
pub(super) fn check(tables: &Tables, retention: Duration) -> Result<()> {
    let Tables {
        scratchpad,
        results,
    } = tables;
    for name in [scratchpad, results] {
        check_name(name)?;
    }
    if scratchpad == results {
        return Err(Error::invalid_pipeline(format!(
            "the table of the scratchpad and that of the results are both named `{results}`: they have different keys, so give them different names"
        )));
    }
    if retention < LEAST_RETENTION {
        return Err(Error::invalid_pipeline(format!(
            "the retention of table `{scratchpad}` is {retention:?}, and it is at least 15 days: a queue may deliver a duplicate after 14, which has to find its slot taken"
        )));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        return Err(Error::invalid_pipeline(format!(
            "the table's name {name:?} has the character {c:?}, and DynamoDB takes ASCII letters, digits, `-`, `_` and `.`"
        )));
    }
    if !NAME.contains(&name.len()) {
        return Err(Error::invalid_pipeline(format!(
            "the table's name {name:?} has {} characters, and DynamoDB takes {} to {}",
            name.len(),
            NAME.start(),
            NAME.end()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(scratchpad: &str, results: &str, retention: Duration) -> Option<String> {
        let tables = Tables {
            scratchpad: scratchpad.to_owned(),
            results: results.to_owned(),
        };
        let refused = check(&tables, retention).err();
        refused.map(|error| error.to_string())
    }

    #[test]
    fn each_limit_is_told_and_what_it_includes_is_taken() {
        let long = "n".repeat(255);
        for retention in [LEAST_RETENTION, Duration::MAX] {
            assert_eq!(refused("pad", &long, retention), None);
            assert_eq!(refused("a.B-9_", "res", retention), None);
        }
        let shorter = LEAST_RETENTION - Duration::from_nanos(1);
        for (scratchpad, results, retention, part) in [
            ("pa", "results", LEAST_RETENTION, "2 characters"),
            (
                "pad",
                &format!("{long}n"),
                LEAST_RETENTION,
                "256 characters",
            ),
            ("pad", "", LEAST_RETENTION, "3 to 255"),
            ("pa d", "results", LEAST_RETENTION, "' '"),
            ("päd", "results", LEAST_RETENTION, "'ä'"),
            ("pad", "pad", LEAST_RETENTION, "both named `pad`"),
            ("pad", "results", shorter, "at least 15 days"),
            ("pad", "results", Duration::ZERO, "is 0ns"),
        ] {
            let text = refused(scratchpad, results, retention).unwrap();
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
