//! What the defaults give, beside settings made by hand: for items that cost 1 µs, 1 ms and 1 s.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use catchment::pipeline::One;
use catchment::{Backend, Pipeline, Stage};

use crate::figures::{duration, figures, median, thousands};
use crate::peers;
use crate::table::Table;
use crate::task::{Task, Work};

/// What an item costs.
#[derive(Clone, Copy)]
enum Cost {
    /// So many rounds of xorshift.
    Computing(u32),
    Waiting(Duration),
}

struct Case {
    title: &'static str,
    cost: Cost,
    items: i64,
    times: usize,
}

/// Options that a user can set, and did not.
#[derive(Clone, Copy, Default)]
struct Setting {
    packet_size: Option<u32>,
    prefetch: Option<usize>,
    concurrency: Option<usize>,
}

const PACKET_SIZES: [u32; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const PREFETCHES: [usize; 4] = [1, 2, 16, 512];
const CONCURRENCIES: [usize; 3] = [1, 3, 4];

/// Measures every setting for each cost, and makes a table of the defaults' share of the best.
pub(crate) fn table(rounds: u32) -> Result<Table> {
    let cases = [
        Case {
            title: "1 µs, computing",
            cost: Cost::Computing(rounds),
            items: 1_000_000,
            times: 5,
        },
        Case {
            title: "1 ms, computing",
            cost: Cost::Computing(rounds.saturating_mul(1_000)),
            items: 2_000,
            times: 3,
        },
        Case {
            title: "1 s, computing",
            cost: Cost::Computing(rounds.saturating_mul(1_000_000)),
            items: 8,
            times: 1,
        },
        Case {
            title: "1 ms, waiting",
            cost: Cost::Waiting(Duration::from_millis(1)),
            items: 6_400,
            times: 3,
        },
        Case {
            title: "1 s, waiting",
            cost: Cost::Waiting(Duration::from_secs(1)),
            items: 128,
            times: 1,
        },
    ];
    let mut table = Table::new([
        "an item",
        "items",
        "defaults",
        "best by hand",
        "its settings",
        "defaults' share of it",
    ]);
    for case in &cases {
        let defaults = Setting::default();
        let seconds = measure(case, defaults)?;
        let mut best = (seconds, defaults);
        for setting in case.settings() {
            let seconds = measure(case, setting)?;
            if seconds < best.0 {
                best = (seconds, setting);
            }
        }
        // Once more, as the machine may have changed meanwhile.
        let seconds = seconds.min(measure(case, defaults)?);
        table.push(vec![
            case.title.to_owned(),
            thousands(case.items),
            duration(seconds),
            duration(best.0),
            best.1.to_string(),
            figures((best.0 / seconds).min(1.0)),
        ]);
    }
    Ok(table)
}

impl Case {
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let largest = self.items / 2;
        for size in PACKET_SIZES
            .into_iter()
            .filter(|size| i64::from(*size) <= largest)
        {
            settings.push(Setting {
                packet_size: Some(size),
                ..Setting::default()
            });
        }
        for prefetch in PREFETCHES {
            settings.push(Setting {
                prefetch: Some(prefetch),
                ..Setting::default()
            });
        }
        if matches!(self.cost, Cost::Computing(_)) {
            // How much waits at once is what the other side bears, and not a matter of tuning.
            settings.extend(CONCURRENCIES.map(|concurrency| Setting {
                concurrency: Some(concurrency),
                ..Setting::default()
            }));
        }
        settings
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.packet_size, self.prefetch, self.concurrency) {
            (Some(size), ..) => write!(formatter, "packet_size({size})"),
            (_, Some(prefetch), _) => write!(formatter, "prefetch({prefetch})"),
            (.., Some(concurrency)) => write!(formatter, "concurrency({concurrency})"),
            _ => formatter.write_str("defaults"),
        }
    }
}

/// The median time of a run on a deployment in memory, its worker started before.
fn measure(case: &Case, setting: Setting) -> Result<f64> {
    let stage = match setting.packet_size {
        Some(size) => Stage::new().packet_size(size),
        None => Stage::new(),
    };
    let pipeline: Pipeline<i64, i64, One> = match case.cost {
        Cost::Computing(rounds) => Pipeline::new()
            .map(move |n: i64| Work { rounds }.apply(n))
            .with(stage)
            .reduce(|| 0, i64::wrapping_add),
        Cost::Waiting(time) => Pipeline::new()
            .then(move |n: i64| async move {
                tokio::time::sleep(time).await;
                Ok::<_, Infallible>(n)
            })
            .with(stage)
            .reduce(|| 0, i64::wrapping_add),
    };
    let runtime = peers::runtime()?;
    let deployment = pipeline.deploy("bench", Backend::memory())?;
    let worker = runtime.block_on(async {
        let mut worker = deployment.worker();
        if let Some(prefetch) = setting.prefetch {
            worker = worker.prefetch(prefetch);
        }
        if let Some(concurrency) = setting.concurrency {
            worker = worker.concurrency(concurrency);
        }
        worker.start()
    });
    let mut seconds = Vec::new();
    let mut first = None;
    for _ in 0..case.times {
        let begin = Instant::now();
        let result = runtime.block_on(async {
            let run = deployment.submit(1..=case.items).await?;
            run.result().await
        })?;
        seconds.push(begin.elapsed().as_secs_f64());
        ensure!(
            *first.get_or_insert(result) == result,
            "a run answered {result}, and one before it another value"
        );
    }
    drop(worker);
    let seconds = median(&seconds);
    eprintln!("{}: {setting}: {}", case.title, duration(seconds));
    Ok(seconds)
}
