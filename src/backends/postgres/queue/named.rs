//! One queue.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::watch::LONGEST;
use super::front::Front;
use super::receipts::{self, Held};
use super::{Shared, dead_letters, seconds};
use crate::core::clock::after;
use crate::core::error::{Error, Oversized, Result};
use crate::queue::{
    Attributes, BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, Receipt,
};

/// The largest message, attributes included.
const LARGEST: usize = 16 * 1024 * 1024;
/// A statement takes at most this many messages, or bytes of them unless a single one has more.
const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Messages that are received at once at most.
const MOST_RECEIVED: usize = 10_000;

pub(super) struct PostgresQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) visibility_timeout: Duration,
    pub(super) front: Arc<Front>,
}

impl std::fmt::Debug for PostgresQueue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresQueue")
            .field("name", &self.name)
            .field("database", &self.shared.database)
            .finish_non_exhaustive()
    }
}

impl PostgresQueue {
    /// Sends messages that fit into one statement.
    async fn send_some(&self, messages: &[Outgoing]) -> Result<()> {
        // A queue that was removed takes nothing.
        const SEND: &str = "WITH sent AS (
                INSERT INTO @.bodies (attributes, body)
                SELECT m.attributes, m.body FROM unnest($2, $3) WITH ORDINALITY AS m (attributes, body, place)
                WHERE EXISTS (SELECT FROM @.queues WHERE id = $1)
                ORDER BY m.place
                RETURNING id
            ), made AS (
                INSERT INTO @.messages (id, queue) SELECT id, $1 FROM sent RETURNING 1
            )
            SELECT count(*) FROM made";
        let attributes = messages
            .iter()
            .map(|message| write_attributes(&message.attributes));
        let attributes: Vec<Option<String>> = attributes.collect::<Result<_>>()?;
        let bodies: Vec<&[u8]> = messages.iter().map(|message| &message.body[..]).collect();
        let params = [
            (&self.id as _, Type::INT4),
            (&attributes as _, Type::TEXT_ARRAY),
            (&bodies as _, Type::BYTEA_ARRAY),
        ];
        let sent = self
            .shared
            .database
            .query_opt("sending", SEND, &params)
            .await?;
        let sent: i64 = sent.map_or(0, |row| row.get(0));
        if sent == 0 {
            return Err(self.shared.missing(&self.name));
        }
        self.shared.tell(self.id);
        Ok(())
    }

    /// Takes what is visible now.
    async fn claim(&self, max: usize) -> Result<Vec<Delivery>> {
        // What is due is looked up by ids that the planner knows nothing of: see `receipts`.
        const CLAIM: &str = "WITH due AS MATERIALIZED (
                SELECT id, visible_at FROM @.messages
                WHERE queue = $1 AND visible_at <= now() AND visible_at >= $4
                ORDER BY visible_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE @.messages m
                SET visible_at = now() + make_interval(secs => $3), delivery = m.delivery + 1, held = true
                FROM unnest((SELECT array_agg(id) FROM due), (SELECT array_agg(visible_at) FROM due)) AS d (id, since)
                WHERE m.id = d.id
                RETURNING m.id, m.delivery, d.since
            )
            SELECT c.id, c.delivery, c.since, now(), b.sent_at, b.attributes, b.body
            FROM claimed c JOIN @.bodies b ON b.id = c.id ORDER BY c.since, c.id";
        let max = max.clamp(1, MOST_RECEIVED).min(self.front.room());
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let hidden = seconds(self.visibility_timeout);
        let bound = self.front.bound();
        let begin = Instant::now();
        let params = [
            (&self.id as _, Type::INT4),
            (&limit as _, Type::INT8),
            (&hidden as _, Type::FLOAT8),
            (&bound.low as _, Type::TIMESTAMPTZ),
        ];
        let rows = self
            .shared
            .database
            .query("receiving", CLAIM, &params)
            .await?;
        self.front.looked(&bound, begin.elapsed());
        if let Some(last) = rows.last() {
            let (since, now): (SystemTime, SystemTime) = (last.get(2), last.get(3));
            self.front.claimed(since, now, rows.len() >= max);
            self.shared.watch.is_active();
        }
        let deliveries: Vec<Delivery> = rows.iter().map(delivery).collect::<Result<_>>()?;
        let sizes = || deliveries.iter().map(|delivery| delivery.body.len());
        if let Some(largest) = sizes().max() {
            self.front.received(largest);
            let (vacuum, database) = (&self.shared.vacuum, &self.shared.database);
            vacuum.received(deliveries.len(), sizes().sum(), database);
        }
        Ok(deliveries)
    }

    /// Runs a statement on messages that are held, by their receipts.
    async fn on_held(
        &self,
        operation: &str,
        statement: &str,
        held: &Held,
        hidden: Option<f64>,
    ) -> Result<Vec<Row>> {
        let mut params = vec![
            (&self.id as _, Type::INT4),
            (&held.ids as _, Type::INT8_ARRAY),
            (&held.deliveries as _, Type::INT4_ARRAY),
        ];
        if let Some(hidden) = &hidden {
            params.push((hidden as _, Type::FLOAT8));
        }
        self.shared
            .database
            .query(operation, statement, &params)
            .await
    }
}

#[async_trait]
impl Queue for PostgresQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        if let Some(large) = messages.iter().find(|message| message.size() > LARGEST) {
            let what = format!("a message for queue `{}`", self.name);
            return Err(Error::too_large(
                Oversized::Message,
                what,
                large.size(),
                LARGEST,
            ));
        }
        let mut rest = messages.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(MOST_MESSAGES).take_while(|message| {
                let is_first = bytes == 0;
                bytes += message.size().max(1);
                is_first || bytes <= MOST_BYTES
            });
            let (some, others) = rest.split_at(fitting.count());
            self.send_some(some).await?;
            rest = others;
        }
        Ok(())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let until = after(Instant::now(), wait);
        // Polls look often enough that the end of a long wait needs no look of its own.
        let is_long = wait >= LONGEST * 2;
        let interest = self.shared.watch.interest(self.id);
        loop {
            sleep_until(self.front.next().min(until)).await;
            let news = interest.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let deliveries = self.claim(max).await?;
            if !deliveries.is_empty() || Instant::now() >= until {
                return Ok(deliveries);
            }
            let _sleeping = interest.poll();
            tokio::select! {
                () = &mut news => {}
                () = sleep_until(until), if is_long => return Ok(Vec::new()),
                () = sleep_until(until), if !is_long => {}
            }
        }
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        const ACKNOWLEDGE: &str = "WITH gone AS (
                DELETE FROM @.messages m USING unnest((SELECT $2), (SELECT $3)) AS r (id, delivery)
                WHERE m.id = r.id AND m.delivery = r.delivery AND m.held AND m.queue + 0 = $1 RETURNING m.id
            )
            DELETE FROM @.bodies b USING gone WHERE b.id = gone.id";
        let held = Held::of(&receipts);
        if held.ids.is_empty() {
            return Ok(());
        }
        self.on_held("acknowledging", ACKNOWLEDGE, &held, None)
            .await?;
        Ok(())
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        const RELEASE: &str = "UPDATE @.messages m
            SET visible_at = now() + make_interval(secs => $4), held = false
            FROM unnest((SELECT $2), (SELECT $3)) AS r (id, delivery)
            WHERE m.id = r.id AND m.delivery = r.delivery AND m.held AND m.queue + 0 = $1";
        let held = Held::of(&receipts);
        if held.ids.is_empty() {
            return Ok(());
        }
        self.on_held("releasing", RELEASE, &held, Some(seconds(after)))
            .await?;
        self.shared.tell(self.id);
        Ok(())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        const EXTEND: &str = "UPDATE @.messages m
            SET visible_at = now() + make_interval(secs => $4)
            FROM unnest((SELECT $2), (SELECT $3)) AS r (id, delivery)
            WHERE m.id = r.id AND m.delivery = r.delivery AND m.held AND m.queue + 0 = $1
            RETURNING m.id, m.delivery";
        let held = Held::of(&receipts);
        if held.ids.is_empty() {
            return Ok(receipts);
        }
        let rows = self
            .on_held("extending", EXTEND, &held, Some(seconds(by)))
            .await?;
        let extended: HashSet<(i64, i32)> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let is_stale = |receipt: &Receipt| {
            !receipts::read(receipt).is_some_and(|held| extended.contains(&held))
        };
        Ok(receipts.into_iter().filter(is_stale).collect())
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        dead_letters::bury(self, &delivery, reason).await
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        dead_letters::list(self, cursor, max).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        dead_letters::redrive(self, messages).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        dead_letters::discard(self, messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        const DEPTH: &str = "SELECT
                count(*) FILTER (WHERE visible_at <= now()),
                count(*) FILTER (WHERE visible_at > now() AND held),
                count(*) FILTER (WHERE visible_at > now() AND NOT held),
                (SELECT count(*) FROM @.dead_letters WHERE queue = $1)
            FROM @.messages WHERE queue = $1";
        let params = [(&self.id as _, Type::INT4)];
        let row = self
            .shared
            .database
            .query_opt("counting", DEPTH, &params)
            .await?;
        let count = |column: usize| {
            let count = row.as_ref().map_or(0, |row| row.get::<_, i64>(column));
            u64::try_from(count).unwrap_or(0)
        };
        Ok(Depth::new()
            .ready(count(0))
            .in_flight(count(1))
            .delayed(count(2))
            .dead(count(3)))
    }

    fn messages_per_call(&self) -> usize {
        100
    }

    fn max_body(&self) -> Option<usize> {
        Some(LARGEST)
    }
}

fn delivery(row: &Row) -> Result<Delivery> {
    let (id, number): (i64, i32) = (row.get(0), row.get(1));
    let body: &[u8] = row.get(6);
    let message =
        Outgoing::new(Bytes::copy_from_slice(body)).attributes(read_attributes(row.get(5))?);
    let count = u32::try_from(number).unwrap_or(u32::MAX);
    let delivery = Delivery::new(message, receipts::write(id, number), count);
    Ok(delivery.message_id(id.to_string()).sent_at(row.get(4)))
}

/// A JSON object; `None` if there are none.
pub(super) fn write_attributes(attributes: &Attributes) -> Result<Option<String>> {
    if attributes.is_empty() {
        return Ok(None);
    }
    let map: BTreeMap<&str, &str> = attributes.iter().collect();
    let text = serde_json::to_string(&map);
    text.map(Some)
        .map_err(|source| Error::encode("the attributes of a message", source))
}

pub(super) fn read_attributes(text: Option<&str>) -> Result<Attributes> {
    let Some(text) = text else {
        return Ok(Attributes::new());
    };
    let map: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|source| Error::decode("the attributes of a message", source))?;
    Ok(map.into_iter().collect())
}
