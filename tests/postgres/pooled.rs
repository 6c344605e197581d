//! Through PgBouncer in transaction mode: each statement may be another connection's.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use catchment::backends::postgres::PostgresBackend;
use catchment::{Pipeline, Stage};

use crate::common::{unique, url};

struct Bouncer {
    process: Child,
    url: String,
    _folder: std::path::PathBuf,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bouncer {
    /// PgBouncer before the server, on a free port. It refuses to run as root.
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config: tokio_postgres::Config = url().parse().unwrap();
        let server = config.get_ports()[0];
        let folder = std::env::temp_dir().join(unique("catchment-pgbouncer"));
        std::fs::create_dir_all(&folder).unwrap();
        let ini = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        );
        std::fs::write(&ini, text).unwrap();
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let bouncer =
            std::env::var("CATCHMENT_TEST_PGBOUNCER").unwrap_or_else(|_| "pgbouncer".to_owned());
        let mut command = match is_root {
            true => {
                let mut command = Command::new("setpriv");
                command.args([
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                    "--",
                    &bouncer,
                ]);
                command
            }
            false => Command::new(bouncer),
        };
        let process = command
            .arg(&ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let bouncer = Self {
            process: process.expect("pgbouncer starts"),
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            _folder: folder,
        };
        for _ in 0..200 {
            if tokio_postgres::connect(&bouncer.url, tokio_postgres::NoTls)
                .await
                .is_ok()
            {
                return bouncer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("pgbouncer does not answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts, and pgbouncer"]
async fn pgbouncer_in_transaction_mode_is_enough() {
    let bouncer = Bouncer::start().await;
    let backend = PostgresBackend::from_url(&bouncer.url)
        .unwrap()
        .schema(unique("pooled"));
    let adder = Pipeline::new()
        .try_map(|n: i64| if n == 13 { Err("thirteen") } else { Ok(n * 2) })
        .with(
            Stage::named("times_two")
                .packet_size(2)
                .attempts(2)
                .on_failure(catchment::OnFailure::Skip),
        )
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(4));
    let adder = adder.deploy("adder", backend).unwrap();
    adder.provision().await.unwrap();
    let workers = [(); 2].map(|()| adder.worker().start());
    let outcome = adder
        .submit(1..=2_000)
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    assert_eq!((outcome.value, outcome.skipped), (4_002_000 - 26, 1));
    for worker in workers {
        worker.shutdown().await;
    }
}
