//! Messages that nest a value very deeply, in the compact codec.

use catchment::Codec;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

/// Writes its bytes as they are.
#[derive(Clone)]
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut tuple = to.serialize_tuple(self.0.len())?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        unreachable!("only written")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

/// <https://github.com/3Hren/msgpack-rust/issues/381>: a few bytes overflow the stack of whoever reads them.
#[tokio::test(start_paused = true)]
async fn a_message_that_nests_a_million_values_is_a_failure_and_not_the_end_of_the_process() {
    let store = Store::new();
    let raw = Pipeline::new()
        .then(|_: Raw| ok(0))
        .with(Stage::named("map"));
    let raw = raw.reduce(|| 0, |a: u64, b| a + b).codec(Codec::Postcard);
    let raw = raw.deploy("deep", store.backend()).unwrap();
    let trees = Pipeline::new()
        .then(|_: Tree| ok(1))
        .with(Stage::named("map"));
    let trees = trees.reduce(|| 0, |a: u64, b| a + b).codec(Codec::Postcard);
    let trees = trees.deploy("deep", store.backend()).unwrap();

    let mut deep = vec![1; 900_000];
    deep.push(0);
    let shallow = vec![1, 1, 0];
    let bad = raw.submit([deep].map(Raw)).await.unwrap();
    let good = raw.submit([shallow].map(Raw)).await.unwrap();
    let worker = trees.worker().start();
    let failure = failure(soon(trees.attach(bad.id().clone()).result()).await);
    assert!(failure.error.contains("nested too deeply"), "{failure:?}");
    assert_eq!(
        soon(trees.attach(good.id().clone()).result())
            .await
            .unwrap(),
        1
    );
    worker.shutdown().await;
}
