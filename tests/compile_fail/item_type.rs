//! A pipeline takes items of the type that its first stage takes.

use catchment::Pipeline;

#[tokio::main]
async fn main() {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |sum, n| sum + n);
    let _ = adder.run(["1", "2", "3"]).await;
}
