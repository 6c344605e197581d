//! Misuse must not compile, with an error that says why; intended use must compile without
//! annotations.

#[path = "compile_pass/inference.rs"]
mod inference;

/// The messages are the compiler's own, so they are compared on the version that they were written
/// with, and on any other this test shows as ignored. After a move to another version, or a change
/// of what the messages show: `TRYBUILD=overwrite cargo test --test compile_fail`, and read the
/// difference.
#[rustversion::attr(
    not(stable(1.95)),
    ignore = "the expected messages are those of Rust 1.95, stable"
)]
// It builds the crate and all that it depends on once more: with the AWS SDKs that takes three
// times as long.
#[cfg(not(feature = "aws"))]
#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
