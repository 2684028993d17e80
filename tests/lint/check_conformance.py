#!/usr/bin/env python3
"""Holds docs/conformance.md to the tests: every rule is there and is shown.

    check_conformance.py [ROOT]

A test shows a rule only if its name says so, by the rule's id or by a section that
the rule cites:

    T1, X8 and X9             Suite.T1_..., Suite.X8_X9_...
    error.invalid_request     Suite.ErrorInvalidRequest_...
    id-jag.step-up            Suite.IdJagStepUp_..., IdJag.StepUp_...
    RFC 6749 section 3.2      Rfc6749_3_2.... and Suite.Rfc6749_3_2_...; 3.2.1 as well
    a draft without numbers   its name as the suite: ClientIdMetadata....

Fails when a rule below has no row, or one of another level; when an M or S row
lacks such a test on either side, a P row or one of what is not offered any; when
one test stands on both sides; when a row names a test that no source has; and when
a row's id is unknown here or twice. Exits 1 if anything is wrong.
"""

import pathlib
import re
import sys

PAGE = "docs/conformance.md"

# Each rule: its level (M, S, P, or - for what is not offered), and what it cites:
# an RFC with its sections (none: all of it), or a draft by name.
RULES = {
    "T1": "M 6749 3.2",
    "T2": "M 6749 3.2",
    "T3": "M 6749 3.2, 8693 2.1, 8707 2",
    "T4": "M 6749 2.3.1",
    "T5": "M 6749 3.2, 8693 6",
    "T6": "M 6749 5.1",
    "T7": "M 6749 5.2",
    "T8": "M 6749 5.2",
    "T9": "M 6749 3.3",
    "T10": "M 6749 3.3",
    "T11": "M 6749 5.1",
    "T12": "P",
    "T13": "P",
    "T14": "P",
    "T15": "P",
    "error.invalid_request": "M 6749 5.2, 8693 2.2.2",
    "error.invalid_client": "M 6749 5.2",
    "error.invalid_grant": "M 6749 5.2, 7523 3.1",
    "error.unauthorized_client": "M 6749 5.2",
    "error.unsupported_grant_type": "M 6749 5.2",
    "error.invalid_scope": "M 6749 5.2",
    "error.invalid_target": "M 8693 2.2.2, 8707 2",
    "error.unsupported_token_type": "M 7009 2.2.1",
    "error.dpop": "M 9449 5, 9449 8",
    "error.invalid_authorization_details": "M 9396 5",
    "error.insufficient_user_authentication": "M 9470",
    "A1": "M 6749 2.3",
    "A2": "P 7521 4.2",
    "A3": "M 6749 2.3.1",
    "A4": "M",
    "A5": "P 9700 4.15",
    "A6": "M 6749 2.3.1",
    "A7": "M 7523 2.2, 7523 3, 7521 4.2",
    "A8": "M",
    "A9": "P 7523 3",
    "A10": "S 8725 3.11",
    "A11": "P 7523 5",
    "A12": "P 9700 2.5",
    "client_credentials": "M 6749 4.4, 9068 2.2",
    "request.grant_type": "M 8693 2.1",
    "request.subject_token": "M 8693 2.1",
    "request.actor_token": "M 8693 2.1",
    "request.resource": "M 8693 2.1",
    "request.audience": "M 8693 2.1",
    "request.scope": "M 8693 2.1",
    "request.requested_token_type": "M 8693 2.1",
    "type.access_token": "M 8693 3",
    "type.jwt": "M 8693 3",
    "type.id_token": "M 8693 3",
    "type.unsupported": "M 8693 3",
    "type.credential": "P 8693 3",
    "type.refresh_token": "- 8693 3",
    "type.saml": "- 8693 3",
    "X1": "M 8693 2.2.2",
    "X2": "M 8693 2.1",
    "X3": "P 8725 3.8",
    "X4": "P",
    "X5": "P",
    "X6": "P",
    "X7": "M 8693 4.4",
    "X8": "M 8693 4.1",
    "X9": "P",
    "X10": "M 8693 2.1.1, 8707 3",
    "X11": "M 9068 3",
    "X12": "P",
    "X13": "P",
    "X14": "P",
    "X15": "P",
    "X16": "P 8693 2.2.1",
    "X17": "S 8693 6",
    "response.access_token": "M 8693 2.2.1",
    "response.issued_token_type": "M 8693 2.2.1",
    "response.token_type": "M 8693 2.2.1",
    "response.expires_in": "S 8693 2.2.1",
    "response.scope": "M 8693 2.2.1",
    "response.authorization_details": "M 9396 7",
    "J1": "M 9068 2.1",
    "J2": "M 9068 2.2",
    "J3": "S 9068 2.2.1, 9068 2.2.3",
    "J4": "M",
    "J5": "P",
    "J6": "M 9068 3, 9068 5",
    "J7": "P",
    "J8": "P",
    "V1": "M 7515 5.2, 7519 7.2",
    "V2": "M 8725 3.1",
    "V3": "M",
    "V4": "M 7518 3.3, 7518 3.4",
    "V5": "M 8037",
    "V6": "M 8725 3.10",
    "V7": "M 7519 2",
    "V8": "M 8725 3.11, 8725 3.12",
    "V9": "P",
    "V10": "P 7517 5",
    "V11": "P",
    "I1": "M 7662 2.1, 7662 2.3",
    "I2": "M 7662 2.2, 7662 4",
    "I3": "M 8693 7.5",
    "I4": "P 7662 2.2",
    "I5": "M",
    "I6": "M 7662 2.1",
    "R1": "M 7009 2.1",
    "R2": "M 7009 2.2",
    "R3": "M 7009 2.1",
    "R4": "S",
    "R5": "M 7009 2.2.1",
    "9701": "M 9701",
    "M1": "M 8414 3",
    "M2": "M 8414 2, 8414 3.3",
    "M3": "M 8414 2",
    "M4": "M 8414 2",
    "M5": "M 8414 3.2",
    "M6": "P 8414 2",
    "M7": "P",
    "M8": "P",
    "M9": "P",
    "K1": "M 7517 4, 7517 5",
    "K2": "P",
    "B1": "M 6750 3, 9728 5.1",
    "B2": "M 6750 2.3",
    "B3": "M 9728 2, 9728 3",
    "B4": "M 9457 3",
    "B5": "P",
    "mcp.resource": "M 8707",
    "mcp.passthrough": "M",
    "mcp.discovery": "M 8414",
    "mcp.step-up": "S",
    "mcp.issuer": "M",
    "mcp.short-lived": "S",
    "mcp.client-credentials": "M",
    "9700-2.3": "S 9700 2.2.1, 9700 2.3",
    "9700-2.4": "M 9700 2.4",
    "9700-4.13": "M 9700 4.13",
    "9700-refresh": "- 9700 2.1, 9700 2.2.2, 9700 4.1, 9700 4.14",
    "7523-claims": "M 7523 2.1, 7523 3",
    "7523-client": "M 7523 2.1, 7523 3.1",
    "7523-aud": "M 7523 2.1, 7523 3",
    "id-jag.typ": "M",
    "id-jag.claims": "M",
    "id-jag.aud": "M",
    "id-jag.client": "M",
    "id-jag.jti": "M",
    "id-jag.resource": "M",
    "id-jag.cnf": "M",
    "id-jag.metadata": "M",
    "id-jag.step-up": "S",
    "id-jag.log": "M",
    "id-jag.issuing": "-",
    "6.3-wif": "-",
    "6.3-chaining": "-",
    "dpop.4": "M 9449 4",
    "dpop.5": "M 9449 5",
    "dpop.6": "M 9449 6",
    "dpop.7": "M 9449 7",
    "dpop.8": "M 9449 8, 9449 9",
    "mtls.2": "M 8705 2",
    "mtls.3": "M 8705 3",
    "mtls.9440": "M 9440",
    "mtls.aliases": "- 8705 5",
    "rar.2": "M 9396 2, 9396 5",
    "rar.7": "M 9396 7, 9396 9, 9396 10",
    "7591": "M 7591",
    "cimd": "M ClientIdMetadata",
    "7636": "- 7636, 9207",
    "8935": "- 8417, 8935",
}

ROW = re.compile(r"^\| ([\w.-]+) \| ([MSP]) \| (.+?) \| (.*?) ?\| (.*?) ?\|$")
NOT_OFFERED = re.compile(r"^\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \| ([^|]*?) ?\|$")
HEAD = re.compile(r"^\| (?:---|Id) \|")
NAME = re.compile(r"`([\w.]+)`")
TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.MULTILINE)


def tests_in(root):
    """Suite.Name of every GoogleTest below tests/ that runs."""
    names = set()
    for folder in ("tests/unit", "tests/conformance", "tests/isolation", "tests/integration"):
        for path in sorted((root / folder).rglob("*.cc")):
            for suite, name in TEST.findall(path.read_text(encoding="utf-8")):
                if not (suite + name).startswith("DISABLED_") and not name.startswith("DISABLED_"):
                    names.add(f"{suite}.{name}")
    return names


def spelled(identifier):
    """How a test's name spells a rule's id: T1, ErrorInvalidRequest; none for a mere number."""
    words = re.split(r"[._-]", identifier)
    while words and words[0].isdigit():
        words.pop(0)
    return "".join(word[0].upper() + word[1:] for word in words)


def shows(identifier, cited, test):
    """Whether a test carries the rule's id or a section that it cites in its name."""
    suite, _, name = test.partition(".")
    own = spelled(identifier)
    if own and re.search(rf"(^|[._]){own}_", test):
        return True
    # The suite may be the beginning of the id: IdJag.StepUp_...
    if own != suite and own.startswith(suite) and name.startswith(f"{own[len(suite):]}_"):
        return True
    for citation in filter(None, cited.split(", ")):
        document, _, section = citation.partition(" ")
        place = f"Rfc{document}" if document.isdigit() else document
        if section:
            place += "_" + section.replace(".", "_")
        if re.search(rf"(^|[._]){place}[._]", test):
            return True
    return False


def check_sides(level, cited, identifier, accepting, refusing):
    """The problems of one row that is read."""
    problems = [f"{name} cannot both accept and refuse" for name in accepting if name in refusing]
    named = {side: any(shows(identifier, cited, name) for name in names)
             for side, names in (("accepting", accepting), ("refusing", refusing))}
    if level in "MS":
        problems += [f"no {side} test named by its id or section"
                     for side, found in named.items() if not found]
    elif not any(named.values()):
        problems.append("no test named by its id or section")
    return problems


def check(page, tests, rules=None):
    """The problems of a page, as text, in the order of its lines."""
    rules = RULES if rules is None else rules
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
        if identifier in seen:
            problems.append(f"{PAGE}:{number}: {identifier} is in line {seen[identifier]} already")
        seen[identifier] = number
        if identifier not in rules:
            problems.append(f"{PAGE}:{number}: {identifier} is no rule")
            continue
        level, _, cited = rules[identifier].partition(" ")
        stated = row[2] if row else "-"
        if stated != level:
            problems.append(f"{PAGE}:{number}: {identifier}: its level is {level}, not {stated}")
        accepting = NAME.findall(row[4]) if row else []
        refusing = NAME.findall(row[5] if row else absent[4])
        found = [f"there is no test {name}" for name in accepting + refusing if name not in tests]
        found += check_sides(level, cited, identifier, accepting, refusing)
        problems += [f"{PAGE}:{number}: {identifier}: {problem}" for problem in found]
    problems += [f"{PAGE}: {rule} has no row" for rule in rules if rule not in seen]
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    page = (root / PAGE).read_text(encoding="utf-8")
    problems = check(page, tests_in(root))
    if problems:
        print("\n".join(problems))
        return 1
    absent = sum(rule.startswith("-") for rule in RULES.values())
    print(f"{len(RULES) - absent} rules, each shown by its tests, {absent} not offered, shown too")
    return 0


if __name__ == "__main__":
    sys.exit(main())
