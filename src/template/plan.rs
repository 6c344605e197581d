//! The numbers of a stage's function, checked against its queue's.

use super::options::{FunctionOptions, LONGEST_FUNCTION, Resolved, invalid, whole_seconds};
use crate::backends::sqs::provision::QueueSettings;
use crate::core::error::Result;
use crate::pipeline::definition::StageDefinition;

/// How often a queue's visibility timeout has to have its function's timeout in it: Lambda's own rule, so that it can
/// try an invocation again that was throttled.
const VISIBILITY_FACTOR: u64 = 6;

/// What a stage's function and queue are set to; times are in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) queue: QueueSettings,
    pub(super) function: Resolved,
    pub(super) timeout: u64,
}

impl Plan {
    /// The queue is as `provision` makes it, so the function's timeout follows from it.
    pub(super) fn of(
        stage: &StageDefinition,
        queue: QueueSettings,
        options: &FunctionOptions,
    ) -> Result<Self> {
        let whose = format!("stage `{}`", stage.name);
        let function = options.resolve(&whose)?;
        let visibility = u64::from(queue.visibility.unsigned_abs());
        let window = function.window;
        let gathering = match window {
            0 => String::new(),
            window => format!(" and its batching window of {window} s more"),
        };
        let rule = |timeout: u64| timeout * VISIBILITY_FACTOR + window;
        let longest = visibility.saturating_sub(window) / VISIBILITY_FACTOR;
        if longest == 0 {
            return Err(invalid(format!(
                "{whose}: its visibility timeout is {visibility} s, and Lambda asks for {VISIBILITY_FACTOR} times the function's timeout of at least 1 s{gathering}: set Stage::visibility_timeout to {} s or more",
                rule(1)
            )));
        }
        let timeout = function.timeout.unwrap_or(longest.min(LONGEST_FUNCTION));
        if timeout > longest {
            return Err(invalid(format!(
                "{whose}: its function's timeout is {timeout} s, so Lambda asks for a visibility timeout of {VISIBILITY_FACTOR} times that{gathering}, {} s, and it is {visibility} s: set Stage::visibility_timeout to {0} s, or a function's timeout of at most {longest} s",
                rule(timeout)
            )));
        }
        if let Some(own) = stage.options.own_timeout {
            let needed = whole_seconds(own);
            if needed > LONGEST_FUNCTION {
                return Err(invalid(format!(
                    "{whose}: it may take {needed} s for one item or group, and a Lambda function ends after {LONGEST_FUNCTION} s: set Stage::timeout to at most that, or serve this stage with a worker"
                )));
            }
            if needed > timeout && function.timeout.is_some() {
                return Err(invalid(format!(
                    "{whose}: it may take {needed} s for one item or group, and its function ends after {timeout} s: set FunctionOptions::timeout to at least {needed} s, or a shorter Stage::timeout"
                )));
            }
            if needed > timeout {
                return Err(invalid(format!(
                    "{whose}: it may take {needed} s for one item or group, and its function ends after {timeout} s, which is all that a visibility timeout of {visibility} s allows (Lambda asks for {VISIBILITY_FACTOR} times the function's timeout{gathering}): set Stage::visibility_timeout to {} s or more, or a shorter Stage::timeout",
                    rule(needed)
                )));
            }
        }
        Ok(Self {
            queue,
            function,
            timeout,
        })
    }
}
