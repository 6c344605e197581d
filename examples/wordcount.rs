//! Counts the words of every text file under a directory.
//!
//! ```text
//! cargo run --release --example wordcount                 this project's own tree
//! cargo run --release --example wordcount -- DIR          any other
//! ```
//!
//! A word is a run of anything but white space, as `LC_ALL=C tr -s '[:space:]' '\n'` sees it:
//! space, tab, newline, vertical tab, form feed and carriage return part words, and nothing else
//! does. Case counts. `wc -w` agrees on plain text; on no-break spaces and unprintable characters,
//! its versions and locales differ.
//!
//! A text file is one that is UTF-8 and has no NUL byte. Links are not followed, pipes, sockets and
//! devices are left alone. Without DIR, the tree's `target` and its hidden directories, such as
//! `.git`, are left out too; a DIR that is given is taken whole.
//!
//! Files that cannot be read (no permission, not text, gone, a link to nowhere) are named on
//! standard error, and the rest is counted.
//!
//! Memory is proportional to the number of different words: text is dropped as soon as it is
//! counted.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catchment::pipeline::One;
use catchment::{Backend, Failure, OnFailure, Outcome, Permanent, Pipeline, Stage, permanent};
use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use walkdir::{DirEntry, WalkDir};

/// How many words are printed.
const TOP: usize = 10;
/// Files open at once: each is in memory while it waits to be counted.
const FILES_AT_ONCE: usize = 16;
/// Files whose words are counted into one map. Each map is kept as a message, so few files would
/// make many messages of the same words, and many would hold much text in memory at once.
const FILES_A_PACKET: u32 = 64;
/// A binary file nearly always shows itself this early, and is then not read to its end.
const HEAD: u64 = 8 * 1024;

#[derive(Parser)]
#[command(about = "Counts the words of every text file under a directory")]
struct Arguments {
    /// The directory [default: this project's tree, without `target` and hidden directories]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// A finding of the walk: a file's path, or why a directory could not be listed. Errors pass
/// through the pipeline as well, so that everything that was not read ends up in one list. Paths
/// need not be UTF-8, so they are not strings.
type Found = Result<OsString, String>;

type Counts = HashMap<String, u64>;

#[derive(Clone, Serialize, Deserialize)]
struct Summary {
    words: u64,
    different: usize,
    top: Vec<(String, u64)>,
}

fn pipeline() -> Pipeline<Found, Summary, One> {
    Pipeline::new()
        .then(|found: Found| async move { read(found.map_err(permanent)?).await })
        .with(
            Stage::named("read")
                .concurrency(FILES_AT_ONCE)
                .packet_size(FILES_A_PACKET)
                .on_failure(OnFailure::Skip),
        )
        .fold(Counts::new, count, merge)
        .with(Stage::named("count"))
        .map(summarize)
        .with(Stage::named("summarize"))
}

/// The file's text. A file that cannot be read now cannot be read in a second, so every error is
/// permanent.
async fn read(path: OsString) -> Result<String, Permanent> {
    let path = Path::new(&path);
    let refuse = |problem: String| permanent(format!("{path:?}: {problem}"));
    let mut bytes = Vec::new();
    let outcome = async {
        let mut file = tokio::fs::File::open(path).await?;
        (&mut file).take(HEAD).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 == HEAD && !bytes.contains(&0) {
            file.read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    outcome.await.map_err(|error| refuse(error.to_string()))?;
    if bytes.contains(&0) {
        return Err(refuse("binary, it has a NUL byte".into()));
    }
    String::from_utf8(bytes).map_err(|error| refuse(format!("not UTF-8, {}", error.utf8_error())))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    // `split_ascii_whitespace` does not know the vertical tab.
    text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
        .filter(|word| !word.is_empty())
}

fn count(mut counts: Counts, text: String) -> Counts {
    for word in words(&text) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    counts
}

fn merge(a: Counts, b: Counts) -> Counts {
    // Addition is commutative, so the smaller map is added to the larger.
    let (mut into, from) = if a.len() < b.len() { (b, a) } else { (a, b) };
    for (word, count) in from {
        *into.entry(word).or_default() += count;
    }
    into
}

fn summarize(counts: Counts) -> Summary {
    let (words, different) = (counts.values().sum(), counts.len());
    let mut top: Vec<(String, u64)> = counts.into_iter().collect();
    top.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    top.truncate(TOP);
    Summary {
        words,
        different,
        top,
    }
}

/// Every file under the directory, in order of name.
fn walk(directory: &Path, whole: bool) -> impl Iterator<Item = Found> {
    WalkDir::new(directory)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(move |entry| whole || !is_by_product(entry))
        .filter_map(|entry| match entry {
            Ok(entry) if entry.file_type().is_file() || is_dangling(&entry) => {
                Some(Ok(entry.into_path().into_os_string()))
            }
            Ok(_) => None,
            Err(error) => Some(Err(unlisted(&error))),
        })
}

/// Directories in a project's tree that are not its own.
fn is_by_product(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let built = entry.depth() == 1 && name == "target";
    entry.depth() > 0 && entry.file_type().is_dir() && (hidden || built)
}

fn is_dangling(entry: &DirEntry) -> bool {
    entry.path_is_symlink() && std::fs::metadata(entry.path()).is_err()
}

fn unlisted(error: &walkdir::Error) -> String {
    let path = error.path().unwrap_or(Path::new(""));
    match error.io_error() {
        Some(error) => format!("{path:?}: {error}"),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| explain(&error));
    let whole = arguments.directory.is_some();
    let directory = arguments.directory.unwrap_or_else(own_tree);
    if let Err(problem) = check(&directory) {
        eprintln!("wordcount: {directory:?}: {problem}");
        return ExitCode::from(2);
    }
    match run(walk(&directory, whole)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Help as it is; a mistake as one line and exit code 2.
fn explain(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    eprintln!("wordcount: {}", first.trim_start_matches("error: "));
    std::process::exit(2)
}

/// Cargo passes the project's directory to programs that it runs. Otherwise the current directory
/// is the best guess.
fn own_tree() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from)
}

fn check(directory: &Path) -> std::io::Result<()> {
    std::fs::read_dir(directory).map(drop)
}

async fn run(found: impl Iterator<Item = Found>) -> Result<(), Box<dyn std::error::Error>> {
    let wordcount = pipeline().deploy("wordcount", Backend::memory())?;
    let worker = wordcount.worker().start();
    let run = wordcount.submit(found).await?;
    let outcome = run.outcome().await?;
    let failures = run.failures().await?;
    worker.shutdown().await;
    std::io::stderr().write_all(complaints(&outcome, &failures)?.as_bytes())?;
    std::io::stdout().write_all(report(&outcome)?.as_bytes())?;
    Ok(())
}

fn complaints<R>(outcome: &Outcome<R>, failures: &[Failure]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for failure in failures {
        writeln!(text, "not read: {}", failure.error)?;
    }
    match outcome.skipped.saturating_sub(failures.len() as u64) {
        0 => {}
        more => writeln!(text, "not read: {more} more")?,
    }
    Ok(text)
}

fn report(outcome: &Outcome<Summary>) -> Result<String, std::fmt::Error> {
    let Summary {
        words,
        different,
        top,
    } = &outcome.value;
    let mut text = String::new();
    for (word, count) in top {
        writeln!(text, "{count:>12}  {word}")?;
    }
    writeln!(
        text,
        "{} files, {words} words, {different} of them different, {} files not read",
        outcome.contains, outcome.skipped
    )?;
    Ok(text)
}
