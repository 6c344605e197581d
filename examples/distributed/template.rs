//! `distributed template`: a template of everything on AWS. It needs neither credentials nor a
//! region.

use catchment::BoxError;

use crate::arguments::{Format, Options};

#[cfg(all(feature = "aws", feature = "lambda"))]
pub(crate) fn print(format: Format, options: &Options) -> Result<(), BoxError> {
    use std::io::Write;

    use catchment::backends::aws::AwsBackend;
    use catchment::template::{Template, TemplateOptions};

    let template = match format {
        Format::Sam => Template::Sam,
        Format::CloudFormation => Template::CloudFormation,
    };
    let pipeline = crate::pipeline(&options.tuning, None);
    let adder = pipeline.deploy(&options.name, AwsBackend::offline())?;
    // One program, and one path of its API, under whatever name.
    let options = TemplateOptions::new()
        .binary("adder_lambda")
        .build("--features aws,lambda --example adder_lambda")
        .api("/adder");
    let text = adder.template_with(template, &options)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(not(all(feature = "aws", feature = "lambda")))]
pub(crate) fn print(_format: Format, _options: &Options) -> Result<(), BoxError> {
    let problem = "built without the features `aws` and `lambda`: cargo run --features aws,lambda --example distributed -- template";
    Err(crate::arguments::Usage(problem.into()).into())
}
