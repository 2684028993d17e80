#!/usr/bin/env python3
"""Which checks of the token pipeline does no test miss?

    tests/mutation/run.py [--build DIRECTORY] [--only TEXT] [--list]

Copies the sources to DIRECTORY/mutation (default build/mutation), puts a switch
into every check of the files below, builds their tests once, and runs these
once for each switch, with that one check off:

* a refusal (`return refused(…)`, `return fail(…)` and their like) that an `if`
  guards is passed over;
* a POSTERN_CHECK lets its error pass;
* what EXTRA lists: a bound, a claim or a comparison of the issuing function.

Prints each mutation that no test notices; the exit status is 1 if there is one.
Takes minutes, so it is a tool and no part of CI.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

FILES = [
    "service/token/jws.cc",
    "service/policy/authorize.cc",
    "service/grants/caller.cc",
    "service/grants/entitlement.cc",
    "service/grants/issuance.cc",
    "service/grants/jwt_bearer.cc",
    "service/grants/opaque_tokens.cc",
    "service/grants/own_token.cc",
    "service/grants/subject.cc",
    "service/grants/subject_claims.cc",
    "service/grants/token_exchange.cc",
    "service/grants/tool_details.cc",
]

# (file, text that stands there once, text with a switch OFF in it)
EXTRA = [
    ("service/grants/issuance.cc",
     "std::min(backend.max_expires_in, snapshot.settings().lifetime_ceiling())",
     "(OFF ? backend.max_expires_in : @)"),
    ("service/grants/issuance.cc",
     "std::min(backend.max_expires_in, snapshot.settings().lifetime_ceiling())",
     "(OFF ? snapshot.settings().lifetime_ceiling() : @)"),
    ("service/grants/issuance.cc", "std::min(expires_at, *issuance.not_beyond)",
     "(OFF ? expires_at : @)"),
    ("service/grants/issuance.cc", "issuance.requested_scope",
     "(OFF ? std::optional<std::string_view>() : @)"),
    ("service/grants/issuance.cc", "!issuance.act.is_null()", "!OFF && @"),
    ("service/grants/issuance.cc", "!bound.jkt.empty()", "!OFF && @"),
    ("service/grants/issuance.cc", "!bound.x5t_s256.empty()", "!OFF && @"),
    ("service/grants/issuance.cc", "issuance.target.audience", "(OFF ? std::string() : @)"),
    ("service/grants/issuance.cc", '.string("client_id", issuance.caller->id())',
     '.string("client_id", OFF ? std::string() : issuance.caller->id())'),
    ("service/grants/token_exchange.cc", "std::min(not_beyond, parties.actor->expires_at)",
     "(OFF ? not_beyond : @)"),
    ("service/grants/token_exchange.cc", "if (parties.actor) inherited",
     "if (parties.actor && !OFF) inherited"),
    ("service/grants/token_exchange.cc", 'if (!history.is_null()) act["act"]',
     'if (!history.is_null() && !OFF) act["act"]'),
    ("service/grants/token_exchange.cc", "if (history.is_null() && subject.own)",
     "if (history.is_null() && subject.own && !OFF)"),
    ("service/grants/own_token.cc", "ancestors.insert(ancestors.end(), actor->", "if (!OFF) @"),
    ("service/grants/own_token.cc", "if (!subject.may_act.is_null())",
     "if (!subject.may_act.is_null() && !OFF)"),
    ("service/grants/own_token.cc", "if (subject.scope) own.string",
     "if (subject.scope && !OFF) own.string"),
    ("service/grants/own_token.cc", "if (rooted_at) own.number", "if (rooted_at && !OFF) own.number"),
    ("service/grants/own_token.cc", 'own.json("within",', "if (!OFF) @"),
    ("service/grants/own_token.cc", "subject.own ? subject.own->epoch : snapshot.epoch()",
     "(subject.own && !OFF) ? subject.own->epoch : snapshot.epoch()"),
    ("service/grants/tool_details.cc", "granted ? policy::intersect(*own, *granted) : own",
     "OFF ? granted : granted ? policy::intersect(*own, *granted) : own"),
    ("service/grants/tool_details.cc", "detail.locations = {target.audience}", "if (!OFF) @"),
    ("service/policy/authorize.cc", "const bool allowed = any_matches",
     "const bool allowed = OFF || any_matches"),
    ("service/policy/authorize.cc", "const bool denied = any_matches",
     "const bool denied = !OFF && any_matches"),
    ("service/policy/authorize.cc", "const bool within_client = scope.empty()",
     "const bool within_client = OFF || scope.empty()"),
    ("service/policy/authorize.cc", "const bool within_token = scope.empty()",
     "const bool within_token = OFF || scope.empty()"),
    ("service/policy/authorize.cc", "if (within_client) granted.push_back",
     "if (within_client || OFF) granted.push_back"),
    ("service/grants/subject.cc", "found.epoch == snapshot.epoch()", "(OFF || @)"),
    ("service/grants/subject.cc", "clock_.now() < found.until", "(OFF || @)"),
    ("service/grants/subject.cc", "keys.value() == found.keys", "(OFF || @)"),
    ("service/grants/subject.cc",
     '{as_bytes("postern-token-cache-v1"), as_bytes(snapshot.tenant().str())',
     '{as_bytes("postern-token-cache-v1"), as_bytes(OFF ? std::string() : snapshot.tenant().str())'),
    ("service/grants/subject.cc", "const bool by_party = !id_token &&",
     "const bool by_party = (OFF || !id_token) &&"),
    ("service/grants/subject_claims.cc", "group.insert(0, issuer.subject_prefix)", "if (!OFF) @"),
    ("service/grants/subject_claims.cc", "issuer.subject_prefix + name", "(OFF ? name : @)"),
]

REFUSAL = re.compile(r"\breturn (?:refused|fail|malformed|nobody|unknown_target|not_answered)\(")
CHECK = re.compile(r"\bPOSTERN_CHECK\(")

SWITCH = """#pragma once
#include <cstdlib>
inline bool mutant(int number) {
  static const char* const text = std::getenv("POSTERN_MUTANT");
  static const int chosen = text != nullptr ? std::atoi(text) : 0;
  return chosen == number;
}
"""

TARGETS = """
file(GLOB mutation_sources conformance/forged_tokens_test.cc conformance/rfc9068_*_test.cc)
postern_test(mutation_conformance unit SOURCES ${mutation_sources} LIBS postern_grants)
"""
PROGRAMS = ["unit_grants", "unit_token", "unit_policy", "mutation_conformance"]


def closing(text: str, opening: int) -> int:
    """The index of the bracket that closes the one at `opening`, strings skipped."""
    depth, at = 0, opening
    while at < len(text):
        if text[at] in "\"'":
            quote = text[at]
            at += 1
            while text[at] != quote:
                at += 2 if text[at] == "\\" else 1
        elif text[at] in "({[":
            depth += 1
        elif text[at] in ")}]":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ValueError("no closing bracket")


def guarded(text: str, at: int) -> bool:
    """Whether what begins at `at` is the whole body, or begins the body, of an `if`."""
    before = re.sub(r"(?:\s|//[^\n]*\n)+$", "", text[:at])
    while re.search(r"//[^\n]*$", before):
        before = re.sub(r"\s*//[^\n]*$", "", before).rstrip()
    before = before.removesuffix("{").rstrip()
    if not before.endswith(")"):
        return False
    depth = 0
    for index in range(len(before) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(before[index], 0)
        if depth == 0:
            return re.search(r"\bif\s*$", before[:index]) is not None
    return False


class Source:
    """One file with its switches."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (ROOT / name).read_text(encoding="utf-8")
        self.edits: list[tuple[int, int, str, str]] = []  # from, to, template, what is shown

    def find(self) -> None:
        for match in REFUSAL.finditer(self.text):
            if guarded(self.text, match.start()):
                end = closing(self.text, match.end() - 1) + 2  # with the semicolon
                whole = self.text[match.start():end]
                self.edits.append((match.start(), end, "{ if (!mutant(%d)) " + escaped(whole) + " }",
                                   whole))
        for match in CHECK.finditer(self.text):
            end = closing(self.text, match.end() - 1) + 2
            inner = self.text[match.end():end - 2]
            self.edits.append((match.start(), end,
                               "if (mutant(%d)) { static_cast<void>(" + escaped(inner) + "); } else { "
                               + escaped(self.text[match.start():end]) + " }",
                               self.text[match.start():end]))

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1


def escaped(text: str) -> str:
    return text.replace("%", "%%")


def mutations() -> tuple[dict[str, str], list[str]]:
    """Each file's text with all switches, and what each switch turns off."""
    texts, names = {}, []
    for file in FILES:
        source = Source(file)
        source.find()
        text = source.text
        for begin, end, template, shown in sorted(source.edits, reverse=True):
            names.append(f"{file}:{source.line(begin)}: {' '.join(shown.split())[:110]}")
            text = text[:begin] + template % len(names) + text[end:]
        texts[file] = text
    for file, whole, switched in EXTRA:
        if texts[file].count(whole) != 1:
            sys.exit(f"mutation: {file} does not hold this once: {whole}")
        original = (ROOT / file).read_text(encoding="utf-8")
        names.append(f"{file}:{original[:original.index(whole)].count(chr(10)) + 1}: {whole}")
        texts[file] = texts[file].replace(
            whole, switched.replace("@", whole).replace("OFF", f"mutant({len(names)})"))
    return texts, names


def show(command: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


class Scratch:
    def __init__(self, directory: pathlib.Path) -> None:
        # As any checkout lies, so that ccache knows the objects.
        self.source, self.build = directory, directory / "build"
        tracked = show(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]).stdout
        for name in tracked.splitlines():
            self.copy(name, (ROOT / name).read_bytes() if (ROOT / name).is_file() else None)
        self.write("service/core/mutant.h", SWITCH)
        cmake = (ROOT / "tests/CMakeLists.txt").read_text(encoding="utf-8")
        self.write("tests/CMakeLists.txt", cmake + TARGETS)
        done = show(["cmake", "-S", str(self.source), "-B", str(self.build), "-G", "Ninja"])
        if done.returncode:
            sys.exit(done.stdout)

    def copy(self, name: str, content: bytes | None) -> None:
        path = self.source / name
        if content is None or (path.is_file() and path.read_bytes() == content):
            return  # an unchanged file keeps its time, and its object
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        shutil.copymode(ROOT / name, path) if (ROOT / name).is_file() else None

    def write(self, name: str, text: str) -> None:
        self.copy(name, text.encode())

    def make(self) -> str:
        """Empty when it builds."""
        done = show(["cmake", "--build", str(self.build), "-j2", "--target", *PROGRAMS])
        return done.stdout if done.returncode else ""

    def noticed(self, number: int) -> str:
        """The test that fails with this switch; empty when none does."""
        environment = {**os.environ, "POSTERN_MUTANT": str(number), "POSTERN_PROPERTY_RUNS": "60",
                       "GTEST_FAIL_FAST": "1"}
        for program in PROGRAMS:
            try:
                done = show([str(self.build / "tests" / program)], env=environment, timeout=300)
            except subprocess.TimeoutExpired:
                return f"{program} (time-out)"
            if done.returncode:
                failed = re.findall(r"\[  FAILED  \] (\S+)", done.stdout)
                return failed[0] if failed else f"{program} (status {done.returncode})"
        return ""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    arguments.add_argument("--only", default="", help="mutations whose line holds this text")
    arguments.add_argument("--list", action="store_true")
    given = arguments.parse_args()
    texts, names = mutations()
    chosen = [n for n, name in enumerate(names, 1) if given.only in name]
    if given.list:
        print("\n".join(names[n - 1] for n in chosen))
        return 0

    scratch = Scratch(given.build.resolve() / "mutation")
    for file, text in texts.items():
        scratch.write(file, '#include "core/mutant.h"\n' + text)
    if trouble := scratch.make():
        sys.exit(trouble[-4000:])
    if failed := scratch.noticed(0):
        sys.exit(f"mutation: {failed} fails with every check on")

    survivors = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, noticed in zip(chosen, pool.map(scratch.noticed, chosen)):
            print(f"{'noticed by ' + noticed if noticed else 'SURVIVED':60.60}  {names[number - 1]}",
                  flush=True)
            if not noticed:
                survivors.append(names[number - 1])
    print(f"\n{len(chosen)} mutations, {len(survivors)} survived", *survivors, sep="\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
