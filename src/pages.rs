//! The Rust code of README.md and of the pages under `docs/`, compiled as doctests and nothing
//! else. A page whose code needs features is compiled if they are on.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/guide.md")]
struct Guide;

#[doc = include_str!("../docs/reliability.md")]
struct Reliability;

#[doc = include_str!("../docs/performance.md")]
struct Performance;

#[doc = include_str!("../docs/scaling.md")]
struct Scaling;

#[doc = include_str!("../docs/wire-format.md")]
struct WireFormat;

#[cfg(feature = "signed")]
#[doc = include_str!("../docs/signed.md")]
struct Signed;

#[cfg(feature = "http")]
#[doc = include_str!("../docs/http.md")]
struct Http;

#[cfg(feature = "postgres")]
#[doc = include_str!("../docs/postgres.md")]
struct Postgres;

#[cfg(feature = "aws")]
#[doc = include_str!("../docs/aws.md")]
struct Aws;

#[cfg(all(feature = "aws", feature = "lambda"))]
#[doc = include_str!("../docs/lambda.md")]
struct Lambda;
