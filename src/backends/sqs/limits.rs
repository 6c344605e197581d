//! What the service takes, told before anything is made.

use std::time::Duration;

use super::{LEAST_PAYLOAD, LONGEST_HIDDEN, MAX_PAYLOAD, dead_name};
use crate::core::error::{Error, Result};
use crate::queue::QueueOptions;

/// The most receives that a redrive policy counts before it moves a message to the dead letters.
pub(super) const MOST_RECEIVES: u32 = 1_000;
/// The rest of those receives is for messages that are handed back, or lost, before their work begins.
const MOST_ATTEMPTS: u32 = 900;
/// Characters of a queue's name.
const LONGEST_NAME: usize = 80;

/// Checks what a stage's queue and its dead-letter queue are to be.
///
/// # Errors
/// [`Error::InvalidPipeline`], which names the option and the limit.
pub(super) fn check(name: &str, max_payload: usize, options: &QueueOptions) -> Result<()> {
    let QueueOptions {
        visibility_timeout,
        attempts,
        ..
    } = options;
    let dead = dead_name(name);
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let problem = if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        format!(
            "its queue's name {name:?} has the character {c:?}, and SQS takes ASCII letters, digits, `-` and `_`"
        )
    } else if dead.len() > LONGEST_NAME {
        format!(
            "its dead-letter queue's name `{dead}` has {} characters, and SQS takes at most {LONGEST_NAME}: shorten the deployment's or the stage's name",
            dead.len()
        )
    } else if visibility_timeout.is_zero()
        || *visibility_timeout > Duration::from_secs(LONGEST_HIDDEN.unsigned_abs().into())
    {
        format!(
            "visibility_timeout is {visibility_timeout:?}, and SQS hides a message for more than 0 s and at most {LONGEST_HIDDEN} s (12 hours); a worker extends it by heartbeats while it works, so that it can be shorter than the work"
        )
    } else if !(1..=MOST_ATTEMPTS).contains(attempts) {
        format!(
            "attempts is {attempts}, and over SQS it is 1 to {MOST_ATTEMPTS}: the service moves a message to the dead letters by itself after {MOST_RECEIVES} deliveries, and the others are kept for deliveries that are no attempts"
        )
    } else if !(LEAST_PAYLOAD..=MAX_PAYLOAD).contains(&max_payload) {
        format!(
            "max_payload of the SQS queues is {max_payload} bytes: use {LEAST_PAYLOAD} to {MAX_PAYLOAD}"
        )
    } else {
        return Ok(());
    };
    Err(Error::invalid_pipeline(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_and_what_it_includes_is_taken() {
        const HOURS_12: Duration = Duration::from_secs(43_200);
        let options = QueueOptions::default;
        for good in [
            options(),
            options().attempts(900).visibility_timeout(HOURS_12),
            options()
                .attempts(1)
                .visibility_timeout(Duration::from_millis(1)),
        ] {
            assert!(check(&"n".repeat(74), MAX_PAYLOAD, &good).is_ok());
            assert!(check("a-B_9", LEAST_PAYLOAD, &good).is_ok());
        }
        let long = "n".repeat(75);
        for (name, payload, bad, parts) in [
            (
                "n",
                MAX_PAYLOAD,
                options().attempts(2_000),
                ["attempts is 2000", "1000 deliveries"],
            ),
            (
                "n",
                MAX_PAYLOAD,
                options().attempts(901),
                ["attempts is 901", "1 to 900"],
            ),
            (
                "n",
                MAX_PAYLOAD,
                options().attempts(0),
                ["attempts is 0", "1 to 900"],
            ),
            (
                "n",
                MAX_PAYLOAD,
                options().visibility_timeout(HOURS_12 + Duration::from_nanos(1)),
                ["visibility_timeout is 43200.", "43200 s (12 hours)"],
            ),
            (
                "n",
                MAX_PAYLOAD,
                options().visibility_timeout(Duration::ZERO),
                ["visibility_timeout is 0ns", "more than 0 s"],
            ),
            (
                &long,
                MAX_PAYLOAD,
                options(),
                ["81 characters", "at most 80"],
            ),
            ("a.b", MAX_PAYLOAD, options(), ["'.'", "ASCII letters"]),
            (
                "n",
                LEAST_PAYLOAD - 1,
                options(),
                ["max_payload", "262144 to 1048576"],
            ),
            (
                "n",
                MAX_PAYLOAD + 1,
                options(),
                ["max_payload", "262144 to 1048576"],
            ),
        ] {
            let text = check(name, payload, &bad).unwrap_err().to_string();
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
