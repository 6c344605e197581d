//! The table, in Markdown, with ratios to the first row.

use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) statements: f64,
    pub(crate) wal: f64,
}

pub(crate) struct Row {
    name: String,
    pub(crate) alone: Option<Figures>,
    pub(crate) grown: Option<u64>,
    pub(crate) single: Option<(Duration, Duration)>,
    /// The same beside an old transaction.
    pub(crate) beside: Option<Figures>,
    pub(crate) grown_beside: Option<u64>,
    pub(crate) single_beside: Option<(Duration, Duration)>,
}

impl Row {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            alone: None,
            grown: None,
            single: None,
            beside: None,
            grown_beside: None,
            single_beside: None,
        }
    }
}

fn milliseconds(time: Option<(Duration, Duration)>) -> String {
    time.map_or_else(String::new, |(median, late)| {
        let number = |time: Duration| time.as_secs_f64() * 1_000.0;
        format!("{:.1} / {:.1}", number(median), number(late))
    })
}

fn megabytes(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!("{:.1}", size as f64 / 1e6))
}

/// A rate with its ratio to the first row's.
fn rate(figures: Option<Figures>, first: Option<Figures>) -> String {
    match (figures, first) {
        (Some(figures), Some(first)) => format!(
            "{:.0} ({:.2})",
            figures.per_second,
            figures.per_second / first.per_second
        ),
        _ => String::new(),
    }
}

fn of(figures: Option<Figures>, value: fn(&Figures) -> f64, digits: usize) -> String {
    figures.map_or_else(String::new, |figures| {
        format!("{:.digits$}", value(&figures))
    })
}

fn section(
    rows: &[Row],
    part: fn(&Row) -> (Option<Figures>, Option<u64>, Option<(Duration, Duration)>),
) {
    println!(
        "| | messages/s (ratio) | single: p50 / p99 ms | statements per message | WAL bytes per message | grown, MB |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let first = rows.first().and_then(|row| part(row).0);
    for row in rows {
        let (figures, grown, single) = part(row);
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.name,
            rate(figures, first),
            milliseconds(single),
            of(figures, |figures| figures.statements, 3),
            of(figures, |figures| figures.wal, 0),
            megabytes(grown),
        );
    }
}

pub(crate) fn print(rows: &[Row], messages: u64) {
    println!("{messages} messages, alone:\n");
    section(rows, |row| (row.alone, row.grown, row.single));
    println!("\n{messages} messages more, beside a transaction that was opened before them:\n");
    section(rows, |row| {
        (row.beside, row.grown_beside, row.single_beside)
    });
}
