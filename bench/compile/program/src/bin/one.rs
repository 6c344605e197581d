//! One map: what every program that uses the crate takes to compile.

use catchment::Pipeline;

#[tokio::main]
async fn main() -> Result<(), catchment::Error> {
    let pipeline = Pipeline::new()
        .map(|n: u64| n + 1)
        .reduce(|| 0, |sum, n| sum + n);
    println!("{}", pipeline.run(1..=1_000_u64).await?);
    Ok(())
}
