//! `distributed template`: a template of everything on AWS. It needs neither credentials nor a
//! region.

use catchment::BoxError;

use crate::arguments::{Format, Options, Stack};
#[cfg(all(feature = "aws", feature = "lambda"))]
use {
    crate::arguments::Callers,
    catchment::backends::aws::AwsBackend,
    catchment::template::{ApiOptions, Template, TemplateOptions},
    std::io::Write,
};

#[cfg(all(feature = "aws", feature = "lambda"))]
pub(crate) fn print(format: Format, options: &Options, stack: Stack) -> Result<(), BoxError> {
    let template = match format {
        Format::Sam => Template::Sam,
        Format::CloudFormation => Template::CloudFormation,
    };
    let pipeline = crate::pipeline(&options.tuning, None);
    let adder = pipeline.deploy(&options.name, AwsBackend::offline())?;
    // One program, under whatever name.
    let options = TemplateOptions::new()
        .binary("adder_lambda")
        .build("--features aws,lambda --example adder_lambda");
    let options = stack.apply(options);
    let text = adder.template_with(template, &options)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(all(feature = "aws", feature = "lambda"))]
impl Stack {
    fn apply(self, mut options: TemplateOptions) -> TemplateOptions {
        if let Some(days) = self.log_retention {
            options = options.log_retention(days);
        }
        if let Some(key) = self.kms_key {
            options = options.kms_key(key);
        }
        if let Some(days) = self.point_in_time_recovery {
            options = options.point_in_time_recovery(days);
        }
        if self.retain_data {
            options = options.retain_data();
        }
        let Some(callers) = self.api else {
            return options;
        };
        // examples/distributed/api.rs has this path.
        let mut api = ApiOptions::at("/adder");
        api = match callers {
            Callers::Iam => api,
            Callers::Jwt => api.jwt(self.jwt_issuer.unwrap_or_default(), self.jwt_audience),
            Callers::Public => api.public(),
        };
        if let Some(requests) = self.throttle {
            api = api.throttle(requests, requests.saturating_mul(2));
        }
        if let Some(days) = self.access_log {
            api = api.access_log(days);
        }
        options.api(api)
    }
}

#[cfg(not(all(feature = "aws", feature = "lambda")))]
pub(crate) fn print(_format: Format, _options: &Options, _stack: Stack) -> Result<(), BoxError> {
    let problem = "built without the features `aws` and `lambda`: cargo run --features aws,lambda --example distributed -- template";
    Err(crate::arguments::Usage(problem.into()).into())
}
