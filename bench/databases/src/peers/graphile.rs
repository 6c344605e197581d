//! graphile_worker with its local queue, and completions in batches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, Worker, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::{Peer, Running, batches};
use crate::done;

pub(crate) struct Graphile;

#[derive(Clone, Serialize, Deserialize)]
struct Number {
    n: u64,
}

impl TaskHandler for Number {
    const IDENTIFIER: &'static str = "number";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        done::add(1);
        Ok::<(), String>(())
    }
}

struct Started {
    worker: Arc<Worker>,
    task: Option<JoinHandle<()>>,
}

#[async_trait(?Send)]
impl Peer for Graphile {
    fn name(&self) -> String {
        "graphile_worker 0.14.1, local queue of 5,000".to_owned()
    }

    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>> {
        let worker = WorkerOptions::default()
            .database_url(url)
            .concurrency(500)
            .poll_interval(Duration::from_millis(5))
            .max_pg_conn(20)
            .local_queue(LocalQueueConfig::default().with_size(5_000))
            .complete_job_batch_delay(Duration::from_millis(5))
            .listen_os_shutdown_signals(false)
            .define_job::<Number>()
            .init()
            .await
            .map_err(|error| anyhow!("{error}"))?;
        let worker = Arc::new(worker);
        let running = Arc::clone(&worker);
        let task = tokio::spawn(async move {
            if let Err(error) = running.run().await {
                eprintln!("graphile_worker: {error}");
            }
        });
        Ok(Box::new(Started {
            worker,
            task: Some(task),
        }))
    }
}

#[async_trait(?Send)]
impl Running for Started {
    async fn many(&mut self, messages: u64) -> anyhow::Result<()> {
        done::expect(messages);
        let utils = self.worker.create_utils();
        let spec = JobSpec::default();
        for batch in batches(messages) {
            let jobs: Vec<_> = batch.map(|n| (Number { n }, &spec)).collect();
            let added = utils.add_jobs(&jobs).await;
            added.map_err(|error| anyhow!("{error}"))?;
        }
        done::reached().await;
        Ok(())
    }

    async fn one(&mut self) -> anyhow::Result<()> {
        done::expect(1);
        let utils = self.worker.create_utils();
        let added = utils.add_job(Number { n: 0 }, JobSpec::default()).await;
        added.map_err(|error| anyhow!("{error}"))?;
        done::reached().await;
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.worker.request_shutdown();
        if let Some(task) = self.task.take() {
            let _ = tokio::time::timeout(Duration::from_secs(10), task).await;
        }
        Ok(())
    }
}
