//! What everything else is made of: ids, errors, the arithmetic of a run. It knows nothing of the
//! rest of the crate.

pub(crate) mod attempts;
pub(crate) mod backoff;
pub(crate) mod batcher;
pub(crate) mod clock;
pub(crate) mod cores;
pub(crate) mod cut;
pub(crate) mod error;
pub(crate) mod excerpt;
pub(crate) mod failure;
pub(crate) mod fingerprint;
pub(crate) mod flag;
pub(crate) mod generation;
pub(crate) mod group;
pub(crate) mod id;
pub(crate) mod name;
pub(crate) mod natural;
pub(crate) mod one_of;
pub(crate) mod page;
pub(crate) mod panic;
pub(crate) mod printable;
pub(crate) mod provision;
pub(crate) mod ready;
pub(crate) mod requests;
pub(crate) mod retry;
pub(crate) mod runtime;
pub(crate) mod tree;
pub(crate) mod type_name;
