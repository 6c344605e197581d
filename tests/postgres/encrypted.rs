//! Connections with TLS, as the URL says: on a server of the test's own, since the one of `scripts/services` has no TLS.

use std::path::{Path, PathBuf};
use std::process::Command;

use catchment::backends::postgres::PostgresBackend;
use catchment::{Deployment, Error, Pipeline};

use crate::common::unique;

/// A server with a certificate for the name `localhost`, of an authority made for the test.
struct Server {
    folder: PathBuf,
    port: u16,
}

/// `initdb` and `postgres` with OpenSSL: those of a system's package.
fn binaries() -> PathBuf {
    let named = std::env::var_os("CATCHMENT_TEST_POSTGRES_TLS").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql");
        let versions = versions
            .expect("CATCHMENT_TEST_POSTGRES_TLS names the programs of a PostgreSQL with OpenSSL");
        let version = versions.flatten().map(|entry| entry.path()).max();
        version.expect("a version of PostgreSQL").join("bin")
    })
}

fn openssl(folder: &Path, arguments: &str) {
    let arguments = arguments.split_whitespace();
    let made = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn certificates(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["authority", "stranger"] {
        openssl(
            folder,
            &format!(
                "req -x509 {KEY} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
            ),
        );
    }
    openssl(
        folder,
        &format!("req {KEY} -keyout server.key -out server.csr -subj /CN=localhost"),
    );
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        folder,
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

impl Server {
    fn services(folder: &Path, command: &str) -> std::process::Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
        let options = format!(
            "-c ssl=on -c ssl_cert_file={0}/server.pem -c ssl_key_file={0}/server.key",
            folder.display()
        );
        let mut command_line = Command::new(script);
        command_line
            .args([command, "postgres"])
            .env("CATCHMENT_SERVICES_DIR", folder)
            .env("CATCHMENT_POSTGRES_OPTIONS", options)
            .env("POSTGRES_BIN", binaries());
        let output = command_line.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    fn start() -> Self {
        let folder = std::env::temp_dir().join(unique("catchment-tls"));
        std::fs::create_dir_all(&folder).unwrap();
        certificates(&folder);
        Self::services(&folder, "start");
        let port = std::fs::read_to_string(folder.join("postgres.port")).unwrap();
        let port = port.trim().parse().unwrap();
        Self { folder, port }
    }

    fn adder(&self, host: &str, parameters: &str) -> Deployment<i64, i64> {
        let port = self.port;
        let parameters = parameters.replace('@', self.folder.to_str().unwrap());
        let url = format!("postgres://postgres@{host}:{port}/postgres?connections=1&{parameters}");
        let adder = Pipeline::new()
            .map(|n: i64| n * 2)
            .reduce(|| 0, |a, b| a + b);
        adder
            .deploy("adder", PostgresBackend::from_url(&url).unwrap())
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        Self::services(&self.folder, "stop");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl and a PostgreSQL with TLS"]
async fn connections_are_encrypted_as_the_url_says() {
    let server = Server::start();
    let adder = server.adder(
        "localhost",
        "sslmode=verify-full&sslrootcert=@/authority.pem",
    );
    adder.provision().await.unwrap();
    let worker = adder.worker().start();
    assert_eq!(
        adder.submit(1..=5).await.unwrap().result().await.unwrap(),
        30
    );
    worker.shutdown().await;

    // Whether the only connection of a deployment is encrypted.
    let plain = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        server.port
    );
    let (client, connection) = tokio_postgres::connect(&plain, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let is_encrypted = async || {
        let look = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'";
        let row = client.query_one(look, &[]).await.unwrap();
        row.get::<_, Option<bool>>(0)
    };
    drop(adder);
    let alone = async || {
        while is_encrypted().await.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    for (host, parameters, encrypted) in [
        ("localhost", "sslmode=disable", false),
        ("localhost", "sslmode=prefer", true),
        ("localhost", "", true),
        ("127.0.0.1", "sslmode=require", true),
        (
            "127.0.0.1",
            "sslmode=require&sslrootcert=@/authority.pem",
            true,
        ),
        (
            "127.0.0.1",
            "sslmode=verify-ca&sslrootcert=@/authority.pem",
            true,
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=@/authority.pem",
            true,
        ),
    ] {
        alone().await;
        let adder = server.adder(host, parameters);
        adder.runs(catchment::RunFilter::new()).await.unwrap();
        assert_eq!(is_encrypted().await, Some(encrypted), "{host} {parameters}");
    }
    for (host, parameters, part) in [
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert=@/stranger.pem",
            "UnknownIssuer",
        ),
        (
            "localhost",
            "sslmode=require&sslrootcert=@/stranger.pem",
            "UnknownIssuer",
        ),
        ("localhost", "sslmode=verify-full", "UnknownIssuer"),
        (
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert=@/authority.pem",
            "not valid for name",
        ),
    ] {
        let adder = server.adder(host, parameters);
        let error = adder.runs(catchment::RunFilter::new()).await.unwrap_err();
        let text = format!("{:?}", anyhow::Error::from(error));
        assert!(text.contains(part), "{host} {parameters}: {text}");
    }
}

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.pem");
    std::fs::write(&path, "nothing\n").unwrap();
    let url = format!(
        "postgres://h/d?sslmode=verify-full&sslrootcert={}",
        path.display()
    );
    let error = PostgresBackend::from_url(&url).unwrap_err();
    assert!(matches!(
        error,
        Error::InvalidArgument {
            argument: "url",
            ..
        }
    ));
    assert!(error.to_string().contains("there is none in it"), "{error}");
}
