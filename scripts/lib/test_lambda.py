"""What scripts/test-lambda tests, with the functions running: HTTP request -> functions and queues -> result. Needs boto3.

Nothing is waited for by the clock: a condition is asked again until it holds, or fails the test when its time is over.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator

import boto3

STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.2f} s] {text}", flush=True)


def check(holds: bool, problem: str) -> None:
    if not holds:
        sys.exit(f"test-lambda: {problem}")


def until(what: str, ask: Callable, seconds: float = 30):
    """The first answer that is not None or False."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        check(time.monotonic() < end, f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


class Log:
    """A log that grows. What it says is told as it comes."""

    all: list["Log"] = []

    def __init__(self, file: pathlib.Path, shown: str) -> None:
        self.file = file
        self.shown = re.compile(shown)
        self.read = 0
        self.lines: list[str] = []
        Log.all.append(self)

    @classmethod
    def tell(cls) -> None:
        for log in cls.all:
            text = log.file.read_bytes()[log.read :]
            text = text[: text.rfind(b"\n") + 1]
            log.read += len(text)
            lines = text.decode(errors="replace").splitlines()
            log.lines += lines
            for line in filter(log.shown.search, lines):
                say(f"    {line.strip()}")

    def place(self) -> int:
        """What has been said so far ends here."""
        Log.tell()
        return len(self.lines)

    def until(self, pattern: str, since: int, seconds: float = 30) -> re.Match:
        """The first line behind a place with such a text."""

        def ask() -> re.Match | None:
            Log.tell()
            matches = (re.search(pattern, line) for line in self.lines[since:])
            return next(filter(None, matches), None)

        return until(f"{self.file.name} says /{pattern}/", ask, seconds)


class Test:
    def __init__(self, options: argparse.Namespace) -> None:
        self.url = urllib.parse.urlsplit(os.environ["LAMBDA_LOCAL_URL"])
        self.deployment = os.environ["CATCHMENT_DEPLOYMENT"]
        self.sqs = boto3.client("sqs")
        self.mappings = Log(options.run / "mappings.log", " -> ")
        self.functions = Log(options.run / "watch.log", r"killed|exited|ended|deadline is near|buried|handed back")
        self.mappings_pid = int((options.run / "mappings.pid").read_text().split()[0])
        self.dynamodb_pid = options.dynamodb

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        connection.request(method, self.url.path + path, body, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        is_json = answer.headers.get("Content-Type") == "application/json"
        check(is_json, f"{method} {path}: {answer.status} is no JSON: {text[:200]}")
        return answer.status, json.loads(text)

    def post(self, array: list[int]) -> str:
        status, answer = self.call("POST", "/adder", json.dumps(array).encode())
        shown = array if len(array) < 10 else f"of {len(array)} items"
        say(f"POST /adder {shown} -> {status} {answer['status']} {answer.get('arrayId')}")
        check(status == 200 and answer["status"] == "success" and answer["array"] == array, f"POST of {array}: {status} {answer}")
        return answer["arrayId"]

    def end_of(self, run: str, seconds: float = 30) -> dict:
        def ask() -> dict | None:
            Log.tell()
            status, answer = self.call("GET", f"/adder/{run}")
            check(status == 200, f"GET /adder/{run}: {status} {answer}")
            return answer if answer["status"] in ("done", "failed") else None

        answer = until(f"run {run} ends", ask, seconds)
        say(f"GET /adder/{run} -> {json.dumps(answer)}")
        return answer

    def result(self, run: str, expected: int, seconds: float = 30) -> None:
        answer = self.end_of(run, seconds)
        check(answer["status"] == "done" and answer["result"] == expected, f"expected the result {expected}: {answer}")

    def queue(self, name: str) -> str:
        return self.sqs.get_queue_url(QueueName=f"{self.deployment}--{name}")["QueueUrl"]

    def dead_letter(self, body: Callable[[str], bool]) -> str:
        """Takes the dead letter with such a body from its queue, and gives its reason."""

        def ask() -> str | None:
            Log.tell()
            url = self.queue("times_two--dead")
            options = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "VisibilityTimeout": 1}
            for message in self.sqs.receive_message(QueueUrl=url, **options).get("Messages", []):
                if body(message["Body"]):
                    self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                    return message["MessageAttributes"]["reason"]["StringValue"]
            return None

        return until("the message is in the dead-letter queue", ask)

    def nothing_left(self) -> None:
        """Every message was deleted: none waits to come back."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]

        def ask() -> bool:
            Log.tell()
            urls = [self.queue(stage) for stage in ("times_two", "sum")]
            found = [self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] for url in urls]
            return all(int(count) == 0 for counts in found for count in counts.values())

        until("the queues are empty", ask)

    @contextlib.contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    # ---- what is tested ----------------------------------------------------------------------------------------------------------

    def adds_up(self) -> None:
        self.result(self.post([1, 2, 3, 4, 5]), 30)
        self.result(self.post([]), 0)
        self.result(self.post(list(range(100))), 2 * sum(range(100)))
        self.nothing_left()

    def refuses(self) -> None:
        bodies = {
            "no body": None,
            "an empty body": b" \n",
            "malformed": b"[1, 2",
            "no text": b"\xff\xfe\x00",
            "an object": b'{"array": [1]}',
            "no number": b'[1, "two"]',
            "a fraction": b"[1.5]",
            "more than 64 bits": b"[9223372036854775808]",
            "nested": b"[" * 100_000,
            "huge": b"[" + b"1," * 2_500_000 + b"1]",
        }
        for what, body in bodies.items():
            status, answer = self.call("POST", "/adder", body)
            say(f"POST /adder, {what} -> {status} {json.dumps(answer)}")
            check(status == 400 and answer["status"] == "error", f"POST of {what}: expected a 400: {status} {answer}")
            check(len(answer["message"]) in range(10, 300), f"POST of {what}: expected a reason: {answer}")
        status, answer = self.call("GET", "/adder/nobody-has-this-one")
        say(f"GET /adder/nobody-has-this-one -> {status} {json.dumps(answer)}")
        check(status == 404, f"GET of an unknown run: expected a 404: {answer}")

    def poison(self) -> None:
        run = self.post([1, 9223372036854775807])
        answer = self.end_of(run)
        error = "9223372036854775807 times two is more than 64 bits hold"
        check(answer["status"] == "failed" and error in answer["message"], f"expected a failed run with its error: {answer}")
        reason = self.dead_letter(lambda body: run in body)
        say(f"    dead letter, with the reason {reason}")
        check(error in reason, f"expected the error as the dead letter's reason: {reason}")
        body = "not a packet at all"
        self.sqs.send_message(QueueUrl=self.queue("times_two"), MessageBody=body)
        say(f"sent to the queue by hand: {body!r}")
        reason = self.dead_letter(lambda found: found == body)
        say(f"    dead letter, with the reason {reason}")
        check("JSON" in reason or "expected" in reason, f"expected the parse error as the dead letter's reason: {reason}")
        self.nothing_left()

    def no_answer(self) -> None:
        """The table does not answer: the function must be done before its deadline all the same, with all records to come back."""
        with self.tables_stopped([1, 2, 3]) as (run, since):
            self.mappings.until(r"times_two: 3 records, receive count 1: done 0, batchItemFailures 3", since)
        self.result(run, 12)
        check(not self.cut(), f"the function was killed, and should have been done in time: {self.cut()}")
        self.nothing_left()

    def ends(self, how: str, kill: signal.Signals, expected: str) -> None:
        """The process ends in the middle of an invocation: nobody hands anything back, and the visibility timeout does."""
        since = self.functions.place()
        with self.tables_stopped([21]) as (run, place):
            # Without DynamoDB the invocation cannot be over before this.
            pid = int(self.functions.until(r"times_two: pid (\d+) START", since)[1])
            os.kill(pid, kill)
            say(f"times_two (pid {pid}) {how}")
            self.mappings.until(rf"times_two: 1 record, receive count 1: invocation failed, all stay: {expected}", place)
        self.mappings.until(r"times_two: 1 record, receive count 2: done 1", place)
        self.result(run, 42)
        self.nothing_left()

    @contextlib.contextmanager
    def tables_stopped(self, array: list[int]) -> Iterator[tuple[str, int]]:
        """DynamoDB does not answer, from before a submitted array's first invocation on. Gives the run, and where the log is."""
        since = self.mappings.place()
        with contextlib.ExitStack() as stack:
            with self.stopped(self.mappings_pid):
                run = self.post(array)
                stack.enter_context(self.stopped(self.dynamodb_pid))
                say("DynamoDB is stopped")
            yield run, since
        say("DynamoDB goes on")

    def handed_back(self) -> None:
        """A batch takes longer than the function may: each invocation does a part, and puts the rest back on the queue at once."""
        since = self.mappings.place()
        numbers = list(range(30))
        self.result(self.post(numbers), 2 * sum(numbers))
        check(not self.cut(), f"the function was killed, and should have been done in time: {self.cut()}")
        # What is put back comes as another message. Had nothing been, it would have been as many records as numbers.
        lines = self.mappings.lines[since:]
        records = [int(found[1]) for found in (re.search(r"-> times_two: (\d+) records?,", line) for line in lines) if found]
        say(f"{sum(records)} records for {len(numbers)} numbers, in {len(records)} invocations")
        check(sum(records) > len(numbers), "nothing was handed back: the function was not too slow for its deadline")
        self.nothing_left()

    def cut(self) -> list[str]:
        """What functions did not end by themselves."""
        Log.tell()
        return [line for line in self.functions.lines if "killed" in line or "exited" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=pathlib.Path, help="where scripts/lambda-local writes its logs")
    parser.add_argument("--dynamodb", required=True, type=int, help="the process that has the tables")
    parser.add_argument("--slow", action="store_true", help="the functions are too slow for their deadline")
    options = parser.parse_args()
    test = Test(options)
    timed_out = r"Sandbox.Timedout: .*Task timed out after 2\.00 seconds"
    steps = {
        "an array becomes its doubled sum": test.adds_up,
        "what is no array of integers is a 400 with a reason": test.refuses,
        "what cannot be processed is a dead letter with its error": test.poison,
        "tables that do not answer cost no more than the attempt": test.no_answer,
        "a function that hangs past its deadline is killed": lambda: test.ends("hangs", signal.SIGSTOP, timed_out),
        "a function crashes": lambda: test.ends("is killed", signal.SIGKILL, "Runtime.ExitError: .*signal SIGKILL"),
    }
    if options.slow:
        steps = {"work that would outlast the deadline is handed back in time": test.handed_back}
    for what, step in steps.items():
        say(f"==> {what}")
        step()
    say("all passed")


if __name__ == "__main__":
    main()
