//! awa 0.6 on its queue storage, with the settings of its own throughput benchmark.

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use awa::{Client, InsertOpts, JobArgs, JobResult, QueueConfig, QueueStorage};
use serde::{Deserialize, Serialize};
use sqlx_of_awa::PgPool;
use sqlx_of_awa::postgres::PgPoolOptions;

use super::{Peer, Running, batches};
use crate::done;

pub(crate) struct Awa;

#[derive(Serialize, Deserialize, JobArgs)]
struct Number {
    n: u64,
}

struct Started {
    pool: PgPool,
    storage: QueueStorage,
    client: Client,
}

#[async_trait(?Send)]
impl Peer for Awa {
    fn name(&self) -> String {
        "awa 0.6.9, 100 workers".to_owned()
    }

    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>> {
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(url)
            .await?;
        awa::migrations::run(&pool).await?;
        let queue = QueueConfig {
            max_workers: 100,
            poll_interval: Duration::from_millis(50),
            deadline_duration: Duration::ZERO,
            ..QueueConfig::default()
        };
        let client = Client::builder(pool.clone())
            .queue("bench", queue)
            .register::<Number, _, _>(|_number, _context| async move {
                done::add(1);
                Ok(JobResult::Completed)
            })
            .build()?;
        client.start().await?;
        let schema = QueueStorage::active_schema(&pool).await?;
        let schema = schema.context("awa has no active queue storage")?;
        let storage = QueueStorage::from_existing_schema(schema)?;
        Ok(Box::new(Started {
            pool,
            storage,
            client,
        }))
    }
}

#[async_trait(?Send)]
impl Running for Started {
    async fn many(&mut self, messages: u64) -> anyhow::Result<()> {
        done::expect(messages);
        for batch in batches(messages) {
            let jobs = batch.map(|n| {
                let options = InsertOpts {
                    queue: "bench".to_owned(),
                    ..InsertOpts::default()
                };
                awa::model::insert::params_with(&Number { n }, options)
            });
            let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
            self.storage.enqueue_params_copy(&self.pool, &jobs).await?;
        }
        done::reached().await;
        Ok(())
    }

    async fn one(&mut self) -> anyhow::Result<()> {
        done::expect(1);
        let options = InsertOpts {
            queue: "bench".to_owned(),
            ..InsertOpts::default()
        };
        awa::insert_with(&self.pool, &Number { n: 0 }, options).await?;
        done::reached().await;
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.client.shutdown(Duration::from_secs(5)).await;
        self.pool.close().await;
        Ok(())
    }
}
