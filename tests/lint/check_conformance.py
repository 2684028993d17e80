#!/usr/bin/env python3
"""Holds docs/conformance.md to the tests: every rule is there and is shown.

    check_conformance.py [ROOT]

Fails when a rule below has no row; when an M or S row lacks an accepting or a
refusing test, or one that is named by the rule's id or by a section of its
standard; when a row names a test that no source has; and when a row's id is
unknown here, twice, or both offered and not. Exits 1 if anything is wrong.
"""

import pathlib
import re
import sys

PAGE = "docs/conformance.md"


def numbered(letter, last):
    return [f"{letter}{number}" for number in range(1, last + 1)]


RULES = [
    *numbered("T", 15), *numbered("A", 12), *numbered("X", 17), *numbered("J", 8), *numbered("V", 11),
    *numbered("I", 6), *numbered("R", 5), *numbered("M", 9), *numbered("K", 2), *numbered("B", 5),
    *(f"error.{code}" for code in (
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
        "unsupported_grant_type", "invalid_scope", "invalid_target", "dpop",
        "invalid_authorization_details", "insufficient_user_authentication")),
    "client_credentials",
    *(f"request.{name}" for name in (
        "grant_type", "subject_token", "actor_token", "resource", "audience", "scope",
        "requested_token_type")),
    *(f"type.{name}" for name in (
        "access_token", "jwt", "id_token", "unsupported", "credential", "refresh_token", "saml")),
    *(f"response.{name}" for name in (
        "access_token", "issued_token_type", "token_type", "expires_in", "scope",
        "authorization_details")),
    *(f"mcp.{name}" for name in (
        "resource", "passthrough", "discovery", "step-up", "issuer", "short-lived",
        "client-credentials")),
    "9700-2.3", "9700-2.4", "9700-4.13", "9700-refresh",
    "7523-claims", "7523-client", "7523-aud",
    *(f"id-jag.{name}" for name in (
        "typ", "claims", "aud", "client", "jti", "resource", "cnf", "metadata", "step-up", "log",
        "issuing")),
    "6.3-wif", "6.3-chaining",
    *(f"dpop.{section}" for section in (4, 5, 6, 7, 8)),
    "mtls.2", "mtls.3", "mtls.9440", "mtls.aliases",
    "rar.2", "rar.7", "9701", "7636", "cimd", "7591", "8935",
]

# Drafts number their sections anew; their tests carry the draft's name.
DRAFTS = {"id-jag.": "IdJag", "cimd": "ClientIdMetadata"}

ROW = re.compile(r"^\| ([\w.-]+) \| ([MSP]) \| (.+?) \| (.*?) ?\| (.*?) ?\|$")
NOT_OFFERED = re.compile(r"^\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \|$")
HEAD = re.compile(r"^\| (?:---|Id) \|")
NAME = re.compile(r"`([\w.]+)`")
TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.MULTILINE)


def tests_in(root):
    """Suite.Name of every GoogleTest below tests/."""
    names = set()
    for folder in ("tests/unit", "tests/conformance", "tests/isolation", "tests/integration"):
        for path in sorted((root / folder).rglob("*.cc")):
            for suite, name in TEST.findall(path.read_text(encoding="utf-8")):
                names.add(f"{suite}.{name}")
    return names


def by_rule(identifier, test):
    """Whether a test carries the rule's id, or a standard and its section, in its name."""
    if re.search(rf"[._]{re.escape(identifier)}_", test) or re.search(r"(^|\.)Rfc\d{4}_\d", test):
        return True
    return any(identifier.startswith(rule) and name in test for rule, name in DRAFTS.items())


def check(page, tests, rules=RULES):
    """The problems of a page, as text, in the order of its lines."""
    problems, seen = [], {}
    for number, line in enumerate(page.splitlines(), 1):
        if not line.startswith("| ") or HEAD.match(line):
            continue
        row = ROW.match(line)
        absent = None if row else NOT_OFFERED.match(line)
        if not row and not absent:
            problems.append(f"{PAGE}:{number}: this row cannot be read")
            continue
        identifier = (row or absent)[1]
        if identifier not in rules:
            problems.append(f"{PAGE}:{number}: {identifier} is no rule")
        if identifier in seen:
            problems.append(f"{PAGE}:{number}: {identifier} is in line {seen[identifier]} already")
        seen[identifier] = number
        if absent:
            continue
        accepting, refusing = NAME.findall(row[4]), NAME.findall(row[5])
        for name in accepting + refusing:
            if name not in tests:
                problems.append(f"{PAGE}:{number}: {identifier}: there is no test {name}")
        if row[2] == "P":
            if not accepting and not refusing:
                problems.append(f"{PAGE}:{number}: {identifier}: no test")
            continue
        if not accepting:
            problems.append(f"{PAGE}:{number}: {identifier}: no accepting test")
        if not refusing:
            problems.append(f"{PAGE}:{number}: {identifier}: no refusing test")
        if not any(by_rule(identifier, name) for name in accepting + refusing):
            problems.append(f"{PAGE}:{number}: {identifier}: no test named by its id or section")
    problems += [f"{PAGE}: {rule} has no row" for rule in rules if rule not in seen]
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    page = (root / PAGE).read_text(encoding="utf-8")
    problems = check(page, tests_in(root))
    if problems:
        print("\n".join(problems))
        return 1
    print(f"{len(RULES)} rules, each shown by its tests or said to be absent")
    return 0


if __name__ == "__main__":
    sys.exit(main())
