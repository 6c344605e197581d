//! The compact codec's bytes, which are not text, over services that keep text.

use catchment::{Backend, Codec, Pipeline, Stage};

use crate::common::{config, ministack, unique};

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn the_compact_codec_travels_over_sqs_and_dynamodb() {
    let backend = Backend::aws(&config(&ministack()));
    let words = Pipeline::new()
        .map(|n: u64| "rain ".repeat(n as usize))
        .with(Stage::new().packet_size(7))
        .map(|text| text.len() as u64)
        .reduce(|| 0, |a, b| a + b)
        .codec(Codec::Postcard);
    let words = words.deploy(&unique("codec"), backend).unwrap();
    words.provision().await.unwrap();
    let worker = words.worker().start();
    let run = words.submit(1..=300).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 5 * 300 * 301 / 2);
    worker.shutdown().await;
}

/// Bytes grow by a third as text, and packets are cut accordingly.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn packets_in_the_compact_codec_are_cut_to_what_sqs_takes() {
    let backend = Backend::aws(&config(&ministack()));
    let sizes = Pipeline::new()
        .map(|bytes: Vec<u8>| bytes.len() as u64)
        .with(Stage::new().packet_size(5))
        .reduce(|| 0, |a, b| a + b)
        .codec(Codec::Postcard);
    let sizes = sizes.deploy(&unique("cut"), backend).unwrap();
    sizes.provision().await.unwrap();
    let worker = sizes.worker().start();
    let run = sizes.submit(vec![vec![0xff; 300_000]; 10]).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 3_000_000);
    worker.shutdown().await;
}

/// Two characters are not in XML: JSON has escapes for them, and packets are cut by what these take.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn text_that_sqs_does_not_take_is_sent_as_escapes() {
    let backend = Backend::aws(&config(&ministack()));
    let sizes = Pipeline::new()
        .map(|text: String| text.chars().count() as u64)
        .with(Stage::new().packet_size(800))
        .reduce(|| 0, |a, b| a + b);
    let sizes = sizes.deploy(&unique("text"), backend).unwrap();
    sizes.provision().await.unwrap();
    let worker = sizes.worker().start();
    let texts = (0..800).map(|n| match n {
        7 => "\u{ffff}".repeat(1_200),
        _ => "x".repeat(1_200),
    });
    let run = sizes.submit(texts).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 800 * 1_200);
    worker.shutdown().await;
}
