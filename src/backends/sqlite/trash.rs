//! Removing what nobody needs any more, little by little, so that no transaction takes long.

use rusqlite::OptionalExtension;

use super::job::Session;

/// Groups, or records of messages, that are removed in one transaction.
const SOME: i64 = 64;

/// Marks a run whose groups are not needed any more; if its record is removed, neither are its failures.
pub(super) fn add(session: &Session<'_>, run: i64) -> rusqlite::Result<()> {
    session.effects.borrow_mut().trash = true;
    let insert = "INSERT OR IGNORE INTO trash (run) VALUES (?1)";
    session.db.prepare_cached(insert)?.execute([run]).map(drop)
}

/// Removes some. Returns whether there may be more.
pub(super) fn remove_some(session: &Session<'_>) -> rusqlite::Result<bool> {
    let db = session.db;
    let next = db
        .prepare_cached("SELECT run FROM trash LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(run) = next else { return Ok(false) };
    let groups: Vec<i64> = db
        .prepare_cached("SELECT id FROM tree WHERE run = ?1 LIMIT ?2")?
        .query_map((run, SOME), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for group in &groups {
        db.prepare_cached("DELETE FROM member WHERE tree = ?1")?
            .execute([group])?;
        db.prepare_cached("DELETE FROM tree WHERE id = ?1")?
            .execute([group])?;
    }
    if groups.len() as i64 == SOME {
        return Ok(true);
    }
    let is_there: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM run WHERE id = ?1)")?
        .query_row([run], |row| row.get(0))?;
    if !is_there {
        let removed = db
            .prepare_cached(
                "DELETE FROM failure WHERE (run, stage, sort_key, message) IN
                 (SELECT run, stage, sort_key, message FROM failure WHERE run = ?1 LIMIT ?2)",
            )?
            .execute((run, SOME))?;
        if removed as i64 == SOME {
            return Ok(true);
        }
    }
    db.prepare_cached("DELETE FROM trash WHERE run = ?1")?
        .execute([run])?;
    Ok(true)
}
