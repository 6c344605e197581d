//! catchment: a run of as many items as there are messages. A message is worked on when the run's result is there.

use async_trait::async_trait;
use catchment::{Backend, Deployment, Pipeline, RunningWorker, Stage};

use super::{Peer, Running};

pub(crate) struct Catchment {
    pub(crate) packet_size: Option<u32>,
}

struct Started {
    adder: Deployment<u64, u64>,
    worker: Option<RunningWorker>,
}

#[async_trait(?Send)]
impl Peer for Catchment {
    fn name(&self) -> String {
        match self.packet_size {
            Some(1) => "catchment, one item a packet".to_owned(),
            Some(size) => format!("catchment, {size} items a packet"),
            None => "catchment, default packets".to_owned(),
        }
    }

    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>> {
        let stage = Stage::named("work");
        let stage = match self.packet_size {
            Some(size) => stage.packet_size(size),
            None => stage,
        };
        let adder = Pipeline::new()
            .map(|n: u64| n)
            .with(stage)
            .reduce(|| 0, |a, b| a + b)
            .deploy("bench", Backend::postgres(url)?)?;
        adder.provision().await?;
        let worker = Some(adder.worker().start());
        Ok(Box::new(Started { adder, worker }))
    }
}

#[async_trait(?Send)]
impl Running for Started {
    async fn many(&mut self, messages: u64) -> anyhow::Result<()> {
        let run = self.adder.submit(0..messages).await?;
        let sum = run.result().await?;
        anyhow::ensure!(sum == messages * (messages - 1) / 2, "the sum is {sum}");
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(worker) = self.worker.take() {
            worker.shutdown().await;
        }
        Ok(())
    }
}
