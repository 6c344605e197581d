//! Templates of everything that a deployment needs on AWS: the queues and tables that `provision` makes, a function for each stage,
//! and what ties them together.

mod api;
mod functions;
mod gateway;
mod node;
mod options;
mod plan;
mod resources;
mod roles;

pub use self::api::ApiOptions;
use self::api::{Api, Authorizer};
use self::functions::Function;
use self::node::{Node, list, map, reference, substitute};
use self::options::invalid;
pub use self::options::{Architecture, FunctionOptions, Template, TemplateOptions};
use self::plan::Plan;
use self::resources::{Ids, Keeping};
use crate::backends::aws::AwsBackend;
use crate::backends::dynamodb::provision::tables;
use crate::core::error::{Error, Result};
use crate::deployment::Deployment;

/// The longest name that a function may have.
const LONGEST_FUNCTION_NAME: usize = 64;

impl<I, R> Deployment<I, R> {
    /// A template, in YAML, of all that this deployment needs to run on AWS Lambda, with the default
    /// [options](TemplateOptions): for each stage its queue, its dead-letter queue, a function that is given the queue's messages, the
    /// function's logs, and a role that allows what the stage's code does and no more; and the two tables. Queues refuse requests
    /// without TLS.
    ///
    /// Queues and tables are those of [`provision`](Self::provision) with the deployment's [`AwsBackend`], which finds nothing to change in
    /// them. A template is made without an account over [`AwsBackend::offline`]. Every function is the
    /// same program: the variable `CATCHMENT_STAGE` names the stage it serves, and `CATCHMENT_DEPLOYMENT` the deployment. Nothing is asked of AWS, and the same deployment gives the same text each time.
    ///
    /// Nothing in it can be called from outside of the account. An HTTP API has to be asked for, with
    /// [`TemplateOptions::api`].
    ///
    /// ```
    /// use catchment::backends::aws::AwsBackend;
    /// use catchment::template::Template;
    /// use catchment::{Pipeline, Stage};
    ///
    /// # fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new()
    ///     .map(|n: i64| n * 2).with(Stage::named("times_two"))
    ///     .reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    /// let adder = adder.deploy("adder", AwsBackend::offline())?;
    /// let template = adder.template(Template::Sam)?;
    /// assert!(template.contains("QueueName: adder--times_two\n"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the deployment's backend was not made of an [`AwsBackend`], or if a stage's options and Lambda's limits
    /// do not go together: it names the stage, the numbers, and what to set.
    pub fn template(&self, template: Template) -> Result<String> {
        self.template_with(template, &TemplateOptions::default())
    }

    /// As [`template`](Self::template), with options.
    ///
    /// # Errors
    /// As [`template`](Self::template), and for options that Lambda does not take.
    pub fn template_with(&self, template: Template, options: &TemplateOptions) -> Result<String> {
        let name = self.name();
        let definition = &self.site.definition;
        self.check_stages(options)?;
        let AwsBackend {
            queues, scratchpad, ..
        } = self.aws()?;
        let names = scratchpad.tables_of(name);
        let api = options.http_api(name)?;
        let days = options.log_days()?;
        let keeping = options.keeping()?;
        let ids = Ids::of(definition);

        let mut resources = Vec::new();
        let [scratchpad, results] = tables(&names);
        resources.push((
            ids.scratchpad.clone(),
            resources::table(&scratchpad, keeping),
        ));
        resources.push((ids.results.clone(), resources::table(&results, keeping)));
        for (index, (stage, part)) in definition.stages().iter().zip(&ids.stages).enumerate() {
            if api.is_some() && &*stage.name == functions::API {
                return Err(invalid(format!(
                    "stage `{0}`: the function of the HTTP API is called `{0}`: give the stage another name, or make the template without an API",
                    functions::API
                )));
            }
            let queue = queues.settings(&stage.options.queue);
            let plan = Plan::of(stage, queue, &options.of_stage(&stage.name))?;
            let function = Function {
                deployment: name,
                stage: &stage.name,
                memory: plan.function.memory,
                timeout: plan.timeout,
                part,
            };
            check_name(&function)?;
            resources.extend(resources::queues(name, &stage.name, &plan, part, keeping));
            let statements = roles::of_stage(definition, index, &ids);
            resources.extend(logs_and_role(&function, days, statements, keeping));
            resources.extend(functions::of_stage(template, &function, &plan));
        }
        if let Some(api) = &api {
            let memory = options.common().resolve("the API's function")?.memory;
            let function = gateway::api_function(name, memory, &ids);
            check_name(&function)?;
            let statements = roles::of_api(definition, &ids);
            resources.extend(logs_and_role(&function, days, statements, keeping));
            resources.extend(gateway::of_api(template, &function, api, keeping));
        }
        let document = document(template, name, options, resources, api.as_ref());
        let text = serde_saphyr::to_string(&document);
        let text = text.map_err(|error| Error::encode("the template", error))?;
        let header = header(template, name, options, api.as_ref(), keeping)?;
        Ok(header + &text)
    }

    /// Refuses options for a stage that the deployment does not have.
    fn check_stages(&self, options: &TemplateOptions) -> Result<()> {
        let definition = &self.site.definition;
        let unknown = options
            .named_stages()
            .find(|stage| definition.position(stage).is_none());
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let known: Vec<&str> = self.stages().collect();
        Err(invalid(format!(
            "template options for stage `{unknown}`: deployment `{}` has no such stage, but {}",
            self.name(),
            known.join(", ")
        )))
    }

    fn aws(&self) -> Result<&AwsBackend> {
        self.backend.as_aws().ok_or_else(|| {
            invalid(format!(
                "a template describes queues and tables on AWS, and deployment `{}` is over another backend: deploy the pipeline over `AwsBackend` or `Backend::aws`; `AwsBackend::offline()` needs no account",
                self.name()
            ))
        })
    }
}

/// The logs of a function, and a role that may write them and do what the statements say.
fn logs_and_role(
    function: &Function<'_>,
    days: u32,
    statements: Vec<Node>,
    keeping: Keeping<'_>,
) -> [(String, Node); 2] {
    let part = function.part;
    let name = format!("/aws/lambda/{}", function.name());
    let role = roles::role(statements, &part.logs, keeping.key);
    [
        (part.logs.clone(), resources::logs(name, days, keeping)),
        (part.role.clone(), role),
    ]
}

fn check_name(function: &Function<'_>) -> Result<()> {
    let name = function.name();
    match name.len() <= LONGEST_FUNCTION_NAME {
        true => Ok(()),
        false => Err(invalid(format!(
            "stage `{}`: its function `{name}` has a name of {} characters, and Lambda takes {LONGEST_FUNCTION_NAME}: shorten the stage's or the deployment's name",
            function.stage,
            name.len()
        ))),
    }
}

/// Where the program's zip file is.
fn code(template: Template, name: &str, options: &TemplateOptions) -> String {
    let binary = options.binary_name(name);
    match (options.code_path(), template) {
        (Some(path), _) => path.to_owned(),
        (None, Template::Sam) => built(&binary),
        (None, Template::CloudFormation) => format!("{binary}.zip"),
    }
}

fn built(binary: &str) -> String {
    format!("target/lambda/{binary}/bootstrap.zip")
}

fn document(
    template: Template,
    name: &str,
    options: &TemplateOptions,
    resources: Vec<(String, Node)>,
    api: Option<&Api>,
) -> Node {
    let code = code(template, name, options);
    let mut document = vec![(
        "AWSTemplateFormatVersion".to_owned(),
        Node::from("2010-09-09"),
    )];
    let mut add = |key: &str, value: Node| document.push((key.to_owned(), value));
    if template == Template::Sam {
        add("Transform", "AWS::Serverless-2016-10-31".into());
    }
    add(
        "Description",
        format!("Deployment {name}: queues, tables, and a function for each stage").into(),
    );
    let mut parameters = vec![
        (
            "Architecture".to_owned(),
            map! {
                "Type" => "String",
                "Description" => "The processors that the program was built for",
                "AllowedValues" => list!["arm64", "x86_64"],
                "Default" => options.processors().name(),
            },
        ),
        (
            "Receive".to_owned(),
            map! {
                "Type" => "String",
                "Description" => "Whether the functions are given messages; false pauses them, or leaves the work to others",
                "AllowedValues" => list!["true", "false"],
                "Default" => "true",
            },
        ),
    ];
    if template == Template::CloudFormation {
        parameters.push((
            "CodeBucket".to_owned(),
            map! {
                "Type" => "String",
                "Description" => "The S3 bucket that has the program's zip file",
            },
        ));
        parameters.push((
            "CodeKey".to_owned(),
            map! {
                "Type" => "String",
                "Description" => "The zip file's key in it: another one for each version, or functions keep the old one",
                "Default" => code.clone(),
            },
        ));
    }
    add("Parameters", parameters.into());
    let receiving = map! { "Fn::Equals" => list![reference("Receive"), "true"] };
    add("Conditions", map! { "IsReceiving" => receiving });
    if template == Template::Sam {
        let mut function = functions::runtime();
        function.push(("CodeUri".to_owned(), code.into()));
        add("Globals", map! { "Function" => function });
    }
    add("Resources", resources.into());
    if let Some(api) = api {
        let url = substitute(format!(
            "https://${{HttpApi}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}{}",
            api.path
        ));
        add(
            "Outputs",
            map! { "ApiUrl" => map! {
                "Description" => "Where arrays are submitted, with POST",
                "Value" => url,
            } },
        );
    }
    document.into()
}

/// How the template was made, and what to do with it.
fn header(
    template: Template,
    name: &str,
    options: &TemplateOptions,
    api: Option<&Api>,
    keeping: Keeping<'_>,
) -> Result<String> {
    let build = format!(
        "cargo lambda build --release {} --output-format zip {}",
        options.processors().flag(),
        options.built(name)?
    );
    let stack = stack_name(name);
    let (kind, commands) = match template {
        Template::Sam => (
            "Sam",
            format!(
                "\
#   {build}
#   sam deploy --template-file template.yaml --stack-name {stack} --capabilities CAPABILITY_IAM --resolve-s3\n"
            ),
        ),
        Template::CloudFormation => {
            let key = code(template, name, options);
            let zip = built(&options.binary_name(name));
            (
                "CloudFormation",
                format!(
                    "\
#   {build}
#   aws s3 cp {zip} s3://BUCKET/{key}
#   aws cloudformation deploy --template-file template.yaml --stack-name {stack} --capabilities CAPABILITY_IAM \\
#     --parameter-overrides CodeBucket=BUCKET CodeKey={key}\n"
                ),
            )
        }
    };
    let callers = match api.map(|api| &api.authorizer) {
        Some(Authorizer::Iam) => {
            "# Callers of the HTTP API sign their requests with AWS credentials that allow execute-api:Invoke on it.\n"
        }
        Some(Authorizer::Jwt { .. }) => {
            "# Callers of the HTTP API bring a token of the issuer that the API names.\n"
        }
        Some(Authorizer::Public) => "# The HTTP API is open to everybody who knows its address.\n",
        None => "",
    };
    let deleted = match keeping.retain {
        true => "# Deleting the stack leaves queues, tables and logs with everything in them.",
        false => "# Deleting the stack deletes queues and tables with everything in them.",
    };
    Ok(format!(
        "\
# Deployment `{name}` of catchment, made by Deployment::template(Template::{kind}): rather than changing this file, change the
# pipeline or the options, and make it again. As template.yaml beside the folder `target`, it is deployed with
#
{commands}#
# Cargo.toml needs panic = \"unwind\" under [profile.release]: cargo-lambda sets \"abort\" where nothing is said, and an item that panics
# then takes its whole batch along.
{callers}{deleted}
"
    ))
}

/// The deployment's name as CloudFormation takes a stack's: letters, digits and hyphens, of which the first is a letter. It is
/// never too long: a stack's name may have 128 characters, and a function's, which begins with the deployment's, 64.
///
/// No two deployments have the same: deploying one would remove the other's queues. A name that has to be changed is therefore
/// followed by `--`, which no deployment's name contains, and by the places of its underscores as bits: `my_adder` is
/// `my-adder--4`, and `my-adder` stays what it is.
fn stack_name(deployment: &str) -> String {
    let is_letter = |first: char| first.is_ascii_alphabetic();
    let name = deployment.replace('_', "-");
    let has_letter = name.starts_with(is_letter);
    if name == deployment && has_letter {
        return name;
    }
    let underscores = deployment.chars().enumerate().filter(|(_, c)| *c == '_');
    let places = underscores.fold(0u128, |places, (place, _)| places | 1 << (place % 128));
    let prefix = if has_letter { "" } else { "stack-" };
    let mark = if has_letter { "" } else { "s" };
    format!("{prefix}{name}--{mark}{places:x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::name;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn every_deployment_has_a_stack_of_its_own_that_cloudformation_takes(names in prop::collection::btree_set(
            prop_oneof!["(a|s|0|4|-|_|stack-){1,6}", "[A-Za-z0-9_-]{1,62}"], 2..12,
        )) {
            let mut stacks = BTreeMap::new();
            for deployment in names.iter().filter(|name| name::check(name).is_ok()) {
                let stack = stack_name(deployment);
                prop_assert!(stack.starts_with(|first: char| first.is_ascii_alphabetic()), "{}", stack);
                prop_assert!(stack.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", stack);
                prop_assert!(stack.len() <= 128, "{}", stack);
                let other = stacks.insert(stack.clone(), deployment);
                prop_assert!(other.is_none(), "{} and {:?}: {}", deployment, other, stack);
            }
        }
    }
}
