//! Opening the file: its checks, its settings and, the first time, its tables.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::Synchronous;
use super::place;
use super::trouble::{describe, failed};
use crate::core::error::Result;

/// Marks the file as one of this library, in the place that SQLite has for it: "ctch".
const APPLICATION: i32 = 0x6374_6368;
/// The format of the tables.
const VERSION: i32 = 2;
/// The first SQLite in which concurrent writers cannot damage a file in WAL mode when the log begins anew.
const OLDEST: i32 = 3_051_003;
/// How long an operation waits for other processes' transactions.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first waits are this short, and later ones four times that: a transaction of another process takes about as long.
const SHORT: Duration = Duration::from_micros(250);
const STATEMENTS: usize = 128;
const OPENING: &str = "opening the database";
const SCHEMA: &str = include_str!("schema.sql");
/// What brings a file of version 1 to version 2.
const UPGRADE_2: &str = include_str!("upgrade_2.sql");

/// Opens the file for the thread that writes, and makes its tables if it is new.
pub(super) fn writer(path: &Path, synchronous: Synchronous) -> Result<Connection> {
    check_library(rusqlite::version_number(), rusqlite::version(), path)?;
    place::check(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let opened = || {
        let mut db = connection(path, flags)?;
        let is_current = match Kind::of(&db)? {
            Kind::Foreign => return Ok(Err("the file belongs to another program: give the path of a file that this library has made, or of none".to_owned())),
            Kind::Version(version) if version > VERSION => return Ok(Err(format!(
                "the file was made by a newer version of this library (format {version}, and this one knows {VERSION}): use that version, or another file"
            ))),
            Kind::Version(version) => version == VERSION,
            Kind::New => false,
        };
        use_wal(&db)?;
        if !is_current {
            make_tables(&mut db)?;
        }
        let level = match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        db.pragma_update(None, "synchronous", level)?;
        // Where the system's ordinary flush leaves data in the disk's own cache.
        db.pragma_update(None, "fullfsync", true)?;
        db.pragma_update(None, "checkpoint_fullfsync", true)?;
        Ok(Ok(db))
    };
    opened()
        .map_err(|error| describe(error, OPENING, path))?
        .map_err(|problem| failed(OPENING, path, false, problem))
}

/// Opens the file, which exists, for reading.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    // Writable, since a reader may be the first to open the shared index of the log.
    let db = connection(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

fn check_library(number: i32, version: &str, path: &Path) -> Result<()> {
    if number >= OLDEST {
        return Ok(());
    }
    let problem = format!(
        "this program is linked with SQLite {version}, in which concurrent writers can damage a file (the WAL-reset bug): link 3.51.3 or later, such as the one that rusqlite's feature `bundled` compiles in"
    );
    Err(failed(OPENING, path, false, problem))
}

fn connection(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[allow(
        unused_mut,
        reason = "the next call takes `&self` in some of the releases of rusqlite"
    )]
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_handler(Some(wait_for_others))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update(None, "cache_size", -16_384)?;
    db.pragma_update(None, "temp_store", "memory")?;
    Ok(db)
}

/// Waits for another process's transaction; returns false if that has taken too long.
fn wait_for_others(waits: i32) -> bool {
    const FIRST: u32 = 40;
    let waits = waits.unsigned_abs();
    let wait = if waits < FIRST { SHORT } else { 4 * SHORT };
    std::thread::sleep(wait);
    let waited = SHORT * waits.min(FIRST) + 4 * SHORT * waits.saturating_sub(FIRST);
    waited < PATIENCE
}

/// What is in a file.
enum Kind {
    /// Nothing.
    New,
    /// Tables of this library.
    Version(i32),
    /// Tables of another program.
    Foreign,
}

impl Kind {
    fn of(db: &Connection) -> rusqlite::Result<Self> {
        let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let version = number("user_version")?;
        if number("application_id")? == APPLICATION {
            return Ok(Self::Version(version));
        }
        let tables: i64 =
            db.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok(match tables {
            0 if version == 0 => Self::New,
            _ => Self::Foreign,
        })
    }
}

/// Sets WAL mode, which the file keeps. SQLite does not wait by itself if another process does the same.
fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < until =>
            {
                std::thread::sleep(4 * SHORT);
            }
            set => return set.map(drop),
        }
    }
}

/// Makes the tables, or brings those of an earlier version up to date, unless another process has done so meanwhile.
fn make_tables(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kind = Kind::of(&transaction)?;
    if matches!(kind, Kind::Version(1)) {
        transaction.execute_batch(UPGRADE_2)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    if matches!(kind, Kind::New) {
        transaction.execute_batch(SCHEMA)?;
        // Numbers of another file mean nothing in this one.
        let base = i64::from(fastrand::u32(..)) << 20;
        for table in ["message", "dead_letter"] {
            let insert = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
            transaction.execute(insert, (table, base))?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_library_is_refused() {
        let path = Path::new("run.db");
        assert!(check_library(3_051_003, "3.51.3", path).is_ok());
        let refused = check_library(3_040_001, "3.40.1", path).unwrap_err();
        let text = crate::core::error::describe(&refused);
        assert!(
            text.contains("SQLite 3.40.1") && text.contains("3.51.3 or later"),
            "{text}"
        );
        assert!(check_library(rusqlite::version_number(), rusqlite::version(), path).is_ok());
    }
}
