//! Messages that are kept for a person.

use std::collections::HashSet;

use bytes::Bytes;
use tokio_postgres::types::Type;

use super::named::{PostgresQueue, read_attributes};
use super::receipts::Held;
use crate::core::error::Result;
use crate::queue::{BuriedMessage, Cursor, Delivery, Outgoing, PAGE_BYTES, Page, Receipt};

/// The name of the list in its cursors.
const LIST: &str = "postgres-dead-letters";

/// The message moves in one statement, so that it is never in both places or in neither. Its body is the one that was
/// sent.
pub(super) async fn bury(queue: &PostgresQueue, delivery: &Delivery, reason: &str) -> Result<()> {
    const BURY: &str = "WITH gone AS (
            DELETE FROM @.messages m USING unnest((SELECT $2), (SELECT $3)) AS r (id, delivery)
            WHERE m.id = r.id AND m.delivery = r.delivery AND m.held AND m.queue + 0 = $1 RETURNING m.id
        ), body AS (
            DELETE FROM @.bodies b USING gone WHERE b.id = gone.id RETURNING b.sent_at, b.attributes, b.body
        )
        INSERT INTO @.dead_letters (queue, sent_at, reason, attributes, body)
        SELECT $1, sent_at, $4, attributes, body FROM body";
    let held = Held::of([&delivery.receipt]);
    let reason = reason.as_bytes();
    let params = [
        (&queue.id as _, Type::INT4),
        (&held.ids as _, Type::INT8_ARRAY),
        (&held.deliveries as _, Type::INT4_ARRAY),
        (&reason as _, Type::BYTEA),
    ];
    queue
        .shared
        .database
        .query("burying", BURY, &params)
        .await?;
    Ok(())
}

/// By id. Sizes are summed up by the server, so that no more is read than fits the page.
pub(super) async fn list(
    queue: &PostgresQueue,
    cursor: Option<&Cursor>,
    max: usize,
) -> Result<Page<BuriedMessage>> {
    const LOOK: &str = "WITH letter AS MATERIALIZED (
            SELECT id, sum(octet_length(body) + octet_length(reason) + coalesce(octet_length(attributes), 0))
                OVER (ORDER BY id) AS bytes
            FROM (SELECT * FROM @.dead_letters WHERE queue = $1 AND id > $2 ORDER BY id LIMIT $3) AS next
        ), fitting AS (
            SELECT id FROM letter WHERE bytes <= $4
            UNION SELECT min(id) FROM letter
        )
        SELECT d.id, d.reason, d.attributes, d.body, (SELECT max(id) FROM letter) > (SELECT max(id) FROM fitting)
        FROM @.dead_letters d JOIN fitting USING (id) ORDER BY d.id";
    let after: i64 = cursor
        .map(|cursor| cursor.decode(LIST))
        .transpose()?
        .unwrap_or(0);
    let max = max.max(1);
    // One more shows whether there is another page.
    let limit = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1);
    let bytes = i64::try_from(PAGE_BYTES).unwrap_or(i64::MAX);
    let params = [
        (&queue.id as _, Type::INT4),
        (&after as _, Type::INT8),
        (&limit as _, Type::INT8),
        (&bytes as _, Type::INT8),
    ];
    let rows = queue
        .shared
        .database
        .query("listing dead letters", LOOK, &params)
        .await?;
    let has_more = rows.len() > max || rows.first().is_some_and(|row| row.get(4));
    let mut letters = Vec::new();
    let mut last = after;
    for row in rows.iter().take(max) {
        last = row.get(0);
        let body: &[u8] = row.get(3);
        let reason: &[u8] = row.get(1);
        let message =
            Outgoing::new(Bytes::copy_from_slice(body)).attributes(read_attributes(row.get(2))?);
        letters.push(BuriedMessage::new(
            message,
            String::from_utf8_lossy(reason),
            receipt(last),
        ));
    }
    let next = has_more.then(|| Cursor::encode(LIST, &last)).transpose()?;
    Ok(Page::new(letters, next))
}

pub(super) async fn redrive(
    queue: &PostgresQueue,
    messages: Vec<BuriedMessage>,
) -> Result<Vec<Receipt>> {
    const REDRIVE: &str = "WITH gone AS (
            DELETE FROM @.dead_letters WHERE queue = $1 AND id = ANY ($2) RETURNING id, attributes, body
        ), sent AS (
            INSERT INTO @.bodies (attributes, body) SELECT attributes, body FROM gone RETURNING id
        ), made AS (
            INSERT INTO @.messages (id, queue) SELECT id, $1 FROM sent
        )
        SELECT id FROM gone";
    let passed_over = remove(queue, "redriving", REDRIVE, messages).await?;
    queue.shared.tell(queue.id);
    Ok(passed_over)
}

pub(super) async fn discard(
    queue: &PostgresQueue,
    messages: Vec<BuriedMessage>,
) -> Result<Vec<Receipt>> {
    const DISCARD: &str =
        "DELETE FROM @.dead_letters WHERE queue = $1 AND id = ANY ($2) RETURNING id";
    remove(queue, "discarding", DISCARD, messages).await
}

/// Returns the receipts of those that were not there.
async fn remove(
    queue: &PostgresQueue,
    operation: &str,
    statement: &str,
    messages: Vec<BuriedMessage>,
) -> Result<Vec<Receipt>> {
    let mut ids: Vec<i64> = messages
        .iter()
        .filter_map(|message| id(&message.receipt))
        .collect();
    ids.sort_unstable();
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let params = [(&queue.id as _, Type::INT4), (&ids as _, Type::INT8_ARRAY)];
    let rows = queue
        .shared
        .database
        .query(operation, statement, &params)
        .await?;
    let removed: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let receipts = messages.into_iter().map(|message| message.receipt);
    let is_passed_over = |receipt: &Receipt| !id(receipt).is_some_and(|id| removed.contains(&id));
    Ok(receipts.filter(is_passed_over).collect())
}

fn receipt(id: i64) -> Receipt {
    // Ids count from 1.
    Receipt::from(id.unsigned_abs())
}

fn id(receipt: &Receipt) -> Option<i64> {
    receipt.as_u64().and_then(|id| i64::try_from(id).ok())
}
