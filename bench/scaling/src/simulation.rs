//! One run on a paused clock: workers that each take 10 ms for an item, services as far away as the real ones.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use catchment::scratchpad::PacketPlan;
use catchment::{Backend, Pipeline, Stage};
use tokio::time::{Instant, sleep};

use crate::queues::FarQueues;
use crate::service::Wire;
use crate::tables::{FarTables, Seen};

/// What is simulated. An option that is not set keeps the library's default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) items: u64,
    pub(crate) workers: usize,
    /// What the user's function takes for one.
    pub(crate) item: Duration,
    pub(crate) packet_size: Option<u32>,
    pub(crate) prefetch: Option<usize>,
    pub(crate) seed: u64,
}

/// When what had happened, from the beginning of `submit`, in simulated time.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    /// Items a packet.
    pub(crate) packet_size: u32,
    /// All packets were on the queue.
    pub(crate) sent: Duration,
    /// The result was in the table.
    pub(crate) written: Duration,
    /// `result()` returned it: what counts.
    pub(crate) returned: Duration,
    pub(crate) requests: BTreeMap<&'static str, u64>,
    /// What simulating took, in real time.
    pub(crate) real: Duration,
}

impl Plan {
    /// If every worker were busy from the first moment to the last.
    pub(crate) fn ideal(&self) -> Duration {
        let seconds = self.item.as_secs_f64() * self.items as f64 / self.workers as f64;
        Duration::from_secs_f64(seconds)
    }

    pub(crate) fn play(self) -> Result<Report> {
        let real = std::time::Instant::now();
        // Backoffs are drawn from the thread's generator.
        fastrand::seed(self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let mut report = runtime.block_on(self.run())?;
        report.real = real.elapsed();
        Ok(report)
    }

    async fn run(self) -> Result<Report> {
        let wire = Wire::new(self.seed);
        let seen = Arc::new(Seen::default());
        let backend = Backend::new(
            Arc::new(FarQueues::new(wire.clone())),
            Arc::new(FarTables::new(wire.clone(), Arc::clone(&seen))),
        );
        let mut stage = Stage::named("work").concurrency(1);
        if let Some(items) = self.packet_size {
            stage = stage.packet_size(items);
        }
        let takes = self.item;
        let deployment = Pipeline::new()
            .then(move |n: u64| async move {
                sleep(takes).await;
                Ok::<_, Infallible>(n)
            })
            .with(stage)
            .reduce(|| 0, |sum, n| sum + n)
            .deploy("scaling", backend)?;
        let workers: Vec<_> = (0..self.workers)
            .map(|_| {
                let worker = deployment.worker().concurrency(1);
                match self.prefetch {
                    Some(messages) => worker.prefetch(messages).start(),
                    None => worker.start(),
                }
            })
            .collect();
        // They have opened their queues and wait.
        sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        let run = deployment.submit(1..=self.items).await?;
        let sent = begin.elapsed();
        let sum = run.result().await?;
        let returned = begin.elapsed();
        ensure!(
            sum == self.items * (self.items + 1) / 2,
            "a wrong sum: {sum}"
        );
        drop(workers);
        let written = seen.written.get().context("nobody wrote the result")?;
        let Some(PacketPlan::Fixed(packet_size)) = seen.plan.get() else {
            bail!("packets of a known array are all alike: {:?}", seen.plan);
        };
        Ok(Report {
            plan: self,
            packet_size: *packet_size,
            sent,
            written: written.duration_since(begin),
            returned,
            requests: wire.requests(),
            real: Duration::ZERO,
        })
    }
}

impl Report {
    /// The share of the workers' time, from the beginning to the result, that went into the user's function.
    pub(crate) fn efficiency(&self) -> f64 {
        self.plan.ideal().as_secs_f64() / self.returned.as_secs_f64()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.values().sum()
    }
}
