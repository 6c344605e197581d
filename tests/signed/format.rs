//! The tag as docs/wire-format.md describes it, computed here as another program would.

use super::*;

/// The keyed hash over the texts of a place and the body without its tag.
fn tag(key: [u8; 32], place: &[&str], body: &[u8]) -> String {
    let mut hashed = Vec::new();
    for text in place {
        hashed.extend((text.len() as u64).to_le_bytes());
        hashed.extend(text.as_bytes());
    }
    hashed.extend(body);
    blake3::keyed_hash(&key, &hashed).to_hex().to_string()
}

fn sign(place: &[&str], body: &str) -> Bytes {
    let tag = tag([7; 32], place, body.as_bytes());
    format!("{{\"tag\":\"{tag}\",{}", &body[1..]).into()
}

fn unsign(sealed: &Bytes) -> (String, String) {
    let text = std::str::from_utf8(sealed).unwrap();
    let (tag, rest) = text.strip_prefix("{\"tag\":\"").unwrap().split_at(64);
    (
        tag.to_owned(),
        format!("{{{}", rest.strip_prefix("\",").unwrap()),
    )
}

fn verifies(place: &[&str], sealed: &Bytes) {
    let (tag, body) = unsign(sealed);
    assert_eq!(tag, self::tag([7; 32], place, body.as_bytes()), "{body}");
}

/// The example of the page.
#[test]
fn the_page_has_the_tag_of_its_example() {
    let page = include_str!("../../docs/wire-format.md");
    let body = r#"{"version":1,"kind":"reduce","deployment":"adder","stage":"sum","arrayId":"example","generation":"6b1f00c2a47e9020","fanIn":32,"level":1,"group":0}"#;
    let key: Vec<u8> = (0..32).collect();
    let tag = tag(
        key.try_into().unwrap(),
        &["message", "adder", "sum"],
        body.as_bytes(),
    );
    let sealed = format!("{{\"tag\":\"{tag}\",{}", &body[1..]);
    assert!(page.contains(&sealed), "{sealed}");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_stored_is_signed_as_the_page_says() {
    let store = Store::new();
    let adder = json("adder", &store).signed(KEY);
    let run = adder.submit_as("run", [5, 13]).await.unwrap();
    let bodies = taken(&store, "adder--double").await;
    for body in &bodies {
        verifies(&["message", "adder", "double"], body);
    }
    put(&store, "adder--double", bodies).await;
    let worker = adder.worker().start();
    assert!(soon(run.result()).await.is_err());
    worker.shutdown().await;
    let group = group(&store, &adder, "run").await.to_string();
    for slot in slots(&store, &adder, "run").await {
        verifies(&["slot", "adder", "sum", &group, "0"], &slot);
    }
    let queue = store.queue("adder--double").await;
    let letters = queue.dead_letters(None, 10).await.unwrap().items;
    let body = std::str::from_utf8(&letters[0].body).unwrap();
    let reason = Bytes::from(letters[0].reason.clone());
    verifies(&["reason", "adder", "double", body], &reason);
    drop(letters);

    let run = adder.submit_as("done", [5]).await.unwrap();
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 11);
    worker.shutdown().await;
    let recorded = store.recorded(&adder, "done").await;
    let key = recorded.record.key().to_string();
    verifies(&["result", "adder", &key], &recorded.result.unwrap());
}

/// A stage in another language: it reads the message, and writes what follows from it.
#[tokio::test(start_paused = true)]
async fn what_another_program_signs_is_believed() {
    let store = Store::new();
    let adder = json("adder", &store).signed(KEY);
    let run = adder.submit_as("run", [5, 6]).await.unwrap();
    for body in taken(&store, "adder--double").await {
        let (_, body) = unsign(&body);
        let onward = body
            .replace("\"stage\":\"double\"", "\"stage\":\"next\"")
            .replace("[5]", "[10]")
            .replace("[6]", "[12]");
        put(
            &store,
            "adder--next",
            [sign(&["message", "adder", "next"], &onward)],
        )
        .await;
    }
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 24);
    worker.shutdown().await;
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn the_compact_codec_has_the_tag_after_a_byte() {
    let store = Store::new();
    let adder = Plain::new("adder", store.backend(), Codec::Postcard).signed(KEY);
    adder.submit_as("run", [5]).await.unwrap();
    let body = taken(&store, "adder--double").await.pop().unwrap();
    assert_eq!((body[0], body[33]), (2, 1));
    let digits: String = body[1..33]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let place = ["message", "adder", "double"];
    assert_eq!(digits, tag([7; 32], &place, &body[33..]));
}
