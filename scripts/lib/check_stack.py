"""Makes the adder's CloudFormation stack on an emulator, and runs the adder on what it made.

Its one argument is the program of the example `distributed`. The mappings are made with Receive=false: the emulator runs functions
in Docker, and one that cannot run would take the messages away from the worker that does the work here.
"""

import io
import os
import re
import subprocess
import sys
import uuid
import zipfile

import boto3
import yaml

NAME = f"stack-{uuid.uuid4().hex[:12]}"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
EXPECTED = {
    "AWS::ApiGatewayV2::Api": 1,
    "AWS::ApiGatewayV2::Integration": 1,
    "AWS::ApiGatewayV2::Route": 2,
    "AWS::ApiGatewayV2::Stage": 1,
    "AWS::DynamoDB::Table": 2,
    "AWS::IAM::Role": 3,
    "AWS::Lambda::EventSourceMapping": 2,
    "AWS::Lambda::Function": 3,
    "AWS::Lambda::Permission": 1,
    "AWS::Logs::LogGroup": 4,
    "AWS::SQS::Queue": 4,
    "AWS::SQS::QueuePolicy": 4,
}


def distributed(*arguments, backend=("--backend", "aws")):
    command = [sys.argv[1], *backend, "--name", NAME, *arguments]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    # Of those that ask AWS, one line with what was asked. Anything else is a warning.
    expect(f"distributed {arguments[0]}: lines on standard error", len(backend) // 2, len(ended.stderr.splitlines()))
    return ended.stdout


def expect(what, expected, found):
    if found != expected:
        sys.exit(f"check-templates: {what}: expected {expected!r}, got {found!r}")
    print(f"    {what}: {found}")


def client(service):
    return boto3.client(service, endpoint_url=ENDPOINT)


def main():
    template = distributed(
        "template", "--format", "cloudformation", "--api", "iam", "--access-log", "7", backend=()
    )
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    s3 = client("s3")
    s3.create_bucket(Bucket=NAME)
    s3.put_object(Bucket=NAME, Key="adder.zip", Body=code.getvalue())

    stacks = client("cloudformation")
    parameters = {"CodeBucket": NAME, "CodeKey": "adder.zip", "Receive": "false"}
    stacks.create_stack(
        StackName=NAME,
        TemplateBody=template,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    try:
        check(stacks, yaml.safe_load(template))
    finally:
        stacks.delete_stack(StackName=NAME)
        stacks.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    queues = client("sqs").list_queues(QueueNamePrefix=NAME).get("QueueUrls", [])
    expect("queues after the stack was deleted", 0, len(queues))


def check(stacks, template):
    made = {}
    for resource in stacks.describe_stack_resources(StackName=NAME)["StackResources"]:
        expect(resource["LogicalResourceId"], "CREATE_COMPLETE", resource["ResourceStatus"])
        kind = resource["ResourceType"]
        made[kind] = made.get(kind, 0) + 1
    expect("resources", EXPECTED, dict(sorted(made.items())))

    functions = client("lambda")
    for stage in ["times_two", "sum", "api"]:
        function = functions.get_function_configuration(FunctionName=f"{NAME}--{stage}")
        variables = {"CATCHMENT_DEPLOYMENT": NAME, "CATCHMENT_STAGE": stage}
        expect(f"{stage}: environment", variables, function["Environment"]["Variables"])
    for stage in ["times_two", "sum"]:
        (mapping,) = functions.list_event_source_mappings(FunctionName=f"{NAME}--{stage}")["EventSourceMappings"]
        # Its state is not to be read: the emulator says `Enabled` of every mapping that a stack makes, and heeds the setting.
        expect(f"{stage}: mapping", (["ReportBatchItemFailures"], 100), (
            mapping["FunctionResponseTypes"], mapping["ScalingConfig"]["MaximumConcurrency"],
        ))

    # The worker serves the stages; nobody has called `provision`.
    worker = subprocess.Popen([sys.argv[1], "--backend", "aws", "--name", NAME, "worker"])
    try:
        run = distributed("submit", "1", "2", "3", "4", "5").strip()
        expect("distributed result", "30\n", distributed("result", run))
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    let_items_expire(template)
    changes = distributed("provision").splitlines()
    expect("what provision looks at", 6, len(changes))
    for change in changes:
        resource, _, action = change.rpartition(": ")
        expect(f"provision, {re.sub(NAME, 'NAME', resource)}", "unchanged", action)


def let_items_expire(template):
    """Does what the emulator's CloudFormation leaves out of a table: its TimeToLiveSpecification."""
    tables = client("dynamodb")
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::DynamoDB::Table":
            properties = resource["Properties"]
            tables.update_time_to_live(
                TableName=properties["TableName"], TimeToLiveSpecification=properties["TimeToLiveSpecification"]
            )


main()
