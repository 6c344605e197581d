//! apalis-postgres, with larger batches. Its worker registers, and has taken none of the tasks up here yet.

use anyhow::anyhow;
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use async_trait::async_trait;
use futures::stream;
use tokio::task::JoinHandle;

use super::{Peer, Running, batches};
use crate::done;

pub(crate) struct Apalis;

struct Started {
    pool: PgPool,
    task: JoinHandle<()>,
}

fn config() -> Config {
    Config::default().queue("bench").batch_size(100)
}

async fn work(_number: u64) -> Result<(), BoxDynError> {
    done::add(1);
    Ok(())
}

#[async_trait(?Send)]
impl Peer for Apalis {
    fn name(&self) -> String {
        "apalis-postgres 1.0.0, batches of 100".to_owned()
    }

    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>> {
        let pool = PgPool::connect(url).await?;
        PostgresStorage::setup(&pool).await?;
        let backend = PostgresStorage::new(&pool).with_config(config());
        let worker = WorkerBuilder::new("bench")
            .backend(backend)
            .parallelize(tokio::spawn)
            .build(work);
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = worker.run().await {
                eprintln!("apalis-postgres: {error}");
            }
        });
        Ok(Box::new(Started { pool, task }))
    }
}

#[async_trait(?Send)]
impl Running for Started {
    async fn many(&mut self, messages: u64) -> anyhow::Result<()> {
        done::expect(messages);
        let mut storage = PostgresStorage::new(&self.pool).with_config(config());
        for batch in batches(messages) {
            let mut tasks = stream::iter(batch.map(|n| TaskBuilder::new(n).build()));
            let pushed = storage.push_all(&mut tasks).await;
            pushed.map_err(|error| anyhow!("{error}"))?;
        }
        done::reached().await;
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.task.abort();
        self.pool.close().await;
        Ok(())
    }
}
