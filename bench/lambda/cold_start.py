"""How long a fresh process of a Lambda function takes until its first record is done.

Each process gets a map record from the emulator's queue, through a runtime API of three endpoints in this program, and writes
to the emulator's tables. Measured are, from just before the process is started: until it asks for its first invocation (init),
and until its answer is here (first record). Needs boto3.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

STAGE = "times_two"
TIMEOUT_SECONDS = 30


class Invocation(BaseHTTPRequestHandler):
    """Lambda's runtime API for one invocation: `next`, `response`, `error`."""

    protocol_version = "HTTP/1.1"
    event = b""
    asked: float | None = None
    answered: float | None = None
    answer = b""
    done = threading.Event()

    def do_GET(self) -> None:
        if Invocation.asked is not None:
            # There is no second one.
            Invocation.done.wait()
            self.close_connection = True
            return
        Invocation.asked = time.perf_counter()
        deadline = int((time.time() + TIMEOUT_SECONDS) * 1000)
        self.reply(
            200,
            Invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                "Lambda-Runtime-Deadline-Ms": str(deadline),
                "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:us-east-1:000000000000:function:{STAGE}",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        Invocation.answered = time.perf_counter()
        Invocation.answer = body if self.path.endswith("/response") else b"error: " + body
        Invocation.done.set()
        self.reply(202, b"{}", {})

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # The process has been ended.

    def log_message(self, *_) -> None:
        pass


def record(message: dict, arn: str) -> dict:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def measure(function: str, deployment: str, event: dict) -> tuple[float, float]:
    Invocation.event = json.dumps(event).encode()
    Invocation.asked = Invocation.answered = None
    Invocation.done.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Invocation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} | {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": STAGE,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "CATCHMENT_STAGE": STAGE,
        "CATCHMENT_DEPLOYMENT": deployment,
    }
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen([function], env=variables, stdin=subprocess.DEVNULL, stderr=log)
        in_time = Invocation.done.wait(TIMEOUT_SECONDS)
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
        answer = json.loads(Invocation.answer) if in_time and Invocation.answer.startswith(b"{") else None
        if answer != {"batchItemFailures": []}:
            log.seek(0)
            said = log.read().decode(errors="replace")
            sys.exit(f"cold-start: the record was not done: {Invocation.answer!r}, and the log says: {said}")
    return Invocation.asked - started, Invocation.answered - started


def size(function: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        stripped = pathlib.Path(folder) / "stripped"
        subprocess.run(["strip", "-o", stripped, function], check=True)
        zipped = pathlib.Path(folder) / "bootstrap.zip"
        # Lambda takes a zip with a program called bootstrap.
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(stripped, "bootstrap")
        sizes = [("as built", pathlib.Path(function)), ("stripped", stripped), ("stripped and zipped", zipped)]
        return ", ".join(f"{path.stat().st_size / 1e6:.1f} MB {what}" for what, path in sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--function", required=True)
    parser.add_argument("--distributed", required=True)
    parser.add_argument("--processes", type=int, default=10)
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes takes a number from 1")
    deployment = f"cold-{uuid.uuid4().hex[:8]}"

    def distributed(*arguments: str) -> str:
        command = [options.distributed, "--backend", "aws", "--name", deployment, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout

    distributed("provision")
    # The first one is not counted: it finds the file system's cache cold.
    count = options.processes + 1
    numbers = [str(number) for number in range(count)]
    run = distributed("submit", *numbers, "--packet-size", "1").strip()
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{deployment}-{STAGE}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    times = []
    for _ in range(count):
        message = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, MessageSystemAttributeNames=["All"])["Messages"][0]
        times.append(measure(options.function, deployment, {"Records": [record(message, arn)]}))
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    # Every record counted: what is left is the reduction.
    with subprocess.Popen(
        [options.distributed, "--backend", "aws", "--name", deployment, "worker", "--stages", "sum"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        result = distributed("result", run).strip()
        worker.terminate()
    expected = str(2 * sum(range(count)))
    if result != expected:
        sys.exit(f"cold-start: the result of the records is {result}, and should be {expected}")
    distributed("deprovision", deployment)

    print(f"binary: {size(options.function)}")
    for what, column in (("init (start to asking for the first invocation)", 0), ("first record (start to its answer)", 1)):
        values = [1000 * pair[column] for pair in times[1:]]
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{what}: median {statistics.median(values):.0f} ms of {len(values)} processes, {spread} ms")
    first = times[0]
    print(f"the process before them, not counted: init {1000 * first[0]:.0f} ms, first record {1000 * first[1]:.0f} ms")


if __name__ == "__main__":
    main()
