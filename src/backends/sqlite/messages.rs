//! The statements of a queue.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::trouble::Trouble;
use super::turns::Turns;
use crate::core::error::{Error, Result};
use crate::queue::{Attributes, BuriedMessage, Outgoing, Receipt};

/// A message that was claimed.
pub(super) struct Claimed {
    pub(super) id: i64,
    pub(super) receives: u32,
    pub(super) sent_at: i64,
    pub(super) sent: Outgoing,
}

impl Claimed {
    pub(super) fn receipt(&self) -> Receipt {
        Receipt::new(format!("{}:{}", self.id, self.receives))
    }
}

/// What a receipt says: the message, and which of its deliveries it is of.
pub(super) fn read_receipt(receipt: &Receipt) -> Option<(i64, i64)> {
    let (id, receives) = receipt.as_str()?.split_once(':')?;
    Some((id.parse().ok()?, receives.parse().ok()?))
}

/// The number of a queue; `None` if it has never been made.
pub(super) fn queue(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM queue WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The number of a queue, which is made if it is missing.
pub(super) fn make_queue(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    match queue(db, name)? {
        Some(id) => Ok(id),
        None => db
            .prepare_cached("INSERT INTO queue (name) VALUES (?1) RETURNING id")?
            .query_row([name], |row| row.get(0)),
    }
}

/// Removes a queue with all that is in it. Returns whether it was there.
pub(super) fn remove_queue(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    let Some(id) = queue(db, name)? else {
        return Ok(false);
    };
    for statement in [
        "DELETE FROM body WHERE message IN (SELECT id FROM message WHERE queue = ?1)",
        "DELETE FROM message WHERE queue = ?1",
        "DELETE FROM dead_letter WHERE queue = ?1",
        "DELETE FROM turn WHERE queue = ?1",
        "DELETE FROM queue WHERE id = ?1",
    ] {
        db.prepare_cached(statement)?.execute([id])?;
    }
    Ok(true)
}

pub(super) fn send(
    db: &Connection,
    queue: i64,
    messages: &[Outgoing],
    now: i64,
) -> rusqlite::Result<()> {
    let mut turns = Turns::begin(db, queue)?;
    for message in messages {
        let run = message.run.as_ref().map_or("", |run| run.as_str());
        let turn = turns.place(run, message.size())?;
        let attributes = write_attributes(&message.attributes);
        insert(db, queue, turn, &message.body, attributes.as_deref(), now)?;
    }
    turns.end()
}

fn insert(
    db: &Connection,
    queue: i64,
    turn: i64,
    body: &[u8],
    attributes: Option<&str>,
    now: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO message (queue, sent_at, turn) VALUES (?1, ?2, ?3)")?
        .execute((queue, now, turn))?;
    let id = db.last_insert_rowid();
    db.prepare_cached("INSERT INTO body (message, body, attributes) VALUES (?1, ?2, ?3)")?
        .execute((id, body, attributes))
        .map(drop)
}

/// Takes up to `max` messages that are visible now, and hides them until `visible_at`: those that become visible again
/// first, then those of each run in turn.
pub(super) fn claim(
    db: &Connection,
    queue: i64,
    max: usize,
    now: i64,
    visible_at: i64,
    owner: i64,
) -> Result<Vec<Claimed>, Trouble> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut found: Vec<(i64, u32, i64)> = Vec::new();
    for statement in [
        "SELECT id, receives, sent_at FROM message WHERE queue = ?1 AND visible_at BETWEEN 1 AND ?2
         ORDER BY visible_at, id LIMIT ?3",
        "SELECT id, receives, sent_at FROM message WHERE queue = ?1 AND visible_at = 0 ORDER BY turn, id LIMIT ?3",
    ] {
        let room = max.saturating_sub(found.len() as i64);
        if room > 0 {
            let mut messages = db.prepare_cached(statement)?;
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            for message in messages.query_map((queue, now.max(1), room), read)? {
                found.push(message?);
            }
        }
    }
    let mut claimed = Vec::with_capacity(found.len());
    for (id, receives, sent_at) in found {
        let receives = receives.saturating_add(1);
        db.prepare_cached(
            "UPDATE message SET visible_at = ?2, is_held = 1, receives = ?3, owner = ?4 WHERE id = ?1",
        )?
        .execute((id, visible_at.max(1), receives, owner))?;
        let sent = db
            .prepare_cached("SELECT body, attributes FROM body WHERE message = ?1")?
            .query_row([id], read_sent)??;
        claimed.push(Claimed {
            id,
            receives,
            sent_at,
            sent,
        });
    }
    Ok(claimed)
}

/// When the next message becomes visible by itself.
pub(super) fn next_due(db: &Connection, queue: i64, now: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(
        "SELECT visible_at FROM message WHERE queue = ?1 AND visible_at > ?2 ORDER BY visible_at LIMIT 1",
    )?
    .query_row((queue, now), |row| row.get(0))
    .optional()
}

/// Removes a message. Returns whether the receipt was that of its last delivery.
pub(super) fn remove(db: &Connection, (id, receives): (i64, i64)) -> rusqlite::Result<bool> {
    let removed = db
        .prepare_cached("DELETE FROM message WHERE id = ?1 AND receives = ?2 AND is_held")?
        .execute((id, receives))?;
    if removed > 0 {
        db.prepare_cached("DELETE FROM body WHERE message = ?1")?
            .execute([id])?;
    }
    Ok(removed > 0)
}

/// Makes a message visible at a time, or at once if that is 0.
pub(super) fn release(
    db: &Connection,
    (id, receives): (i64, i64),
    visible_at: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE message SET visible_at = ?3, is_held = 0, owner = NULL WHERE id = ?1 AND receives = ?2 AND is_held",
    )?
    .execute((id, receives, visible_at))
    .map(drop)
}

/// Hides a message until a time. Returns whether the receipt was that of its last delivery.
pub(super) fn extend(
    db: &Connection,
    (id, receives): (i64, i64),
    visible_at: i64,
) -> rusqlite::Result<bool> {
    let extended = db
        .prepare_cached(
            "UPDATE message SET visible_at = ?3 WHERE id = ?1 AND receives = ?2 AND is_held",
        )?
        .execute((id, receives, visible_at.max(1)))?;
    Ok(extended > 0)
}

/// Moves a message to the dead letters of its queue.
pub(super) fn bury(
    db: &Connection,
    receipt: (i64, i64),
    reason: &str,
    now: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO dead_letter (queue, buried_at, reason, receives, sent_at, body, attributes)
         SELECT queue, ?3, ?4, receives, sent_at, body, attributes FROM message JOIN body ON message = id
         WHERE id = ?1 AND receives = ?2 AND is_held",
    )?
    .execute((receipt.0, receipt.1, now, reason))?;
    remove(db, receipt).map(drop)
}

/// Takes a dead letter away. Returns what was sent; `None` if it is not there.
pub(super) fn exhume(
    db: &Connection,
    queue: i64,
    receipt: &Receipt,
) -> rusqlite::Result<Option<(Vec<u8>, Option<String>)>> {
    let Some(id) = receipt.as_u64() else {
        return Ok(None);
    };
    db.prepare_cached(
        "DELETE FROM dead_letter WHERE id = ?1 AND queue = ?2 RETURNING body, attributes",
    )?
    .query_row((id as i64, queue), |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// Puts dead letters back on their queue. Returns the receipts of those that were not there.
pub(super) fn redrive(
    db: &Connection,
    queue: i64,
    letters: &[BuriedMessage],
    now: i64,
) -> rusqlite::Result<Vec<Receipt>> {
    let mut turns = Turns::begin(db, queue)?;
    let mut missing = Vec::new();
    for letter in letters {
        let Some((body, attributes)) = exhume(db, queue, &letter.receipt)? else {
            missing.push(letter.receipt.clone());
            continue;
        };
        // What is kept of a letter does not say of which run it is.
        let turn = turns.place("", body.len())?;
        insert(db, queue, turn, &body, attributes.as_deref(), now)?;
    }
    turns.end()?;
    Ok(missing)
}

/// Reads a body and attributes from the first two columns.
pub(super) fn read_sent(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<Outgoing>> {
    let body: Vec<u8> = row.get(0)?;
    let attributes: Option<String> = row.get(1)?;
    let sent = Outgoing::new(Bytes::from(body));
    Ok(match attributes {
        None => Ok(sent),
        Some(text) => read_attributes(&text).map(|attributes| sent.attributes(attributes)),
    })
}

fn write_attributes(attributes: &Attributes) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let attributes = attributes.iter();
    let object: serde_json::Map<String, serde_json::Value> = attributes
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Some(serde_json::Value::Object(object).to_string())
}

fn read_attributes(text: &str) -> Result<Attributes> {
    let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|source| Error::decode("the attributes of a message", source))?;
    Ok(pairs.into_iter().collect())
}
