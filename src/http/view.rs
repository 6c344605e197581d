//! How things look in an answer's `data`.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::core::clock::milliseconds;
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};
use crate::deployment::dead_letter::{DeadLetter, Discarded};
use crate::deployment::run::{Outcome, Redriven, Status};
use crate::scratchpad::{Attempt, Failure, RunState, RunSummary};

/// A run that was submitted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Submitted<'a> {
    #[serde(rename = "arrayId")]
    pub(super) run: &'a RunId,
}

/// How far a run is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress<'a> {
    #[serde(rename = "arrayId")]
    run: &'a RunId,
    state: String,
    items: Option<u64>,
    items_done: u64,
    packets: Option<u64>,
    packets_done: u64,
    items_skipped: u64,
    items_failed: u64,
    messages_failed: u64,
    settled: bool,
    failure: Option<OneFailure<'a>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(run: &'a RunId, status: &'a Status) -> Self {
        Self {
            run,
            state: status.state.to_string(),
            items: status.items,
            items_done: status.items_done,
            packets: status.packets,
            packets_done: status.packets_done,
            items_skipped: status.items_skipped,
            items_failed: status.items_failed,
            messages_failed: status.messages_failed,
            settled: status.settled,
            failure: status.failure.as_ref().map(OneFailure::new),
        }
    }
}

/// A result, and what it stands for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finished<'a, R> {
    #[serde(rename = "arrayId")]
    run: &'a RunId,
    result: &'a R,
    items: u64,
    contains: u64,
    skipped: u64,
}

impl<'a, R> Finished<'a, R> {
    pub(super) fn new(run: &'a RunId, outcome: &'a Outcome<R>) -> Self {
        Self {
            run,
            result: &outcome.value,
            items: outcome.items,
            contains: outcome.contains,
            skipped: outcome.skipped,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Runs<'a> {
    runs: Vec<OneRun<'a>>,
    next: Option<&'a Cursor>,
}

impl<'a> Runs<'a> {
    pub(super) fn new(page: &'a Page<RunSummary>) -> Self {
        Self {
            runs: page.iter().map(OneRun::new).collect(),
            next: page.next.as_ref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneRun<'a> {
    #[serde(rename = "arrayId")]
    run: &'a RunId,
    state: RunState,
    #[serde(with = "milliseconds")]
    created_at: SystemTime,
    items: Option<u64>,
    packets: Option<u64>,
}

impl<'a> OneRun<'a> {
    fn new(run: &'a RunSummary) -> Self {
        let record = &run.record;
        Self {
            run: &record.run,
            state: run.state,
            created_at: record.created_at,
            items: record.array_length,
            packets: record.packets,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failures<'a> {
    failures: Vec<OneFailure<'a>>,
    next: Option<&'a Cursor>,
}

impl<'a> Failures<'a> {
    pub(super) fn new(page: &'a Page<Failure>) -> Self {
        Self {
            failures: page.iter().map(OneFailure::new).collect(),
            next: page.next.as_ref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneFailure<'a> {
    stage: &'a str,
    message: &'a str,
    item: Option<u64>,
    label: Option<&'a str>,
    error: &'a str,
    skipped: bool,
    attempts: &'a [Attempt],
}

impl<'a> OneFailure<'a> {
    fn new(failure: &'a Failure) -> Self {
        Self {
            stage: &failure.stage,
            message: &failure.message,
            item: failure.item,
            label: failure.label.as_deref(),
            error: &failure.error,
            skipped: failure.is_skipped(),
            attempts: &failure.attempts,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetters<'a> {
    dead_letters: Vec<OneDeadLetter<'a>>,
    next: Option<&'a Cursor>,
    truncated: bool,
}

impl<'a> DeadLetters<'a> {
    pub(super) fn new(page: &'a Page<DeadLetter>, bodies: bool) -> Self {
        let letters = page.iter();
        Self {
            dead_letters: letters
                .map(|letter| OneDeadLetter::new(letter, bodies))
                .collect(),
            next: page.next.as_ref(),
            truncated: page.truncated,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneDeadLetter<'a> {
    id: String,
    stage: &'a str,
    #[serde(rename = "arrayId")]
    run: Option<&'a RunId>,
    message: Option<&'a str>,
    item: Option<u64>,
    label: Option<&'a str>,
    error: &'a str,
    attempts: &'a [Attempt],
    body_bytes: usize,
    body: Option<Cow<'a, str>>,
    body_encoding: Option<&'static str>,
}

impl<'a> OneDeadLetter<'a> {
    fn new(letter: &'a DeadLetter, bodies: bool) -> Self {
        let (body, body_encoding) = bodies.then(|| shown(&letter.body)).unzip();
        Self {
            id: letter.id().to_string(),
            stage: &letter.stage,
            run: letter.run.as_ref(),
            message: letter.message.as_deref(),
            item: letter.item,
            label: letter.label.as_deref(),
            error: &letter.error,
            attempts: &letter.attempts,
            body_bytes: letter.body.len(),
            body,
            body_encoding,
        }
    }
}

/// A body as JSON can have it, and in which encoding: a compact codec's messages, and whatever else got on a queue, are no
/// text. Text that JSON would make more than twice as long, since it has little but control characters, is Base64 too.
fn shown(body: &[u8]) -> (Cow<'_, str>, &'static str) {
    let escaped = |byte: &u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    let text = std::str::from_utf8(body).ok();
    let fits = |_: &&str| body.iter().map(escaped).sum::<usize>() <= 2 * body.len();
    match text.filter(fits) {
        Some(text) => (text.into(), "utf-8"),
        None => (STANDARD.encode(body).into(), "base64"),
    }
}

/// A run whose dead letters went back.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redrives<'a> {
    #[serde(rename = "arrayId")]
    run: &'a RunId,
    redriven: usize,
    under_way: u64,
}

impl<'a> Redrives<'a> {
    pub(super) fn new(run: &'a RunId, outcome: Redriven) -> Self {
        Self {
            run,
            redriven: outcome.redriven,
            under_way: outcome.under_way,
        }
    }
}

/// What became of dead letters that were to be discarded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discards<'a> {
    #[serde(rename = "arrayId")]
    run: Option<&'a RunId>,
    discarded: usize,
    passed_over: usize,
    more: bool,
}

impl<'a> Discards<'a> {
    pub(super) fn new(run: Option<&'a RunId>, outcome: Discarded) -> Self {
        Self {
            run,
            discarded: outcome.discarded,
            passed_over: outcome.passed_over,
            more: outcome.more,
        }
    }
}
