#!/usr/bin/env python3
"""Holds a running posternd to sdk/openapi.yaml: contract_test.py [BUILD-DIRECTORY]

Each call says which operation it makes and which status must come. The answer must be as
the document has it: status, content type, headers, body, and no member that is not there.
At the end the document is held to the calls: what it promises and no call has shown is a
failure too, be it a status, a parameter, a member, a security scheme or a route.

Ends with `N passed, N failed`.
"""

import base64
import concurrent.futures
import http.client
import http.server
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import urllib.parse

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "compose/demo"), str(ROOT / "tests/docs")]

import idp  # noqa: E402
from check_commands import free_port  # noqa: E402
from openapi import METHODS, Answer, Contract, Operation  # noqa: E402

# What no call can show, and why. An entry that a call does show is a failure.
UNPROVOKED = {
    ("exchange", 404): "the tenant is deleted between the decision and its audit record",
    ("release", 404): "the tenant is deleted between the decision and its audit record",
    ("applyManifest", 404): "the tenant is deleted while its manifest is being applied",
    ("withdrawSigningKey", 409): "the tenant changes between two statements",
    ("getErasure", 403): "a user's token that lacks a scope of settings.api_scopes",
    ("erasePrincipal", 202): "the share store is away",
    ("eraseTenant", 202): "the share store is away",
    ("promoteAnnounced", 202): "another replica is at the next step",
    ("revoke", 429): "the tenant has 20,000 revoked tokens",
}
UNSEEN = {
    "AuditVerification.first_bad": "needs an altered database",
    "AuditVerification.problem": "needs an altered database",
    "Readiness.root_keys": "needs another root key than the database's",
    "Readiness.root_keys.given": "needs another root key than the database's",
    "Readiness.root_keys.wanted": "needs another root key than the database's",
    "TokenStatus.cnf": "needs a client with a key to bind a token to",
    "TokenStatus.authorization_details": "no backend of these tenants has any",
    "TokenStatus.acr": "the demo provider does not say how a user authenticated",
    "TokenStatus.amr": "the demo provider does not say how a user authenticated",
    "TokenStatus.auth_time": "the demo provider does not say how a user authenticated",
}

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
CREDENTIAL = "https://postern-project.org/oauth/token-type/credential"
LATER = "2999-12-31T23:59:59Z"
SECRET = "a-secret-of-this-test-and-long-enough-for-it"
OVERSIZE = b'{"fields": "' + b"x" * 1024 * 1024 + b'"}'
FILES = "https://files.mcp.example/mcp"

counts = {"passed": 0, "failed": 0}


def report(ok: bool, name: str, detail: str = "") -> None:
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print(f"   FAILED  {name}\n{textwrap.indent(detail, ' ' * 11)}".rstrip(), flush=True)


def eventually(happened) -> None:
    """Waits a minute at most. What is asked next says whether it did."""
    for _ in range(600):
        if happened():
            return
        time.sleep(0.1)


class Server:
    """A posternd of our own, with its own PostgreSQL, on free ports."""

    def __init__(self, build: pathlib.Path, folder: pathlib.Path):
        self.data = folder / "service"
        self.log = folder / "posternd.log"
        self.port = free_port()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(build / "posternd"), "dev", "--data-dir", str(self.data),
                 "--port", str(self.port), "--ops-port", str(self.port + 1)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def wait(self) -> bool:
        for _ in range(1200):
            if b"Postern is ready" in self.log.read_bytes():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.1)
        return False

    def operator_token(self) -> str:
        return (self.data / "operator.token").read_text().split()[0]

    def stop_database(self) -> None:
        data = self.data / "postgres/pgdata"
        pid = int((data / "postmaster.pid").read_text().split()[0])
        data.rename(data.with_name("pgdata.away"))  # or posternd starts it again
        os.kill(pid, signal.SIGINT)

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its PostgreSQL goes with it
            return self.process.wait()


class Tester:
    def __init__(self, contract: Contract, server: Server):
        self.contract = contract
        self.server = server
        self.credentials = {"": None, "garbage": "Bearer garbage"}  # of callers, by name
        self.admitted = set()  # (operation, security scheme) that got past 401 and 403
        self.numbers = itertools.count(1)
        # A path parameter that a call does not give.
        self.path = {"tenant": "acme", "client": "gw-01", "credential": "github",
                     "token_id": "nothing", "secret_id": "nothing", "kid": "nothing",
                     "version": "1", "erasure": "nothing",
                     "erased": "nothing"}

    def exchange(self, method: str, target: str, headers: dict, body: bytes | None,
                 port: int = 0) -> Answer:
        request_id = f"contract-{next(self.numbers)}"
        connection = http.client.HTTPConnection("127.0.0.1", port or self.server.port, timeout=60)
        try:
            connection.request(method, target, body, {"X-Request-Id": request_id, **headers})
            reply = connection.getresponse()
            names = [name.lower() for name, _ in reply.getheaders()]
            assert len(names) == len(set(names)), f"a header came twice: {names}"
            return Answer(reply.status, dict(zip(names, [text for _, text in reply.getheaders()])),
                          reply.read(), request_id, "Authorization" in headers)
        finally:
            connection.close()

    def seen(self, path: str, who: str = "admin") -> dict:
        """What one of the tenant reads there, of no account for the contract."""
        answer = self.exchange("GET", f"/api/v1/tenants/acme/{path}",
                               {"Authorization": self.credentials[who]}, None)
        return json.loads(answer.body)

    def call(self, name: str, status, why: str = "", *, who: str = "", query=(), headers=None,
             body=None, media: str = "application/json", **path) -> Answer:
        """One request. `status` is the one that must come, or the set of those that may.

        A body of bytes is sent as it is, any other as the media type says.
        """
        operation = self.contract.operations[name]
        headers = dict(headers or {})
        value = body
        if body is not None:
            headers.setdefault("Content-Type", media)
            if media == "application/x-www-form-urlencoded" and not isinstance(body, bytes):
                body = urllib.parse.urlencode(body, doseq=True).encode()
            elif not isinstance(body, bytes):
                body = json.dumps(body).encode()
        if authorization := self.credentials[who]:
            headers["Authorization"] = authorization
        target = operation.path
        for each in operation.names("path"):
            text = str({**self.path, **path}[each])
            target = target.replace("{" + each + "}", urllib.parse.quote(text, safe=""))
        if query:
            target += "?" + urllib.parse.urlencode(query, doseq=True)
        # Metrics have a port of their own.
        answer = self.exchange(operation.method, target, headers, body,
                               self.server.port + 1 if name == "metrics" else 0)

        faults = self.contract.faults_of_answer(operation, answer)
        wanted = status if isinstance(status, (set, range)) else {status}
        if answer.status not in wanted:
            faults.insert(0, f"wanted {status}, got {answer.status}: {answer.body[:300]!r}")
        if answer.status < 300:
            faults += self.faults_of_accepted(operation, dict(query), headers, value, media)
        if answer.status not in (401, 403):
            self.admitted.add((name, self.scheme(who)))
        report(not faults, f"{name} {status}{', ' if why else ''}{why}", "\n".join(faults))
        return answer

    @staticmethod
    def scheme(who: str) -> str:
        return {"admin": "tenantAdmin", "initial": "initialToken"}.get(who, who)

    def faults_of_accepted(self, operation: Operation, query: dict, headers: dict, body, media):
        """What the server took must be what the document says it takes."""
        for name in query:
            if name not in operation.names("query"):
                yield f"query parameter {name} is not documented"
            self.contract.parameters.add((operation.id, "query", name))
        for name in operation.names("header") & set(headers):
            self.contract.parameters.add((operation.id, "header", name))
        if body is None or isinstance(body, bytes):
            return
        if media not in operation.request:
            yield f"a body of type {media} is not documented"
            return
        schema = operation.request[media]
        for error in self.contract.errors(schema, body):
            yield f"accepted, though the document forbids it: {error}"
        list(self.contract.walk(schema, body, self.contract.sent))

    def token(self, status, why: str, form, **more) -> Answer:
        return self.call("token", status, why, body=form,
                         media="application/x-www-form-urlencoded", **more)


# The tenants, so that every member of a manifest is used.

def manifest(tenant: str, jwks: dict) -> dict:
    return {
        "tenant": tenant,
        "display_name": f"The tenant {tenant}",
        "enabled": True,
        "settings": {"max_token_lifetime": 3600,
                     "connect_url": "https://portal.example/connect?backend={backend}",
                     "vault_api": {
                         "mount": "secret", "clients": ["gw-01"],
                         "views": [{"path": "mcp-gateway/{sub}", "backend": "github"},
                                   {"path": "{preferred_username}/{backend}"}],
                         "transit": {"rules": [{"clients": ["gw-01"], "keys": ["*"],
                                                "operations": ["encrypt", "decrypt"]}]}},
                     "registration": {
                         "dynamic": True, "client_id_metadata": ["https://agents.example/"],
                         "grants": ["token-exchange"], "backends": ["files"],
                         "authentication": ["client_secret", "private_key_jwt", "tls_client_auth"],
                         "scopes": ["files:read"], "audiences": ["gw-01"], "dpop_bound": False,
                         "max_clients": 50, "secret_expires_in": 86400}},
        "issuers": [{
            "name": "corp", "issuer": f"https://idp.{tenant}.example", "jwks": jwks,
            "algorithms": ["ES256"], "audiences": ["gw-01"],
            "token_types": ["access_token", "jwt", "id_token"],
            "claims": {"subject": "sub", "groups": "groups", "scope": ""},
            "subject_prefix": "corp:", "max_token_age": 86400, "id_jag_reuse": False,
            "enabled": True}],
        "clients": [
            {"id": "gw-01", "secret": f"{tenant}-{SECRET}", "backends": ["*"], "scopes": ["*"],
             "grants": ["token-exchange", "client_credentials"], "audiences": ["gateway"],
             "default_backend": "files", "introspects": ["files"],
             "introspection_algorithm": "ES256", "enabled": True},
            {"id": "gw-02", "secret": f"{tenant}-2-{SECRET}", "backends": ["files"],
             "scopes": ["files:read"], "grants": ["client_credentials"]},
            {"id": "gw-03"}],
        "backends": [
            {"name": "files", "audience": FILES, "aliases": ["docs"], "aud_as_requested": False,
             "scopes": ["files:read", "files:write"], "answer": "minted",
             "signing_algorithm": "ES256", "max_expires_in": 300, "enabled": True,
             "delivery": {"env": {"FILES_TOKEN": "{access_token}"},
                          "headers": {"Authorization": "Bearer {access_token}"}}},
            {"name": "reports", "audience": "https://reports.mcp.example/mcp",
             "scopes": ["reports:read"], "signing_algorithm": "RS256"},
            {"name": "ledger", "audience": "https://ledger.mcp.example/mcp",
             "require": {"acr": ["urn:gold"], "amr": ["hwk"], "max_auth_age": 600}},
            {"name": "github", "audience": "https://github.mcp.example/mcp",
             "scopes": ["repo:read"], "answer": "vaulted",
             "credential": {"name": "github", "owner": "principal"}, "token_field": "token",
             "delivery": {"env": {"GITHUB_TOKEN": "{token}"},
                          "files": [{"name": "github.json", "env": "GITHUB_FILE",
                                     "content": "{token}"}]}}],
        "roles": [{"name": "developer", "allow": ["*:*"], "deny": ["files:files:write"],
                   "tools": ["reports:*:*"]}],
        "bindings": [{"name": "devs", "role": "developer", "groups": ["corp:engineering"],
                      "subjects": [{"issuer": f"https://idp.{tenant}.example",
                                    "subject": "carol"}]}],
        "credentials": [{"name": "shared-db", "fields": ["url"]}],
    }


def make_tenants(tester: Tester, folder: pathlib.Path) -> dict:
    """Two tenants, and a caller of every kind in each. Returns what was made."""
    made = {}
    tester.credentials["operator"] = "Bearer " + tester.server.operator_token()
    for tenant, suffix in (("acme", ""), ("globex", " of globex")):
        keys = folder / tenant
        idp.make_keys(keys)
        text = manifest(tenant, json.loads((keys / "idp.jwks.json").read_text()))
        answer = tester.call("applyManifest", 201, who="operator", body=text, tenant=tenant)
        report([each["client"] for each in answer.json["client_secrets"]] == ["gw-03"],
               "a secret is made for the client that has none")
        admin = tester.call("createAdminToken", 201, who="operator", tenant=tenant,
                            body={"description": "contract", "expires_at": LATER}).json
        issuer = f"https://idp.{tenant}.example"
        for user, groups in (("alice", "engineering"), ("bob", "support"),
                             ("carol", "engineering")):
            made[user + suffix] = idp.token(keys, issuer, user, "gw-01", groups, "")
        basic = base64.b64encode(f"gw-01:{tenant}-{SECRET}".encode()).decode()
        second = base64.b64encode(f"gw-02:{tenant}-2-{SECRET}".encode()).decode()
        tester.credentials |= {
            "admin" + suffix: "Bearer " + admin["token"], "client" + suffix: "Basic " + basic,
            "client without users" + suffix: "Basic " + second,
            "user" + suffix: "Bearer " + made["alice" + suffix]}
        initial = tester.call("createInitialAccessToken", 201, who="operator", tenant=tenant,
                              body={"description": "contract", "max_uses": 1000}).json
        tester.credentials["initial" + suffix] = "Bearer " + initial["token"]
        made[tenant] = text
        made["admin id" + suffix] = admin["token_id"]
    return made


# What holds for every operation.

def check_callers(tester: Tester) -> None:
    """Each kind of caller at each operation: in as the document says, else 401 or 403."""
    kinds = {"operator": "operator", "tenantAdmin": "admin", "user": "user", "client": "client"}
    for operation in tester.contract.operations.values():
        if operation.security & set(kinds) == set() or "" in operation.security:
            continue  # public; or the token endpoint, whose clients may also be in the body
        # One that harms nothing: no body that is taken, no name that exists.
        harmless = {"body": []} if operation.request else {}
        for scheme, who in kinds.items():
            # The tenant is new: what an admitted caller asks for is not there, malformed,
            # or another operation's.
            wanted = {200, 400, 404, 409} if scheme in operation.security else {401, 403}
            tester.call(operation.id, wanted, who=who, why=f"as {who}", **harmless)
        for who in ("", "garbage"):
            tester.call(operation.id, 401, who=who, why=f"as {who or 'nobody'}", **harmless)
        if "tenant" not in operation.names("path"):
            continue
        for who in ("admin of globex", "user of globex", "client of globex"):
            tester.call(operation.id, 401, who=who, why=f"as {who}", **harmless)
        for scheme in operation.security - {"operator"}:
            tester.call(operation.id, 401, who=kinds[scheme], why="unknown tenant",
                        tenant="nobody", **harmless)


def check_inputs(tester: Tester) -> None:
    for operation in tester.contract.operations.values():
        who = "client" if "client" in operation.security else "operator"
        who = who if who in operation.security else ""
        who = "initial" if operation.security == {"initialToken"} else who
        who = "admin" if operation.security == {"tenantAdmin"} else who
        if 404 in operation.responses and who in ("operator", "admin") and (
                operation.id != "applyManifest"):
            # Only operators are told; where they may do nothing, they are told as well.
            tester.call(operation.id, 404, who="operator", why="unknown tenant", tenant="nobody",
                        body={} if operation.request else None)
            tester.call(operation.id, 404, who="operator", why="malformed tenant",
                        tenant="No Tenant", body={} if operation.request else None)
        if who in ("", "initial") and "tenant" in operation.names("path"):
            tester.call(operation.id, 404, why="unknown tenant", tenant="nobody")
        body = {} if operation.request else None
        if operation.path.startswith("/api/"):
            tester.call(operation.id, 400, who=who, why="unknown parameter", body=body,
                        query={"undescribed": 1})
        if operation.names("query"):
            name = sorted(operation.names("query"))[0]
            tester.call(operation.id, 400, who=who, why="repeated parameter", body=body,
                        query={name: ["true", "true"]})
        for media in operation.request:
            for status, what, body in ((400, "empty", b""), (400, "half", b"{"),
                                       (400, "not UTF-8", b'{"\xff": 1}'),
                                       (400, "no object", b"[]"), (413, "oversize", OVERSIZE)):
                if body == b"" and not operation.body_required:
                    continue  # as none
                tester.call(operation.id, status, who=who, media=media, body=body,
                            why=f"{what} body")


def check_broken(tester: Tester, name: str, values: list, also=frozenset(), **more) -> None:
    """What the schema of a JSON body forbids, the server refuses: each constraint once."""
    [schema] = tester.contract.operations[name].request.values()
    done = set()
    for value in values:
        for what, broken in tester.contract.broken(schema, value, done):
            report(bool(tester.contract.errors(schema, broken)), f"{what} breaks the schema")
            tester.call(name, {400, 413, 422, *also}, why=f"body: {what}", body=broken, **more)


# Operation by operation.

def check_public(tester: Tester) -> None:
    for name in ("jwks", "metadata", "resourceMetadata", "tenantResourceMetadata"):
        tester.call(name, 200)
    algorithms = {each["alg"] for each in tester.call("jwks", 200).json["keys"]}
    report(algorithms == {"ES256", "EdDSA", "RS256"}, "a key of each algorithm", str(algorithms))
    tester.call("authorize", 400, "no codes here")
    for name in ("livez", "readyz", "metrics"):
        tester.call(name, 200)


def check_token(tester: Tester, made: dict) -> None:
    exchange = {"grant_type": EXCHANGE, "subject_token": made["alice"],
                "subject_token_type": ACCESS_TOKEN}
    in_body = {"client_id": "gw-01", "client_secret": f"acme-{SECRET}"}
    tester.token(200, "the default backend", exchange, who="client")
    tester.token(200, "all there is",
                 {**exchange, "audience": ["files"], "resource": [FILES], "scope": "files:read",
                  "actor_token": made["bob"], "actor_token_type": JWT,
                  "requested_token_type": JWT, **in_body})
    tester.token(200, "an unknown parameter is ignored", {**exchange, "undescribed": "1"},
                 who="client")
    own = {"grant_type": "client_credentials"}
    tester.token(200, "client_credentials", own, who="client")
    tester.token(200, "client_credentials, all there is",
                 {**own, "audience": ["files"], "resource": [FILES], "scope": "files:read",
                  **in_body})

    def refused(error: str, why: str, form, status: int = 400, **more) -> None:
        answer = tester.token(status, f"{error}: {why}", form, **more)
        report(answer.json.get("error") == error, f"token {error}: {why}", answer.body.decode())

    refused("invalid_request", "no grant_type", {}, who="client")
    refused("invalid_request", "a parameter twice", {**exchange, "scope": ["a", "b"]}, who="client")
    refused("invalid_request", "no subject token", {"grant_type": EXCHANGE}, who="client")
    refused("invalid_request", "malformed subject token", {**exchange, "subject_token": "x.y.z"},
            who="client")
    refused("invalid_request", "subject token of another tenant",
            {**exchange, "subject_token": made["alice of globex"]}, who="client")
    refused("invalid_request", "unknown token type", {**exchange, "subject_token_type": "urn:x"},
            who="client")
    refused("invalid_request", "actor token without its type",
            {**exchange, "actor_token": made["bob"]}, who="client")
    refused("invalid_request", "two ways to authenticate", {**exchange, **in_body}, who="client")
    refused("invalid_request", "secret in the query", exchange, who="client",
            query={"client_secret": "x"})
    refused("invalid_request", "JSON", b"{}", who="client",
            headers={"Content-Type": "application/json"})
    refused("unsupported_grant_type", "password", {"grant_type": "password"}, who="client")
    refused("invalid_target", "unknown", {**exchange, "audience": "nothing"}, who="client")
    refused("invalid_target", "two", {**exchange, "audience": ["files", "reports"]}, who="client")
    refused("invalid_target", "no role", {**exchange, "subject_token": made["bob"]}, who="client")
    refused("invalid_scope", "denied", {**exchange, "scope": "files:write"}, who="client")
    refused("unauthorized_client", "no such grant", exchange, who="client without users")
    refused("invalid_client", "nobody", exchange, 401)
    refused("invalid_client", "wrong secret in the body",
            {**exchange, "client_id": "gw-01", "client_secret": "wrong"}, 401)
    refused("invalid_client", "client of another tenant", exchange, 401, who="client of globex")
    refused("invalid_client", "Bearer", exchange, 401, who="operator")
    refused("invalid_request", "unknown tenant", exchange, 404, who="client", tenant="nobody")
    refused("invalid_request", "a large form", {**exchange, "x": "x" * 65536}, 413, who="client")


def check_token_status(tester: Tester, made: dict) -> None:
    form = "application/x-www-form-urlencoded"
    in_body = {"client_id": "gw-01", "client_secret": f"acme-{SECRET}"}
    exchange = {"grant_type": EXCHANGE, "subject_token_type": ACCESS_TOKEN, "resource": [FILES]}
    first = tester.token(200, "to be asked about", {**exchange, "subject_token": made["alice"]},
                         who="client").json["access_token"]
    token = tester.token(200, "a token of ours", {**exchange, "subject_token": first},
                         who="client").json["access_token"]
    for why, value, active in (("a token", token, True), ("nothing", "nothing", False)):
        answer = tester.call("introspect", 200, why, who="client", body={"token": value}, media=form)
        report(answer.json["active"] is active, f"introspect {why}", answer.body.decode())
    tester.call("introspect", 200, "signed", who="client", body={"token": token}, media=form,
                headers={"Accept": "application/token-introspection+jwt"})
    tester.call("revoke", 200, "nothing", who="client", body={"token": "nothing"}, media=form)
    for name in ("introspect", "revoke"):
        tester.call(name, 200, "in the body", media=form,
                    body={"token": token, "token_type_hint": "access_token", **in_body})
        tester.call(name, 400, "no token", who="client", body={}, media=form)
        tester.call(name, 401, "nobody", body={"token": token}, media=form)
        tester.call(name, 404, "unknown tenant", who="client", body={"token": token}, media=form,
                    tenant="nobody")
        tester.call(name, 413, "a large form", who="client", media=form,
                    body={"token": "x", "x": "x" * 65536})
    answer = tester.call("introspect", 200, "revoked", who="client", body={"token": token},
                         media=form)
    report(answer.body == b'{"active":false}', "a revoked token is inactive")
    tester.call("tenantResourceMetadata", 404, "unknown tenant", tenant="nobody")


def check_signing_keys(tester: Tester) -> None:
    for who in ("operator", "admin"):
        keys = tester.call("listSigningKeys", 200, who=who).json["items"]
        report({each["algorithm"] for each in keys} == {"ES256", "EdDSA", "RS256"}, "all keys")
    made = tester.call("rotateSigningKeys", 201, "one", who="admin",
                       body={"algorithm": "EdDSA", "publish_for": 900}).json["items"]
    tester.call("rotateSigningKeys", 409, "one waits", who="operator", body={})
    tester.call("rotateSigningKeys", 201, "at once", who="operator", body={"publish_for": 0})
    for body in ({"algorithm": "HS256"}, {"publish_for": -1}, {"undescribed": 1}, b"["):
        tester.call("rotateSigningKeys", 400, str(body), who="operator", body=body)
    tester.call("rotateSigningKeys", 413, "a large body", who="operator", body=OVERSIZE)
    keys = tester.call("listSigningKeys", 200, "with retired ones", who="operator").json["items"]
    retired = [each["kid"] for each in keys if each["state"] == "retired"]
    report(len(retired) == 3 and made[0]["kid"] not in [each["kid"] for each in keys],
           "a waiting key is put aside", str(keys))
    for who, kid in (("operator", retired[0]), ("admin", retired[1])):
        tester.call("withdrawSigningKey", 204, who=who, kid=kid)
        tester.call("withdrawSigningKey", 404, "again", who=who, kid=kid)


def check_key_holder(tester: Tester) -> None:
    def share(number: int) -> str:
        return base64.urlsafe_b64encode(bytes([number] * 32)).decode().rstrip("=")
    for who in ("operator", "admin"):
        answer = tester.call("getKeyHolder", 200, who=who).json
        report(answer["state"] == "not-held", "nobody holds the key", str(answer))
    given = {"share": share(1)}
    for name, body in (("sealTenant", {}), ("unsealTenant", given), ("releaseKey", given)):
        tester.call(name, 409, "nobody holds the key", who="admin", body=body)
        tester.call(name, 403, "operators do not", who="operator", body=body)
        tester.call(name, 400, "undescribed", who="admin", body={**body, "undescribed": 1})
        tester.call(name, 413, "a large body", who="admin", body=OVERSIZE)
    tester.call("holdKey", 403, "operators do not", who="operator", body=given)
    tester.call("holdKey", 413, "a large body", who="admin", body=OVERSIZE)
    for body in ({}, {"share": "short"}, {"share": share(1) + "="}, {"share": 1}):
        tester.call("holdKey", 400, str(body), who="admin", body=body)
    answer = tester.call("holdKey", 200, who="admin", body=given).json
    report(answer["state"] == "unsealed" and answer["kek_version"] > 1, "held", str(answer))
    tester.call("holdKey", 200, "again", who="admin", body=given)
    tester.call("holdKey", 409, "another", who="admin", body={"share": share(2)})
    tester.call("holdKey", 403, "not the present one", who="admin",
                body={"share": share(2), "present_share": share(3)})
    tester.call("holdKey", 200, "another in its place", who="admin",
                body={"share": share(2), "present_share": share(1)})
    # Sealed while rows are left, it would take the share of before as well.
    eventually(lambda: tester.seen("key-holder")["rows_left"] == 0)
    sealed = tester.call("sealTenant", 200, who="admin", body={}).json
    report(sealed["state"] == "sealed", "sealed", str(sealed))
    tester.call("releaseKey", 503, "sealed", who="admin", body={"share": share(2)})
    tester.call("holdKey", 503, "sealed", who="admin",
                body={"share": share(1), "present_share": share(2)})
    ours = {"grant_type": "client_credentials", "audience": ["files"]}
    answer = tester.token(503, "sealed", ours, who="client")
    report(answer.json.get("reason") == "tenant_sealed", "the reason is named", str(answer.json))
    tester.call("unsealTenant", 403, "another's", who="admin", body={"share": share(3)})
    tester.call("unsealTenant", 409, "the one before", who="admin", body={"share": share(1)})
    tester.call("unsealTenant", 200, who="admin", body={"share": share(2)})
    answer = tester.call("releaseKey", 200, who="admin", body={"share": share(2)}).json
    report(answer["state"] == "not-held", "released", str(answer))
    tester.token(200, "unsealed", ours, who="client")


def check_step_up_and_credentials(tester: Tester, made: dict) -> None:
    exchange = {"grant_type": EXCHANGE, "subject_token": made["alice"],
                "subject_token_type": ACCESS_TOKEN}
    detail = json.dumps([{"type": "mcp_tool", "identifier": "read_*", "actions": ["call"]}])
    tester.token(200, "authorization details",
                 {**exchange, "audience": ["files"], "authorization_details": detail}, who="client")
    answer = tester.token(200, "a stored credential", {**exchange, "audience": ["github"]},
                          who="client")
    report(answer.json["token_type"] == "Bearer", "a stored credential is a Bearer")
    answer = tester.token(200, "a stored credential by its type",
                          {**exchange, "audience": ["github"], "requested_token_type": CREDENTIAL},
                          who="client")
    report(answer.json["token_type"] == "N_A", "a stored credential by its type is N_A")
    for question in ({"audience": "github"}, {"audience": "github", "grant": "release"},
                     {"audience": "files", "scope": "", "resource": ""},
                     {"audience": "files", "actor_token": made["alice"],
                      "actor_token_type": ACCESS_TOKEN}):
        answer = tester.call("explain", 200, str(sorted(question)), who="admin", body={
            "client": "gw-01", "subject_token": made["alice"], **question})
        report(answer.json["allowed"], f"explain: {question['audience']} is allowed",
               str(answer.json))
    for error, members, form in (
            ("interaction_required", {"error_uri"},
             {**exchange, "subject_token": made["carol"], "audience": "github"}),
            ("insufficient_user_authentication", {"acr_values", "max_age"},
             {**exchange, "audience": "ledger"}),
            ("invalid_authorization_details", set(),
             {**exchange, "audience": "files", "authorization_details": "[]"})):
        answer = tester.token(400, error, form, who="client")
        report(answer.json.get("error") == error and members <= set(answer.json),
               f"token {error}", answer.body.decode())


def check_exchange(tester: Tester, made: dict) -> None:
    def ask(*items, token: str = made["alice"], **more) -> dict:
        return {"subject_token": token, "items": list(items), **more}

    detail = {"type": "mcp_tool", "identifier": "read_*", "actions": ["call"], "locations": [FILES],
              "constraints": {"path": ["/reports"]}}
    full = {"resource": FILES, "scope": "files:read", "requested_token_type": JWT,
            "authorization_details": [detail]}
    answer = tester.call("exchange", 200, who="client", body=ask(
        full, {"backend": "github"}, {"audience": "nothing"}, {"backend": "ledger"},
        subject_token_type=ACCESS_TOKEN))
    stands = [item.get("error", item["status"]) for item in answer.json["items"]]
    report(stands == ["allowed", "allowed", "invalid_target", "insufficient_user_authentication"],
           "exchange, item by item", str(stands))
    tester.call("exchange", 200, "with an actor", who="client",
                body=ask({"audience": "files"}, actor_token=made["bob"], actor_token_type=JWT))
    tester.call("exchange", 403, "client without users", who="client without users", body=ask(full))
    for token in ("x.y.z", made["alice of globex"]):
        tester.call("exchange", 422, "a token not accepted", who="client",
                    body=ask({"backend": "files"}, token=token))
    check_broken(tester, "exchange",
                 [{**ask(full), "subject_token_type": ACCESS_TOKEN}, ask({"backend": "files"}),
                  ask({"audience": "files"}),
                  ask(full, actor_token=made["bob"], actor_token_type=JWT)], who="client")
    for item in ({}, {"backend": "files", "audience": "files"}):
        tester.call("exchange", 400, "not one target", who="client", body=ask(item))


def check_release(tester: Tester, made: dict) -> None:
    def ask(*items, token: str = made["alice"], **more) -> dict:
        return {"subject_token": token, "items": list(items), **more}

    answer = tester.call("release", 200, who="client", body=ask(
        {"resource": FILES, "scope": "files:read"}, {"backend": "github"},
        {"audience": "nothing"}, {"backend": "reports", "scope": "reports:write"},
        {"backend": "reports"}, subject_token_type=ACCESS_TOKEN))
    stands = [item.get("error", item["status"]) for item in answer.json["items"]]
    report(stands == ["allowed", "allowed", "invalid_target", "invalid_scope", "invalid_request"],
           "release, item by item", str(stands))
    answer = tester.call("release", 200, "nothing stored", who="client of globex", tenant="globex",
                         body=ask({"backend": "github"}, token=made["alice of globex"]))
    [item] = answer.json["items"]
    report(item.get("error") == "interaction_required" and "connect_url" in item,
           "release says where to connect", str(item))

    good = ask({"resource": FILES, "scope": "files:read"})
    tester.call("release", 403, "client without users", who="client without users", body=good)
    for token in ("x.y.z", made["alice of globex"]):
        tester.call("release", 422, "a token not accepted", who="client",
                    body=ask({"backend": "files"}, token=token))
    check_broken(tester, "release",
                 [{**good, "subject_token_type": ACCESS_TOKEN}, ask({"backend": "files"}),
                  ask({"audience": "files"})], who="client")
    for item in ({}, {"backend": "files", "audience": "files"}):
        tester.call("release", 400, "not one target", who="client", body=ask(item))


def check_identities(tester: Tester, made: dict, folder: pathlib.Path) -> None:
    """A tenant with every way to be somebody, and every limit on it."""
    keys = folder / "acme"
    jwks = json.loads((keys / "idp.jwks.json").read_text())
    issuer = "https://idp.acme.example"
    text = manifest("initech", jwks)
    del text["settings"]["registration"]
    del text["settings"]["vault_api"]
    text["settings"]["api_scopes"] = ["vault"]
    text["guardrails"] = {
        "max_token_lifetime": 3600, "issuers": [issuer], "impersonation": False, "reveal": False,
        "vault_api": False,
        "client_authentication": ["client_secret", "private_key_jwt", "tls_client_auth",
                                  "self_signed_tls_client_auth", "workload_identity"],
        "signing_algorithms": ["ES256", "RS256"]}
    text["issuers"][0] |= {
        "issuer": issuer, "token_types": ["access_token", "jwt", "id_token", "id_jag", "jwt_bearer"],
        "id_jag_reuse": True, "header_types": ["application/corp+jwt"],
        "required_claims": {"iss": [issuer]},
        "introspection": {"endpoint": issuer + "/introspect", "client_id": "postern",
                          "credential": "provider", "cache_for": 30}}
    by = {
        "jwt": {"method": "private_key_jwt", "jwks": jwks, "algorithms": ["ES256"],
                "token_endpoint_audience": True, "issuer_slash_audience": False},
        "uri": {"method": "private_key_jwt", "jwks_uri": issuer + "/keys"},
        "own": {"method": "self_signed_tls_client_auth", "certificate_sha256": ["A" * 43]},
        "load": {"method": "workload_identity",
                 "workload": {"issuer": "corp", "audience": "gw-01", "claims": {"sub": ["alice"]}}}}
    for kind, value in (("dn", "CN=gw"), ("dns", "gw.example"), ("uri", "spiffe://gw"),
                        ("ip", "192.0.2.1"), ("email", "gw@example.com")):
        by["tls-" + kind] = {"method": "tls_client_auth", "tls_subject": {kind: value}}
    for name, rule in by.items():
        text["clients"].append({"id": name, "authentication": rule, "backends": ["*"],
                                "audiences": ["gw-01"],
                                "scopes": ["*"], "dpop_bound": name == "jwt",
                                "certificate_bound": name == "own",
                                "grants": ["token-exchange", "client_credentials", "jwt-bearer"]})
    text["backends"][0]["scope_patterns"] = ["user/*"]
    text["bindings"].append({"name": "staff", "role": "developer", "issuer": "corp",
                             "claims": {"department": ["finance"]}})
    text["bindings"][0]["subjects"][0]["issuer"] = issuer
    tester.call("applyManifest", 201, "every member", who="operator", body=text, tenant="initech")
    tester.call("readManifest" if "readManifest" in tester.contract.operations else "getManifest",
                200, "every member", who="operator", tenant="initech")
    tester.call("metadata", 200, "every member", tenant="initech")
    tester.call("tenantResourceMetadata", 200, "every member", tenant="initech")

    # A workload's token is its client's credential.
    mine = {"client_id": "load", "client_assertion": made["alice"],
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    tester.token(200, "a workload exchanges", tenant="initech", form={
        **mine, "grant_type": EXCHANGE, "subject_token": made["alice"],
        "subject_token_type": ACCESS_TOKEN, "resource": [FILES]})
    tester.token(200, "a workload for itself", tenant="initech",
                 form={**mine, "grant_type": "client_credentials", "resource": [FILES]})
    one = {"subject_token": made["alice"], "items": [{"backend": "files"}]}
    for name in ("exchange", "release"):
        answer = tester.call(name, 200, "a workload", tenant="initech", body={**mine, **one})
        report(answer.json["items"][0]["status"] == "allowed", f"{name} for a workload",
               str(answer.json))
        # An assertion that is none is refused as one that is wrong.
        check_broken(tester, name, [{**mine, **one}], {401}, tenant="initech")
        for what, bad in (("another's token", {**mine, "client_assertion": made["bob"]}),
                          ("no id", {key: mine[key] for key in mine if key != "client_id"})):
            tester.call(name, 401, what, tenant="initech", body={**bad, **one})
        for missing in ("client_assertion", "client_assertion_type"):
            tester.call(name, 400, f"no {missing}", tenant="initech", body={
                **{key: mine[key] for key in mine if key != missing}, **one})
        tester.call(name, 200, "its own id", who="client", body={**one, "client_id": "gw-01"})
        tester.call(name, 400, "two methods", who="client", body={**mine, **one})
        tester.call(name, 400, "another id", who="client", body={**one, "client_id": "load"})

    for question in (
            {"client": "load", "audience": "files", "scope": "files:read",
             "subject": {"issuer": issuer, "subject": "alice", "groups": ["corp:engineering"],
                         "claims": {"department": ["finance"]}, "scope": "files:read",
                         "acr": "urn:gold", "amr": ["hwk"], "auth_time": 1}},
            {"client": "load", "resource": FILES, "subject_token": made["alice"],
             "subject_token_type": ACCESS_TOKEN},
            {"client": "gw-03", "audience": "nothing"},
            {"client": "load", "audience": "ledger",
             "subject": {"issuer": issuer, "subject": "bob"}}):
        tester.call("explain", 200, str(sorted(question)), who="operator", tenant="initech",
                    body=question)

    # Whoever guesses is slowed down: until so long that the next call comes in time.
    guess = {"client_id": "gw-02", "client_secret": "a guess", "grant_type": "client_credentials"}
    for _ in range(40):
        answer = tester.token({401, 429}, "a guess", tenant="initech", form=guess)
        wait = int(answer.headers.get("retry-after", 0))
        if wait > 5:
            break
        time.sleep(wait)
    report(answer.status == 429 and wait > 5, "guesses are slowed down ever more")
    tester.credentials["guesser"] = "Basic " + base64.b64encode(b"gw-02:a guess").decode()
    tester.call("release", 429, "one too many", who="guesser", tenant="initech",
                body={"subject_token": made["alice"], "items": [{"backend": "files"}]})


class DecisionPoint(http.server.BaseHTTPRequestHandler):
    """Plays Open Policy Agent: reports may be read, and nothing else."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        body = json.dumps({"result": {"allow": asked["backend"] == "reports",
                                      "scopes": ["reports:read"]}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def check_decision_point(tester: Tester, folder: pathlib.Path) -> None:
    """A tenant whose decisions somebody else confirms, and what explanations say of it."""
    text = manifest("umbrella", json.loads((folder / "acme" / "idp.jwks.json").read_text()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), DecisionPoint) as point:
        threading.Thread(target=point.serve_forever, daemon=True).start()
        text["guardrails"] = {"decision_point": {
            "url": f"http://127.0.0.1:{point.server_port}/v1/data/postern/authz",
            "timeout_ms": 2000, "cache_for": 0}}
        tester.call("applyManifest", 201, "with a decision point", who="operator", body=text,
                    tenant="umbrella")
        tester.call("getManifest", 200, "with a decision point", who="operator", tenant="umbrella")
        carol = {"issuer": "https://idp.umbrella.example", "subject": "carol"}
        details = [{"type": "mcp_tool", "identifier": "get_report", "actions": ["call"]}]
        for question in (
                {"client": "gw-01", "subject": carol, "audience": "reports",
                 "grant": "token-exchange", "authorization_details": details},
                {"client": "gw-01", "subject": carol, "audience": "files"},
                {"client": "gw-01", "subject": carol, "audience": "reports", "actor": carol},
                {"client": "gw-01", "subject": carol, "audience": "reports", "grant": "jwt-bearer"}):
            tester.call("explain", 200, str(sorted(question)), who="operator", tenant="umbrella",
                        body=question)
        for wrong in ({"grant": "client_credentials"}, {"grant": "password"},
                      {"actor": "carol"}, {"actor_token_type": "x"},
                      {"authorization_details": [{}]}, {"authorization_details": "[]"}):
            tester.call("explain", 400, str(wrong), who="operator", tenant="umbrella",
                        body={"client": "gw-01", "subject": carol, **wrong})
        point.shutdown()
    tester.token(503, "the decision point is gone", tenant="umbrella", form={
        "grant_type": "client_credentials", "audience": "files", "client_id": "gw-02",
        "client_secret": f"umbrella-2-{SECRET}"})


def check_tenants(tester: Tester, made: dict) -> None:
    tester.call("status", 200, who="operator")
    keys = tester.call("keyStatus", 200, who="operator").json
    report([each["state"] for each in keys["root_keys"]] == ["active"], "one root key", str(keys))
    page = tester.call("listTenants", 200, who="operator", query={"limit": 1}).json
    tester.call("listTenants", 200, who="operator", query={"cursor": page["next_cursor"]})
    for query in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"cursor": "No Cursor"}):
        tester.call("listTenants", 400, str(query), who="operator", query=query)
    for who in ("operator", "admin"):
        tester.call("getTenant", 200, who=who)
        answer = tester.call("getManifest", 200, who=who)
        tester.call("applyManifest", 200, "what was read", who=who, body=answer.json,
                    query={"dry_run": "true", "prune": "true"})
        changes = tester.call("applyManifest", 200, "unchanged", who=who, body=answer.json,
                              headers={"If-Match": answer.headers["etag"]}).json["changes"]
        report({each["action"] for each in changes} == {"unchanged"},
               "the manifest that was read changes nothing", str(changes))
    text = {"tenant": "acme", "display_name": "Acme"}
    tester.call("applyManifest", 412, who="admin", body=text, headers={"If-Match": '"0"'})
    tester.call("applyManifest", 412, who="admin", body=text, headers={"If-None-Match": "*"})
    for name in ("getTenant", "getManifest"):
        current = tester.call(name, 200, who="admin", headers={"If-None-Match": '"0"'})
        tester.call(name, 304, who="admin", headers={"If-None-Match": current.headers["etag"]})
        tester.call(name, 200, who="admin", headers={"If-Match": current.headers["etag"]})
        tester.call(name, 412, who="admin", headers={"If-Match": '"0"'})
    tester.call("applyManifest", 200, "another version", who="admin", body=text,
                query={"dry_run": "true"}, headers={"If-None-Match": '"0"'})
    tester.call("applyManifest", 400, "malformed If-Match", who="admin", body=text,
                headers={"If-Match": "x"})
    tester.call("applyManifest", 400, "malformed flag", who="admin", body=text,
                query={"prune": "perhaps"})
    tester.call("applyManifest", 400, "another tenant's manifest", who="admin",
                body={"tenant": "globex"})
    tester.call("applyManifest", 400, "malformed tenant", who="operator", tenant="No Tenant",
                body=text)
    tester.call("applyManifest", 403, "only an operator disables", who="admin",
                body={"tenant": "acme", "enabled": False})
    # The other ways to an issuer's keys, which cannot stand beside one another.
    full = made["acme"]
    [issuer] = full["issuers"]
    bare = {key: each for key, each in issuer.items() if key != "jwks"}
    others = [[{**bare, **keys}]
              for keys in ({"jwks_uri": "https://idp.example/jwks"}, {"discovery": True})]
    check_broken(tester, "applyManifest", [full, *({**full, "issuers": each} for each in others)],
                 who="operator", query={"dry_run": "true"})

    tester.call("applyManifest", 201, who="operator", tenant="brief", body={"tenant": "brief"})
    for issuers in others:
        tester.call("applyManifest", 200, "keys by URL", who="operator", tenant="brief",
                    body={"tenant": "brief", "issuers": issuers})
        tester.call("getManifest", 200, "keys by URL", who="operator", tenant="brief")
    tester.call("applyManifest", 200, "disabled", who="operator", tenant="brief",
                body={"tenant": "brief", "enabled": False})
    tester.call("jwks", 404, "disabled tenant", tenant="brief")
    tester.call("deleteTenant", 400, "another id", who="operator", tenant="brief",
                query={"confirm": "acme"})
    tester.call("deleteTenant", 412, who="operator", tenant="brief", query={"confirm": "brief"},
                headers={"If-Match": '"0"'})
    tester.call("deleteTenant", 204, who="operator", tenant="brief", query={"confirm": "brief"},
                headers={"If-Match": "*", "If-None-Match": '"0"'})
    tester.call("deleteTenant", 404, "again", who="operator", tenant="brief",
                query={"confirm": "brief"})
    tester.call("applyManifest", 409, "an id that was used", who="operator", tenant="brief",
                body={"tenant": "brief"})


def check_erasures(tester: Tester) -> None:
    tester.call("getErasureKeys", 200)
    issuer = "https://idp.globex.example"
    globex = {"who": "operator", "tenant": "globex"}
    tester.call("erasePrincipal", 404, "of whom nothing is stored", **globex,
                body={"issuer": issuer, "subject": "alice"})
    check_broken(tester, "erasePrincipal", [{"issuer": issuer, "subject": "alice"}], **globex)
    tester.call("erasePrincipal", 400, "half a principal", **globex, body={"issuer": issuer})
    for user in ("alice", "bob"):
        tester.call("putCredential", 201, **globex, credential="github",
                    query={"issuer": issuer, "subject": user},
                    body={"fields": {"token": "to be erased"}})
    done = tester.call("erasePrincipal", 200, **globex,
                       body={"issuer": issuer, "subject": "alice"}).json
    report(done["state"] == "done" and done["credentials"] == 1, "erased", str(done))
    tester.call("erasePrincipal", 200, "again", who="user of globex", tenant="globex", body={})
    tester.call("erasePrincipal", 403, "another's", who="user of globex", tenant="globex",
                body={"issuer": issuer, "subject": "bob"})
    tester.call("erasePrincipal", 200, **globex, body={"issuer": issuer, "subject": "bob"})
    tester.call("getErasure", 200, who="user of globex", tenant="globex",
                erasure=done["erasure_id"])
    page = tester.call("listErasures", 200, **globex, query={"limit": 1}).json
    tester.call("listErasures", 200, **globex, query={"cursor": page["next_cursor"]})

    tester.call("applyManifest", 201, who="operator", tenant="short", body={"tenant": "short"})
    tester.call("getTenantErasure", 404, "nobody asked for it", who="operator", erased="short")
    tester.call("eraseTenant", 400, "not confirmed", who="operator", tenant="short",
                body={"confirm": "acme"})
    tester.call("eraseTenant", 200, who="operator", tenant="short", body={"confirm": "short"})
    tester.call("eraseTenant", 404, "again", who="operator", tenant="short",
                body={"confirm": "short"})
    tester.call("getTenantErasure", 200, who="operator", erased="short")
    tester.call("applyManifest", 409, "an id that was used", who="operator", tenant="short",
                body={"tenant": "short"})


def check_admin_tokens(tester: Tester, made: dict) -> None:
    check_broken(tester, "createAdminToken", [{"description": "x", "expires_at": LATER}],
                 who="operator")
    tester.call("createAdminToken", 400, "in the past", who="operator",
                body={"expires_at": "2001-01-01T00:00:00Z"})
    tester.call("createAdminToken", 400, "two lines", who="operator",
                body={"description": "one\ntwo"})
    tester.call("createAdminToken", 201, "nothing said", who="operator", body={})
    for who in ("operator", "admin"):
        one = tester.call("createAdminToken", 201, who="operator", body={"description": who}).json
        tester.call("listAdminTokens", 200, who=who)
        tester.call("deleteAdminToken", 204, who=who, token_id=one["token_id"])
        tester.call("deleteAdminToken", 404, "again", who=who, token_id=one["token_id"])
    tester.call("deleteAdminToken", 404, "another tenant's", who="operator",
                token_id=made["admin id of globex"])
    count = len(tester.call("listAdminTokens", 200, who="operator").json["items"])
    for _ in range(count, 100):
        tester.call("createAdminToken", 201, who="operator", body={})
    tester.call("createAdminToken", 409, "one too many", who="operator", body={})


def check_client_secrets(tester: Tester) -> None:
    check_broken(tester, "addClientSecret", [{"expires_at": LATER}], who="operator")
    for who in ("operator", "admin"):
        one = tester.call("addClientSecret", 201, who=who, body={"expires_at": LATER}).json
        tester.call("addClientSecret", 409, "a third", who=who, body={})
        tester.call("listClientSecrets", 200, who=who)
        tester.call("deleteClientSecret", 204, who=who, secret_id=one["secret_id"])
        tester.call("deleteClientSecret", 404, "again", who=who, secret_id=one["secret_id"])
    for name, more in (("addClientSecret", {"body": {}}), ("listClientSecrets", {}),
                       ("deleteClientSecret", {})):
        tester.call(name, 404, "unknown client", who="operator", client="nobody", **more)


def check_registration(tester: Tester, made: dict) -> None:
    tester.call("metadata", 200, "with registration")
    jwks = json.loads(json.dumps(made["acme"]["issuers"][0]["jwks"]))
    whole = {"client_name": "Agent", "grant_types": [EXCHANGE], "response_types": [],
             "redirect_uris": ["https://agent.example/callback"], "scope": "files:read"}
    one = tester.call("registerClient", 201, who="initial", body=whole).json
    report(one["client_secret_expires_at"] > one["client_id_issued_at"], "a secret expires",
           str(one))
    basic = base64.b64encode(f"{one['client_id']}:{one['client_secret']}".encode()).decode()
    tester.credentials["registered"] = "Basic " + basic
    tester.token(200, "a registered client exchanges", who="registered", form={
        "grant_type": EXCHANGE, "subject_token": made["alice"],
        "subject_token_type": ACCESS_TOKEN, "resource": [FILES]})
    signs = {"token_endpoint_auth_method": "private_key_jwt"}
    for metadata in (
            {**signs, "jwks": jwks, "token_endpoint_auth_signing_alg": "ES256",
             "introspection_signed_response_alg": "EdDSA"},
            {**signs, "jwks_uri": "https://agent.example/jwks", "dpop_bound_access_tokens": True}):
        tester.call("registerClient", 201, who="initial", body=metadata)
    for kind, value in (("subject_dn", "CN=agent"), ("san_dns", "agent.example"),
                        ("san_uri", "spiffe://agent"), ("san_ip", "192.0.2.1"),
                        ("san_email", "agent@example.com")):
        tester.call("registerClient", 201, who="initial", body={
            "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_" + kind: value,
            "tls_client_certificate_bound_access_tokens": True})

    for error, metadata in (("invalid_redirect_uri", {"redirect_uris": ["javascript:x"]}),
                            ("unapproved_software_statement", {"software_statement": "e30.e30.e30"}),
                            ("invalid_client_metadata", {"scope": "files:write"})):
        answer = tester.call("registerClient", 400, error, who="initial", body=metadata)
        report(answer.json["error"] == error, f"registerClient {error}", answer.body.decode())
    for who in ("", "admin", "initial of globex"):
        tester.call("registerClient", 401, f"as {who or 'nobody'}", who=who, body={})

    # What was registered is in the manifest, and goes on its own.
    text = tester.call("getManifest", 200, "with registered clients", who="admin").json
    tester.call("applyManifest", 200, "with registered clients", who="admin", body=text)
    for who in ("operator", "admin"):
        client = tester.call("registerClient", 201, who="initial", body={}).json["client_id"]
        tester.call("deleteRegisteredClient", 204, who=who, client=client)
        tester.call("deleteRegisteredClient", 404, "again", who=who, client=client)
        tester.call("deleteRegisteredClient", 409, "configured", who=who)

    check_broken(tester, "createInitialAccessToken", [{"description": "x", "max_uses": 2}],
                 who="operator")
    tester.call("createInitialAccessToken", 400, "a control character", who="operator",
                body={"description": "\x1b[2J"})
    tester.call("createInitialAccessToken", 400, "too far", who="operator",
                body={"expires_at": LATER})
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    for who in ("operator", "admin"):
        token = tester.call("createInitialAccessToken", 201, who=who,
                            body={"expires_at": soon}).json
        tester.call("listInitialAccessTokens", 200, who=who)
        tester.call("deleteInitialAccessToken", 204, who=who, token_id=token["token_id"])
        tester.call("deleteInitialAccessToken", 404, "again", who=who, token_id=token["token_id"])
    tester.call("createInitialAccessToken", 409, "no registrations", who="operator",
                tenant="initech", body={})

    text["settings"]["registration"]["max_clients"] = 1
    tester.call("applyManifest", 200, "room for one", who="operator", body=text)
    tester.call("registerClient", 403, "one too many", who="initial", body={})
    tester.credentials["guessed"] = "Bearer postern_ia_globex_guessed"
    for _ in range(21):
        tester.call("registerClient", 401, "a guess", who="guessed", tenant="globex", body={})
    # The wait begins with one second, which may just be over; each further guess doubles it.
    for _ in range(5):
        answer = tester.call("registerClient", {401, 429}, "one guess too many", who="guessed",
                             tenant="globex", body={})
        if answer.status == 429:
            break
    report(answer.status == 429, "guesses of initial access tokens are slowed down")


def check_credentials(tester: Tester) -> None:
    alice = {"issuer": "https://idp.acme.example", "subject": "alice"}
    bob = {**alice, "subject": "bob"}
    value = {"fields": {"token": "ghp_1"}, "expires_at": LATER}
    check_broken(tester, "putCredential", [value], who="operator")
    # The tenant's by the operator, bob's by the admin, alice's by herself.
    for who, query, owner in (("operator", {}, "tenant"), ("admin", bob, "principal"),
                              ("user", {}, "principal")):
        put = {"who": who, "query": query, "body": value}
        first = tester.call("putCredential", 201, headers={"If-None-Match": "*"}, **put)
        report(first.json["owner"]["type"] == owner, f"putCredential as {who}: owner is {owner}")
        tester.call("putCredential", 412, "there is one", headers={"If-None-Match": "*"}, **put)
        tester.call("putCredential", 200, "a second version",
                    headers={"If-Match": first.headers["etag"]}, **put)
        tester.call("putCredential", 412, "not the current one",
                    headers={"If-Match": first.headers["etag"]}, **put)
        tester.call("putCredential", 200, "any version", headers={"If-Match": "*"}, **put)
        tester.call("putCredential", 400, "malformed If-Match", headers={"If-Match": "x"}, **put)
        tester.call("putCredential", 400, "malformed If-None-Match",
                    headers={"If-None-Match": "1"}, **put)
        tester.call("putCredential", 412, "both", headers={"If-Match": "*", "If-None-Match": "*"},
                    **put)
        current = tester.call("getCredential", 200, who=who, query=query).headers["etag"]
        tester.call("getCredential", 304, who=who, query=query, headers={"If-None-Match": current})
        tester.call("getCredential", 412, who=who, query=query, headers={"If-Match": '"0"'})
        tester.call("deleteCredential", 412, who=who, query=query, headers={"If-None-Match": "*"})
        tester.call("deleteCredential", 412, "not the current one", who=who, query=query,
                    headers={"If-Match": first.headers["etag"]})
        tester.call("deleteCredential", 400, "malformed If-Match", who=who, query=query,
                    headers={"If-Match": "x"})
        tester.call("getCredential", 200, who=who, query=query,
                    headers={"If-Match": current, "If-None-Match": '"0"'})
        tester.call("deleteCredential", 204, who=who, query=query,
                    headers={"If-Match": current, "If-None-Match": '"0"'})
        for name in ("getCredential", "deleteCredential"):
            tester.call(name, 404, "gone", who=who, query=query)
        tester.call("putCredential", {200, 201}, "anew", **put)
    tester.call("putCredential", 413, "a large value", who="operator",
                body={"fields": {"token": "x" * 65537}})
    tester.call("putCredential", 400, "a field without a name", who="operator",
                body={"fields": {"no name": "x"}})
    tester.call("putCredential", 403, "no backend asks for it", who="user", body=value,
                credential="other")
    for name, more in (("getCredential", {}), ("putCredential", {"body": value}),
                       ("deleteCredential", {}), ("listCredentials", {})):
        tester.call(name, 403, "another user's", who="user", query=bob, **more)
        tester.call(name, 400, "half a principal", who="admin", query={"subject": "bob"}, **more)
        if name != "listCredentials":
            tester.call(name, 400, "malformed name", who="admin", credential="-", **more)
    tester.call("putCredential", 400, "an issuer not trusted", who="admin", body=value,
                query={**bob, "issuer": "https://idp.globex.example"})

    for who in ("operator", "admin"):
        tester.call("listCredentials", 200, who=who, query={"owner": "tenant"})
        tester.call("listCredentials", 200, who=who, query={"owner": "principal", **alice})
        page = tester.call("listCredentials", 200, who=who, query={"limit": 1}).json
        tester.call("listCredentials", 200, who=who, query={"cursor": page["next_cursor"]})
    tester.call("listCredentials", 200, who="user")
    tester.call("listCredentials", 403, "the tenant's", who="user", query={"owner": "tenant"})
    for query in ({"limit": 0}, {"cursor": "x"}, {"owner": "nobody"}, {"owner": "principal"}):
        tester.call("listCredentials", 400, str(query), who="admin", query=query)


def check_credential_versions(tester: Tester) -> None:
    bob = {"issuer": "https://idp.acme.example", "subject": "bob"}
    said = {"description": "of the tests", "labels": {"team": "web"}, "metadata": {"id": "7"},
            "rotation_due_at": "2020-01-31T00:00:00Z", "max_versions": 4, "cas_required": True}
    value = {"fields": {"token": "ghp_1"}, "expires_at": LATER, "cas": 0, "type": "generic",
             "version_metadata": {"ticket": "OPS-7"}, **said}
    check_broken(tester, "putCredential", [value], who="operator", credential="versions")
    tester.call("getCredential", 404, "nothing broken was stored", who="operator",
                credential="versions")
    change = ("deleteCredentialVersion", "undeleteCredentialVersion", "destroyCredentialVersion")
    for who, query, name in (("operator", {}, "versions"), ("admin", bob, "versions"),
                             ("user", {}, "github")):
        one = {"who": who, "query": query, "credential": name}
        tester.call("deleteCredential", {204, 404}, "to begin anew", **one)
        first = tester.call("putCredential", 201, "with all there is", body=value, **one).json
        report({**first, **said} == first, f"putCredential as {who}: all of it is shown",
               str(first))
        tester.call("putCredential", 412, "cas of none", body=value, **one)
        tester.call("putCredential", 412, "cas is required", body={"fields": {"token": "x"}}, **one)
        for condition in ({"If-Match": "*"}, {"If-None-Match": '"0"'}):
            tester.call("putCredential", 412, f"{condition} names no version", headers=condition,
                        body={"fields": {"token": "x"}}, **one)
        tester.call("putCredential", 400, "malformed cas", body={**value, "cas": "1"}, **one)
        tester.call("putCredential", 412, "cas and condition differ", body={**value, "cas": 2},
                    headers={"If-Match": "*"}, **one)
        second = tester.call("putCredential", 200, "cas",
                             body={"fields": {"token": "x"}, "cas": first["version"]}, **one).json
        report({**second, **said} == second, f"putCredential as {who}: what was said stays")

        check_broken(tester, "describeCredential", [said], **one)
        plain = dict.fromkeys(said)
        answer = tester.call("describeCredential", 200, "all the defaults", body=plain, **one)
        report(answer.json["max_versions"] == 10 and answer.json["labels"] == {}
               and "description" not in answer.json and "rotation_due_at" not in answer.json,
               f"describeCredential as {who}: null is the default", answer.body.decode())
        tag = answer.headers["etag"]
        tester.call("describeCredential", 200, "with the current tag", body=said,
                    headers={"If-Match": tag, "If-None-Match": '"0"'}, **one)
        tester.call("describeCredential", 412, "not the current one", body=said,
                    headers={"If-Match": tag}, **one)
        tester.call("describeCredential", 412, body=said, headers={"If-None-Match": "*"}, **one)
        tester.call("describeCredential", 400, "malformed If-Match", body=said,
                    headers={"If-Match": "x"}, **one)
        tester.call("describeCredential", 400, "a label without a name", body={"labels": {"": "x"}},
                    **one)
        tester.call("describeCredential", 200, "a label more, one less",
                    body={"labels": {"team": None, "env": "prod"}}, **one)

        versions = tester.call("listCredentialVersions", 200, **one)
        numbers = [each["version"] for each in versions.json["items"]]
        report(numbers == [first["version"], second["version"]],
               f"listCredentialVersions as {who}", str(versions.json))
        report([each["metadata"] for each in versions.json["items"]] == [{"ticket": "OPS-7"}, {}],
               f"a version's own metadata as {who}", str(versions.json))
        tag = versions.headers["etag"]
        tester.call("listCredentialVersions", 304, headers={"If-None-Match": tag}, **one)
        tester.call("listCredentialVersions", 412, headers={"If-Match": '"0"'}, **one)
        tester.call("listCredentialVersions", 200,
                    headers={"If-Match": tag, "If-None-Match": '"0"'}, **one)
        for operation in change:
            for number in ("0", "01", "x", "99999999999"):
                tester.call(operation, 400, f"version {number}", version=number, **one)
            tester.call(operation, 404, "no such version", version=99, **one)
            tester.call(operation, 412, version=numbers[0], headers={"If-None-Match": "*"}, **one)
            tester.call(operation, 412, "not the current one", version=numbers[0],
                        headers={"If-Match": '"0"'}, **one)
        states = []
        for operation in ("deleteCredentialVersion", "undeleteCredentialVersion",
                          "deleteCredentialVersion", "destroyCredentialVersion",
                          "destroyCredentialVersion"):
            answer = tester.call(operation, 200, version=numbers[1], **one,
                                 headers={"If-Match": tag, "If-None-Match": '"0"'})
            tag = answer.headers["etag"]
            states.append(answer.json["state"])
        report(states == ["deleted", "live", "deleted", "destroyed", "destroyed"],
               f"states as {who}", str(states))
        tester.call("deleteCredentialVersion", 409, "destroyed", version=numbers[1], **one)
        tester.call("undeleteCredentialVersion", 409, "destroyed", version=numbers[1], **one)
        tester.call("listCredentialVersions", 200, "a destroyed one among them", **one)
        tester.call("describeCredential", 200, "as it was", body=said, **one)
    tester.call("deleteCredential", 204, "alice's, to begin anew", who="user")
    tester.call("putCredential", 201, "alice's again", who="user",
                body={"fields": {"token": "ghp_1"}, "expires_at": LATER})
    for name, more in (("describeCredential", {"body": {}}), ("listCredentialVersions", {}),
                       *((each, {}) for each in change)):
        tester.call(name, 403, "another user's", who="user", query=bob, **more)
        tester.call(name, 400, "half a principal", who="admin", query={"subject": "bob"}, **more)
        tester.call(name, 404, "no such credential", who="admin", credential="none", **more)
    third = tester.call("putCredential", 201, "to be deleted", who="operator",
                        credential="deleted", body={"fields": {"token": "x"}}).json["version"]
    tester.call("deleteCredentialVersion", 200, who="operator", credential="deleted",
                version=third)
    tester.call("listCredentialVersions", 200, "a deleted one", who="operator",
                credential="deleted")

    for query, names in (({"labels": "team=web"}, ["versions"]),
                         ({"labels": "team=web,env=prod"}, ["versions"]),
                         ({"labels": "team=we"}, []), ({"type": "basic"}, []),
                         ({"overdue": "true"}, [])):
        answer = tester.call("listCredentials", 200, str(query), who="admin",
                             query={"owner": "tenant", **query})
        report([each["name"] for each in answer.json["items"]] == names, f"list by {query}",
               answer.body.decode())
    for query in ({"labels": "team"}, {"labels": "=x"}, {"labels": "a=b,a=c"}, {"overdue": "yes"}):
        tester.call("listCredentials", 400, str(query), who="admin", query=query)


def check_credential_types(tester: Tester) -> None:
    key = idp.openssl("genpkey", "-algorithm", "ed25519").decode()
    account = {"type": "service_account", "project_id": "p", "private_key_id": "k",
               "client_email": "a@p.example", "token_uri": "https://oauth2.example/token",
               "private_key": key}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [{}], "users": [{}],
              "contexts": [{}]}
    good = {"generic": {"anything": "x"}, "api_key": {"api_key": "k"},
            "basic": {"username": "u", "password": "p"}, "oauth": {"refresh_token": "r"},
            "pem_key": {"private_key": key}, "ssh_key": {"private_key": key},
            "kubeconfig": {"kubeconfig": json.dumps(config)},
            "service_account": {"service_account_json": json.dumps(account)},
            "database_url": {"url": "postgresql://u:p@db.example/x"}}
    types = tester.contract.document["components"]["schemas"]["CredentialType"]["enum"]
    report(list(good) == types, "each documented type is tried", str(types))
    for kind, fields in good.items():
        write = {"type": kind, "fields": fields}
        shown = tester.call("putCredential", {200, 201}, kind, who="operator", credential="typed",
                            body=write).json
        report(shown["type"] == kind, f"putCredential {kind}", str(shown))
        if kind == "generic":
            continue
        for name in [*fields, "undescribed"]:
            broken = {**fields, name: "canary \x01"}
            answer = tester.call("putCredential", 400, f"{kind}: {name}", who="operator",
                                 credential="typed", body={"type": kind, "fields": broken})
            report("canary" not in answer.body.decode() and "/fields" in answer.json["pointer"],
                   f"putCredential {kind}: the error of {name}", answer.body.decode())
    # What a credential is it stays, unless a write says otherwise.
    tester.call("putCredential", 400, "no database URL", who="operator", credential="typed",
                body={"fields": {"url": "https://no.password.example/"}})


def check_reveal(tester: Tester, made: dict) -> None:
    write = {"fields": {"url": "a-value"}}
    tester.call("putCredential", 201, "to be revealed", who="operator", credential="shown",
                body=write)
    body = {"reason": "a drill", "version": 1}
    check_broken(tester, "revealCredential", [body], who="operator", credential="shown")
    tester.call("revealCredential", 403, "not switched on", who="admin", credential="shown",
                body=body)
    text = tester.call("getManifest", 200, who="admin").json
    text["settings"]["reveal"] = True
    text["settings"]["vault_api"] = {"mount": "kv", "clients": ["gw-01"]}
    tester.call("applyManifest", 200, "revealing", who="admin", body=text)
    tester.call("getManifest", 200, "revealing", who="admin")
    for who in ("operator", "admin"):
        answer = tester.call("revealCredential", 200, who=who, credential="shown", body=body).json
        report(answer == {"version": 1, "fields": write["fields"]}, f"revealCredential as {who}",
               str(answer))
        tester.call("revealCredential", 200, "the latest", who=who, credential="shown",
                    body={"reason": "a drill"})
    tester.call("revealCredential", 403, "a user", who="user", body=body)
    tester.call("revealCredential", 404, "no such version", who="admin", credential="shown",
                body={**body, "version": 2})
    bob = {"issuer": "https://idp.acme.example", "subject": "bob"}
    tester.call("putCredential", {200, 201}, "bob's", who="admin", query=bob,
                credential="shown", body=write)
    tester.call("revealCredential", 200, "bob's", who="admin", query=bob, credential="shown",
                body={"reason": "a drill"})
    del text["settings"]["reveal"], text["settings"]["vault_api"]
    tester.call("applyManifest", 200, "no longer revealing", who="admin", body=text)
    tester.call("revealCredential", 403, "switched off", who="operator", credential="shown",
                body=body)


class Hook:
    """Answers whatever is posted to it with one status."""

    def __init__(self):
        hook = self
        self.status, self.seen = 200, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.seen.append((dict(self.headers), json.loads(body)))
                self.send_response(hook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def until_rotation(tester: Tester, credential: str, wanted) -> dict:
    eventually(lambda: wanted(tester.seen(f"credentials/{credential}/rotation")))
    return tester.call("getRotation", 200, "as wanted", who="admin", credential=credential).json


def check_rotation(tester: Tester, made: dict) -> None:
    bob = {"issuer": "https://idp.acme.example", "subject": "bob"}
    put = lambda name, fields, **more: tester.call(
        "putCredential", {200, 201}, name, who="operator", credential=name,
        body={"fields": fields, **more})
    put("rotated", {"username": "app_a", "password": "old"}, type="basic",
        labels={"team": "rotation"})
    put("plain", {"token": "x"}, labels={"team": "rotation"})
    put("pg-admin", {"username": "admin", "password": "x"})
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    put("hook-secret", {"secret": secret})
    one = {"who": "operator", "credential": "rotated"}
    password = {"kind": "password", "interval_seconds": 86400, "grace_seconds": 3600,
                "retired": "delete", "field": "password", "length": 40,
                "alphabet": "abcdefghijklmnopqrstuvwxyz0123456789-", "require": ["digit", "symbol"]}
    check_broken(tester, "configureRotation", [password], **one)
    for who in ("operator", "admin"):
        shown = tester.call("configureRotation", 200, who=who, credential="rotated",
                            body=password).json
        report(shown["settings"] == password and "rotation_due_at" in shown,
               f"configureRotation as {who}", str(shown))
    tag = tester.call("getCredential", 200, **one).headers["etag"]
    headers = {"If-Match": tag, "If-None-Match": '"99"'}
    for name, more in (("configureRotation", {"body": {"kind": "manual"}}), ("forgetRotation", {})):
        tester.call(name, 412, "another version", headers={"If-Match": '"99"'}, **more, **one)
        tester.call(name, 200, "the one that is there", headers=headers, **more, **one)
        tag = tester.call("getCredential", 200, **one).headers["etag"]
        headers["If-Match"] = tag
    tester.call("configureRotation", 200, "an interval again", body=password, **one)
    for name, more in (("putCredential", {"fields": {"username": "app_a", "password": "old"}}),
                       ("describeCredential", {})):
        tester.call(name, 409, "a date that the interval sets", **one,
                    body={**more, "rotation_due_at": None})
    postgres = {"kind": "postgres", "host": "localhost", "port": 5432, "database": "main",
                "roles": ["app_a", "app_b"], "admin_credential": "pg-admin"}
    tester.call("configureRotation", 200, "postgres", body=postgres, **one)
    tester.call("configureRotation", 403, "a host that the operator does not name",
                body={**postgres, "port": 5433}, **one)
    tester.call("configureRotation", 409, "of none of these roles",
                body={**postgres, "roles": ["other"]}, **one)
    tester.call("configureRotation", 400, "no such admin credential",
                body={**postgres, "admin_credential": "none"}, **one)
    tester.call("configureRotation", 200, "a key pair", who="operator", credential="plain",
                body={"kind": "key_pair", "algorithm": "p-256", "field": "token",
                      "public_field": "public"})
    tester.call("configureRotation", 404, who="admin", credential="none", body=password)
    tester.call("forgetRotation", 404, who="admin", credential="none")
    tester.call("getRotation", 404, who="admin", credential="none")
    for name, more in (("getRotation", {}), ("rotateCredential", {"body": {}}),
                       ("promoteAnnounced", {}), ("retirePrevious", {}), ("cancelRotation", {})):
        tester.call(name, 403, "another user's", who="user", query=bob, **more)
    for name, more in (("getRotation", {}), ("rotateCredential", {"body": {}}),
                       ("configureRotation", {"body": password}), ("forgetRotation", {}),
                       ("promoteAnnounced", {}), ("retirePrevious", {}), ("cancelRotation", {})):
        tester.call(name, 400, "half a principal", who="admin", query={"subject": "bob"}, **more)

    # By the settings, given, and made so once.
    shown = tester.call("rotateCredential", 200, "a key pair", who="admin", credential="plain",
                        body={}).json
    report(shown["public_key"].startswith("-----BEGIN PUBLIC KEY-----"), "a public key is shown")
    # A key that is announced.
    announced = {"kind": "ssh_key", "field": "token", "announce_seconds": 86400}
    tester.call("promoteAnnounced", 409, "none is", who="admin", credential="plain")
    tester.call("configureRotation", 200, "announced", who="admin", credential="plain",
                body=announced)
    for name in ("cancelRotation", "promoteAnnounced"):
        shown = tester.call("rotateCredential", 202, "announced", who="admin", credential="plain",
                            body={}).json
        report(shown["rotation"]["public_key"].startswith("ssh-ed25519 ")
               and "promote_at" in shown["rotation"], "its public half is shown", str(shown))
        tester.call(name, 200, "announced", who="operator", credential="plain")
    tester.call("promoteAnnounced", 400, "with members", who="admin", credential="plain",
                body={"abandon": True})
    tester.call("promoteAnnounced", 404, who="admin", credential="none")
    tester.call("configureRotation", 200, "a password", body=password, **one)
    shown = tester.call("rotateCredential", 200, "by settings", body={}, **one).json
    report(shown["rotation"]["phase"] == "previous", "the value before has its grace", str(shown))
    tester.call("rotateCredential", 409, "one is under way", body={}, **one)
    tester.call("cancelRotation", 409, "it is handed out", **one)
    check_broken(tester, "retirePrevious", [{"abandon": False}], **one)
    check_broken(tester, "cancelRotation", [{"abandon": False}], **one)
    tester.call("retirePrevious", 200, **one, body={"abandon": False})
    tester.call("retirePrevious", 409, "it is retired", **one)
    tester.call("retirePrevious", 404, who="admin", credential="none")
    tester.call("cancelRotation", 404, who="admin", credential="none")
    given = {"fields": {"username": "app_a", "password": "given"}, "grace_seconds": 0, "cas": 2,
             "expires_at": LATER}
    check_broken(tester, "rotateCredential", [given], **one)
    tester.call("rotateCredential", 200, "given", body=given, **one)
    tester.call("rotateCredential", 413, "a large value", **one,
                body={"fields": {"username": "app_a", "password": "x" * 65537}})
    tag = tester.call("getCredential", 200, **one).headers["etag"]
    tester.call("rotateCredential", 412, "not the current one", headers={"If-Match": '"1"'},
                body={}, **one)
    tester.call("rotateCredential", 200, "the current one", **one,
                headers={"If-Match": tag, "If-None-Match": '"1"'},
                body={"generate": {"kind": "password", "length": 20}, "grace_seconds": 0})
    tester.call("rotateCredential", 400, "a kind that reaches outside", body={"generate": postgres},
                **one)
    tester.call("rotateCredential", 400, "an interval for this once", **one,
                body={"generate": {"kind": "password", "interval_seconds": 86400}})
    tester.call("rotateCredential", 404, who="admin", credential="none", body={})
    tester.call("rotateCredential", 200, "alice's own", who="user",
                body={"generate": {"kind": "password", "field": "token"}, "grace_seconds": 60})
    tester.call("getRotation", 200, "alice's own", who="user")
    tester.call("retirePrevious", 200, "alice's own", who="user")
    tester.call("cancelRotation", 409, "nothing to give up", who="user")
    for name in ("retirePrevious", "cancelRotation"):
        tester.call(name, 403, "abandoned by a user", who="user", body={"abandon": True})
    for name, more in (("getRotation", {}), ("configureRotation", {"body": {"kind": "manual"}}),
                       ("rotateCredential", {"body": {"fields": {"token": "y"},
                                                      "grace_seconds": 60}}),
                       ("retirePrevious", {}), ("forgetRotation", {})):
        put_bob = tester.call("putCredential", {200, 201}, "bob's", who="admin", query=bob,
                              body={"fields": {"token": "x"}}) if name == "getRotation" else None
        report(put_bob is None or put_bob.status < 300, "bob has one")
        tester.call(name, 200, "bob's", who="admin", query=bob, **more)
    for name in ("promoteAnnounced", "cancelRotation"):
        tester.call(name, 409, "bob's", who="admin", query=bob)
    for name, status, more in (("configureRotation", 200, {"body": announced}),
                               ("rotateCredential", 202, {"body": {}}),
                               ("promoteAnnounced", 200, {}), ("forgetRotation", 200, {})):
        tester.call(name, status, "bob's key", who="admin", query=bob, **more)

    # Somebody outside has to be told.
    hook = Hook()
    webhook = {"kind": "webhook", "generate": "password", "url": hook.url,
               "secret_credential": "hook-secret", "grace_seconds": 3600}
    check_broken(tester, "configureRotation", [webhook], **one)
    tester.call("configureRotation", 200, "a webhook", body=webhook, **one)
    tester.call("rotateCredential", 202, "a webhook", body={}, **one)
    shown = until_rotation(tester, "rotated",
                           lambda state: state.get("rotation", {}).get("phase") == "previous")
    report("retire_at" in shown["rotation"], "the webhook set it", str(shown))
    report([body["type"] for _, body in hook.seen] == ["rotation.set", "rotation.test"],
           "what the webhook was told", str([body["type"] for _, body in hook.seen]))
    tester.call("retirePrevious", 202, "the webhook has to be told", **one)
    until_rotation(tester, "rotated", lambda state: "rotation" not in state)
    hook.status = 503
    tester.call("rotateCredential", 202, "a webhook that is away", body={}, **one)
    until_rotation(tester, "rotated", lambda state: "problem" in state)
    tester.call("cancelRotation", 202, **one, body={"abandon": False})
    for name, fields in (("hook-secret", {"secret": secret}), ("github", {"token": "x"})):
        tester.call("putCredential", {200, 201}, "bob's", who="admin", query=bob, credential=name,
                    body={"fields": fields})
    tester.call("configureRotation", 200, "bob's webhook", who="admin", query=bob,
                body={**webhook, "field": "token"})
    tester.call("rotateCredential", 202, "bob's webhook", who="admin", query=bob, body={})
    of_bob = "credentials/github/rotation?" + urllib.parse.urlencode(bob)
    eventually(lambda: "problem" in tester.seen(of_bob))  # before, nobody would have to be told
    tester.call("cancelRotation", 202, "bob's webhook", who="admin", query=bob)
    hook.status = 204
    shown = until_rotation(tester, "rotated", lambda state: "rotation" not in state)
    report("failed_at" in shown and shown["failures"] == 1, "it was rolled back", str(shown))
    tester.call("forgetRotation", 200, "no webhook any more", **one)

    # Many.
    for who in ("operator", "admin"):
        page = tester.call("listRotations", 200, who=who, query={"limit": 1}).json
        tester.call("listRotations", 200, who=who, query={"cursor": page["next_cursor"]})
    found = tester.call("listRotations", 200, who="admin",
                        query={"labels": "team=rotation", "type": "basic", "overdue": "false"}).json
    report([each["name"] for each in found["items"]] == ["rotated"], "listRotations", str(found))
    for query in ({"limit": 0}, {"cursor": "x"}, {"labels": "x"}, {"overdue": "x"}):
        tester.call("listRotations", 400, str(query), who="admin", query=query)
    many = {"labels": {"team": "rotation"}, "dry_run": True, "limit": 1}
    check_broken(tester, "rotateMany", [many], who="operator")
    first = tester.call("rotateMany", 200, "one of two", who="operator", body=many).json
    tester.call("rotateMany", 200, "the other", who="admin",
                body={**many, "type": "basic", "limit": 100})
    second = tester.call("rotateMany", 200, "the other", who="admin",
                         body={**many, "cursor": first["next_cursor"]}).json
    report([each["status"] for each in first["items"] + second["items"]]
           == ["would_rotate", "refused"], "rotateMany", f"{first} {second}")
    tester.call("rotateMany", 400, "all of them", who="admin", body={})
    tester.call("rotateMany", 200, "for good", who="admin", body={"labels": {"team": "rotation"}})

    # An emergency.
    since = "2020-01-01T00:00:00Z"
    order = {"principal": {"issuer": "https://idp.acme.example", "subject": "alice"},
             "client": "gw-01", "backend": "github", "since": since, "action": "disable",
             "dry_run": True, "reason": "a drill"}
    check_broken(tester, "contain", [order], who="operator")
    for who in ("operator", "admin"):
        shown = tester.call("contain", 200, who=who, body=order).json
        report([each["name"] for each in shown["items"]] == ["github"], f"contain as {who}",
               str(shown))
    tester.call("putCredential", {200, 201}, "carol's", who="admin",
                query={"issuer": "https://idp.acme.example", "subject": "carol"},
                body={"fields": {"token": "of carol"}})
    tester.call("release", 200, "to carol", who="client", body={
        "subject_token": made["carol"], "items": [{"backend": "github"}]})
    of_client = {"client": "gw-01", "since": since, "action": "disable", "dry_run": True,
                 "reason": "a drill", "limit": 1}
    page = tester.call("contain", 200, "a page", who="admin", body=of_client).json
    tester.call("contain", 200, "the page after it", who="admin",
                body={**of_client, "cursor": page["next_cursor"]})
    names, pages = set(), 0
    page = {"next_cursor": None}
    while "next_cursor" in page and pages < 500:
        body = {**of_client, "limit": 100, "records": 40}
        if page["next_cursor"]:
            body["cursor"] = page["next_cursor"]
        page = tester.call("contain", 200, "part by part", who="admin", body=body).json
        names |= {each["name"] for each in page["items"]}
        pages += 1
    report(page["complete"] and pages > 1 and "github" in names, "contain in parts",
           f"{pages} pages: {page}")
    tester.call("contain", 400, "nobody's", who="admin",
                body={"since": since, "action": "rotate", "reason": "a drill"})
    shown = tester.call("contain", 200, "what cannot be rotated", who="admin",
                        body={**order, "action": "rotate"}).json
    report("detail" in shown["items"][0], "contain says why", str(shown))
    carol = {"issuer": "https://idp.acme.example", "subject": "carol"}
    done = tester.call("contain", 200, "for good", who="admin", body={
        "principal": carol, "since": since, "action": "disable", "reason": "a drill"}).json
    report([each["status"] for each in done["items"]] == ["disabled"], "contain", str(done))
    versions = tester.call("listCredentialVersions", 200, "one that was disabled", who="admin",
                           query=carol).json["items"]
    report(versions[-1].get("withdrawn") is True, "listCredentialVersions", str(versions))
    tester.call("undeleteCredentialVersion", 200, "one that was disabled", who="admin",
                version=versions[-1]["version"], query=carol)


def check_last_use(tester: Tester) -> None:
    """Released above; it is written down within a moment."""
    eventually(lambda: "last_used_at" in tester.seen("credentials/github", "user"))
    tester.call("getCredential", 200, "with its last use", who="user")


def check_audit(tester: Tester) -> None:
    for who in ("operator", "admin"):
        page = tester.call("readAudit", 200, who=who, query={"limit": 2, "order": "asc"}).json
        tester.call("readAudit", 200, who=who, query={"after": page["next_after"]})
        newest = tester.call("readAudit", 200, who=who,
                             query={"order": "desc", "action": "token.exchange"}).json["items"]
        report({each["event"]["action"] for each in newest} == {"token.exchange"}
               and {"allowed", "refused"} == {each["event"]["outcome"] for each in newest},
               "readAudit, exchanges only")
        answer = tester.call("verifyAudit", 200, who=who).json
        report(answer["intact"], "verifyAudit finds the chain intact", str(answer))
    for query in ({"limit": 0}, {"after": -1}, {"order": "up"}):
        tester.call("readAudit", 400, str(query), who="admin", query=query)
    # Two verifications may run; of many at once some are refused.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for _ in range(40):
            answers = list(pool.map(lambda _: tester.exchange(
                "GET", "/api/v1/tenants/acme/audit/verification",
                {"Authorization": tester.credentials["operator"]}, None), range(16)))
            operation = tester.contract.operations["verifyAudit"]
            faults = [fault for each in answers
                      for fault in tester.contract.faults_of_answer(operation, each)]
            if faults or any(each.status == 429 for each in answers):
                break
    report(not faults, "verifyAudit, many at once", "\n".join(faults))


# What no operation answers.

def check_edge(tester: Tester) -> None:
    """Answers of the server itself: those that the document's introduction lists."""
    contract = tester.contract
    responses = contract.document["components"]["responses"]
    forms = {"/t/acme/token": "OAuthError", "/api/v1/tenants": "Problem"}

    def raw(request: bytes) -> Answer:
        with socket.create_connection(("127.0.0.1", tester.server.port), timeout=60) as link:
            link.sendall(request)
            reply = http.client.HTTPResponse(link)
            reply.begin()
            return Answer(reply.status,
                          {name.lower(): text for name, text in reply.getheaders()},
                          reply.read(), reply.headers["X-Request-Id"])

    for path, form in forms.items():
        start, end = f"GET {path}".encode(), b" HTTP/1.1\r\nHost: localhost\r\n"
        for status, request in (
                # The first two end before the path was looked at.
                (414, start + b"?" + b"x" * 9000 + end + b"\r\n"),
                (431, start + end + b"X: " + b"x" * 40000 + b"\r\n\r\n"),
                (400, start + end + b"no header\r\n\r\n"),
                (404, start + b"/nothing/here" + end + b"\r\n"),
                (413, start + end + b"Content-Length: 9999999\r\n\r\n"),
                (417, start + end + b"Expect: miracles\r\n\r\n")):
            answer = raw(request)
            form_of_this = "OAuthError" if status in (414, 431) else form
            faults = contract.faults(responses[form_of_this], answer)
            if answer.status != status:
                faults.insert(0, f"wanted {status}, got {answer.status}")
            report(not faults, f"{form} {status} of {path}", "\n".join(faults))
    for path in contract.document["paths"]:
        operations = [each for each in contract.operations.values() if each.path == path]
        wanted = {each.method for each in operations}
        wanted |= {"HEAD"} if "GET" in wanted else set()
        port = tester.server.port + (path == "/metrics")
        answer = tester.exchange("LIST", path.format_map(tester.path), {}, None, port)
        allowed = set(answer.headers.pop("allow", "").split(", "))
        form = "Problem" if path.startswith("/api/") else "OAuthError"
        faults = contract.faults(responses[form], answer)
        report(answer.status == 405 and allowed == wanted and not faults,
               f"the methods of {path}", f"allowed {allowed}, documented {wanted}\n{faults}")
    get, head = (tester.exchange(method, "/t/acme/jwks", {}, None) for method in ("GET", "HEAD"))
    for answer in (get, head):
        for name in ("date", "x-request-id"):
            del answer.headers[name]
    report(head.body == b"" and (get.status, get.headers) == (head.status, head.headers),
           "HEAD is GET without the body", f"{get}\n{head}")


def check_without_database(tester: Tester) -> None:
    """A replica that does not know whether it is current answers nobody: 503."""
    tester.server.stop_database()
    # It notices in two places, and one of them a moment later.
    for probe in ("/readyz", "/t/acme/jwks"):
        eventually(lambda: tester.exchange("GET", probe, {}, None).status == 503)
    for operation in tester.contract.operations.values():
        if 503 not in operation.responses:
            tester.call(operation.id, 200, "without a database")
        elif operation.id == "token":
            tester.token(503, "without a database", {"grant_type": EXCHANGE}, who="client")
        elif operation.id in ("introspect", "revoke"):
            tester.call(operation.id, 503, "without a database", who="client",
                        body={"token": "x"}, media="application/x-www-form-urlencoded")
        else:
            who = next(iter(sorted(operation.security & {"operator", "client"})), "")
            tester.call(operation.id, 503, "without a database", who=who,
                        body={} if operation.request else None)


# The document.

def routes_of_sources() -> set:
    """Method and path of each route that the service adds, as `GET /t/{}/jwks`.

    Routes are added in many ways, all with the method as a literal and the pattern after it.
    """
    found, patterns = set(), set()
    for folder in ("service/http/handlers", "service/app"):
        for file in sorted((ROOT / folder).glob("*.cc")):
            text = re.sub(r"//[^\n]*", "", file.read_text(encoding="utf-8"))
            names = dict(re.findall(r'\b(k\w+)(?:\[\])? = "([/{a-z][^"]*)"', text))
            patterns |= set(re.findall(r'"(/[^"\s]*\{\}[^"\s]*[^"\s/])"', text))
            for method, literal, name in re.findall(
                    rf'"({"|".join(METHODS)}|LIST)",\s*(?:"([^"]*)"|(\w+))?', text):
                report(bool(literal or name in names), f"{file.name}: a route that can be read",
                       f"what stands after \"{method}\"?")
                found.add(f"{method} {literal or names.get(name)}")
    unused = patterns - {each.split(" ", 1)[1] for each in found}
    report(not unused, "every pattern in the sources is of a route that was found", str(unused))
    return found


def check_document(contract: Contract) -> None:
    served = routes_of_sources()
    # Those of Vault's API are registered below two prefixes; its contract is not ours to write.
    vaults = {each for each in served if not each.split(" ", 1)[1].startswith("/")}
    served -= vaults
    page = (ROOT / "docs/vault-api.md").read_text(encoding="utf-8")
    for each in sorted({re.sub(r"\{\.\.\.\}", "{path}", each.split(" ", 1)[1]) for each in vaults}):
        shown = (each.replace("{}", "{name}", 1).replace("{}", "{algorithm}")
                 if each.startswith("transit/") else each.replace("{}", "{mount}"))
        report(f"`{shown}`" in page, f"docs/vault-api.md has {each}")
    documented = {f"{each.method} {re.sub('{[a-z_]+}', '{}', each.path)}"
                  for each in contract.operations.values()}
    report(not served - documented, "every route is documented", str(served - documented))
    report(not documented - served, "every operation is a route", str(documented - served))
    report(len(contract.operations) == len(documented), "no two operations share an id")
    for each in contract.operations.values():
        report(each.names("path") == set(re.findall(r"{(\w+)}", each.path)),
               f"{each.id}: the parameters of its path")
    examples = list(contract.examples())
    for schema, value in examples:
        errors = contract.errors(schema, value)
        report(not errors, f"example {json.dumps(value)[:60]}", "\n".join(errors))


def check_coverage(tester: Tester) -> None:
    contract = tester.contract
    pairs = {(each.id, status) for each in contract.operations.values()
             for status in each.responses}
    for pair in sorted(pairs - contract.statuses - set(UNPROVOKED)):
        report(False, f"{pair[0]} {pair[1]} is documented, and no call got it")
    for pair in sorted(set(UNPROVOKED) & contract.statuses | set(UNPROVOKED) - pairs):
        report(False, f"{pair[0]} {pair[1]} need not stand in UNPROVOKED")
    for each in contract.operations.values():
        for place in ("query", "header"):
            for name in sorted(each.names(place)):
                report((each.id, place, name) in contract.parameters,
                       f"{each.id}: parameter {name} was used")
        for scheme in sorted(each.security):
            report((each.id, scheme) in tester.admitted,
                   f"{each.id}: {scheme or 'nobody'} was admitted")
    for key, label in contract.members_of_requests().items():
        report(key in contract.sent, f"{label} was sent and accepted")
    unseen = set(UNSEEN)
    for key, label in contract.members_of_answers().items():
        if key in contract.received:
            report(label not in UNSEEN, f"{label} need not stand in UNSEEN")
        else:
            report(label in UNSEEN, f"{label} is documented, and no answer had it")
            unseen.discard(label)
    report(not unseen, "UNSEEN names members of answers", str(unseen))
    print(f"   {len(contract.operations)} operations; of {len(pairs)} pairs of operation and status "
          f"{len(pairs & contract.statuses)} seen")


def main() -> int:
    build = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`
    contract = Contract(ROOT / "sdk/openapi.yaml")
    check_document(contract)
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o711)  # a PostgreSQL that root starts runs as another user
        folder = pathlib.Path(scratch)
        server = Server(build, folder)
        try:
            ready = server.wait()
            report(ready, "posternd starts", server.log.read_text(errors="replace"))
            if ready:
                tester = Tester(contract, server)
                made = make_tenants(tester, folder)
                check_callers(tester)
                check_inputs(tester)
                check_public(tester)
                check_token(tester, made)
                check_token_status(tester, made)
                check_signing_keys(tester)
                check_key_holder(tester)
                check_tenants(tester, made)
                check_erasures(tester)
                check_credentials(tester)
                check_credential_versions(tester)
                check_credential_types(tester)
                check_step_up_and_credentials(tester, made)
                check_exchange(tester, made)
                check_release(tester, made)
                check_reveal(tester, made)
                check_identities(tester, made, folder)
                check_decision_point(tester, folder)
                check_admin_tokens(tester, made)
                check_client_secrets(tester)
                check_registration(tester, made)
                check_last_use(tester)
                check_rotation(tester, made)
                check_audit(tester)
                check_edge(tester)
                check_without_database(tester)
                check_coverage(tester)
        except Exception:  # an answer so wrong that the next call cannot be made of it
            report(False, "the test comes to its end", traceback.format_exc())
        finally:
            status = server.stop()
        report(status == 0, "posternd ends well", f"exit status {status}")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
