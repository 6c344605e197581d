//! Random values in `run`, where nothing leaves the process.

use catchment::{Pipeline, Stage};

use crate::generate::values;
use crate::types::Value;

#[tokio::test(start_paused = true)]
async fn every_value_comes_back_inside_the_process() {
    let same = Pipeline::new()
        .map(|value: Value| value)
        .with(Stage::named("first").packet_size(7))
        .map(|value| value)
        .with(Stage::named("second"))
        .collect()
        .map(|values| values);
    let values: Vec<Value> = values().collect();
    for values in values.chunks(2_000) {
        let back = same.run(values.to_vec()).await.unwrap();
        assert_eq!(back.len(), values.len());
        for (back, value) in back.iter().zip(values) {
            assert_eq!(back, value);
        }
    }
}
