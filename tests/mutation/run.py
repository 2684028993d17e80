#!/usr/bin/env python3
"""Which checks of the token pipeline does no test miss?

    tests/mutation/run.py [--build DIRECTORY] [--files A,B] [--only N-M|TEXT] [--shard I/N]
                          [--results FILE [--again]] [--jobs N] [--list]

Copies the sources to DIRECTORY/mutation (default build/mutation), puts a switch
into every check of the files below, builds their tests once, and runs these
for each switch, with that one check off, until one fails:

* a refusal (`return refused(…)`, `return false;` and their like) within an `if`
  is passed over;
* a POSTERN_CHECK lets its error pass, and another time is not evaluated at all;
* a POSTERN_TRY that gives a new value to what has one already leaves it. Others
  cannot be taken away: what follows needs the value;
* what EXTRA lists: a bound, a claim or a comparison of the issuing function.

Those that do not compile, and those that EQUIVALENT lists, count as neither
noticed nor survived. `--results` keeps what came of each in a JSON file and
passes over what is in it: a run may be stopped and go on. `--again` tries those
that survived once more. After a change of the mutated sources, begin a new file.

Prints each mutation that no test notices; the exit status is 1 if there is one.
Takes minutes, so it is a tool and no part of CI.
"""

import argparse
import collections
import concurrent.futures
import json
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
    "service/grants/client_assertion.cc",
    "service/grants/client_authentication.cc",
    "service/grants/client_certificate.cc",
    "service/grants/client_credentials.cc",
    "service/grants/client_documents.cc",
    "service/grants/decision_point.cc",
    "service/grants/dpop.cc",
    "service/grants/entitlement.cc",
    "service/grants/issuance.cc",
    "service/grants/jwt_bearer.cc",
    "service/grants/opaque_tokens.cc",
    "service/grants/own_token.cc",
    "service/grants/release.cc",
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
    ("service/token/jws.cc", "jwk->key.verify(algorithm_, as_bytes(signing_input_), signature_)",
     "(OFF || @)"),
    ("service/grants/caller.cc", "(bound.jkt.empty() || bound.jkt == caller.proven.jkt)",
     "(OFF || @)"),
    ("service/grants/caller.cc",
     "(bound.x5t_s256.empty() || bound.x5t_s256 == caller.proven.x5t_s256)", "(OFF || @)"),
    ("service/grants/caller.cc", "{caller.proven.jkt, {}}",
     "{OFF ? std::string() : caller.proven.jkt, {}}"),
    ("service/grants/caller.cc", "if (client.certificate_bound ||",
     "if ((!OFF && client.certificate_bound) ||"),
    ("service/grants/caller.cc", "!inherited.x5t_s256.empty()", "(!OFF && @)"),
    ("service/grants/client_assertion.cc", "it->size() == 1", "(OFF || @)"),
    ("service/grants/client_assertion.cc", "rule.token_endpoint_audience &&",
     "(OFF || rule.token_endpoint_audience) &&"),
    ("service/grants/client_assertion.cc", "!client->enabled", "(!OFF && @)"),
    ("service/grants/client_assertion.cc", "!snapshot.enabled()", "(!OFF && @)"),
    ("service/grants/client_authentication.cc", "!matches", "(!OFF && @)"),
    ("service/grants/client_authentication.cc", "!client->enabled", "(!OFF && @)"),
    ("service/grants/client_authentication.cc", "!snapshot.enabled()", "(!OFF && @)"),
    ("service/grants/client_authentication.cc",
     "client->authentication.method != policy::ClientAuthentication::Secret", "(!OFF && @)"),
    ("service/grants/client_certificate.cc", "!client->enabled", "(!OFF && @)"),
    ("service/grants/client_certificate.cc", "!snapshot.enabled()", "(!OFF && @)"),
    ("service/grants/client_certificate.cc", "shown.vouched_for &&",
     "(OFF || shown.vouched_for) &&"),
    ("service/grants/client_certificate.cc", "has_name(shown.certificate, *rule.tls_subject)",
     "(OFF || @)"),
    ("service/grants/client_certificate.cc", "certificate.has_subject(name.value())",
     "(OFF || @)"),
    ("service/grants/client_certificate.cc", "certificate.has_dns(subject.value)", "(OFF || @)"),
    ("service/grants/client_certificate.cc", "certificate.has_uri(subject.value)", "(OFF || @)"),
    ("service/grants/client_certificate.cc", "certificate.has_ip(subject.value)", "(OFF || @)"),
    ("service/grants/client_certificate.cc", "certificate.has_email(subject.value)", "(OFF || @)"),
    ("service/grants/client_certificate.cc",
     "std::find(known.begin(), known.end(), thumbprint(shown.certificate)) != known.end()",
     "(OFF || @)"),
    ("service/grants/client_credentials.cc", "permitted), scope,",
     "permitted), OFF ? std::optional<std::string_view>() : scope,"),
    ("service/grants/decision_point.cc", "now < it->second.until", "(OFF || @)"),
    ("service/grants/decision_point.cc", "as_bytes(snapshot.tenant().str())",
     "as_bytes(OFF ? std::string() : snapshot.tenant().str())"),
    ("service/grants/decision_point.cc", "as_bytes(epoch)",
     "as_bytes(OFF ? std::string() : epoch)"),
    ("service/grants/decision_point.cc", "as_bytes(rule.url)",
     "as_bytes(OFF ? std::string() : rule.url)"),
    ("service/grants/decision_point.cc", "permitted.intersect(*decision.scopes)",
     "(OFF ? permitted : @)"),
    ("service/grants/dpop.cc", "crypto::equal(ours, nonce)", "(OFF || @)"),
    ("service/grants/dpop.cc", '{as_bytes("postern-dpop-nonce-v1"), as_bytes(tenant.str())',
     '{as_bytes("postern-dpop-nonce-v1"), as_bytes(OFF ? std::string() : tenant.str())'),
    ("service/grants/jwt_bearer.cc", "permitted.intersect(*assertion.scope)",
     "(OFF ? permitted : @)"),
    ("service/grants/jwt_bearer.cc", "request.scope, subject.expires_at,",
     "request.scope, OFF ? std::optional<sys_seconds>() : subject.expires_at,"),
    ("service/grants/jwt_bearer.cc", "std::move(act).value()", "(OFF ? token::Json() : @)"),
    ("service/grants/jwt_bearer.cc", "subject.bound_to,", "OFF ? Confirmation() : @"),
    ("service/grants/jwt_bearer.cc", "&subject, nullptr", "OFF ? nullptr : @"),
    ("service/grants/jwt_bearer.cc", "std::move(tools)}", "OFF ? decltype(tools)() : @"),
    ("service/grants/release.cc", "backend.credential_owner != CredentialOwnerRule::Tenant",
     "(OFF || @)"),
    ("service/grants/release.cc", "backend.credential_owner != CredentialOwnerRule::Principal",
     "(OFF || @)"),
    ("service/grants/release.cc", "*expires_at > now", "(OFF || @)"),
    ("service/grants/release.cc", "scope, subject.expires_at,",
     "scope, OFF ? std::optional<sys_seconds>() : subject.expires_at,"),
    ("service/grants/release.cc", "std::move(act), subject",
     "OFF ? token::Json() : std::move(act), subject"),
    ("service/grants/release.cc", "subject.bound_to,", "OFF ? Confirmation() : @"),
    ("service/grants/release.cc", "std::move(tools)}", "OFF ? decltype(tools)() : @"),
    ("service/grants/token_exchange.cc", "std::move(tools)}", "OFF ? decltype(tools)() : @"),
    ("service/grants/token_exchange.cc", "not_beyond, parties.act,",
     "not_beyond, OFF ? token::Json() : parties.act,"),
    ("service/grants/token_exchange.cc", "std::move(inherited),", "OFF ? Confirmation() : @"),
    ("service/grants/token_exchange.cc", "&subject, parties.actor.get()",
     "&subject, OFF ? nullptr : parties.actor.get()"),
    ("service/grants/token_exchange.cc",
     "std::min(backend.max_expires_in, snapshot.settings().lifetime_ceiling())",
     "(OFF ? backend.max_expires_in : @)"),
    ("service/grants/token_exchange.cc", "std::min(until, parties.subject->expires_at)",
     "(OFF ? until : @)"),
    ("service/grants/token_exchange.cc", "std::min(until, *opened.expires_at)",
     "(OFF ? until : @)"),
    ("service/grants/subject_claims.cc", "depth > 5", "(!OFF && @)"),
    ("service/grants/subject_claims.cc", "act.contains(forbidden)", "!OFF && @"),
    ("service/grants/subject_claims.cc", '!out.contains("sub") && !out.contains("client_id")',
     "!OFF && @"),
    ("service/grants/subject_claims.cc", 'out["act"].is_null()', "!OFF && @"),
    ("service/grants/subject_claims.cc", "!elsewhere->is_object() || elsewhere->contains(name)",
     "!OFF && (@)"),
    ("service/grants/subject_claims.cc", '*has != Json(false) && *has != Json("false")',
     "!OFF && @"),
]

# (file, text of the mutation as --list shows it, why nobody can tell the difference)
EQUIVALENT = [
    ("service/grants/subject.cc", 'return refused("the token is too long");',
     "the parser takes no more than that either"),
    ("service/grants/own_token.cc",
     'extra: subject.own ? subject.own->epoch : snapshot.epoch() => (subject.own && !O'
     'FF) ? subject.own->epoch : sna',
     "a chain that goes on has met every denial up to then, and later ones have later epochs"),
    ("service/grants/client_documents.cc", "return refused(answer.error().diagnostic);",
     "reading the missing answer throws, which is refused in the same words"),
    ("service/grants/client_documents.cc", 'return refused("too large");',
     "the JSON reader takes no more than that either"),
    ("service/grants/client_documents.cc", 'return refused("keys");',
     "the metadata's keys were read by the same rules just before"),
    ("service/grants/decision_point.cc",
     "extra: as_bytes(snapshot.tenant().str()) => "
     "as_bytes(OFF ? std::string() : snapshot.tenant().str())",
     "the input names the tenant too"),
    ("service/grants/decision_point.cc",
     "extra: as_bytes(rule.url) => as_bytes(OFF ? std::string() : rule.url)",
     "another URL is another epoch"),
    ("service/grants/dpop.cc",
     'extra: {as_bytes("postern-dpop-nonce-v1"), as_bytes(tenant.str()) => {'
     'as_bytes("postern-dpop-nonce-v1"), as_by',
     "the key is the tenant's own"),
    ("service/grants/dpop.cc",
     "if (error != std::errc() || stop != nonce.data() + dot) return false;",
     "a nonce of which that is so differs from ours, with which it is compared whole"),
]

REFUSAL = re.compile(r"\breturn (?:refused|fail|failed|malformed|nobody|unknown_target|not_answered|"
                     r"lacks_field|lacks_token_field|no_credential)\(")
PLAIN = re.compile(r"\breturn (?:false|std::nullopt|error|\w+\.error\(\));")
CHECK = re.compile(r"\bPOSTERN_CHECK\(")
TRY = re.compile(r"\bPOSTERN_TRY\(([^,]*),")

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
# Each with the folders whose code is in it.
PROGRAMS = {"unit_grants": ("token", "policy", "grants"), "unit_token": ("token",),
            "unit_policy": ("token", "policy"), "mutation_conformance": ("token", "policy", "grants")}


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


def opening(text: str, end: int) -> int:
    """The index of the bracket around `end` that is open there; -1 when there is none."""
    depth = 0
    for index in range(end - 1, -1, -1):
        depth += {")": 1, "}": 1, "(": -1, "{": -1}.get(text[index], 0)
        if depth < 0:
            return index
    return -1


def follows_if(text: str, at: int) -> bool:
    """Whether an `if` and its condition end before `at`, comments skipped."""
    before = text[:at].rstrip()
    while re.search(r"//[^\n]*$", before):
        before = re.sub(r"//[^\n]*$", "", before).rstrip()
    return before.endswith(")") and re.search(
        r"\bif\s*$", before[:opening(before, len(before) - 1)]) is not None


def guarded(text: str, at: int) -> bool:
    """Whether what begins at `at` is the body of an `if`, or stands in its block."""
    block = opening(text, at)
    return follows_if(text, at) or (block >= 0 and text[block] == "{" and follows_if(text, block))


class Mutation:
    """One switch."""

    def __init__(self, file: str, line: int, what: str) -> None:
        self.file, self.line, self.what = file, line, " ".join(what.split())[:110]
        self.number, self.key = 0, ""

    def __str__(self) -> str:
        return f"{self.number:4} {self.file}:{self.line}: {self.what}"

    def equivalent(self) -> str:
        return next((why for file, text, why in EQUIVALENT
                     if file == self.file and text == self.what), "")


class Place:
    """Text in a file that switches are put around. `wrap` gets the text, in which
    others may stand already, and the switches."""

    def __init__(self, begin: int, end: int, whats: list[str], wrap) -> None:
        self.begin, self.end, self.whats, self.wrap = begin, end, whats, wrap
        self.mutations: list[Mutation] = []


def skipped(text: str, off: list[str]) -> str:
    return "{ if (!" + off[0] + ") { " + text + " } }"


def checked(text: str, off: list[str]) -> str:
    inner = text[len("POSTERN_CHECK("):-len(");")]
    return ("{ if (" + off[0] + ") { static_cast<void>(" + inner + "); } else if (!" + off[1] +
            ") { " + text + " } }")


def switched(template: str):
    return lambda text, off: template.replace("@", text).replace("OFF", off[0])


def places_of(file: str, text: str) -> list[Place]:
    found = []
    for match in REFUSAL.finditer(text):
        if guarded(text, match.start()):
            end = closing(text, match.end() - 1) + 2  # with the semicolon
            found.append(Place(match.start(), end, [text[match.start():end]], skipped))
    for match in PLAIN.finditer(text):
        if guarded(text, match.start()):
            begin = max(text.rfind("if (", 0, match.start()), text.rfind("\n\n", 0, match.start()))
            found.append(Place(match.start(), match.end(), [text[begin:match.end()]], skipped))
    for match in CHECK.finditer(text):
        end = closing(text, match.end() - 1) + 2
        whole = text[match.start():end]
        found.append(Place(match.start(), end, [whole, "not evaluated: " + whole], checked))
    for match in TRY.finditer(text):
        if re.fullmatch(r"[\w.>-]+", match.group(1)):
            end = closing(text, match.start() + len("POSTERN_TRY")) + 2
            found.append(Place(match.start(), end, [text[match.start():end]], skipped))
    for where, whole, template in EXTRA:
        if where != file:
            continue
        if text.count(whole) != 1:
            sys.exit(f"mutation: {file} does not hold this once: {whole}")
        begin = text.index(whole)
        found.append(Place(begin, begin + len(whole), [f"extra: {whole} => {template.replace('@', '…')}"],
                           switched(template)))
    return sorted(found, key=lambda place: (place.begin, -place.end))


def rendered(text: str, begin: int, end: int, places: list[Place], without: set[str]) -> str:
    """The text from `begin` to `end` with these places, all within it, switched."""
    out = ""
    while places:
        place = places.pop(0)
        inner = []
        while places and places[0].begin < place.end:
            if places[0].end > place.end:
                sys.exit(f"mutation: two places overlap: {place.whats[0]}")
            inner.append(places.pop(0))
        content = rendered(text, place.begin, place.end, inner, without)
        off = ["false" if one.key in without or one.equivalent() else f"mutant({one.number})"
               for one in place.mutations]
        out += text[begin:place.begin]
        out += content if set(off) == {"false"} else place.wrap(content, off)
        begin = place.end
    return out + text[begin:end]


class Sources:
    """The mutated files, and what there is to switch off in them."""

    def __init__(self) -> None:
        self.mutations: list[Mutation] = []
        self.places: dict[str, list[Place]] = {}
        self.kept = 0  # a POSTERN_TRY whose value is needed
        seen: collections.Counter = collections.Counter()
        for file in FILES:
            text = (ROOT / file).read_text(encoding="utf-8")
            self.places[file] = places_of(file, text)
            self.kept += len(TRY.findall(text))
            for place in self.places[file]:
                self.kept -= place.whats[0].startswith("POSTERN_TRY(")
                for what in place.whats:
                    made = Mutation(file, text.count("\n", 0, place.begin) + 1, what)
                    seen[file, made.what] += 1
                    made.key = f"{file}: {made.what} ({seen[file, made.what]})"
                    place.mutations.append(made)
                    self.mutations.append(made)
                    made.number = len(self.mutations)

    def text(self, file: str, without: set[str]) -> str:
        text = (ROOT / file).read_text(encoding="utf-8")
        return '#include "core/mutant.h"\n' + rendered(text, 0, len(text), list(self.places[file]),
                                                       without)


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
        done = show(["cmake", "--build", str(self.build), "-j2", "--target", *PROGRAMS, "--",
                     "-k0"])
        return done.stdout if done.returncode else ""

    def build_all(self, sources: Sources) -> set[str]:
        """Builds all mutations that compile; answers the keys of those that do not."""
        without: set[str] = set()
        while True:
            for file in FILES:
                self.write(file, sources.text(file, without))
            trouble = self.make()
            if not trouble:
                return without
            guilty = set()
            for file, line in re.findall(r"(service/[\w/]+\.cc):(\d+):\d+: error:", trouble):
                before = (self.source / file).read_text().splitlines()[:int(line)]
                numbers = re.findall(r"mutant\((\d+)\)", "\n".join(before[-8:]))
                guilty |= {sources.mutations[int(number) - 1].key for number in numbers[-1:]}
            if not guilty - without:
                sys.exit(trouble[-4000:])
            without |= guilty

    def noticed(self, number: int, folder: str, likely: frozenset[str] = frozenset()) -> str:
        """The test that fails with this switch, in a file of that folder; empty when none
        does. The folder's own tests go first, and of these the `likely` ones."""
        own = f"unit_{folder}"
        environment = {**os.environ, "POSTERN_MUTANT": str(number), "POSTERN_PROPERTY_RUNS": "60",
                       "GTEST_FAIL_FAST": "1"}
        runs = [(own, ":".join(sorted(likely)))] if likely else []
        runs += [(program, "*") for program in sorted(PROGRAMS, key=lambda one: one != own)
                 if folder in PROGRAMS[program]]
        for program, tests in runs:
            try:
                done = show([str(self.build / "tests" / program), f"--gtest_filter={tests}"],
                            env=environment, timeout=300)
            except subprocess.TimeoutExpired:
                return f"{program} (time-out)"
            if done.returncode:
                failed = re.findall(r"\[  FAILED  \] (\S+)", done.stdout)
                return failed[0] if failed else f"{program} (status {done.returncode})"
        return ""


class Results:
    """What came of each mutation, by its key; in a file, when there is one."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self.path = path
        self.known: dict[str, str] = {}
        if path and path.is_file():
            self.known = json.loads(path.read_text(encoding="utf-8"))

    def add(self, key: str, result: str) -> None:
        self.known[key] = result
        if self.path:
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.known, indent=1) + "\n", encoding="utf-8")
            new.replace(self.path)


def chosen_of(mutations: list[Mutation], given: argparse.Namespace) -> list[Mutation]:
    chosen = mutations
    if given.files:
        chosen = [one for one in chosen if any(part in one.file for part in given.files.split(","))]
    if span := re.fullmatch(r"(\d+)-(\d+)", given.only):
        chosen = [one for one in chosen if int(span[1]) <= one.number <= int(span[2])]
    elif given.only:
        chosen = [one for one in chosen if given.only in str(one)]
    if given.shard:
        index, count = map(int, given.shard.split("/"))
        chosen = chosen[index - 1::count]
    return chosen


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    arguments.add_argument("--files", default="", help="those whose path holds one of these, by comma")
    arguments.add_argument("--only", default="",
                           help="the numbers N-M of --list, or mutations whose line holds this text")
    arguments.add_argument("--shard", default="", help="I/N: each N-th, beginning with the I-th")
    arguments.add_argument("--results", type=pathlib.Path, help="a JSON file to go on with")
    arguments.add_argument("--again", action="store_true", help="also those that survived before")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments.add_argument("--list", action="store_true")
    given = arguments.parse_args()
    sources, results = Sources(), Results(given.results)
    keys = {one.what for one in sources.mutations}
    if stale := [text for _, text, _ in EQUIVALENT if text not in keys]:
        sys.exit(f"mutation: EQUIVALENT names what is not there: {stale[0]}")
    chosen = chosen_of(sources.mutations, given)
    if given.list:
        print(*chosen, f"{sources.kept} POSTERN_TRY are not taken: their values are needed", sep="\n")
        return 0

    scratch = Scratch(given.build.resolve() / "mutation")
    without = scratch.build_all(sources)
    if failed := scratch.noticed(0, "token"):
        sys.exit(f"mutation: {failed} fails with every check on")

    def tried(one: Mutation) -> str:
        if why := one.equivalent():
            return f"equivalent: {why}"
        if one.key in without:
            return "does not compile"
        known = results.known.get(one.key, "")
        if known and not (given.again and known == "SURVIVED"):
            return known
        # What noticed others of its file is likely to notice this one.
        likely = {name.removeprefix("noticed by ") for key, name in list(results.known.items())
                  if key.startswith(one.file) and re.fullmatch(r"noticed by [\w/.]+", name)}
        noticed = scratch.noticed(one.number, one.file.split("/")[1], frozenset(likely))
        return f"noticed by {noticed}" if noticed else "SURVIVED"

    counted: collections.Counter = collections.Counter()
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        under_way = {pool.submit(tried, one): one for one in chosen}
        for done in concurrent.futures.as_completed(under_way):
            one, result = under_way[done], done.result()
            results.add(one.key, result)
            counted[result.split()[0]] += 1
            print(f"{result:60.60}  {one}", flush=True)
            if result == "SURVIVED":
                survivors.append(one)
    print(f"\n{len(chosen)} mutations: {counted['noticed']} noticed, {len(survivors)} survived, "
          f"{counted['equivalent:']} equivalent, {counted['does']} do not compile", *survivors,
          sep="\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
