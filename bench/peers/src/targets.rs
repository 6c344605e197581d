//! The targets that are ratios between two rows of one session.

use std::fmt::Write;

use crate::figures::{figures, median, thousands};
use crate::job::Kind;
use crate::measure::{Outcome, Row};
use crate::table::Table;

const THOUSAND: i64 = 1_000;
const MILLION: i64 = 1_000 * THOUSAND;

/// The time of one row over the time of another, and the most that it should be.
struct Target {
    of: (Kind, &'static str),
    over: (Kind, &'static str),
    n: i64,
    most: f64,
}

const fn target(of: (Kind, &'static str), over: (Kind, &'static str), n: i64, most: f64) -> Target {
    Target { of, over, n, most }
}

/// Two stages over one, at both sizes.
const fn apart(of: &'static str, over: &'static str) -> [Target; 2] {
    let (of, over) = ((Kind::Apart, of), (Kind::Apart, over));
    [
        target(of, over, THOUSAND, 2.5),
        target(of, over, 100 * THOUSAND, 2.5),
    ]
}

const OVER_OTHERS: [Target; 6] = [
    target(
        (Kind::Records, "catchment"),
        (Kind::Records, "rayon"),
        MILLION,
        8.0,
    ),
    target(
        (Kind::Records, "catchment"),
        (Kind::Records, "flume-postcard-2-chunks"),
        MILLION,
        1.0,
    ),
    target(
        (Kind::Chain, "catchment"),
        (Kind::Double, "catchment"),
        MILLION,
        1.3,
    ),
    target(
        (Kind::Double, "catchment"),
        (Kind::Double, "rayon"),
        MILLION,
        8.0,
    ),
    // What tags cost in packets of the default size.
    target(
        (Kind::Double, "catchment-signed-deployed"),
        (Kind::Double, "catchment-deployed"),
        MILLION,
        1.03,
    ),
    target(
        (Kind::Double, "catchment-postcard-signed-deployed"),
        (Kind::Double, "catchment-postcard-deployed"),
        MILLION,
        1.03,
    ),
];

/// The targets whose two rows were both measured, or nothing. A target is met or missed by the median over the runs.
pub(crate) fn table(rows: &[Row], runs: u32) -> String {
    let least = (runs > 1).then_some("least of the runs");
    let head = ["time of", "over that of", "N", "at most", "seen"];
    let mut table = Table::new(head.into_iter().chain(least).chain([""]));
    let mut is_empty = true;
    let apart = [
        apart("apart", "one"),
        apart("apart-deployed", "one-deployed"),
        apart("apart-postcard-deployed", "one-postcard-deployed"),
    ];
    for target in OVER_OTHERS.iter().chain(apart.iter().flatten()) {
        let ratios = target.ratios(rows);
        if ratios.is_empty() {
            continue;
        }
        is_empty = false;
        let seen = median(&ratios);
        let mut cells = vec![
            name(target.of),
            name(target.over),
            thousands(target.n),
            figures(target.most),
            figures(seen),
        ];
        if runs > 1 {
            cells.push(figures(
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ));
        }
        cells.push(if seen <= target.most { "met" } else { "missed" }.to_owned());
        table.push(cells);
    }
    let mut text = String::new();
    if !is_empty {
        // Writing to a string does not fail.
        let _ = write!(text, "## Targets: times of the same run\n\n{table}\n");
    }
    text
}

fn name((kind, peer): (Kind, &str)) -> String {
    let title = crate::peers::find(peer).map_or(peer, |peer| peer.title);
    format!("{}: {title}", kind.name())
}

impl Target {
    /// Of each run that has both rows.
    fn ratios(&self, rows: &[Row]) -> Vec<f64> {
        let seconds = |run: u32, (kind, peer): (Kind, &str)| {
            let row = rows.iter().find(|row| {
                (row.run, row.kind, row.n, row.peer.name) == (run, kind, self.n, peer)
            })?;
            match &row.outcome {
                Outcome::Measured(measured) if measured.wrong.is_none() => {
                    Some(median(&measured.seconds))
                }
                _ => None,
            }
        };
        let runs = rows.iter().map(|row| row.run).max().unwrap_or(0);
        (1..=runs)
            .filter_map(|run| Some(seconds(run, self.of)? / seconds(run, self.over)?))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::one::Measured;
    use crate::peers;

    fn row(run: u32, kind: Kind, peer: &str, seconds: f64) -> Row {
        Row {
            run,
            kind,
            n: MILLION,
            peer: peers::find(peer).unwrap(),
            outcome: Outcome::Measured(Measured {
                seconds: vec![seconds],
                ..Measured::default()
            }),
        }
    }

    #[test]
    fn every_target_names_rows_that_exist() {
        let apart = [
            apart("apart", "one"),
            apart("apart-deployed", "one-deployed"),
        ];
        for target in OVER_OTHERS.iter().chain(apart.iter().flatten()) {
            for (kind, peer) in [target.of, target.over] {
                let peer = peers::find(peer).unwrap();
                assert!(peer.jobs.contains(&kind), "{} {}", kind.name(), peer.name);
                assert!(kind.sizes(false, &[]).contains(&target.n));
            }
        }
    }

    #[test]
    fn a_target_is_met_by_the_median_of_the_ratios_of_each_run() {
        let rows = [
            row(1, Kind::Double, "rayon", 1.0),
            row(1, Kind::Double, "catchment", 7.0),
            row(2, Kind::Double, "rayon", 2.0),
            row(2, Kind::Double, "catchment", 20.0),
            row(3, Kind::Double, "rayon", 1.0),
            row(3, Kind::Double, "catchment", 6.0),
        ];
        let text = table(&rows, 3);
        let last = text.trim().lines().last().unwrap();
        let cells: Vec<_> = last.split('|').map(str::trim).collect();
        assert_eq!(cells[3..8], ["1,000,000", "8.00", "7.00", "6.00", "met"]);
        assert!(table(&rows[..1], 1).is_empty());
    }
}
