"""Plays Lambda's event source mappings: takes messages from queues, gives them to functions, and deletes those that did not fail.

As the real ones: a batch of up to ten messages and 6 MB is one invocation. If it answers with `batchItemFailures`, those
messages stay where they are, and come back when they become visible. An answer that cannot be read, or an invocation that fails
(a crash, an error, a timeout), is the failure of the whole batch. `--no-report` plays a mapping without
`ReportBatchItemFailures`. Needs boto3.

    python event_source_mapping.py --invoke http://127.0.0.1:PORT --seconds TIMEOUT QUEUE=FUNCTION...
"""

import argparse
import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# What an event may have for an invocation that is answered.
MOST_BYTES = 6_000_000
# Beyond the function's timeout: a start of the function, and the answer's way.
GRACE_SECONDS = 30


class Failed(Exception):
    """An invocation has failed: all of its batch comes back."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def attribute(value: dict) -> dict:
    record = {"dataType": value["DataType"], "stringListValues": [], "binaryListValues": []}
    if "StringValue" in value:
        record["stringValue"] = value["StringValue"]
    return record


def record(message: dict, arn: str) -> dict:
    """A received message as Lambda writes it."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {name: attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message.get("MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def batches(records: list[dict]) -> list[list[dict]]:
    """Cut where an event would be too large."""
    cut, size = [], MOST_BYTES
    for one in records:
        own = len(json.dumps(one)) + 2
        if size + own > MOST_BYTES:
            cut.append([])
            size = len('{"Records":[]}')
        cut[-1].append(one)
        size += own
    return cut


def invoke(address: str, function: str, event: dict, seconds: float):
    """The function's answer, from the interface that `aws lambda invoke` calls."""
    url = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=seconds + GRACE_SECONDS)
    try:
        path = f"/2015-03-31/functions/{function}/invocations"
        connection.request("POST", path, json.dumps(event), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as problem:
        raise Failed(f"no answer: {problem!r}") from problem
    finally:
        connection.close()
    try:
        value = json.loads(body) if body else None
    except ValueError as problem:
        raise Failed(f"an answer that is no JSON: {body[:200]!r}") from problem
    if answer.status != 200 or answer.headers.get("X-Amz-Function-Error"):
        error = value if isinstance(value, dict) else {}
        raise Failed(f"{error.get('errorType', answer.status)}: {error.get('errorMessage', value)}")
    return value


def failures(answer, sent: list[dict]) -> set[str]:
    """The ids of the messages that stay, by the rules of `ReportBatchItemFailures`."""
    if answer is None or answer == {}:
        return set()
    listed = answer.get("batchItemFailures", []) if isinstance(answer, dict) else "?"
    if listed is None:
        return set()
    if not isinstance(listed, list):
        raise Failed(f"not an answer of this kind: {json.dumps(answer)[:200]}")
    ids = [one.get("itemIdentifier") if isinstance(one, dict) else None for one in listed]
    unknown = [one for one in ids if one not in {record["messageId"] for record in sent}]
    if unknown:
        raise Failed(f"batchItemFailures with an id that was not sent: {unknown[0]!r}")
    return set(ids)


class Mapping:
    def __init__(self, options: argparse.Namespace, queue: str, function: str) -> None:
        self.options = options
        self.queue = queue
        self.function = function
        # The client itself asks again what got no answer. A receive that was answered too late comes back in time.
        self.sqs = boto3.client("sqs", config=Config(retries={"mode": "standard", "max_attempts": 3}))
        self.url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["QueueArn", "VisibilityTimeout"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        self.arn = found["QueueArn"]
        visibility = float(found["VisibilityTimeout"])
        if visibility < 6 * options.seconds:
            sys.exit(
                f"queue {queue} has a visibility timeout of {visibility:g} s, and Lambda asks for six times the function's timeout "
                f"of {options.seconds:g} s: provision with a longer one, or start with a shorter --timeout"
            )

    def run(self) -> None:
        """Never ends."""
        while True:
            try:
                received = self.sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=self.options.batch_size,
                    WaitTimeSeconds=20,
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
                records = [record(message, self.arn) for message in received.get("Messages", [])]
                for batch in batches(records):
                    self.deliver(batch)
            except (BotoCoreError, ClientError) as problem:
                say(f"{self.queue}: {problem}: trying again in a second")
                time.sleep(1)

    def deliver(self, sent: list[dict]) -> None:
        started = time.monotonic()
        counts = ",".join(sorted({one["attributes"].get("ApproximateReceiveCount", "?") for one in sent}))
        what = f"{self.queue} -> {self.function}: {len(sent)} record{'s' * (len(sent) > 1)}, receive count {counts}"
        try:
            answer = invoke(self.options.invoke, self.function, {"Records": sent}, self.options.seconds)
            back = failures(answer, sent) if self.options.report else set()
            outcome = f"done {len(sent) - len(back)}, batchItemFailures {len(back)}"
        except Failed as problem:
            back = {one["messageId"] for one in sent}
            outcome = f"invocation failed, all stay: {problem}"
        done = [one for one in sent if one["messageId"] not in back]
        if done:
            entries = [{"Id": str(at), "ReceiptHandle": one["receiptHandle"]} for at, one in enumerate(done)]
            left = self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries).get("Failed", [])
            # SQS takes no notice of what a function has moved to the dead-letter queue by itself; emulators do.
            left = [one for one in left if one.get("Code") != "ReceiptHandleIsInvalid"]
            if left:
                outcome += f", {len(left)} could not be deleted and come back: {left[0].get('Message')}"
        say(f"{what}: {outcome} ({time.monotonic() - started:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--invoke", required=True, metavar="URL")
    parser.add_argument("--seconds", required=True, type=float, help="the functions' timeout")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=2, help="invocations at once, of each function")
    parser.add_argument("--no-report", dest="report", action="store_false")
    parser.add_argument("mappings", nargs="+", metavar="QUEUE=FUNCTION")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    mappings = [Mapping(options, *pair.split("=", 1)) for pair in options.mappings]
    threads = [threading.Thread(target=mapping.run, daemon=True) for mapping in mappings for _ in range(options.concurrency)]
    for thread in threads:
        thread.start()
    say(f"reading {', '.join(mapping.arn for mapping in mappings)}")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
