//! Names of deployments and stages, and those of the queues that they make.
//!
//! A queue is named `{deployment}--{stage}`, and its dead-letter queue `{deployment}--{stage}--dead`. No name contains `--`,
//! and none begins or ends with `-`, so such a text can be split in one way only: two different pairs never share a
//! queue, and no queue is another one's dead-letter queue.

use std::fmt;

/// The longest name of a queue, dead-letter suffix included: the limit of Amazon SQS.
pub(crate) const MAX_QUEUE_NAME: usize = 80;
/// Suffix of a dead-letter queue's name.
const DEAD_LETTER_SUFFIX: &str = "--dead";
/// What separates the names of which another one is made.
const SEPARATOR: &str = "--";

/// The name of a stage's queue, and of everything else that a stage has for itself.
pub(crate) fn queue(deployment: &str, stage: &str) -> String {
    format!("{deployment}{SEPARATOR}{stage}")
}

/// The name of a queue's dead-letter queue.
#[cfg(any(feature = "sqs", test))]
pub(crate) fn dead_letters(queue: &str) -> String {
    format!("{queue}{DEAD_LETTER_SUFFIX}")
}

/// Checks the name of a deployment or a stage.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(crate) fn check(name: &str) -> Result<(), Problem> {
    let problem = if name.is_empty() {
        return Err(Problem::Empty);
    } else if let Some(c) = name.chars().find(|c| !is_allowed(*c)) {
        Fault::Character(c)
    } else if name.contains(SEPARATOR) {
        Fault::Separator
    } else if name.starts_with('-') || name.ends_with('-') {
        Fault::Hyphen
    } else if name.len() > MAX_QUEUE_NAME {
        return Err(Problem::Long);
    } else {
        return Ok(());
    };
    Err(Problem::Faulty(problem, repaired(name)))
}

/// Checks the length of a stage's queue, whose names are good.
///
/// # Errors
/// What is too long, and for what.
pub(crate) fn check_length(deployment: &str, stage: &str) -> Result<(), String> {
    let queue = queue(deployment, stage);
    let longest = MAX_QUEUE_NAME - DEAD_LETTER_SUFFIX.len();
    if queue.len() <= longest {
        return Ok(());
    }
    Err(format!(
        "its queue `{queue}` has a name of {} characters, and at most {longest} leave room for `{DEAD_LETTER_SUFFIX}`: shorten the stage's or the deployment's name",
        queue.len()
    ))
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// A good name that resembles this one, if there is one.
fn repaired(name: &str) -> Option<String> {
    let mut good = String::new();
    for c in name.chars().take(MAX_QUEUE_NAME) {
        match c {
            '-' if good.ends_with('-') => {}
            c if is_allowed(c) => good.push(c),
            // A path such as `orders::parse`, or a sentence: one character for a run of them.
            _ if good.ends_with(['-', '_']) => {}
            _ => good.push('_'),
        }
    }
    let good = good.trim_matches('-').to_owned();
    let has_content = good.contains(|c: char| c.is_ascii_alphanumeric());
    has_content.then_some(good)
}

/// What is wrong with a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Empty,
    Long,
    /// The fault, and a name without it.
    Faulty(Fault, Option<String>),
}

/// What a name must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Character(char),
    Separator,
    Hyphen,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, repaired) = match self {
            Self::Empty => return formatter.write_str("the name is empty"),
            Self::Long => {
                return write!(
                    formatter,
                    "the name has more than {MAX_QUEUE_NAME} characters, the limit of a queue's name: shorten it"
                );
            }
            Self::Faulty(fault, repaired) => (fault, repaired),
        };
        match fault {
            Fault::Character(c) => write!(
                formatter,
                "the character {c:?} cannot stand in a queue's name; use ASCII letters, digits, `-` and `_`"
            )?,
            Fault::Separator => write!(
                formatter,
                "the name contains `{SEPARATOR}`, which separates the deployment's name from the stage's in a queue's name"
            )?,
            Fault::Hyphen => write!(
                formatter,
                "a name cannot begin or end with `-`, because `{SEPARATOR}` separates names in a queue's name"
            )?,
        }
        match repaired {
            Some(name) => write!(formatter, "; write `{name}` instead"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Names of few different characters, so that many of them meet if they can. Good ones, and those that almost are.
    fn name() -> impl Strategy<Value = String> {
        "(a|b|-|_|dead|--){1,5}"
    }

    fn good() -> impl Strategy<Value = String> {
        name().prop_filter("a good name", |name| check(name).is_ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What has an inverse has no two sources: the names can be read off a queue's, in one way only.
        #[test]
        fn a_queues_name_says_whose_it_is((deployment, stage) in (good(), good())) {
            let queue = queue(&deployment, &stage);
            let dead = dead_letters(&queue);
            let parts = |name: &str| name.split("--").map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(parts(&queue), [deployment.clone(), stage.clone()]);
            prop_assert_eq!(parts(&dead), [deployment, stage, "dead".to_owned()]);
        }

        /// A repaired name is good, and a good name needs no repair.
        #[test]
        fn what_is_proposed_is_accepted(name in prop_oneof![name(), "\\PC{0,12}"]) {
            match check(&name) {
                Err(Problem::Faulty(_, Some(good))) => prop_assert_eq!(check(&good), Ok(())),
                Err(problem) => prop_assert!(!problem.to_string().is_empty()),
                Ok(()) => prop_assert!(repaired(&name).is_none_or(|same| same == name)),
            }
        }
    }

    /// All short names over the characters that matter: every pair of them, against every other.
    #[test]
    fn no_short_names_meet() {
        let mut names = vec![String::new()];
        for _ in 0..4 {
            let longer = names
                .iter()
                .flat_map(|name| ["a", "-", "_"].map(|c| format!("{name}{c}")));
            names = names
                .iter()
                .cloned()
                .chain(longer)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
        }
        let good: Vec<&String> = names.iter().filter(|name| check(name).is_ok()).collect();
        let mut all = BTreeSet::new();
        for deployment in &good {
            for stage in &good {
                let queue = queue(deployment, stage);
                assert!(all.insert(dead_letters(&queue)), "{queue}");
                assert!(all.insert(queue), "{deployment}, {stage}");
            }
        }
        assert!(good.len() > 40, "{}", good.len());
    }

    #[test]
    fn a_bad_name_is_told_what_to_write_instead() {
        let said = |name| check(name).unwrap_err().to_string();
        assert!(said("eu--parse").ends_with("; write `eu-parse` instead"));
        assert!(said("-parse-").ends_with("; write `parse` instead"));
        assert!(said("orders::parse").ends_with("; write `orders_parse` instead"));
        assert!(said("orders::parse").contains("the character ':'"));
        assert!(said("größe").ends_with("; write `gr_e` instead"));
        assert_eq!(said(""), "the name is empty");
        assert!(!said("---").contains("instead"));
        assert!(said(&"x".repeat(81)).contains("more than 80"));
    }
}
