//! The rule for arrows: which room of `src/` may import which, and that there is no circle.
//!
//! Arrows are read off the source: imports, and every path that begins with `crate`, `super` or
//! `self`, in unit tests and macros too. Comments and strings are skipped. `lib.rs` is exempt,
//! because it puts the rooms together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod house;
mod references;
mod rule;
mod tokens;

use std::collections::BTreeSet;

use crate::house::{House, room};
use crate::rule::{RULE, may_know};

#[test]
fn rooms_know_only_what_they_may() {
    let problems = House::read().forbidden();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn there_is_no_circle_of_rooms() {
    if let Some(circle) = House::read().circle() {
        panic!("\n{circle}\n");
    }
}

#[test]
fn every_room_is_in_the_table_and_its_arrows_point_one_way() {
    let rooms: Vec<&str> = RULE.iter().map(|(room, _)| *room).collect();
    for (place, room) in rooms.iter().enumerate() {
        for known in may_know(room) {
            let above = rooms[..place].contains(&known.as_str());
            assert!(above, "{room} may know {known}, which has no earlier row");
        }
    }
    let there: BTreeSet<String> = House::read().files.iter().map(room).collect();
    let listed: BTreeSet<String> = rooms.into_iter().map(str::to_owned).collect();
    assert_eq!(there, listed, "the rooms of src/, and those of the table");
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_form() {
    let source = r##"
        //! crate::worker::Comment
        use std::sync::Arc;
        use crate::{queue::Queue, stage::{Data, options::{self, Stage}}}; // three and four
        use super::super::worker::crew;
        pub(crate) fn sum(list: &[crate::lambda::Record]) -> usize { '"'; "crate::http::Text"; list.len() }
        /* crate::http /* nested */ crate::http */
        macro_rules! made { () => { $crate::template::node::Node::new(r#"crate::http"#) } }
        fn handle<'a>() -> crate::Deployment<'a> { super::super::protocol::<u8>(b'"') }
        mod tests {
            use super::*;
            use super::id::RunId;
            use super::super::super::{core, embedded as run};
            mod inner { use super::super::super::super::submit::Source; }
        }
        use super::super::pipeline;
    "##;
    let house = House::of(
        "pub use deployment::{Deployment, run::Run};",
        &[("src/core/id.rs", source)],
    );
    let told = |(line, room): (usize, &str)| {
        format!("src/core/id.rs:{line}: room core must not know room {room}")
    };
    let expected = [
        (4, "queue"),
        (4, "stage"),
        (4, "stage"),
        (4, "stage"),
        (5, "worker"),
        (6, "lambda"),
        (8, "template"),
        (9, "deployment"),
        (9, "protocol"),
        (13, "embedded"),
        (14, "submit"),
        (16, "pipeline"),
    ];
    assert_eq!(house.forbidden(), expected.map(told));
    // From a room further down in the table the same paths are fine, but for those of the faces.
    let house = House::of(
        "pub use deployment::Deployment;",
        &[("src/embedded/id.rs", source)],
    );
    let faces: Vec<String> = house.forbidden();
    assert_eq!(faces.len(), 2, "{faces:?}");
    assert!(faces[0].ends_with("room embedded must not know room lambda"));
    assert!(faces[1].ends_with("room embedded must not know room template"));
}

#[test]
fn a_front_file_reaches_its_neighbours_by_super() {
    let house = House::of(
        "",
        &[(
            "src/packet.rs",
            "mod codec; use codec::Codec; use self::codec::Form; use super::protocol::Protocol;",
        )],
    );
    let expected = "src/packet.rs:1: room packet must not know room protocol";
    assert_eq!(house.forbidden(), [expected]);
}

#[test]
fn what_hides_its_room_is_refused() {
    for source in ["use crate::*;", "use crate::Unheard;", "use super::*;"] {
        let house = House::of("", &[("src/packet.rs", source)]);
        let problems = house.forbidden();
        assert_eq!(problems.len(), 1, "{source}: {problems:?}");
        assert!(problems[0].starts_with("src/packet.rs:1: "), "{problems:?}");
    }
}

#[test]
fn a_circle_is_seen() {
    let files = [
        (
            "src/submit.rs",
            "use crate::core::id;\nuse crate::protocol::seam;",
        ),
        ("src/protocol.rs", "use crate::stage::Data;"),
        ("src/stage/options.rs", "\n\nfn f() { crate::submit::f() }"),
        ("src/core/id.rs", ""),
    ];
    assert_eq!(
        House::of("", &files).circle().unwrap(),
        "the rooms protocol → stage → submit → protocol are a circle:\n\
         src/protocol.rs:1: protocol knows stage\n\
         src/stage/options.rs:3: stage knows submit\n\
         src/submit.rs:2: submit knows protocol"
    );
    assert_eq!(House::of("", &files[..2]).circle(), None);
}
