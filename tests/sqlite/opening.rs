//! A sentence for each file that cannot be used.

use std::error::Error as _;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use catchment::backends::sqlite::{SqliteFile, SqliteOptions};
use catchment::queue::{Outgoing, QueueOptions, Queues};
use catchment::{Backend, Error};
use rusqlite::Connection;

use crate::files::Folder;

/// The error of opening the file, as a person reads it.
fn refused(folder: &Folder) -> String {
    sentence(SqliteFile::open(folder.path()).unwrap_err(), false)
}

fn sentence(error: Error, is_retryable: bool) -> String {
    assert_eq!(error.is_retryable(), is_retryable, "{error}");
    let problem = error.source().expect("a reason").to_string();
    assert!(error.to_string().contains("run.db"), "{error}");
    println!("{error}: {problem}");
    problem
}

#[test]
fn a_new_file_is_made_and_opened_again() {
    let folder = Folder::new();
    for _ in 0..2 {
        Backend::file(folder.path()).unwrap();
    }
    let db = Connection::open(folder.path()).unwrap();
    let mode: String = db
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn many_threads_make_one_file() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| SqliteFile::open(folder.path()).unwrap());
        }
    });
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let db = Connection::open(folder.path()).unwrap();
    db.execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    drop(db);
    let before = fs::read(folder.path()).unwrap();
    assert!(refused(&folder).starts_with("the file belongs to another program"));
    assert_eq!(fs::read(folder.path()).unwrap(), before);
    fs::write(
        folder.path(),
        "Dear diary, today I wrote no database at all.".repeat(100),
    )
    .unwrap();
    assert!(refused(&folder).starts_with("the file is not a SQLite database"));
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    SqliteFile::open(folder.path()).unwrap();
    let db = Connection::open(folder.path()).unwrap();
    db.pragma_update(None, "user_version", 7).unwrap();
    drop(db);
    assert!(refused(&folder).starts_with(
        "the file was made by a newer version of this library (format 7, and this one knows 2)"
    ));
}

#[test]
fn a_file_that_is_read_only_is_refused() {
    let folder = Folder::new();
    SqliteFile::open(folder.path()).unwrap();
    let mut permissions = fs::metadata(folder.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(folder.path(), permissions).unwrap();
    assert!(refused(&folder).starts_with("the file is read-only"));
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let folder = Folder::new();
    let path = folder.path().parent().unwrap().join("missing/run.db");
    let problem = sentence(SqliteFile::open(path).unwrap_err(), false);
    assert!(
        problem.starts_with("its folder `") && problem.contains("missing` cannot be entered"),
        "{problem}"
    );
}

/// A full disk is waited out: the same call succeeds once there is room, and what was written before is there.
#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let folder = Folder::new();
    SqliteFile::open(folder.path()).unwrap();
    let file = SqliteOptions::new()
        .most_pages(200)
        .open(folder.path())
        .unwrap();
    let options = QueueOptions::default();
    let queue = file.queues().open("letters", &options).await.unwrap();
    let mut sent = 0_u64;
    let error = loop {
        match queue.send(vec![Outgoing::new(vec![b'x'; 10_000])]).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(sentence(error, true).starts_with("the disk is full"));
    // Another call of the same transaction is not concerned.
    let (large, received) = tokio::join!(
        queue.send(vec![Outgoing::new(vec![b'x'; 100_000])]),
        queue.receive(1, Duration::ZERO)
    );
    assert!(large.is_err() && received.unwrap().len() == 1);
    drop((queue, file));
    let queue = SqliteFile::open(folder.path())
        .unwrap()
        .queues()
        .open("letters", &options)
        .await
        .unwrap();
    queue
        .send(vec![Outgoing::new(vec![b'x'; 100_000])])
        .await
        .unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth.ready + depth.in_flight, sent + 1);
}

#[tokio::test]
async fn a_damaged_file_says_so() {
    let folder = Folder::new();
    let options = QueueOptions::default();
    {
        let queue = SqliteFile::open(folder.path())
            .unwrap()
            .queues()
            .open("letters", &options)
            .await
            .unwrap();
        queue
            .send((0..1_000).map(|n| format!("letter {n}").into()).collect())
            .await
            .unwrap();
    }
    // Moves all pages out of the log.
    let db = Connection::open(folder.path()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(db);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path())
        .unwrap();
    file.seek(SeekFrom::Start(4_096)).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    file.write_all(&vec![0x5a; length - 4_096]).unwrap();
    let error = match SqliteFile::open(folder.path()) {
        Err(error) => error,
        Ok(file) => {
            let queue = file.queues().open("letters", &options).await.unwrap();
            queue.send(vec!["one more".into()]).await.unwrap_err()
        }
    };
    assert!(sentence(error, false).starts_with("the file is damaged"));
}
