"""The processes of scripts/lambda-local: `cargo lambda watch` with the functions, and the event source mappings. Standard
library only.

`cargo lambda watch` starts binaries of a package, one for each function. The adder's functions are one program, an example, so
the binaries are a launcher that gives way to lambda_environment.py, which starts the program.
"""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse

from aws_local import free_port
from processes import identity

HERE = pathlib.Path(__file__).resolve().parent
FUNCTIONS = ("api", "times_two", "sum")
# `cargo lambda watch` and the mappings; the functions' own processes have files of other names.
PARTS = ("watch", "mappings")
START_SECONDS = 120

MANIFEST = """\
[package]
name = "functions"
version = "0.0.0"
edition = "2024"

[workspace]
"""
FUNCTION = """
[[bin]]
name = "{name}"
path = "{name}.rs"

[package.metadata.lambda.bin.{name}.env]
CATCHMENT_STAGE = "{name}"
"""
LAUNCHER = """\
//! Gives way to a function's execution environment.

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let [python, environment, function] = ["PYTHON", "ENVIRONMENT", "FUNCTION"].map(|name| {
        let name = format!("LAMBDA_LOCAL_{name}");
        std::env::var_os(&name).unwrap_or_else(|| panic!("{name} is not set: scripts/lambda-local does it"))
    });
    let error = Command::new(&python).arg(environment).arg(function).exec();
    panic!("{} does not start: {error}", python.display());
}
"""


def say(text: str) -> None:
    print(f"lambda-local: {text}", file=sys.stderr, flush=True)


class Local:
    def __init__(self, base: pathlib.Path) -> None:
        self.base = base
        self.run = base / "run"

    def alive(self, record: pathlib.Path) -> int | None:
        """The id of a process that was written down and still is the one that it was."""
        try:
            known = record.read_text().strip()
        except OSError:
            return None
        pid = int(known.split()[0]) if known else 0
        return pid if pid and identity(pid) == known else None

    def part(self, name: str) -> int | None:
        return self.alive(self.run / f"{name}.pid")

    def is_up(self) -> bool:
        """The url file is written once everything has answered."""
        return (self.run / "url").exists() and all(self.part(name) for name in PARTS)

    def url(self) -> str:
        return (self.run / "url").read_text().strip()

    def launch(self, name: str, command: list[str], folder: pathlib.Path, variables: dict[str, str]) -> None:
        with open(self.run / f"{name}.log", "wb") as log:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.run / f"{name}.pid").write_text(identity(child.pid) or "")

    def package(self) -> pathlib.Path:
        folder = self.base / "functions"
        folder.mkdir(exist_ok=True)
        manifest = MANIFEST + "".join(FUNCTION.format(name=name) for name in FUNCTIONS)
        texts = {"Cargo.toml": manifest} | {f"{name}.rs": LAUNCHER for name in FUNCTIONS}
        for name, text in texts.items():
            file = folder / name
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
        return folder

    def start(self, options: argparse.Namespace) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(parents=True)
        folder = self.package()
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        variables = {
            "CARGO_TARGET_DIR": str(self.base / "functions-target"),
            "LAMBDA_LOCAL_PYTHON": sys.executable,
            "LAMBDA_LOCAL_ENVIRONMENT": str(HERE / "lambda_environment.py"),
            "LAMBDA_LOCAL_FUNCTION": options.function,
            "LAMBDA_LOCAL_TIMEOUT": str(options.timeout),
            "LAMBDA_LOCAL_RUN": str(self.run),
        }
        # Before watch does it three times at once.
        subprocess.run(["cargo", "build", "--quiet", "--offline"], cwd=folder, env=os.environ | variables, check=True)
        watch = [options.cargo_lambda, "lambda", "watch", "--ignore-changes", "--offline"]
        watch += ["--invoke-address", "127.0.0.1", "--invoke-port", str(port), "--concurrency", str(options.concurrency)]
        self.launch("watch", watch, folder, variables)
        api = f"{address}/lambda-url/api"
        self.until_it_answers("api", "GET", f"{api}/adder/is-anybody-there", None)
        for name in FUNCTIONS[1:]:
            self.until_it_answers(name, "POST", f"{address}/2015-03-31/functions/{name}/invocations", b'{"Records":[]}')
        deployment = os.environ["CATCHMENT_DEPLOYMENT"]
        mappings = [sys.executable, str(HERE / "event_source_mapping.py"), "--invoke", address]
        mappings += ["--seconds", str(options.timeout), "--batch-size", str(options.batch_size)]
        mappings += ["--concurrency", str(options.concurrency)]
        mappings += [f"{deployment}--{name}={name}" for name in FUNCTIONS[1:]]
        self.launch("mappings", mappings, self.run, {})
        log = self.run / "mappings.log"
        self.until("mappings", lambda: "reading arn:" in log.read_text())
        (self.run / "url").write_text(api + "\n")
        say(f"functions {', '.join(FUNCTIONS)} of deployment {deployment}, timeout {options.timeout} s, logs in {self.run}")
        print(api)

    def until_it_answers(self, name: str, method: str, url: str, body: bytes | None) -> None:
        def answers() -> bool:
            parts = urllib.parse.urlsplit(url)
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=START_SECONDS)
            try:
                connection.request(method, parts.path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status >= 500:
                    self.give_up("watch", f"function {name} answers {answer.status} {text[:500].decode(errors='replace')}")
                return True
            except ConnectionRefusedError:
                return False
            finally:
                connection.close()

        self.until("watch", answers)

    def until(self, part: str, done) -> None:
        end = time.monotonic() + START_SECONDS
        while not done():
            if not self.part(part):
                self.give_up(part, "it ended by itself")
            if time.monotonic() > end:
                self.give_up(part, f"it did not answer within {START_SECONDS} s")
            time.sleep(0.05)

    def give_up(self, part: str, problem: str) -> None:
        log = self.run / f"{part}.log"
        kept = self.base / f"{part}-failed.log"
        shutil.copy(log, kept)
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-30:]), file=sys.stderr, end="")
        say(f"{part} did not start: {problem}; the end of its log stands above, all of it in {kept}")
        self.stop()
        sys.exit(1)

    def stop(self) -> None:
        """The mappings first, so that nothing new is invoked; then watch; then whatever functions are left."""
        (self.run / "url").unlink(missing_ok=True)
        records = [self.run / f"{name}.pid" for name in reversed(PARTS)]
        records += [record for record in self.run.glob("*.pid") if record not in records]
        for record in records:
            self.end(record)
        shutil.rmtree(self.run, ignore_errors=True)

    def end(self, record: pathlib.Path) -> None:
        # A frozen function hears nothing but KILL; watch waits for its open connections, among them the environments'.
        for number, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
            pid = self.alive(record)
            if not pid:
                break
            os.kill(pid, number)
            end = time.monotonic() + seconds
            while self.alive(record) and time.monotonic() < end:
                time.sleep(0.02)
        record.unlink(missing_ok=True)

    def status(self) -> int:
        for name in PARTS:
            pid = self.part(name)
            print(f"{name}: pid {pid}, log {self.run / name}.log" if pid else f"{name}: not running")
        if self.is_up():
            print(f"API: {self.url()}")
            return 0
        return 3

    def logs(self) -> None:
        for name in reversed(PARTS):
            log = self.run / f"{name}.log"
            if log.exists():
                print(f"==> {log}")
                print(log.read_text(errors="replace"), end="")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=pathlib.Path)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("stop", "status", "env", "url", "logs", "is-up"):
        commands.add_parser(name)
    starting = commands.add_parser("start")
    starting.add_argument("--cargo-lambda", required=True)
    starting.add_argument("--function", required=True)
    starting.add_argument("--timeout", type=int, default=5)
    starting.add_argument("--batch-size", type=int, default=10, choices=range(1, 11))
    starting.add_argument("--concurrency", type=int, default=2)
    options = parser.parse_args()
    local = Local(options.base)
    match options.command:
        case "start":
            local.start(options)
        case "stop":
            local.stop()
        case "logs":
            local.logs()
        case "status":
            return local.status()
        case "is-up":
            return 0 if local.is_up() else 1
        case "env" | "url":
            if not local.is_up():
                say("it does not run: 'scripts/lambda-local start' first")
                return 1
            print(f"export LAMBDA_LOCAL_URL={local.url()}" if options.command == "env" else local.url())
    return 0


if __name__ == "__main__":
    sys.exit(main())
