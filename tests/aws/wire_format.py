"""Holds what is on queues and in tables against docs/wire-format.schema.json, for wire_format.rs and python.rs.

    wire_format.py lines DEFINITION      of each line of standard input, bytes in hexadecimal: `ok`, or what is wrong
    wire_format.py queue QUEUE           shows and checks every message that waits; they stay there
    wire_format.py dead QUEUE            the same for dead letters, with the reasons beside them
    wire_format.py tables DEPLOYMENT     shows and checks every item of both tables
    wire_format.py page FILE             checks the examples of a page: each ```json block behind `<!-- DEFINITION -->`

Whatever does not fit ends it with exit code 1.
"""

import base64
import json
import pathlib
import re
import sys
from decimal import Decimal

import jsonschema

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "wire-format.schema.json").read_text())


def unique(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def no_number(text):
    raise ValueError(f"{text} is no JSON")


def strictly(text):
    """What a schema cannot say: integers are written without a point, an exponent or the sign of a zero, and text is Unicode."""
    value = json.loads(
        text,
        object_pairs_hook=unique,
        parse_constant=no_number,
        parse_float=Decimal,
        parse_int=lambda digits: Decimal(0) if digits == "-0" else int(digits),
    )
    json.dumps(value, ensure_ascii=False, default=str).encode()
    return value


def problems(value, definition):
    schema = SCHEMA | {"$ref": f"#/$defs/{definition}"}
    found = list(jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).iter_errors(value))
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def contents(item):
    """JSON texts in the attributes of an item, which a validator of schemas does not open, and what they have to be."""
    for name, attribute in item.items():
        if name == "attempts":
            yield from (("attempt", text["S"]) for text in attribute["L"])
        elif name == "record":
            yield "runRecord", attribute["S"]
        elif (name in ("value", "result") or re.fullmatch("s[0-9]+", name)) and "S" in attribute:
            yield "packet", attribute["S"]


def check(value, definition, shown):
    wrong = problems(value, definition)
    if not wrong and definition.endswith("Item"):
        for inner, text in contents(value):
            wrong += problems(strictly(text), inner)
    print(json.dumps(shown, default=str))
    for problem in wrong:
        print(f"{definition}: {problem}", file=sys.stderr)
    return not wrong


def text_of(body):
    return base64.b64decode(body[7:]) if body.startswith("base64:") else body


def lines(definition):
    for line in sys.stdin:
        try:
            wrong = problems(strictly(bytes.fromhex(line).decode()), definition)
            print(wrong[0].splitlines()[0] if wrong else "ok")
        except (ValueError, RecursionError) as error:
            print(str(error).splitlines()[0] or type(error).__name__)
    return True


def queue(name, dead=False):
    import boto3

    sqs = boto3.client("sqs")
    url, received, good = sqs.get_queue_url(QueueName=name)["QueueUrl"], [], True
    ask = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "VisibilityTimeout": 60}
    while messages := sqs.receive_message(**ask, MessageAttributeNames=["All"]).get("Messages", []):
        received += messages
    for message in received:
        if dead:
            text = message["MessageAttributes"]["reason"]["StringValue"]
            good &= check(strictly(text), "reason", {"body": message["Body"], "reason": text})
        else:
            good &= check(strictly(text_of(message["Body"])), "message", message["Body"])
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return good


def tables(deployment):
    import boto3

    pages, good = boto3.client("dynamodb").get_paginator("scan"), True
    for table, definition in (("scratchpad", "scratchpadItem"), ("results", "resultsItem")):
        for page in pages.paginate(TableName=f"{deployment}-{table}"):
            for item in page["Items"]:
                good &= check(item, definition, item)
    return good


def page(file):
    text = pathlib.Path(file).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- (\w+) -->\n+```json\n(.*?)```", text, re.DOTALL)
    return len(blocks) > 0 and all([check(strictly(text), definition, definition) for definition, text in blocks])


if __name__ == "__main__":
    command, argument = sys.argv[1:]
    commands = {"lines": lines, "queue": queue, "dead": lambda name: queue(name, dead=True), "tables": tables, "page": page}
    sys.exit(0 if commands[command](argument) else 1)
