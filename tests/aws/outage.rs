//! A service that is unreachable for ten seconds in the middle of a run: workers log it, wait, and
//! continue.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::backends::sqs::SqsQueues;
use catchment::{Backend, Deployment, Pipeline, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::common::{Tables, config, ministack, unique};

const OUTAGE: Duration = Duration::from_secs(10);
const ITEMS: u64 = 400;

/// Every service at the other end of a wire that can be cut: connections end, new ones are refused.
struct Wire {
    address: SocketAddr,
    target: String,
    forwarding: Option<JoinHandle<()>>,
}

impl Wire {
    async fn to(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = endpoint.strip_prefix("http://").unwrap();
        let mut wire = Self {
            address: listener.local_addr().unwrap(),
            target: target.to_owned(),
            forwarding: None,
        };
        wire.forward(listener);
        wire
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn forward(&mut self, listener: TcpListener) {
        let target = self.target.clone();
        self.forwarding = Some(tokio::spawn(async move {
            // Those that are under way end with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let target = target.clone();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
                    io::Result::Ok(())
                });
            }
        }));
    }

    async fn cut(&mut self) {
        let forwarding = self.forwarding.take().unwrap();
        forwarding.abort();
        assert!(forwarding.await.unwrap_err().is_cancelled());
        let refused = TcpStream::connect(self.address).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.forward(listener);
    }
}

/// The log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, text: &str) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).matches(text).count()
    }
}

/// Items go through as long as there are permits.
fn gated(backend: Backend) -> (Deployment<u64, u64>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&gate);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await?.forget();
                Ok::<_, tokio::sync::AcquireError>(n)
            }
        })
        .with(Stage::named("wait").packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    (pipeline.deploy(&unique("outage"), backend).unwrap(), gate)
}

/// Half of a run, then the outage, during which the rest of the work is released.
async fn survive(backend: Backend, outage: impl AsyncFnOnce()) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_env_filter("catchment=warn")
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);

    let (deployment, gate) = gated(backend);
    deployment.provision().await.unwrap();
    let workers = [deployment.worker().start(), deployment.worker().start()];
    let run = deployment.submit(1..=ITEMS).await.unwrap();
    gate.add_permits(ITEMS as usize / 2);
    while run.status().await.unwrap().packets_done < ITEMS / 2 {
        tokio::task::yield_now().await;
    }
    let complaints = log.count("WARN");
    let result = tokio::spawn({
        let run = deployment.attach(run.id());
        async move { run.result().await }
    });
    gate.add_permits(ITEMS as usize);
    outage().await;
    assert!(log.count("WARN") > complaints, "the outage is logged");
    let sum = result.await.unwrap().unwrap();
    assert_eq!(sum, ITEMS * (ITEMS + 1) / 2);
    for worker in workers {
        worker.shutdown().await;
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn sqs_is_gone_for_ten_seconds() {
    let mut wire = Wire::to(&ministack()).await;
    let queues = SqsQueues::new(&config(&wire.endpoint()));
    let tables = DynamoDbScratchpad::new(&config(&ministack()));
    let backend = Backend::new(Arc::new(queues), Arc::new(tables));
    survive(backend, async || {
        wire.cut().await;
        // The outage itself, not a wait for something.
        tokio::time::sleep(OUTAGE).await;
        wire.mend().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn dynamodb_is_gone_for_ten_seconds() {
    survive(Tables::DynamoDbLocal.backend(), async || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/aws-local");
        let restarted = tokio::process::Command::new(script)
            .args(["restart-dynamodb", "--down", &OUTAGE.as_secs().to_string()])
            .status()
            .await;
        assert!(restarted.unwrap().success(), "DynamoDB Local is up again");
    })
    .await;
}
