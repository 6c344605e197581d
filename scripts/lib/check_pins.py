"""Checks that nothing is fetched without a checksum: what pip, npm and CI's actions bring is named by its content.

    python check_pins.py [ROOT]
"""

import re
import subprocess
import sys
from pathlib import Path

# The one place that calls pip, and the words about it.
INSTALLER = "scripts/lib/pip-install"
ABOUT = {INSTALLER, "scripts/lib/check_pins.py", "scripts/lib/requirements/README.md"}
RULES = [
    (re.compile(r"\bpip3? (install|download)\b"), f"pip without checksums: call {INSTALLER}"),
    # `npm pack` brings one archive, which scripts/aws-local holds against its digest before it is opened.
    (re.compile(r"\b(npm (install|i|ci|add|exec|init)|npx|yarn|pnpm)\b"), "npm would run a package's own code: see install_dynamodb"),
    (re.compile(r"^\s*(?:- )?uses: +(?!\./)(?!\S+@[0-9a-f]{40} +# v\d)"), "an action that is not pinned by its commit, with the version as a comment"),
    (re.compile(r"\bcargo install\b(?!.*--locked)"), "cargo install without --locked"),
]
PIN = re.compile(r"\b([A-Za-z][A-Za-z0-9-]*)==([0-9][0-9A-Za-z.]*)")


def lines_of(root):
    """Each line of the scripts, the benchmarks, the pages and CI, and where it is."""
    folders = ["scripts", "bench", "docs", ".github", ".ci", "README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"]
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders],
                            cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (root / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield name, number, line


def pinned(root, problems):
    """The versions that the files of requirements name."""
    versions = {}
    for path in sorted((root / "scripts/lib/requirements").glob("*.txt")):
        text = path.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if "--hash=sha256:" not in line or not (pin := PIN.match(line)):
                problems.append(f"{path.relative_to(root)}: neither a version nor a checksum: {line[:60]}")
                continue
            versions.setdefault(pin[1].lower(), set()).add(pin[2])
    return versions


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems = []
    versions = pinned(root, problems)
    for name, number, line in lines_of(root):
        if name in ABOUT:
            continue
        problems += [f"{name}:{number}: {problem}" for rule, problem in RULES if rule.search(line)]
        for package, version in PIN.findall(line):
            known = versions.get(package.lower())
            if known and version not in known:
                problems.append(f"{name}:{number}: {package} {version}, and its requirements name {', '.join(sorted(known))}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print(f"{len(versions)} Python packages, all with checksums; actions and downloads are pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
