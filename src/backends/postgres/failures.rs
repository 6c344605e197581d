//! Failures: one row for each message that has failed, or was delivered more than once.
//!
//! A change reads the row, and writes it back if nobody else has in between; else it begins again. What the run counts changes
//! in the same statement. Failures are rare, and this keeps the rules of the contract in one place, in Rust.

mod document;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use self::document::{Counts, Document};
use super::scratchpad::PostgresScratchpad;
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::natural;
use crate::scratchpad::{
    Beginning, Cursor, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport, Failures, Page,
};

/// The name of the list in its cursors.
const LIST: &str = "postgres-failures";
/// Messages that a list reads at once: each may have many failures.
const MOST_MESSAGES: usize = 100;

/// What is on record of a message, and of its run.
struct Known {
    document: Document,
    /// 0 if there is nothing on record.
    version: i64,
    /// Items of the whole run that are skipped.
    skipped: i64,
    is_over: bool,
}

/// A message of a run.
#[derive(Clone, Copy)]
struct Place<'a> {
    run: &'a RunKey,
    stage: &'a str,
    message: &'a str,
}

impl PostgresScratchpad {
    async fn known(&self, place: Place<'_>) -> Result<Option<Known>> {
        const FIND: &str = "SELECT r.skipped, r.result IS NOT NULL OR r.cancelled, f.version, f.document
            FROM @.runs r LEFT JOIN @.failures f ON f.run = r.number AND f.stage = $3 AND f.message = $4
            WHERE r.deployment = $1 AND r.key = $2";
        let key = place.run.to_string();
        let (run, deployment) = (key.as_str(), &*self.deployment);
        let mut params = self.run_params(&run, &deployment);
        params.push((&place.stage, Type::TEXT));
        params.push((&place.message, Type::TEXT));
        let row = self
            .database()
            .query_opt("reading failures", FIND, &params)
            .await?;
        row.map(|row| {
            let document: Option<&str> = row.get(3);
            Ok(Known {
                document: document
                    .map(Document::read)
                    .transpose()?
                    .unwrap_or_default(),
                version: row.get::<_, Option<i64>>(2).unwrap_or(0),
                skipped: row.get(0),
                is_over: row.get(1),
            })
        })
        .transpose()
    }

    /// Writes a changed document. Returns the skipped items of the whole run, or `None` if the row is no longer as `known`.
    async fn write(
        &self,
        place: Place<'_>,
        known: &Known,
        document: &Document,
    ) -> Result<Option<i64>> {
        const WRITE: &str = "WITH written AS (
                INSERT INTO @.failures AS f (run, stage, message, ordering, version, listed, died, document)
                SELECT number, $3, $4, $5, 1, $7, CASE WHEN $8 THEN nextval('@.deaths') END, $9
                FROM @.runs WHERE deployment = $1 AND key = $2
                ON CONFLICT (run, stage, message) DO UPDATE SET
                    version = f.version + 1, listed = excluded.listed, document = excluded.document,
                    died = CASE WHEN $8 THEN coalesce(f.died, excluded.died) END
                WHERE f.version = $6
                RETURNING f.run
            ), counted AS (
                UPDATE @.runs r SET dead = dead + $10, dead_items = dead_items + $11, skipped = skipped + $12,
                    replaced = replaced + $13,
                    written_at = now()
                FROM written WHERE r.number = written.run AND ($10 <> 0 OR $11 <> 0 OR $12 <> 0 OR $13 <> 0)
                RETURNING r.skipped
            )
            SELECT coalesce(counted.skipped, r.skipped)
            FROM written JOIN @.runs r ON r.number = written.run LEFT JOIN counted ON true";
        let Counts {
            dead,
            dead_items,
            skipped,
            replaced,
        } = document.counts().less(known.document.counts());
        let ordering = natural::sort_key(place.message);
        let (is_listed, is_dead) = (document.is_listed(), document.is_dead());
        let text = document.write()?;
        let key = place.run.to_string();
        let (run, deployment) = (key.as_str(), &*self.deployment);
        let mut params = self.run_params(&run, &deployment);
        params.push((&place.stage, Type::TEXT));
        params.push((&place.message, Type::TEXT));
        params.push((&ordering, Type::TEXT));
        params.push((&known.version, Type::INT8));
        params.push((&is_listed, Type::BOOL));
        params.push((&is_dead, Type::BOOL));
        params.push((&text, Type::TEXT));
        params.push((&dead, Type::INT8));
        params.push((&dead_items, Type::INT8));
        params.push((&skipped, Type::INT8));
        params.push((&replaced, Type::INT8));
        let row = self
            .database()
            .query_opt("recording failures", WRITE, &params)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Changes a message's record, unless `change` says by `None` that it stays as it is. Returns what `change` did, the
    /// record, and the skipped items of the whole run; `None` for an unknown run, and for one that is over unless `late`
    /// changes count.
    async fn change<T>(
        &self,
        place: Place<'_>,
        mut change: impl FnMut(&mut Document, bool) -> Option<T> + Send,
    ) -> Result<Option<(Option<T>, Document, u64)>>
    where
        T: Send,
    {
        loop {
            let Some(known) = self.known(place).await? else {
                return Ok(None);
            };
            let mut document = known.document.clone();
            let changed = change(&mut document, known.is_over);
            let skipped = match (&changed, document == known.document) {
                (None, _) | (Some(_), true) => Some(known.skipped),
                (Some(_), false) => self.write(place, &known, &document).await?,
            };
            if let Some(skipped) = skipped {
                let skipped = u64::try_from(skipped).unwrap_or(0);
                return Ok(Some((changed, document, skipped)));
            }
            // Another report was faster. There is no need to wait: one of those that met has been written.
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Failures for PostgresScratchpad {
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let place = Place {
            run: &beginning.run,
            stage: &beginning.stage,
            message: &beginning.message,
        };
        let changed = self.change(place, |document, is_over| {
            (!is_over).then(|| document.begin(beginning))
        });
        Ok(match changed.await? {
            Some((Some(()), document, _)) => document.deliveries(),
            _ => Deliveries::default(),
        })
    }

    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()> {
        let place = Place {
            run: &beginning.run,
            stage: &beginning.stage,
            message: &beginning.message,
        };
        let changed = self.change(place, |document, _| {
            document.withdraw(beginning);
            Some(())
        });
        changed.await?;
        Ok(())
    }

    /// A run that is over records no more failures: its outcome is final.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let place = Place {
            run: &report.run,
            stage: &report.stage,
            message: &report.message,
        };
        let changed = self.change(place, |document, is_over| {
            (!is_over).then(|| document.record(report))
        });
        let Some((_, document, skipped)) = changed.await? else {
            return Ok(FailureLog::default());
        };
        if document.is_dead() {
            self.shared.watch.tell(&self.key(&report.run.id));
        }
        Ok(FailureLog::new(document.attempts().to_vec(), skipped))
    }

    async fn clear(
        &self,
        run: &RunKey,
        stage: &str,
        message: &str,
        id: DeadLetterId,
    ) -> Result<()> {
        let place = Place {
            run,
            stage,
            message,
        };
        let cleared = self.change(place, |document, _| document.clear(id).then_some(()));
        cleared.await?;
        Ok(())
    }

    async fn list_failures(
        &self,
        run: &RunId,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>> {
        const LOOK: &str = "SELECT f.stage, f.ordering, f.message, f.document
            FROM @.runs r JOIN @.failures f ON f.run = r.number AND f.listed
            WHERE r.deployment = $1 AND r.id = $2 AND (f.stage, f.ordering, f.message) >= ($3, $4, $5)
            ORDER BY f.stage, f.ordering, f.message LIMIT $6";
        let after: Option<Position> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        let mut from = after.as_ref().map_or_else(Default::default, |after| {
            let ordering = natural::sort_key(&after.message);
            (after.stage.clone(), ordering, after.message.clone())
        });
        let (id, deployment) = (run.as_str(), &*self.deployment);
        let mut failures: Vec<Failure> = Vec::new();
        // One more shows whether there is another page.
        while failures.len() <= limit {
            let count = MOST_MESSAGES.min(limit - failures.len() + 2);
            let count_param = i64::try_from(count).unwrap_or(i64::MAX);
            let mut params = self.run_params(&id, &deployment);
            params.push((&from.0, Type::TEXT));
            params.push((&from.1, Type::TEXT));
            params.push((&from.2, Type::TEXT));
            params.push((&count_param, Type::INT8));
            let rows = self
                .database()
                .query("listing failures", LOOK, &params)
                .await?;
            let is_last = rows.len() < count;
            for (index, row) in rows.iter().enumerate() {
                let (stage, ordering, message): (&str, &str, &str) =
                    (row.get(0), row.get(1), row.get(2));
                // The next look begins with this message.
                if index + 1 == rows.len() && !is_last {
                    from = (stage.to_owned(), ordering.to_owned(), message.to_owned());
                    break;
                }
                let found = Document::read(row.get(3))?.failures(stage, message);
                failures.extend(found.into_iter().filter(|failure| {
                    let after = after.as_ref();
                    after.is_none_or(|after| after.is_before(failure))
                }));
            }
            if is_last {
                break;
            }
        }
        let has_more = failures.len() > limit;
        failures.truncate(limit);
        let next = match failures.last() {
            Some(last) if has_more => Some(Cursor::encode(LIST, &Position::of(last))?),
            _ => None,
        };
        Ok(Page::new(failures, next))
    }
}

/// Where a failure stands in a list. At one item, the dead letter is listed before the skipped item.
#[derive(Serialize, Deserialize)]
struct Position {
    stage: String,
    message: String,
    item: Option<u64>,
    skipped: bool,
}

impl Position {
    fn of(failure: &Failure) -> Self {
        Self {
            stage: failure.stage.clone(),
            message: failure.message.clone(),
            item: failure.item,
            skipped: failure.is_skipped(),
        }
    }

    /// Of a failure that is of this message or of a later one.
    fn is_before(&self, failure: &Failure) -> bool {
        let is_same = (&self.stage, &self.message) == (&failure.stage, &failure.message);
        !is_same || (self.item, self.skipped) < (failure.item, failure.is_skipped())
    }
}

/// The dead letter of a stored document.
pub(super) fn first_failure(stage: &str, message: &str, document: &str) -> Result<Option<Failure>> {
    Ok(Document::read(document)?.dead_letter(stage, message))
}
