use super::*;
use crate::packet::carrier::Carrier;
use crate::packet::codec::Codec;
use crate::packet::keys::Key;
use crate::packet::{LeftOut, Message, Packet, Work};
use crate::packet::{MapWork, tests::packet};

const HERE: Place<'static> = Place::Queue("sum");

fn seal() -> Seal {
    Seal::new(Keys::new(Key::new([7; 32])))
}

#[test]
fn only_what_is_written_is_opened() {
    let seal = seal();
    let text = br#"{"a":1}"#;
    let compact = [compact_mark(), b'x'];
    for body in [&text[..], &compact[..]] {
        let body = Bytes::copy_from_slice(body);
        let sealed = seal.seal("d", &HERE, body.clone());
        if sealed == body {
            continue; // no codec is its
        }
        let opened = seal.open("d", &HERE, &sealed).unwrap();
        assert!(opened == body || opened == sealed);
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.to_vec();
                altered[place] ^= 1 << bit;
                assert!(seal.open("d", &HERE, &altered.into()).is_err(), "{place}");
            }
            assert!(seal.open("d", &HERE, &sealed.slice(..place)).is_err());
        }
        let longer = [&sealed[..], b" "].concat();
        assert!(seal.open("d", &HERE, &longer.into()).is_err());
        // Once more around it is another body.
        let twice = seal.seal("d", &HERE, sealed.clone());
        assert!(twice == sealed || seal.open("d", &HERE, &twice).unwrap() != body);
    }
}

fn compact_mark() -> u8 {
    1
}

/// The tag of a JSON text is another form of itself in the compact codec.
#[cfg(feature = "postcard")]
#[test]
fn a_tag_is_read_in_its_own_codec_alone() {
    let seal = seal();
    let body = Bytes::from_static(br#"{"a":1}"#);
    let tag = tag(&Key::new([7; 32]), "d", &HERE, &[&body]);
    let sealed = [&[MARK], &tag.as_bytes()[..], &body].concat().into();
    assert!(matches!(
        seal.open("d", &HERE, &sealed),
        Err(Malformed::Unsigned)
    ));
    assert_eq!(without_tag(&sealed), sealed);
}

/// Texts that meet at other places do not make one place.
#[test]
fn no_two_places_are_one() {
    let group = GroupId::new("a", "sum", 1, 11);
    let places = [
        ("d", Place::Queue("sum")),
        ("ds", Place::Queue("um")),
        ("d", Place::Result(&"sum".into())),
        ("d", Place::Slot(&group, 1)),
        ("d", Place::Slot(&group, 11)),
        ("d", Place::Slot(&GroupId::new("a", "sum", 1, 1), 1)),
        ("d", Place::Slot(&GroupId::new("a", "sum", 11, 1), 1)),
        ("d", Place::Slot(&GroupId::new("b", "sum", 1, 11), 1)),
        ("d", Place::Slot(&group.clone().in_partition(1), 1)),
        ("d", Place::Slot(&GroupId::new("a", "sums", 1, 11), 1)),
        ("e", Place::Slot(&group, 1)),
        ("d", Place::Reason("sum", b"")),
        ("d", Place::Reason("sum", b"x")),
        ("d", Place::Reason("next", b"x")),
    ];
    let body = Bytes::from_static(b"{}");
    for (at, (deployment, place)) in places.iter().enumerate() {
        let sealed = seal().seal(deployment, place, body.clone());
        for (other, (theirs, elsewhere)) in places.iter().enumerate() {
            let opened = seal().open(theirs, elsewhere, &sealed);
            assert_eq!(opened.is_ok(), at == other, "{place:?} {elsewhere:?}");
        }
    }
}

#[cfg(feature = "postcard")]
const CODECS: [Codec; 2] = [Codec::Json, Codec::Postcard];
#[cfg(not(feature = "postcard"))]
const CODECS: [Codec; 1] = [Codec::Json];

/// What has passed is read as what was written, with keys and without.
#[test]
fn messages_and_packets_come_back() {
    for codec in CODECS {
        let plain = Carrier::wire(codec, "d");
        let signed = plain.clone().signed(Keys::new(Key::new([7; 32])));
        let value = crate::packet::codec::write(&[1, 2, 3], codec, "it").unwrap();
        let packet = Packet {
            value,
            left_out: LeftOut::of("s", 3, [4]),
            skipped: 1,
            ..packet()
        };
        let message = Message {
            stage: "sum".into(),
            fan_in: 32,
            work: Work::Map(MapWork {
                packet: packet.clone(),
                offset: 9,
                yields: Some(vec![0, 2]),
            }),
        };
        let run = packet.run.clone();
        let place = Place::Result(&run);
        let body = signed.write_message(message.clone()).unwrap();
        let stored = signed.write_packet(place, packet.clone()).unwrap();
        for reader in [&signed, &plain] {
            assert_eq!(*reader.read_message("sum", &body).unwrap(), message);
            assert_eq!(*reader.read_packet(place, &stored).unwrap(), packet);
        }
        let more = match codec {
            Codec::Json => r#""tag":"","#.len() + 2 * TAG,
            #[cfg(feature = "postcard")]
            Codec::Postcard => 1 + TAG,
        };
        let bare = plain.write_message(message).unwrap();
        assert_eq!(body.len(), bare.len() + more);
        let bare = plain.write_packet(place, packet).unwrap();
        assert_eq!(stored.len(), bare.len() + more);
        assert!(signed.read_packet(place, &bare).is_err());
    }
}
