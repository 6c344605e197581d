//! pgmq, installed by its SQL: its functions, called by four consumers that read and delete a hundred messages at a time.

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use sqlx_of_pgmq::PgPool;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::{Peer, Running, batches};
use crate::done;

const CONSUMERS: usize = 4;
/// Between two reads that found nothing, as long as the default of `pgmq.read_with_poll`.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Pgmq;

struct Started {
    client: Client,
    consumers: JoinSet<anyhow::Result<()>>,
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn consume(client: Client) -> anyhow::Result<()> {
    let read = client
        .prepare("SELECT msg_id FROM pgmq.read('bench', 30, 100)")
        .await?;
    let delete = client
        .prepare("SELECT count(*) FROM pgmq.delete('bench', $1::bigint[])")
        .await?;
    loop {
        let rows = client.query(&read, &[]).await?;
        if rows.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        client.query(&delete, &[&ids]).await?;
        done::add(ids.len() as u64);
    }
}

#[async_trait(?Send)]
impl Peer for Pgmq {
    fn name(&self) -> String {
        "pgmq 1 (crate 0.34.0-alpha.7), 4 consumers of 100".to_owned()
    }

    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>> {
        let pool = PgPool::connect(url).await?;
        let installed = pgmq::install::install_sql_from_embedded(&pool).await;
        installed.context("installing pgmq's SQL")?;
        pool.close().await;
        let client = connect(url).await?;
        client.query("SELECT pgmq.create('bench')", &[]).await?;
        let mut consumers = JoinSet::new();
        for _ in 0..CONSUMERS {
            consumers.spawn(consume(connect(url).await?));
        }
        Ok(Box::new(Started { client, consumers }))
    }
}

#[async_trait(?Send)]
impl Running for Started {
    async fn many(&mut self, messages: u64) -> anyhow::Result<()> {
        done::expect(messages);
        let send = "SELECT count(*) FROM pgmq.send_batch('bench', (SELECT array_agg(jsonb_build_object('n', n)) FROM unnest($1::bigint[]) AS n))";
        let send = self.client.prepare(send).await?;
        for batch in batches(messages) {
            let numbers: Vec<i64> = batch.map(|n| n as i64).collect();
            self.client.query(&send, &[&numbers]).await?;
        }
        tokio::select! {
            () = done::reached() => Ok(()),
            Some(ended) = self.consumers.join_next() => ended?,
        }
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.consumers.shutdown().await;
        Ok(())
    }
}
