//! Reports as a table, which is Markdown on the terminal, too.

use std::time::Duration;

use crate::simulation::Report;

/// `prefetch`: whether there is a column for it.
pub(crate) fn head(prefetch: bool) -> String {
    let mut names = vec!["items", "workers", "items a packet"];
    if prefetch {
        names.push("prefetch");
    }
    names.extend(["ideal", "simulated", "efficiency"]);
    names.extend(["all sent", "result written", "requests"]);
    let rule = vec!["---:"; names.len()].join(" | ");
    format!("| {} |\n| {rule} |", names.join(" | "))
}

pub(crate) fn row(report: &Report) -> String {
    let plan = &report.plan;
    let mut cells = vec![
        thousands(plan.items),
        thousands(plan.workers as u64),
        thousands(u64::from(report.packet_size)),
    ];
    cells.extend(plan.prefetch.map(|messages| messages.to_string()));
    cells.extend([
        seconds(plan.ideal()),
        seconds(report.returned),
        format!("{:.3}", report.efficiency()),
        seconds(report.sent),
        seconds(report.written),
        thousands(report.requests()),
    ]);
    format!("| {} |", cells.join(" | "))
}

pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0..1_000.0 => format!("{seconds:.1} s"),
        _ => format!("{} s", thousands(seconds.round() as u64)),
    }
}

/// 1,000,000
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the requests of a run were, and what simulating it took.
pub(crate) fn details(report: &Report) -> String {
    let kinds = report.requests.iter();
    let kinds: Vec<String> = kinds
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    format!(
        "{} items, {} workers: {}; simulated in {}",
        thousands(report.plan.items),
        thousands(report.plan.workers as u64),
        kinds.join(", "),
        seconds(report.real)
    )
}

pub(crate) fn markdown(reports: &[Report]) -> String {
    let prefetch = reports.iter().any(|report| report.plan.prefetch.is_some());
    let mut text = format!("{}\n", head(prefetch));
    for report in reports {
        text.push_str(&row(report));
        text.push('\n');
    }
    text
}
