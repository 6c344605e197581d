"""One execution environment of AWS Lambda, around one process of a function: what `cargo lambda watch` leaves out.

`cargo lambda watch` plays the runtime API without a function's timeout: it tells each invocation a deadline in 1970 and ends
none. This stands between the two. To the function it is the runtime API, with the true deadline; at the deadline, or when the
function has ended by itself, it fails the invocation as Lambda does and starts a new process for the next one. Between
invocations the process is frozen. Standard library only.

    python lambda_environment.py FUNCTION     in the environment that `cargo lambda watch` gives, and LAMBDA_LOCAL_TIMEOUT
                                              (seconds) and LAMBDA_LOCAL_RUN (a folder: who runs is written there)
"""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from processes import identity

API = "/2018-06-01/runtime"
# How long Lambda lets a function take to ask for its first invocation.
INIT_SECONDS = 10
# What a function finds in Lambda. Nothing else of this machine's environment reaches it.
PASSED_ON = ("AWS_", "CATCHMENT_", "RUST_", "ADDER_")
PASSED_ON_TOO = ("PATH", "LANG", "LD_LIBRARY_PATH")
# What `cargo lambda watch` adds, and Lambda does not have for such functions.
NOT_PASSED_ON = ("AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_INSTANCE_ID")


def say(text: str) -> None:
    print(f"{os.environ['AWS_LAMBDA_FUNCTION_NAME']}: {text}", file=sys.stderr, flush=True)


class Gone(Exception):
    """`cargo lambda watch` does not answer any more."""


class Upstream:
    """The runtime API of `cargo lambda watch`, over one connection, as functions have it.

    `cargo lambda watch` says thank you for an answer before it has read it: closing the connection then would take it away.
    """

    def __init__(self, address: str) -> None:
        url = urllib.parse.urlsplit(address if "//" in address else f"http://{address}")
        self.path = url.path
        self.connection = http.client.HTTPConnection(url.hostname, url.port)

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        try:
            self.connection.request(method, self.path + API + path, body, headers or {})
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as problem:
            raise Gone(problem) from problem

    def next(self):
        """The next invocation: its headers and its event. Waits until there is one."""
        while True:
            status, headers, event = self.call("GET", "/invocation/next")
            if status == 200:
                return headers, event
            # No content, or a poll that has lasted too long.
            time.sleep(0.1)

    def fail(self, request_id: str, error_type: str, message: str) -> None:
        error = {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {message}"}
        headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": error_type}
        self.call("POST", f"/invocation/{request_id}/error", json.dumps(error).encode(), headers)


class Process:
    """One process of the function, and what it has said since."""

    def __init__(self, environment: "Environment") -> None:
        self.events: queue.Queue = queue.Queue()
        self.invocations: queue.Queue = queue.Queue()
        self.born = time.monotonic()
        self.record = f"{os.environ['LAMBDA_LOCAL_RUN']}/{uuid.uuid4().hex}.pid"
        variables = {
            name: value
            for name, value in os.environ.items()
            if (name.startswith(PASSED_ON) or name in PASSED_ON_TOO) and name not in NOT_PASSED_ON
        }
        variables["AWS_LAMBDA_RUNTIME_API"] = environment.address
        variables["TZ"] = ":UTC"
        self.child = subprocess.Popen([environment.function], env=variables, stdin=subprocess.DEVNULL)
        with open(self.record, "w") as file:
            file.write(identity(self.child.pid) or "")
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        status = self.child.wait()
        os.unlink(self.record)
        self.invocations.put(None)
        self.events.put(("ended", status))

    def send(self, number: int) -> None:
        if self.child.poll() is None:
            self.child.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.child.wait()

    def wait(self, kinds: tuple[str, ...], seconds: float | None):
        """The next event of these kinds, or its end; None once the time is over."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                event = self.events.get(timeout=None if end is None else max(0, end - time.monotonic()))
            except queue.Empty:
                return None
            if event[0] in kinds or event[0] == "ended":
                return event


class Environment:
    def __init__(self, function: str, timeout: float) -> None:
        self.function = function
        self.timeout = timeout
        self.upstream = Upstream(os.environ["AWS_LAMBDA_RUNTIME_API"])
        self.process: Process | None = None
        self.frozen = False
        environment = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                process = environment.process
                process.events.put(("ready", None))
                invocation = process.invocations.get()
                if invocation is None:
                    self.close_connection = True
                else:
                    self.answer(200, invocation[1], invocation[0])

            def do_POST(self) -> None:
                body = self.body()
                process = environment.process
                parts = self.path.removeprefix(API).strip("/").split("/")
                if parts[0] == "init":
                    process.events.put(("init-error", body))
                else:
                    process.events.put((parts[-1], (body, dict(self.headers))))
                self.answer(202, b"{}", {})

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            def answer(self, status: int, body: bytes, headers: dict) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    pass  # The function has ended.

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def start(self) -> str | None:
        """A process that waits for an invocation, or the reason why there is none."""
        self.frozen = False
        self.process = Process(self)
        event = self.process.wait(("ready", "init-error"), INIT_SECONDS)
        match event:
            case ("ready", _):
                say(f"pid {self.process.child.pid} ready after {time.monotonic() - self.process.born:.3f} s")
                return None
            case ("init-error", body):
                problem = f"init failed: {body.decode(errors='replace')}"
            case ("ended", status):
                problem = f"Runtime exited with {describe(status)} before it asked for an invocation"
            case _:
                problem = f"init took more than {INIT_SECONDS} seconds"
        self.process.kill()
        self.process = None
        return problem

    def freeze(self) -> None:
        self.process.send(signal.SIGSTOP)
        self.frozen = True

    def invoke(self, headers, event: bytes) -> None:
        request_id = headers["lambda-runtime-aws-request-id"]
        if self.process is not None and self.process.child.poll() is not None:
            say(f"pid {self.process.child.pid} ended between two invocations: {describe(self.process.child.returncode)}")
            self.process = None
        problem = None if self.process is not None else self.start()
        if problem is not None:
            say(problem)
            return self.upstream.fail(request_id, "Runtime.ExitError", problem)
        process = self.process
        if self.frozen:
            process.send(signal.SIGCONT)
            self.frozen = False
        started = time.monotonic()
        end = started + self.timeout
        say(f"pid {process.child.pid} START {request_id}, deadline in {self.timeout:g} s")
        passed_on = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:"
            + os.environ["AWS_LAMBDA_FUNCTION_NAME"],
            "Lambda-Runtime-Trace-Id": headers.get("lambda-runtime-trace-id", ""),
        }
        process.invocations.put((passed_on, event))
        answer = process.wait(("response", "error"), self.timeout)
        match answer:
            case ("response" | "error" as kind, (body, sent)):
                wanted = ("content-type", "lambda-runtime-function-error-type")
                sent = {name: value for name, value in sent.items() if name.lower() in wanted}
                say(f"pid {process.child.pid} END {request_id}, {kind} after {time.monotonic() - started:.3f} s")
                self.upstream.call("POST", f"/invocation/{request_id}/{kind}", body, sent)
                # What a function does behind its answer and before it asks for the next one counts as well.
                match process.wait(("ready",), max(0, end - time.monotonic())):
                    case ("ready", _):
                        self.freeze()
                    case ("ended", status):
                        say(f"pid {process.child.pid} ended behind its answer: {describe(status)}")
                        self.process = None
                    case _:
                        self.cut_off(request_id)
            case ("ended", status):
                self.process = None
                problem = f"Runtime exited with {describe(status)}"
                say(f"pid {process.child.pid}: {problem}")
                self.upstream.fail(request_id, "Runtime.ExitError", problem)
            case _:
                self.cut_off(request_id)
                self.upstream.fail(request_id, "Sandbox.Timedout", f"Task timed out after {self.timeout:.2f} seconds")

    def cut_off(self, request_id: str) -> None:
        say(f"pid {self.process.child.pid} killed: invocation {request_id} timed out after {self.timeout:g} seconds")
        self.process.kill()
        self.process = None

    def run(self) -> None:
        # Lambda, too, starts a process for an invocation, not before.
        while True:
            self.invoke(*self.upstream.next())

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()


def describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def main() -> int:
    environment = Environment(sys.argv[1], float(os.environ["LAMBDA_LOCAL_TIMEOUT"]))

    def end(*_) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        environment.run()
    except Gone:
        say("cargo lambda watch has ended")
    finally:
        environment.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
