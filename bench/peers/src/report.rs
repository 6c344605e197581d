//! From what was measured to tables.

use std::fmt::Write;

use crate::figures::{duration, figures, median, quantile, thousands};
use crate::job::Kind;
use crate::measure::{Outcome, Row};
use crate::one::Measured;
use crate::peers::{PEERS, Peer};
use crate::table::Table;

/// One table for each job, with a heading.
pub(crate) fn tables(rows: &[Row], kinds: &[Kind], runs: u32) -> String {
    let mut text = String::new();
    for &kind in kinds {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        let table = match kind {
            Kind::Latency => latencies(&rows, kind, runs),
            _ => throughputs(&rows, kind, runs),
        };
        // Writing to a string does not fail.
        let _ = write!(text, "## {}: {}\n\n{table}\n", kind.name(), kind.title());
        if kind == Kind::Cores {
            text += &scaling(&rows);
        }
    }
    text
}

/// For the line that is shown while it goes on.
pub(crate) fn in_short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Measured(measured) => {
            let time = duration(median(&measured.seconds));
            match &measured.wrong {
                Some(wrong) => format!("WRONG: {wrong}"),
                None => format!("{time} ({} times)", measured.seconds.len()),
            }
        }
        Outcome::NotRun(Some(seconds)) => {
            format!("not run (would take about {})", duration(*seconds))
        }
        Outcome::NotRun(None) => "not run (was stopped at a smaller N)".to_owned(),
        Outcome::Stopped(limit) => format!("stopped after {} s", limit.as_secs()),
        Outcome::Failed => "FAILED".to_owned(),
    }
}

fn throughputs(rows: &[&Row], kind: Kind, runs: u32) -> Table {
    let head = ["peer", "N", "median time", "M items/s"];
    let tail = ["CPU ns/item", "MiB above start"];
    let mut table = Table::new(head.into_iter().chain(ratio_head(kind, runs)).chain(tail));
    for peer_rows in by_size_and_peer(rows) {
        let Some(first) = peer_rows.first() else {
            continue;
        };
        let mut cells = vec![first.peer.title.to_owned(), thousands(first.n)];
        match measured(&peer_rows) {
            Ok(measured) => {
                let n = first.n as f64;
                let seconds = over_runs(&measured, |m| median(&m.seconds));
                let cpu = over_runs(&measured, |m| median(&m.cpu_seconds));
                let memory = over_runs(&measured, |m| {
                    m.resident_peak.saturating_sub(m.resident_start) as f64 / 1024.0
                });
                cells.extend([duration(seconds), figures(n / seconds / 1e6)]);
                cells.extend(ratios(rows, &peer_rows));
                cells.extend([figures(cpu / n * 1e9), format!("{memory:.1}")]);
            }
            Err(why) => cells.push(why),
        }
        table.push(cells);
    }
    table
}

fn latencies(rows: &[&Row], kind: Kind, runs: u32) -> Table {
    let head = ["peer", "median µs", "p99 µs"];
    let mut table = Table::new(head.into_iter().chain(ratio_head(kind, runs)));
    for peer_rows in by_size_and_peer(rows) {
        let Some(first) = peer_rows.first() else {
            continue;
        };
        let mut cells = vec![first.peer.title.to_owned()];
        match measured(&peer_rows) {
            Ok(measured) => {
                let half = over_runs(&measured, |m| median(&m.seconds));
                let slow = over_runs(&measured, |m| quantile(&m.seconds, 0.99));
                cells.extend([figures(half * 1e6), figures(slow * 1e6)]);
                cells.extend(ratios(rows, &peer_rows));
            }
            Err(why) => cells.push(why),
        }
        table.push(cells);
    }
    table
}

/// What the second core is worth.
fn scaling(rows: &[&Row]) -> String {
    let mut text = String::new();
    for peer in PEERS.iter().filter(|peer| peer.jobs == [Kind::Cores]) {
        let rows_of_peer: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| row.peer.name == peer.name)
            .collect();
        let ratios = all_ratios(rows, &rows_of_peer);
        if !ratios.is_empty() {
            let times = 1.0 / median(&ratios);
            let _ = writeln!(
                text,
                "{} is {times:.2} times as fast as {}.",
                peer.title,
                title(peer.baseline)
            );
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn title(name: &str) -> &str {
    crate::peers::find(name).map_or(name, |peer| peer.title)
}

/// The rows of all runs for each size and peer, in the order in which they were measured first.
fn by_size_and_peer<'a>(rows: &[&'a Row]) -> Vec<Vec<&'a Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for &row in rows {
        let same = |group: &&mut Vec<&Row>| {
            group
                .first()
                .is_some_and(|first| (first.n, first.peer.name) == (row.n, row.peer.name))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// What all runs measured, or else why there is nothing to show.
fn measured<'a>(rows: &[&'a Row]) -> Result<Vec<&'a Measured>, String> {
    let mut measured = Vec::new();
    for row in rows {
        match &row.outcome {
            Outcome::Measured(done) if done.wrong.is_none() => measured.push(done),
            outcome => return Err(in_short(outcome)),
        }
    }
    Ok(measured)
}

fn over_runs(measured: &[&Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    median(&measured.iter().map(|m| value(m)).collect::<Vec<_>>())
}

fn ratio_head(kind: Kind, runs: u32) -> Vec<&'static str> {
    let ratio = match kind {
        Kind::Cores => "time ÷ one core's",
        Kind::Apart => "time ÷ one stage's",
        _ => "time ÷ rayon's",
    };
    match runs {
        1 => vec![ratio],
        _ => vec![ratio, "least of the runs"],
    }
}

/// The median over the runs, and with more than one the least.
fn ratios(rows: &[&Row], of: &[&Row]) -> Vec<String> {
    let ratios = all_ratios(rows, of);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let cell = |value: f64| match value.is_finite() {
        true => figures(value),
        false => "–".to_owned(),
    };
    match of.len() {
        1 => vec![cell(median(&ratios))],
        _ => vec![cell(median(&ratios)), cell(least)],
    }
}

/// The peer's time over its baseline's in the same run.
fn all_ratios(rows: &[&Row], of: &[&Row]) -> Vec<f64> {
    let seconds = |row: &Row| match &row.outcome {
        Outcome::Measured(measured) => Some(median(&measured.seconds)),
        _ => None,
    };
    let ratio = |row: &&Row| {
        let Peer { baseline, .. } = row.peer;
        let of_same_run =
            |other: &&&Row| (other.run, other.n, other.peer.name) == (row.run, row.n, baseline);
        Some(seconds(row)? / seconds(rows.iter().find(of_same_run)?)?)
    };
    of.iter().filter_map(ratio).collect()
}
