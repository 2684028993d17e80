#!/usr/bin/env python3
"""Holds README.md and docs/ to what is there: check_commands.py [BUILD-DIRECTORY]

* Each fenced `sh` block has an HTML comment on the line before it:
  `<!-- run -->`, or `<!-- skip: why -->`. Those to run are run, one shell per
  file, against a quickstart service started for this.
* Each relative link leads to a file.
* Each test that is named as `Suite.Case` exists.

Ends with `N passed, N failed`.
"""

import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"(?:^<!-- *(?P<mark>run|skip: *\S.*?) *-->\n)?^```sh\n(?P<code>.*?)^```$",
                   re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
TEST_NAME = re.compile(r"`([A-Z]\w*\.[A-Z]\w*)`")
TEST = re.compile(r"^\s*(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)

counts = {"passed": 0, "failed": 0}


def report(ok: bool, name: str, detail: str = "") -> None:
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print(f"   FAILED  {name}\n{detail}".rstrip())


def known_tests() -> set[str]:
    files = [file for pattern in ("*.cc", "*.h") for file in (ROOT / "tests").rglob(pattern)]
    return {f"{suite}.{case}" for file in files
            for suite, case in TEST.findall(file.read_text(encoding="utf-8"))}


def check_references(page: pathlib.Path, text: str, tests: set[str]) -> None:
    name = page.relative_to(ROOT)
    for link in sorted(set(LINK.findall(text))):
        report((page.parent / link).exists(), f"{name}: link to {link}")
    for test in sorted(set(TEST_NAME.findall(text))):
        report(test in tests, f"{name}: test {test}")


def blocks_to_run(page: pathlib.Path, text: str) -> list[str]:
    code = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        report(match["mark"] is not None, f"{page.relative_to(ROOT)}:{line}: a sh block needs "
               "<!-- run --> or <!-- skip: why --> on the line before it")
        if match["mark"] == "run":
            code.append(match["code"])
    return code


def free_port() -> int:
    """The first of two free ports, below those that the system gives to connections."""
    while True:
        port = random.randrange(20000, 30000, 2)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue


def run_blocks(blocks: dict[pathlib.Path, list[str]], build: pathlib.Path) -> None:
    quickstart = str(ROOT / "compose/quickstart")
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o711)
        data = pathlib.Path(scratch, "data")
        environment = {**os.environ, "POSTERN_QUICKSTART_BUILD": str(build),
                       "POSTERN_QUICKSTART_DIR": str(data),
                       "POSTERN_QUICKSTART_PORT": str(free_port())}

        def shell(command: list[str], **options) -> subprocess.CompletedProcess:
            return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                  **options)

        try:
            started = shell([quickstart])
            report(started.returncode == 0, "start of a service to try the commands on",
                   started.stdout)
            if started.returncode != 0:
                return
            for page, codes in blocks.items():
                # From the data directory, as the quickstart's farewell says.
                script = "set -euo pipefail\nset -x\n. ./env\n" + "".join(codes)
                done = shell(["bash", "-c", script], cwd=data)
                report(done.returncode == 0, f"{page.relative_to(ROOT)}: its commands", done.stdout)
        finally:
            shell([quickstart, "--clean"])


def main() -> int:
    build = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build")
    tests = known_tests()
    blocks = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        check_references(page, text, tests)
        if code := blocks_to_run(page, text):
            blocks[page] = code
    if blocks:
        run_blocks(blocks, build)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
