"""What runs the steps of scripts/test: commands, test programs side by side, emulators, and the table at the end."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)


class Failure(Exception):
    """A step did not succeed. The message says why."""


@dataclass
class Step:
    name: str
    title: str
    # Whether the step is part of scripts/test without --all.
    quick: bool
    action: Callable[["Run"], None]


@dataclass
class Row:
    name: str
    seconds: float
    passed: int
    ignored: int
    outcome: str


class Run:
    def __init__(self):
        self.target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
        self.environment = dict(os.environ)
        self.rows = []
        self.current = None
        self.passed = self.ignored = self.tests_failed = 0
        self.started = time.monotonic()
        self.failure = self.failed_step = None
        self.features = []
        self.emulators = None
        self.postgres = None
        # So that close() also runs when CI ends the script.
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        os.chdir(ROOT)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def prepare(self):
        """Refuses a machine without the tools, or with an older Rust than Cargo.toml asks for."""
        for tool in ["cargo", "rustc", "rustfmt", "cargo-clippy"]:
            if not shutil.which(tool):
                raise Failure(f"{tool} is missing: install Rust from https://rustup.rs, with clippy and rustfmt")
        package = json.loads(self.output(["cargo", "metadata", "--no-deps", "--format-version", "1"]))["packages"][0]
        needed = package["rust_version"]
        have = self.output(["rustc", "--version"]).split()[1].split("-")[0]
        if [int(part) for part in have.split(".")] < [int(part) for part in needed.split(".")]:
            raise Failure(f"rustc is {have}, and Cargo.toml asks for {needed} or later: rustup update")
        self.features = sorted(feature for feature in package["features"] if feature != "default")
        print(f"rustc {have} (at least {needed}), features: {' '.join(self.features)}", flush=True)

    def step(self, step):
        print(f"\n==> {step.title}", flush=True)
        self.current = step
        self.passed_before, self.ignored_before = self.passed, self.ignored
        self.step_started = time.monotonic()
        step.action(self)
        self.end_step("")

    def end_step(self, outcome):
        seconds = time.monotonic() - self.step_started
        print(f"    ({seconds:.0f} s)", flush=True)
        passed, ignored = self.passed - self.passed_before, self.ignored - self.ignored_before
        self.rows.append(Row(self.current.name, seconds, passed, ignored, outcome))
        self.current = None

    def failed(self, failure):
        self.failure = failure
        if self.current:
            self.failed_step = self.current
            self.end_step("failed")

    def report(self):
        """Prints the table and returns the exit status."""
        width = max([len(row.name) for row in self.rows], default=4)
        print(f"\n{'step':<{width}}  seconds  tests")
        for row in self.rows:
            tests = str(row.passed) if row.passed else ""
            ignored = f" ({row.ignored} ignored)" if row.ignored else ""
            print(f"{row.name:<{width}}  {row.seconds:7.0f}  {tests:>5}{ignored} {row.outcome}".rstrip())
        seconds = time.monotonic() - self.started
        print(f"{'all':<{width}}  {seconds:7.0f}  {self.passed or '':>5}".rstrip())
        if self.passed or self.tests_failed:
            print(f"\n{self.passed} passed, {self.tests_failed} failed")
        sys.stdout.flush()
        if self.failure is None:
            print(f"\nscripts/test: every step succeeded in {seconds:.0f} s")
            return 0
        print(f"scripts/test: {self.failure}", file=sys.stderr)
        if step := self.failed_step:
            print(f"scripts/test: to repeat just this step: scripts/test --only {step.name}", file=sys.stderr)
        return 1

    # ---- commands ----------------------------------------------------------------------------------------------------

    def command(self, *command, env=None):
        """Runs a command whose output is shown, and counts the tests it reports. It has to succeed."""
        shown = shlex.join(map(str, command))
        print(f"    $ {shown}", flush=True)
        process = subprocess.Popen(
            list(map(str, command)),
            env=self.environment | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                print(line, end="", flush=True)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        self.count("".join(lines))
        if code:
            raise Failure(f"exit status {code} of: {shown}")

    def output(self, command, env=None):
        """The standard output of a command that has to succeed."""
        done = subprocess.run(
            list(map(str, command)),
            env=self.environment | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise Failure(f"exit status {done.returncode} of: {shlex.join(map(str, command))}")
        return done.stdout

    def silent(self, *command):
        """Runs a command that has to succeed and to print nothing: warnings are failures."""
        shown = shlex.join(map(str, command))
        print(f"    $ {shown}", flush=True)
        done = subprocess.run(
            list(map(str, command)),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        print(done.stdout, end="", flush=True)
        if done.returncode or done.stdout.strip():
            raise Failure(f"{'exit status ' + str(done.returncode) if done.returncode else 'warnings'} of: {shown}")

    def count(self, output):
        """Counts the tests that a test program says it ran; returns how many they are."""
        ran = 0
        for passed, failed, ignored in RESULT.findall(output):
            self.passed += int(passed)
            self.tests_failed += int(failed)
            self.ignored += int(ignored)
            ran += int(passed) + int(failed)
        return ran

    # ---- test programs -----------------------------------------------------------------------------------------------

    def build_tests(self, *arguments):
        """Builds test programs, and returns for each its name, the program and the command that repeats it."""
        command = ["cargo", "test", *arguments]
        shown = shlex.join([*command, "--no-run"])
        print(f"    $ {shown}", flush=True)
        done = subprocess.run(
            [*command, "--no-run", "--message-format=json-render-diagnostics"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise Failure(f"exit status {done.returncode} of: {shown}")
        wanted = list(arguments)
        options = []
        while wanted:
            part = wanted.pop(0)
            if part == "--test":
                wanted.pop(0)
            elif part in ("--features", "--profile"):
                options += [part, wanted.pop(0)]
            elif part not in ("--lib", "--tests", "--examples"):
                options.append(part)
        programs = []
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message["reason"] != "compiler-artifact" or not message.get("executable") or not message["profile"]["test"]:
                continue
            name = message["target"]["name"]
            library = "lib" in message["target"]["kind"]
            repeat = ["cargo", "test", *options, *(["--lib"] if library else ["--test", name])]
            programs.append(("lib" if library else name, message["executable"], repeat))
        return programs

    def run_tests(self, programs, first=(), arguments=(), env=None):
        """Runs test programs, one per core at a time. `first` names those that take longest. Shows what each prints when it
        has ended. All are run though one fails."""
        order = {name: place for place, name in enumerate(first)}
        programs = sorted(programs, key=lambda program: (order.get(program[0], len(order)), program[0]))
        environment = self.environment | {"CARGO_MANIFEST_DIR": str(ROOT)} | (env or {})

        def one(program):
            started = time.monotonic()
            done = subprocess.run(
                [program, *arguments],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            return done, time.monotonic() - started

        broken = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            running = {pool.submit(one, program): (name, repeat) for name, program, repeat in programs}
            for ended in as_completed(running):
                name, repeat = running[ended]
                done, seconds = ended.result()
                ran = self.count(done.stdout)
                bad = done.returncode != 0
                print(f"    {name}: {ran} tests in {seconds:.1f} s{', failed' if bad else ''}", flush=True)
                if bad:
                    print(done.stdout, flush=True)
                    extra = ["--", *arguments] if arguments else []
                    broken.append(shlex.join([*repeat, *extra]))
                else:
                    print("\n".join(line for line in done.stdout.splitlines() if RESULT.match(line)), flush=True)
        if broken:
            raise Failure("these failed:\n    " + "\n    ".join(broken))

    # ---- services ----------------------------------------------------------------------------------------------------

    def on_emulators(self):
        """The environment for tests on the emulators, which are started at the first call and stopped by close()."""
        if self.emulators is None:
            self.environment.setdefault("CATCHMENT_AWS_LOCAL_DIR", str(self.target / "aws-local"))
            self.emulators = {}
            # In memory if there is a place for it: a disk is a tenth as fast.
            memory = ["--data-dir", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else []
            self.command("scripts/aws-local", "start", "--dynamodb-on-disk", *memory)
            script = self.output(["scripts/aws-local", "env"])
            shown = self.output(["bash", "-c", script + "\nenv -0"])
            after = dict(entry.split("=", 1) for entry in shown.split("\0") if entry)
            self.emulators = {name: value for name, value in after.items() if self.environment.get(name) != value}
        return self.emulators

    def on_postgres(self):
        """The environment for tests over PostgreSQL, which is started at the first call and stopped by close()."""
        if self.postgres is None:
            self.environment.setdefault("CATCHMENT_SERVICES_DIR", str(self.target / "services"))
            self.postgres = {}
            self.command("scripts/services", "start", "postgres")
            script = self.output(["scripts/services", "env", "postgres"])
            shown = self.output(["bash", "-c", script + "\nenv -0"])
            after = dict(entry.split("=", 1) for entry in shown.split("\0") if entry)
            self.postgres = {name: value for name, value in after.items() if self.environment.get(name) != value}
            # Debian keeps pgbouncer there, which is not on every PATH.
            self.postgres["PATH"] = after["PATH"] + ":/usr/sbin"
        return self.postgres

    def python(self, requirements="python"):
        """The interpreter with what these requirements name, for the checks in Python unless said otherwise; installs it at the
        first call."""
        self.environment.setdefault("CATCHMENT_PYTHON_ENV", str(self.target / "python-env"))
        return Path(self.output(["scripts/lib/python-env", requirements]).strip())

    def close(self):
        if self.emulators is not None:
            subprocess.run(["scripts/aws-local", "stop"], env=self.environment, stdin=subprocess.DEVNULL, check=False)
            self.emulators = None
        if self.postgres is not None:
            subprocess.run(["scripts/services", "stop", "postgres"], env=self.environment, stdin=subprocess.DEVNULL, check=False)
            self.postgres = None
