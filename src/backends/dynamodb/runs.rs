//! The runs: an item each in the table of results. That a run is over is marked in the scratchpad's
//! table as well, so that those who only work on it need not read results.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure as OnRefusal,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::groups::{EXPIRES, GROUP, SLOT};
use super::item::{self, Item, Terms};
use super::run_list::{LISTED, LISTED_AT, Phase, sort_key};
use super::{DynamoDbScratchpad, check_size, is_condition};
use crate::core::error::{Error, Result, describe};
use crate::core::generation::{Generation, RunKey};
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, Cursor, Page, Place, RunFilter, RunOutline, RunRecord, RunSnapshot,
    RunSummary, Runs,
};

/// The table's key.
pub(crate) const ARRAY: &str = "arrayId";
pub(super) const RECORD: &str = "record";
pub(crate) const LENGTH: &str = "arrayLength";
pub(super) const PACKETS: &str = "packets";
/// The checkpoint: its packets, the items in these, and their fingerprint.
const SENT_PACKETS: &str = "sentPackets";
const SENT_ITEMS: &str = "sentItems";
const SENT_FINGERPRINT: &str = "sentFingerprint";
/// Which of the runs that have had this id it is: a condition of each write that means this run only.
pub(crate) const GENERATION: &str = "generation";
/// Whose write it was that began the run.
const TOKEN: &str = "token";
pub(super) const SUBMITTED: &str = "submitted";
const CANCELLED: &str = "cancelled";
const RESULT: &str = "result";
/// That failures are on record, which are to be looked up in the scratchpad's table.
pub(crate) const FAILURES: &str = "failures";
/// The sort key of the mark that a run is over.
const OVER: &str = "over";

/// Poll interval while waiting for a run: 1/16 of the elapsed time, clamped to this range.
const POLLS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);
const POLL_SHARE: u32 = 16;

fn key(run: &RunId) -> Item {
    Item::from([(ARRAY.to_owned(), item::text(run.as_str()))])
}

/// The record of a run's item, with the lengths that sealing added.
pub(super) fn read_record(item: &Item) -> Result<RunRecord> {
    let text = item::get_text(item, RECORD)
        .ok_or_else(|| Error::decode("the record of a run", "the item has none"))?;
    let mut record = RunRecord::decode(text.as_bytes())?;
    record.array_length = item::get_number(item, LENGTH).or(record.array_length);
    record.packets = item::get_number(item, PACKETS).or(record.packets);
    Ok(record)
}

fn read_generation(item: &Item) -> Option<Generation> {
    item::get_text(item, GENERATION)?.parse().ok()
}

fn mark_key(run: &RunKey) -> Item {
    Item::from([
        (GROUP.to_owned(), item::text(format!("{run}#run"))),
        (SLOT.to_owned(), item::text(OVER)),
    ])
}

/// A write to a run's item that was refused by its condition.
struct Refused {
    /// The item as it stands, if there is one.
    item: Option<Item>,
}

impl Refused {
    /// Of a run of another generation there is nothing to say: this one is unknown.
    fn of(self, run: &RunKey) -> Self {
        let is_this_one = |item: &Item| read_generation(item) == Some(run.generation);
        Self {
            item: self.item.filter(is_this_one),
        }
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        match &self.item {
            Some(item) => read_checkpoint(item),
            None => Ok(None),
        }
    }
}

/// Each attribute of the checkpoint set to this one's, as in an update or a condition.
fn set_checkpoint(terms: &mut Terms, checkpoint: &Checkpoint) -> [String; 3] {
    let fingerprint = item::text(checkpoint.fingerprint.to_string());
    [
        terms.equal(SENT_PACKETS, item::number(checkpoint.packets)),
        terms.equal(SENT_ITEMS, item::number(checkpoint.items)),
        terms.equal(SENT_FINGERPRINT, fingerprint),
    ]
}

fn read_checkpoint(item: &Item) -> Result<Option<Checkpoint>> {
    let Some(packets) = item::get_number(item, SENT_PACKETS) else {
        return Ok(None);
    };
    let items = item::get_number(item, SENT_ITEMS);
    let fingerprint = item::get_text(item, SENT_FINGERPRINT).and_then(|text| text.parse().ok());
    let (items, fingerprint) = items.zip(fingerprint).ok_or_else(|| {
        let problem = format!("it lacks a number {SENT_ITEMS} or a text {SENT_FINGERPRINT}");
        Error::decode("the checkpoint of a run", problem)
    })?;
    Ok(Some(Checkpoint::new(packets, items, fingerprint)))
}

#[async_trait]
impl Runs for DynamoDbScratchpad {
    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        let table = &self.tables.results;
        let text = record.encode()?;
        let mut item = key(&record.run);
        item.insert(RECORD.to_owned(), item::text(text));
        for (name, number) in [(LENGTH, record.array_length), (PACKETS, record.packets)] {
            if let Some(number) = number {
                item.insert(name.to_owned(), item::number(number));
            }
        }
        item.insert(EXPIRES.to_owned(), self.record_expires_at());
        item.insert(LISTED.to_owned(), Phase::Open.of(&record.run));
        let key = sort_key(&Place::of(record));
        item.insert(LISTED_AT.to_owned(), item::text(key));
        let generation = item::text(record.generation.to_string());
        item.insert(GENERATION.to_owned(), generation);
        let token = Uuid::new_v4().to_string();
        item.insert(TOKEN.to_owned(), item::text(token.as_str()));
        let mut terms = Terms::default();
        let condition = terms.lacks(ARRAY);
        let (names, _) = terms.into_parts();
        let written = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_names(names)
            .return_values_on_condition_check_failure(OnRefusal::AllOld)
            .send()
            .await;
        match written {
            Ok(_) => Ok(Begun::New),
            Err(error) if is_condition(&error) => {
                let old = match error.into_service_error() {
                    PutItemError::ConditionalCheckFailedException(old) => old.item,
                    _ => None,
                };
                // The answer to this very write was lost, and the client has repeated it.
                if old.as_ref().and_then(|item| item::get_text(item, TOKEN)) == Some(&token) {
                    return Ok(Begun::New);
                }
                let snapshot = match old {
                    Some(item) => Some(self.snapshot(&item).await?),
                    None => self.status(&record.run).await?,
                };
                let Some(snapshot) = snapshot else {
                    return Err(self.malformed("a run", table, "it was there, and is gone"));
                };
                Ok(Begun::Existing(Box::new(snapshot)))
            }
            Err(error) => Err(self.failed("PutItem", table, error)),
        }
    }

    async fn checkpoint(&self, run: &RunKey, reached: &Checkpoint) -> Result<()> {
        let written = self.set(run, OnRefusal::AllOld, |terms| {
            let first = terms.lacks(SENT_PACKETS);
            let further = terms.less(SENT_PACKETS, item::number(reached.packets));
            let set = set_checkpoint(terms, reached);
            (set.into(), format!("({first} OR {further})"))
        });
        match written.await? {
            Ok(()) => Ok(()),
            // An unknown run is refused too, and nothing was to be done.
            Err(refused) => match refused.of(run).checkpoint()? {
                Some(recorded) if recorded.packets == reached.packets && recorded != *reached => {
                    Err(reached.differs(&run.id))
                }
                _ => Ok(()),
            },
        }
    }

    async fn measure(&self, run: &RunKey, end: &Checkpoint) -> Result<()> {
        let written = self.set(run, OnRefusal::AllOld, |terms| {
            let mut condition = Vec::new();
            let lengths = [(LENGTH, end.items), (PACKETS, end.packets)];
            let mut set = Vec::from(lengths.map(|(name, number)| {
                let same = terms.equal(name, item::number(number));
                condition.push(format!("({} OR {same})", terms.lacks(name)));
                same
            }));
            let first = terms.lacks(SENT_PACKETS);
            let further = terms.less(SENT_PACKETS, item::number(end.packets));
            let checkpoint = set_checkpoint(terms, end);
            let same = checkpoint.join(" AND ");
            condition.push(format!("({first} OR {further} OR ({same}))"));
            set.extend(checkpoint);
            (set, condition.join(" AND "))
        });
        let Err(refused) = written.await? else {
            return Ok(());
        };
        let refused = refused.of(run);
        let sent = refused.checkpoint()?.map(|recorded| recorded.packets);
        let Some(item) = refused.item else {
            return Err(Error::NoSuchRun {
                run: run.id.clone(),
            });
        };
        let length = item::get_number(&item, LENGTH).unwrap_or(end.items);
        let packets = item::get_number(&item, PACKETS).or(sent);
        let packets = packets.unwrap_or(end.packets);
        if (length, packets) == (end.items, end.packets) {
            return Err(end.differs(&run.id));
        }
        Err(Error::Submission {
            run: run.id.clone(),
            problem: format!(
                "{} items in {} packets, but {length} items in {packets} packets are on record",
                end.items, end.packets
            ),
        })
    }

    async fn submitted(&self, run: &RunKey) -> Result<()> {
        let written = self.set(run, OnRefusal::None, |terms| {
            let submitted = terms.equal(SUBMITTED, AttributeValue::Bool(true));
            (vec![submitted], String::new())
        });
        // An unknown run is refused, and nothing was to be done.
        written.await.map(drop)
    }

    async fn complete(&self, run: &RunKey, result: Bytes) -> Result<bool> {
        check_size(|| format!("the result of run {}", run.id), &result)?;
        let written = self.set(run, OnRefusal::AllOld, |terms| {
            let set = vec![
                terms.equal(RESULT, item::bytes(&result)),
                terms.equal(LISTED, Phase::Done.of(&run.id)),
            ];
            let condition = format!("{} AND {}", terms.lacks(RESULT), terms.lacks(CANCELLED));
            (set, condition)
        });
        match written.await?.map_err(|refused| refused.of(run)) {
            Ok(()) => {
                self.mark_over(run).await;
                Ok(true)
            }
            // It may have been this very write, whose answer was lost, or one who died before the
            // mark.
            Err(Refused { item: Some(item) }) if item.contains_key(RESULT) => {
                self.mark_over(run).await;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    async fn cancel(&self, run: &RunId) -> Result<bool> {
        let mut terms = Terms::default();
        let set = vec![
            terms.equal(CANCELLED, AttributeValue::Bool(true)),
            terms.equal(LISTED, Phase::Cancelled.of(run)),
        ];
        let condition = terms.lacks(RESULT);
        // The mark is for the run that was cancelled, and not for the next one of this id.
        let set = self.send_set(run, terms, set, condition, OnRefusal::None);
        let written = set.return_values(ReturnValue::AllOld).send().await;
        let Ok(item) = self.set_answer(written)? else {
            return Ok(false);
        };
        let generation = item.as_ref().and_then(read_generation).unwrap_or_default();
        self.mark_over(&RunKey::new(run, generation)).await;
        Ok(true)
    }

    async fn status(&self, run: &RunId) -> Result<Option<RunSnapshot>> {
        match self.get(&self.tables.results, key(run)).await? {
            Some(item) => self.snapshot(&item).await.map(Some),
            None => Ok(None),
        }
    }

    /// Most roles of a template may read these attributes only (`OUTLINE` in `template/roles.rs`).
    async fn outline(&self, run: &RunId) -> Result<Option<RunOutline>> {
        let table = &self.tables.results;
        let mut terms = Terms::default();
        let projection = [GENERATION, LENGTH].map(|name| terms.name(name)).join(", ");
        let (names, _) = terms.into_parts();
        let asked = self.client.get_item().table_name(table);
        let asked = asked.set_key(Some(key(run))).consistent_read(true);
        let asked = asked.projection_expression(projection);
        let found = asked.set_expression_attribute_names(names).send().await;
        let found = found.map_err(|error| self.failed("GetItem", table, error))?;
        let item = found.item;
        Ok(item.map(|item| {
            let generation = read_generation(&item).unwrap_or_default();
            RunOutline::new(generation, item::get_number(&item, LENGTH))
        }))
    }

    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        let table = &self.tables.scratchpad;
        let asked = self.client.get_item().table_name(table);
        // It may be late.
        let found = asked.set_key(Some(mark_key(run))).send().await;
        let found = found.map_err(|error| self.failed("GetItem", table, error))?;
        Ok(found.item.is_some())
    }

    async fn list_runs(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        self.list(filter, cursor, limit).await
    }

    /// Polls after 50 ms, then at intervals of 1/16 of the elapsed time, at most 5 s.
    async fn wait(&self, run: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let begin = Instant::now();
        let until = begin.checked_add(up_to);
        loop {
            let snapshot = self.status(run).await?;
            let Some(run) = &snapshot else {
                return Ok(None);
            };
            let left = until.map_or(Duration::MAX, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if run.has_ended() || left.is_zero() {
                return Ok(snapshot);
            }
            let interval = begin.elapsed() / POLL_SHARE;
            let interval = interval.clamp(*POLLS.start(), *POLLS.end());
            tokio::time::sleep(interval.min(left)).await;
        }
    }
}

impl DynamoDbScratchpad {
    /// Sets attributes of a run's item, if the condition holds. Where it does not, `answer` says
    /// whether the item is to be looked at: most stages may not read results.
    async fn set(
        &self,
        run: &RunKey,
        answer: OnRefusal,
        write: impl FnOnce(&mut Terms) -> (Vec<String>, String),
    ) -> Result<Result<(), Refused>> {
        let mut terms = Terms::default();
        let (set, condition) = write(&mut terms);
        let generation = item::text(run.generation.to_string());
        let is_this_one = terms.equal(GENERATION, generation);
        let condition = match condition.as_str() {
            "" => is_this_one,
            condition => format!("{is_this_one} AND {condition}"),
        };
        let written = self.send_set(&run.id, terms, set, condition, answer).send();
        Ok(self.set_answer(written.await)?.map(drop))
    }

    /// The update of the item of whichever run has this id.
    fn send_set(
        &self,
        run: &RunId,
        mut terms: Terms,
        mut set: Vec<String>,
        condition: String,
        answer: OnRefusal,
    ) -> UpdateItemFluentBuilder {
        set.push(terms.equal(EXPIRES, self.record_expires_at()));
        let exists = terms.exists(ARRAY);
        let expression = format!("SET {}", set.join(", "));
        self.update(&self.tables.results, key(run), expression, terms)
            .condition_expression(format!("{exists} AND {condition}"))
            .return_values_on_condition_check_failure(answer)
    }

    /// What the update returned of the item, or that its condition refused it.
    fn set_answer(
        &self,
        written: std::result::Result<UpdateItemOutput, SdkError<UpdateItemError, HttpResponse>>,
    ) -> Result<Result<Option<Item>, Refused>> {
        let table = &self.tables.results;
        match written {
            Ok(written) => Ok(Ok(written.attributes)),
            Err(error) if is_condition(&error) => {
                let item = match error.into_service_error() {
                    UpdateItemError::ConditionalCheckFailedException(old) => old.item,
                    _ => None,
                };
                Ok(Err(Refused { item }))
            }
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }

    /// Notes that failures are on record. False for an unknown run. Most roles of a template allow
    /// writing only the attributes that are written here (`FAILURE_MARK` in `template/roles.rs`).
    pub(super) async fn mark_failures(&self, run: &RunKey) -> Result<bool> {
        let written = self.set(run, OnRefusal::None, |terms| {
            let failures = terms.equal(FAILURES, AttributeValue::Bool(true));
            (vec![failures], String::new())
        });
        Ok(written.await?.is_ok())
    }

    /// Best effort: without the mark, workers merely do redundant work.
    async fn mark_over(&self, run: &RunKey) {
        let table = &self.tables.scratchpad;
        let mut item = mark_key(run);
        item.insert(EXPIRES.to_owned(), self.expires_at());
        let put = self.client.put_item().table_name(table);
        if let Err(error) = put.set_item(Some(item)).send().await {
            let error = self.failed("PutItem", table, error);
            tracing::warn!(run = %run.id, error = %describe(&error), "workers could not be told that the run is over");
        }
    }

    async fn snapshot(&self, item: &Item) -> Result<RunSnapshot> {
        let record = read_record(item)?;
        let standing = match item::get_flag(item, FAILURES) {
            true => self.standing(&record.key()).await?,
            false => Default::default(),
        };
        Ok(RunSnapshot {
            checkpoint: read_checkpoint(item)?,
            record,
            submitted: item::get_flag(item, SUBMITTED),
            cancelled: item::get_flag(item, CANCELLED),
            failure: standing.first,
            dead: standing.dead,
            dead_items: standing.dead_items,
            skipped: standing.skipped,
            result: item.get(RESULT).and_then(item::get_bytes),
        })
    }
}
