//! The server: a database for each peer, and what it counts.

use anyhow::Context;
use tokio_postgres::{Client, NoTls};

pub(crate) struct Server {
    url: String,
    client: Client,
}

pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
    client: Client,
}

/// What the server has counted so far.
#[derive(Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) statements: u64,
    pub(crate) wal: u64,
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Server {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = connect(url).await.context("connecting to the server")?;
        let counts = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
        client.batch_execute(counts).await.context(
            "statements are counted by pg_stat_statements, which the server has to load",
        )?;
        Ok(Self {
            url: url.to_owned(),
            client,
        })
    }

    pub(crate) async fn describe(&self) -> anyhow::Result<String> {
        let row = self
            .client
            .query_one(
                "SELECT version(), current_setting('fsync'), current_setting('synchronous_commit')",
                &[],
            )
            .await?;
        let (version, fsync, commit): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let version = version.split(" on ").next().unwrap_or(version);
        let cores = std::thread::available_parallelism()?;
        Ok(format!(
            "{version}, fsync {fsync}, synchronous_commit {commit}; {cores} cores for server and workers"
        ))
    }

    pub(crate) async fn create(&self) -> anyhow::Result<Database> {
        let name = "bench_peer".to_owned();
        self.client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await?;
        self.client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await?;
        let (base, _) = self
            .url
            .rsplit_once('/')
            .context("a URL that ends in a database's name")?;
        let url = format!("{base}/{name}");
        let client = connect(&url).await?;
        Ok(Database { url, name, client })
    }
}

impl Database {
    pub(crate) async fn counters(&self) -> anyhow::Result<Counters> {
        // This connection's own statements are not counted.
        const COUNT: &str = "SELECT
            (SELECT coalesce(sum(calls), 0)::int8 FROM bench_statements WHERE query NOT LIKE '%bench_statements%'),
            (pg_current_wal_insert_lsn() - '0/0')::int8";
        let view = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
            CREATE OR REPLACE TEMP VIEW bench_statements AS SELECT * FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel";
        self.client.batch_execute(view).await?;
        let row = self.client.query_one(COUNT, &[]).await?;
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
        Ok(Counters {
            statements: number(0),
            wal: number(1),
        })
    }

    /// Tables with their indexes, in bytes.
    pub(crate) async fn size(&self) -> anyhow::Result<u64> {
        let size = "SELECT pg_database_size(current_database())";
        let row = self.client.query_one(size, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }

    /// A transaction that sees the database as it is now, and keeps vacuum from everything that dies later. It ends with the
    /// client.
    pub(crate) async fn old_transaction(&self) -> anyhow::Result<Client> {
        let client = connect(&self.url).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
        client.batch_execute(begin).await?;
        Ok(client)
    }

    pub(crate) async fn remove(self, server: &Server) -> anyhow::Result<()> {
        drop(self.client);
        let remove = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        Ok(server.client.batch_execute(&remove).await?)
    }
}
