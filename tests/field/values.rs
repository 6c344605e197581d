//! Values whose own code panics when they are written or read.

use catchment::{RunFilter, RunState};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

/// Cannot be written if it is 1, nor read if it is 2.
#[derive(Clone, Debug, PartialEq)]
struct Touchy(u64);

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 1, "not to be written");
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let n = u64::deserialize(from)?;
        assert!(n != 2, "not to be read");
        Ok(Self(n))
    }
}

/// The error and its causes.
fn text(error: Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// <https://github.com/FoundatioFx/Foundatio/pull/455>: a value that cannot be written or read crashes its consumer.
#[tokio::test(start_paused = true)]
async fn an_item_that_panics_as_it_is_written_or_read_is_an_error() {
    let store = Store::new();
    let stage = Stage::named("map").packet_size(2);
    let map = Pipeline::new().then(|t: Touchy| ok(t.0)).with(stage);
    let sum = map.reduce(|| 0, |a, b| a + b);
    let deployment = sum.deploy("touchy", store.backend()).unwrap();
    let error = deployment.submit([0, 3, 1].map(Touchy)).await.unwrap_err();
    let said = text(error);
    assert!(said.contains("packet 1 (item 2)"), "{said}");
    assert!(said.contains("panicked: not to be written"), "{said}");
    let runs = deployment.runs(RunFilter::new()).await.unwrap();
    assert_eq!((runs.len(), runs[0].state), (1, RunState::Cancelled));

    let failure = failure(outcome(&deployment, [0, 2, 5, 7].map(Touchy)).await);
    assert_eq!(failure.item, Some(1), "{failure:?}");
    assert!(
        failure.error.ends_with("panicked: not to be read"),
        "{failure:?}"
    );
}

/// <https://github.com/celery/celery/issues/6990>, at the other end.
#[tokio::test(start_paused = true)]
async fn a_result_that_panics_as_it_is_written_or_read_is_an_error() {
    let store = Store::new();
    let largest = Pipeline::new().then(ok::<u64>).fold(
        || Touchy(0),
        |a, n| Touchy(a.0.max(n)),
        |a, b| if a.0 > b.0 { a } else { b },
    );
    let largest = largest.deploy("largest", store.backend()).unwrap();
    let failure = failure(outcome(&largest, [1]).await);
    assert!(
        failure.error.ends_with("panicked: not to be written"),
        "{failure:?}"
    );

    // The one partial result is the result, and nobody has read it before.
    let error = outcome(&largest, [2]).await.unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    let said = text(error);
    assert!(said.contains("panicked: not to be read"), "{said}");
    assert_eq!(outcome(&largest, [5, 4]).await.unwrap(), Touchy(5));
}
