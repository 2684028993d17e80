#!/usr/bin/env python3
"""Tenants that ask for what is others', at every endpoint and in every field that names something.

    tenant_matrix.py [BUILD-DIRECTORY] [--tenants N] [--pairs N|all] [--seed N]

Each of N tenants (10) has clients, credentials, tokens and keys that only it has. A question is a
request of one tenant with one field (of path, query, body, header or a token's claims) that names
something of another tenant; the same request with a name that nobody has must get the same answer
to the byte: status, headers, body and so its length. It is asked for some of the pairs of tenants
(2, at random), or for all of them, at a service that has served all tenants just now, and at one
whose memory holds so few tenants that it reads most of them anew. Then every tenant has what it had.
As a control the first tenant asks about itself at the end, and mostly gets another answer.

Endpoints come from sdk/openapi.yaml and, for Vault's API, from the sources; a field of either that
is neither asked about here nor named as no id is a failure. Ends with `N passed, N failed`.
"""

import argparse
import base64
import concurrent.futures
import copy
import dataclasses
import functools
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / each) for each in ("compose/demo", "tests/contract", "tests/docs")]

import idp  # noqa: E402
from check_commands import free_port  # noqa: E402
from contract_test import (  # noqa: E402
    ACCESS_TOKEN, EXCHANGE, Server, counts, report, routes_of_sources)
from openapi import Contract  # noqa: E402

# Fields of requests that name nothing of a tenant.
NO_IDS = set("""
    grant_type subject_token_type actor_token_type requested_token_type scope authorization_details
    client_secret client_assertion_type token_type_hint limit order action after confirm dry_run
    prune If-Match If-None-Match description expires_at max_uses algorithm publish_for owner labels
    overdue type fields cas metadata rotation_due_at max_versions cas_required version reason
    share present_share actions constraints identifier groups claims acr amr auth_time grant items
    client_name grant_types response_types redirect_uris token_endpoint_auth_method
    token_endpoint_auth_signing_alg introspection_signed_response_alg jwks jwks_uri
    tls_client_auth_subject_dn tls_client_auth_san_dns tls_client_auth_san_uri
    tls_client_auth_san_ip tls_client_auth_san_email dpop_bound_access_tokens
    tls_client_certificate_bound_access_tokens version_metadata
    kind interval_seconds grace_seconds announce_seconds retired field public_field length alphabet
    require generate host port database roles url since abandon records
""".split())
# Of an operator, who may see every tenant; or of nobody's.
FOR_OPERATORS = {"status", "keyStatus", "listTenants", "getTenantErasure"}
OF_NOBODY = {"resourceMetadata", "getErasureKeys", "livez", "readyz", "metrics"}
# What everybody may know of a tenant: that its issuer is there, and how to reach it.
DOCUMENTS = {"tenantResourceMetadata", "jwks", "metadata", "authorize"}
# So the token endpoints of a tenant say that it is there. Of the caller they must say nothing.
OF_ISSUERS = {"token", "introspect", "revoke", "registerClient"}
IGNORED_HEADERS = {"date"}
# What is made anew for each answer, and has the same length each time.
AGE = re.compile(rb'("age_seconds":)[0-9]+')
ISSUED = re.compile(r'eyJ[\w-]+(\.[\w-]+)+|(?<="accessor":")[\w-]{22}')
WORKERS = 8


@dataclasses.dataclass
class Names:
    """What one tenant has and the others have not; or what nobody has."""
    tenant: str
    issuer: str
    subject: str
    client: str
    jwt_client: str          # that proves itself with a key
    backend: str
    resource: str
    credential: str
    admin: str = ""          # tokens
    initial: str = ""
    user: str = ""
    issued: str = ""
    session: str = ""
    user_session: str = ""   # of gw-01 at the Vault subset, with `user` behind it
    wrapping: str = ""
    secret: str = ""         # of gw-01
    client_secret: str = ""  # of `client`
    admin_id: str = ""       # ids of tokens, secrets and keys
    initial_id: str = ""
    secret_id: str = ""
    kid: str = ""
    accessor: str = ""
    erasure: str = ""
    cursor: str = ""
    emergency_cursor: str = ""
    ciphertext: str = ""
    keys: pathlib.Path = pathlib.Path()  # of its identity provider

    def claim(self, **claims) -> str:
        """A token of this tenant's provider, of its alice unless `claims` say otherwise."""
        return sign(self.keys, {"iss": self.issuer, "sub": "alice", "aud": "gw-01",
                                "groups": ["engineering"], "client_id": "demo-app", **claims})


    def assertion(self, **claims) -> str:
        """Of this tenant's jwt_client, good for once."""
        return jwt_of(self.keys, "JWT", {"iss": self.jwt_client, "sub": self.jwt_client,
                                         "aud": issuer_of(self), "jti": secrets.token_hex(8),
                                         **claims}, 60)

    def proof(self, **claims) -> str:
        """Of possession, at this tenant's token endpoint (RFC 9449)."""
        return jwt_of(self.keys, "dpop+jwt", {"htm": "POST", "htu": issuer_of(self) + "/token",
                                              "jti": secrets.token_hex(8), **claims}, 60)


BASE = "http://127.0.0.1"  # of the replica that is asked


def issuer_of(one: Names) -> str:
    return f"{BASE}/t/{one.tenant}"


def sign(keys: pathlib.Path, claims: dict) -> str:
    return signed_once(keys, json.dumps(claims))


@functools.cache  # signing starts a program
def signed_once(keys: pathlib.Path, text: str) -> str:
    return jwt_of(keys, "at+jwt", {"jti": "of-the-matrix", **json.loads(text)}, 8 * 3600)


def jwt_of(keys: pathlib.Path, kind: str, claims: dict, seconds: int) -> str:
    [key] = json.loads((keys / "idp.jwks.json").read_text())["keys"]
    now = int(time.time())
    header = {"alg": "ES256", "typ": kind}
    if kind == "dpop+jwt":
        header["jwk"] = {name: key[name] for name in ("kty", "crv", "x", "y")}
    else:
        header["kid"] = key["kid"]
    body = {"iat": now, "exp": now + seconds, **claims}
    signed = f"{idp.b64(idp.compact(header))}.{idp.b64(idp.compact(body))}"
    der = idp.openssl("dgst", "-sha256", "-sign", str(keys / "idp.pem"), stdin=signed.encode())
    return f"{signed}.{idp.b64(idp.raw_signature(der))}"


@dataclasses.dataclass
class Answer:
    status: int
    headers: list
    body: bytes

    def __post_init__(self):
        """A clock that ticks between two questions is no hint."""
        length, self.body = len(self.body), AGE.sub(rb"\g<1>0", self.body)
        self.headers = [(name, str(int(value) - length + len(self.body)))
                        if name.lower() == "content-length" else (name, value)
                        for name, value in self.headers]

    def same(self, names: list) -> tuple:
        """What must not differ. A reply may repeat the name that it was asked for."""
        def plain(text: str) -> str:
            text = ISSUED.sub("*", text)
            for name in names:
                text = text.replace(name, "*").replace(urllib.parse.quote(name, safe=""), "*")
            return text
        headers = sorted((name.lower(), plain(value)) for name, value in self.headers
                         if name.lower() not in IGNORED_HEADERS)
        return self.status, headers, plain(self.body.decode(errors="replace"))

    @property
    def json(self):
        return json.loads(self.body)


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: dict = dataclasses.field(default_factory=dict)
    query: dict = dataclasses.field(default_factory=dict)
    body: object = None     # dict: JSON
    form: dict | None = None

    def send(self, port: int) -> Answer:
        # A source of its own: who guesses from one address is slowed down.
        source = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60,
                                                source_address=(source, 0))
        headers = {"X-Request-Id": "matrix", **self.headers}
        body = None
        if self.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(self.form)
        elif self.body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(self.body)
        target = self.path + ("?" + urllib.parse.urlencode(self.query) if self.query else "")
        try:
            connection.request(self.method, target, body, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()


def bearer(token: str) -> dict:
    return {"Authorization": "Bearer " + token}


def basic(client: str, secret: str) -> dict:
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


# The tenants.

def manifest(one: Names, padding: int) -> dict:
    jwks = json.loads((one.keys / "idp.jwks.json").read_text())
    backends = [
        {"name": "files", "audience": "https://files.mcp.example/mcp", "scopes": ["files:read"]},
        {"name": one.backend, "audience": one.resource},
        {"name": "shared", "audience": "https://shared.mcp.example/mcp", "answer": "vaulted",
         "credential": {"name": one.credential, "owner": "tenant"}, "token_field": "token",
         "delivery": {"env": {"TOKEN": "{token}"}}},
        {"name": "github", "audience": "https://github.mcp.example/mcp", "answer": "vaulted",
         "credential": {"name": "github", "owner": "principal"}, "token_field": "token",
         "delivery": {"env": {"GITHUB_TOKEN": "{token}"}}}]
    # So that a small memory holds few tenants.
    backends += [{"name": f"padding-{number}", "audience": f"https://{number}.example/{'x' * 1500}",
                  "aliases": [f"https://{number}.example/{each * 1500}" for each in "abcd"]}
                 for number in range(padding)]
    return {
        "tenant": one.tenant, "display_name": "of the matrix",
        "settings": {"reveal": True, "registration": {"dynamic": True},
                     "vault_api": {"clients": ["gw-01"], "views": [
                         {"path": "mcp-gateway/{sub}", "backend": "github"}], "transit": {"rules": [
                         {"clients": ["gw-01"], "keys": ["*"],
                          "operations": ["encrypt", "decrypt", "rewrap", "sign", "verify", "hmac",
                                         "datakey"]}]}}},
        "issuers": [{"name": "corp", "issuer": one.issuer, "jwks": jwks,
                     "audiences": ["gw-01", one.client], "subject_prefix": "corp:"}],
        "clients": [{"id": "gw-01", "backends": ["*"], "scopes": ["*"], "introspects": ["files"],
                     "grants": ["token-exchange", "client_credentials"]},
                    {"id": one.jwt_client, "backends": ["*"], "scopes": ["*"], "audiences": ["gw-01"],
                     "introspects": ["files"],
                     "authentication": {"method": "private_key_jwt", "jwks": jwks}},
                    {"id": one.client}],
        "backends": backends,
        "roles": [{"name": "developer", "allow": ["*:*"]}],
        "bindings": [{"name": "devs", "role": "developer", "groups": ["corp:engineering"]}],
    }


def named(word: str, number: int, folder: pathlib.Path) -> Names:
    """Names of one length each, whosever they are, so that answers can be compared."""
    keys = folder / f"{word}-{number}"
    idp.make_keys(keys)
    return Names(tenant=f"{word}-{number}", issuer=f"https://idp.{word}-{number}.example",
                 subject=f"alice-of-{word}-{number}", client=f"{word}-{number}-client", jwt_client=f"{word}-{number}-jwt",
                 backend=f"{word}-{number}-backend",
                 resource=f"https://{word}-{number}.mcp.example/mcp",
                 credential=f"{word}-{number}-credential", keys=keys)


class Made:
    """A setup request that must succeed."""

    def __init__(self, port: int, operator: str):
        self.port, self.operator = port, operator

    def __call__(self, method: str, path: str, *, token: str = "", headers=None, **more) -> dict:
        headers = headers if headers is not None else bearer(token or self.operator)
        answer = Request(method, path, headers, **more).send(self.port)
        if answer.status not in (200, 201, 204):
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer.json if answer.body else {}


def make_tenant(one: Names, made: Made, padding: int) -> None:
    api = f"/api/v1/tenants/{one.tenant}"
    vault = f"/t/{one.tenant}/v1"
    given = made("PUT", f"{api}/manifest", body=manifest(one, padding))["client_secrets"]
    of_client = {each["client"]: each["client_secret"] for each in given}
    one.secret, one.client_secret = of_client["gw-01"], of_client[one.client]
    token = made("POST", f"{api}/admin-tokens", body={})
    one.admin, one.admin_id = token["token"], token["token_id"]
    token = made("POST", f"{api}/initial-access-tokens", body={})
    one.initial, one.initial_id = token["token"], token["token_id"]
    one.secret_id = made("GET", f"{api}/clients/{one.client}/secrets")["items"][0]["secret_id"]
    # The one that is published no more can be withdrawn; all can be named.
    one.kid = made("GET", f"{api}/signing-keys")["items"][0]["kid"]
    for name in (one.credential, "shared"):
        made("PUT", f"{api}/credentials/{name}", body={"fields": {"token": "of " + one.tenant}})
    one.user = one.claim(sub=one.subject)
    made("PUT", f"{api}/credentials/github", token=one.user,
         body={"fields": {"token": "of " + one.subject}})
    left = {"issuer": one.issuer, "subject": "somebody-who-left"}
    made("PUT", f"{api}/credentials/github", query=left, body={"fields": {"token": "of nobody"}})
    one.erasure = made("POST", f"{api}/principals/erase", body=left)["erasure_id"]
    one.cursor = made("GET", f"{api}/credentials", query={"limit": 2})["next_cursor"]
    one.emergency_cursor = emergency_cursor(one, one.credential)
    one.issued = made("POST", f"/t/{one.tenant}/token", headers=basic("gw-01", one.secret),
                      form={"grant_type": EXCHANGE, "subject_token": one.user,
                            "subject_token_type": ACCESS_TOKEN, "audience": "files"})["access_token"]
    login = made("POST", f"{vault}/auth/approle/login", headers={},
                 body={"role_id": "gw-01", "secret_id": one.secret})["auth"]
    one.session, one.accessor = login["client_token"], login["accessor"]
    one.user_session = made("POST", f"{vault}/auth/jwt/login", headers=basic("gw-01", one.secret),
                            body={"role": "gw-01", "jwt": one.user})["auth"]["client_token"]
    one.wrapping = made("POST", f"{vault}/sys/wrapping/wrap", body={"of": one.tenant}, headers={
        "X-Vault-Token": one.admin, "X-Vault-Wrap-TTL": "3h"})["wrap_info"]["token"]
    for key, kind in ((one.credential, "aes256-gcm96"), (one.backend, "ed25519")):
        made("POST", f"{vault}/transit/keys/{key}", headers={"X-Vault-Token": one.admin},
             body={"type": kind})
    one.ciphertext = made("POST", f"{vault}/transit/encrypt/{one.credential}",
                          headers={"X-Vault-Token": one.session},
                          body={"plaintext": "YQ=="})["data"]["ciphertext"]


def like(text: str) -> str:
    """As long, of the same alphabet and beginning, and nobody's."""
    kept = max(text.rfind("_"), text.rfind(":"), len(text) - 12) + 1
    return text[:kept] + "".join("AQgw"[number % 4] for number in range(len(text) - kept))


def token_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def emergency_cursor(one: Names, credential: str) -> str:
    """Of a page that ended with this credential of theirs."""
    order = json.dumps({"backend": "", "client": "nobody", "disable": False, "dry_run": True},
                       separators=(",", ":"))
    place = json.dumps({"order": token_of(hashlib.sha256(order.encode()).digest()),
                        "begun_at": 1767225600, "records": 500000, "before": 0,
                        "after": [one.issuer, one.subject, credential]})
    return token_of(place.encode())


def nobody_like(model: Names, nobody: Names) -> Names:
    """`nobody` with tokens and ids as those of `model`, which nobody has."""
    out = copy.copy(nobody)
    for name in ("admin", "initial", "session", "user_session", "wrapping", "secret", "client_secret"):
        # A token may name its tenant.
        setattr(out, name, like(getattr(model, name)).replace(model.tenant, nobody.tenant))
    for name in ("admin_id", "initial_id", "secret_id", "kid", "accessor", "erasure"):
        setattr(out, name, like(getattr(model, name)))
    out.user = out.claim(sub=nobody.subject)
    out.issued = sign(out.keys, {"iss": f"{model.tenant}", "sub": "alice"})
    out.ciphertext = like(model.ciphertext)
    # Between the same credentials as theirs.
    between = model.credential[:-1] + "m"
    out.cursor = model.cursor.replace(model.credential, between)
    out.emergency_cursor = emergency_cursor(model, between)
    return out


def contents(one: Names, made: Made) -> str:
    """All that others could have changed, but what every call changes: the trail."""
    api = f"/api/v1/tenants/{one.tenant}"
    parts = [made("GET", api + part) for part in (
        "", "/manifest", "/admin-tokens", "/initial-access-tokens", "/signing-keys", "/credentials",
        f"/clients/{one.client}/secrets", f"/credentials/{one.credential}/versions")]
    vault = f"/t/{one.tenant}/v1/transit/keys"
    for path in ("", f"/{one.credential}", f"/{one.backend}"):
        parts.append(made("GET", vault + path, query={} if path else {"list": "true"},
                          headers={"X-Vault-Token": one.admin})["data"])

    def without_uses(value):
        if isinstance(value, list):
            return [without_uses(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {name: without_uses(each) for name, each in value.items()
                if name not in ("request_id", "last_used_at")}
    return json.dumps(without_uses(parts), sort_keys=True)


# The questions.

@dataclasses.dataclass
class Question:
    operation: str
    field: str
    ask: object  # (asker: Names, asked: Names) -> Request; only one thing in it is `asked`'s
    may_succeed: bool = False  # also for what nobody has, as a search does
    of_caller: bool = False    # compared with the same request of somebody who is nobody here


def openapi_requests(a: Names, x: Names, places: dict) -> dict:
    """A request for each operation, as `a` makes it; what `places` has is taken from there."""
    def of(field: str, own):
        return places.get(field, own)
    admin = bearer(of("admin", a.admin))
    client = basic(*of("client of Basic", ("gw-01", a.secret)))
    user_token = of("subject_token", a.user)
    api = "/api/v1/tenants/" + of("tenant", a.tenant)
    oauth = "/t/" + of("tenant", a.tenant)
    own = "github" if {"issuer", "subject", "user"} & set(places) else a.credential
    credential = api + "/credentials/" + of("credential", own)
    the_client = api + "/clients/" + of("client", a.client)
    version = credential + "/versions/1"
    principal = ({"issuer": of("issuer", a.issuer), "subject": of("subject", a.subject)}
                 if {"issuer", "subject"} & set(places) else {})
    item = {key: places[key] for key in ("backend", "resource", "audience") if key in places}
    details = ([{"type": "mcp_tool", "identifier": "x", "locations": [places["locations"]]}]
               if "locations" in places else None)
    exchange = {"grant_type": EXCHANGE, "subject_token": user_token,
                "subject_token_type": ACCESS_TOKEN}
    if "actor_token" in places:
        exchange |= {"actor_token": places["actor_token"], "actor_token_type": ACCESS_TOKEN}
    batch = {key: value for key, value in exchange.items() if key != "grant_type"}
    release = {key: value for key, value in batch.items() if not key.startswith("actor")}
    target = {key: value for key, value in item.items() if key != "backend"} or {"audience": "files"}
    if details:
        target["authorization_details"] = json.dumps(details)
    items = [{**(item or {"backend": "files"}),
              **({"authorization_details": details} if details else {})}]
    posted = {}
    if "client_id" in places:
        client, posted = {}, {"client_id": x.client, "client_secret": x.client_secret}
    if "client_assertion" in places:
        client, posted = {}, {
            "client_assertion": places["client_assertion"],
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    if "DPoP" in places:
        client = {**client, "DPoP": places["DPoP"]}
    asserted = {key: value for key, value in posted.items() if key != "client_secret"}
    token = of("token", a.issued)
    text = manifest(a, 0)
    text["tenant"] = of("tenant member", of("tenant", a.tenant))
    explained = {"client": of("explained client", "gw-01"), "audience": of("audience", "files")}
    if "resource" in places:
        explained = {"client": "gw-01", "resource": places["resource"]}
    who = {"issuer": of("issuer", a.issuer), "subject": of("subject", "alice")}
    if "subject_token" in places:
        explained |= {"subject_token": places["subject_token"], "subject_token_type": ACCESS_TOKEN}
    else:
        explained["subject"] = who if "actor" not in places else {**who, "issuer": a.issuer}
    if "actor" in places:
        explained["actor"] = {"issuer": places["actor"], "subject": "alice"}
    if "actor_token" in places:
        explained |= {"actor_token": places["actor_token"], "actor_token_type": ACCESS_TOKEN}
    if details:
        explained["authorization_details"] = details
    suspect = {"client": of("explained client", "nobody")}
    if "issuer" in places or "principal" in places:
        suspect = {"principal": {"issuer": of("issuer", a.issuer), "subject": of("subject", "alice")}}
    elif "backend" in places:
        suspect = {"backend": places["backend"]}
    fields = {"fields": {"token": "changed"}}
    search = {"cursor": places["cursor"]} if "cursor" in places else {**principal}
    return {
        "token": Request("POST", oauth + "/token", client, form={**exchange, **target, **posted}),
        "introspect": Request("POST", oauth + "/introspect", client,
                              form={"token": token, **posted}),
        "revoke": Request("POST", oauth + "/revoke", client, form={"token": token, **posted}),
        "registerClient": Request("POST", oauth + "/register", bearer(of("initial", a.initial)),
                                  body={"token_endpoint_auth_method": "nonsense"}),
        "tenantResourceMetadata": Request(
            "GET", "/.well-known/oauth-protected-resource" + api),
        "jwks": Request("GET", oauth + "/jwks"),
        "metadata": Request("GET", "/.well-known/oauth-authorization-server" + oauth),
        "authorize": Request("GET", oauth + "/authorize"),
        "exchange": Request("POST", api + "/exchange", client,
                            body={**batch, **asserted, "items": items}),
        "release": Request("POST", api + "/release", client,
                           body={**release, **asserted, "items": [item or {"backend": "github"}]}),
        "getTenant": Request("GET", api, admin),
        "deleteTenant": Request("DELETE", api, admin,
                                query={"confirm": of("confirm", of("tenant", a.tenant))}),
        "getManifest": Request("GET", api + "/manifest", admin),
        "applyManifest": Request("PUT", api + "/manifest", admin, body=text,
                                 query={"dry_run": "true"}),
        "listAdminTokens": Request("GET", api + "/admin-tokens", admin),
        "createAdminToken": Request("POST", api + "/admin-tokens", admin, body={}),
        "deleteAdminToken": Request(
            "DELETE", api + "/admin-tokens/" + of("admin_id", "nothing-00000"), admin),
        "listInitialAccessTokens": Request("GET", api + "/initial-access-tokens", admin),
        "createInitialAccessToken": Request("POST", api + "/initial-access-tokens", admin,
                                            body={"max_uses": 0}),
        "deleteInitialAccessToken": Request(
            "DELETE", api + "/initial-access-tokens/" + of("initial_id", "nothing-00000"), admin),
        "deleteRegisteredClient": Request("DELETE", the_client, admin),
        "getKeyHolder": Request("GET", api + "/key-holder", admin),
        "holdKey": Request("PUT", api + "/key-holder", admin, body={"share": "short"}),
        "releaseKey": Request("POST", api + "/key-holder/release", admin,
                              body={"share": "A" * 43}),
        "sealTenant": Request("POST", api + "/key-holder/seal", admin, body={}),
        "unsealTenant": Request("POST", api + "/key-holder/unseal", admin,
                                body={"share": "A" * 43}),
        # Of a subject that nobody is, so that nothing is ever erased.
        "erasePrincipal": Request("POST", api + "/principals/erase", admin, body={
            "issuer": of("issuer", a.issuer), "subject": of("subject", "nobody") + "/"}),
        "listErasures": Request("GET", api + "/erasures", admin, query=(
            {"cursor": places["cursor"]} if "cursor" in places else {})),
        "getErasure": Request(
            "GET", api + "/erasures/" + of("erasure", "nothing-00000"), admin),
        "eraseTenant": Request("POST", api + "/erase", admin,
                               body={"confirm": of("confirm", of("tenant", a.tenant))}),
        "listSigningKeys": Request("GET", api + "/signing-keys", admin),
        "rotateSigningKeys": Request("POST", api + "/signing-keys/rotation", admin,
                                     body={"algorithm": "none"}),
        "withdrawSigningKey": Request(
            "DELETE", api + "/signing-keys/" + of("kid", "nothing-00000"), admin),
        "listClientSecrets": Request("GET", the_client + "/secrets", admin),
        "addClientSecret": Request("POST", the_client + "/secrets", admin,
                                   body={"expires_at": "2001-01-01T00:00:00Z"}),
        "deleteClientSecret": Request(
            "DELETE", the_client + "/secrets/" + of("secret_id", "nothing-00000"), admin),
        "listCredentials": Request("GET", api + "/credentials", admin, query=search),
        "getCredential": Request("GET", credential, admin, query=principal),
        # With a condition that no credential of the asker meets, which changes nothing.
        "putCredential": Request("PUT", credential, {**admin, "If-Match": '"99"'}, body=fields,
                                 query=principal),
        "deleteCredential": Request("DELETE", credential, {**admin, "If-Match": '"99"'},
                                    query=principal),
        "describeCredential": Request("PATCH", credential, {**admin, "If-Match": '"99"'},
                                      body={"description": "changed"}, query=principal),
        "listCredentialVersions": Request("GET", credential + "/versions", admin, query=principal),
        "deleteCredentialVersion": Request("DELETE", version, {**admin, "If-Match": '"99"'},
                                           query=principal),
        "undeleteCredentialVersion": Request("POST", version + "/undelete",
                                             {**admin, "If-Match": '"99"'}, query=principal),
        "destroyCredentialVersion": Request("POST", version + "/destroy",
                                            {**admin, "If-Match": '"99"'}, query=principal),
        "revealCredential": Request("POST", credential + "/reveal", admin, query=principal,
                                    body={"reason": "to be refused"}),
        # By a way that is refused, and with a condition that is not met.
        "getRotation": Request("GET", credential + "/rotation", admin, query=principal),
        "configureRotation": Request("PUT", credential + "/rotation", admin, query=principal, body={
            "kind": "password", "field": "token", "length": 1,
            **({"kind": "postgres", "host": "db.example", "port": 5432, "roles": ["app"],
                "admin_credential": places["admin_credential"]} if "admin_credential" in places else {}),
            **({"kind": "webhook", "url": "https://hooks.example/", "secret_credential":
                places["secret_credential"]} if "secret_credential" in places else {})}),
        "forgetRotation": Request("DELETE", credential + "/rotation", admin, query=principal),
        "rotateCredential": Request("POST", credential + "/rotate", {**admin, "If-Match": '"99"'},
                                    query=principal, body=fields),
        "promoteAnnounced": Request("POST", credential + "/rotation/promote", admin,
                                    query=principal),
        "retirePrevious": Request("POST", credential + "/rotation/retire", admin, query=principal),
        "cancelRotation": Request("POST", credential + "/rotation/cancel", admin, query=principal),
        "listRotations": Request("GET", api + "/rotations", admin, query=(
            {"cursor": places["cursor"]} if "cursor" in places else {})),
        "rotateMany": Request("POST", api + "/rotations", admin, body={
            "labels": {"matrix": "none"}, "dry_run": True,
            **({"cursor": places["cursor"]} if "cursor" in places else {})}),
        "contain": Request("POST", api + "/emergency", admin, body={
            "since": "2026-01-01T00:00:00Z", "action": "rotate", "dry_run": True, "reason": "matrix",
            **({"cursor": places["cursor"]} if "cursor" in places else {}), **suspect}),
        "explain": Request("POST", api + "/explanations", admin, body=explained),
        "readAudit": Request("GET", api + "/audit", admin, query={"limit": 1}),
        "verifyAudit": Request("GET", api + "/audit/verification", admin),
    }


# Fields of openapi.yaml to what is put there. Those of a path name what the operation is about.
ID_FIELDS = {
    "tenant": "tenant", "client": "client", "credential": "credential", "secret_id": "secret_id",
    "kid": "kid", "erasure": "erasure", "issuer": "issuer", "subject": "subject", "cursor": "cursor",
    "subject_token": "user", "actor_token": "user", "actor": "issuer", "client_id": "client",
    "client_assertion": "user", "audience": "resource", "resource": "resource",
    "backend": "backend", "locations": "resource", "token": "issued",
    "admin_credential": "credential", "secret_credential": "credential", "principal": "issuer",
}
SEARCHES = {"listCredentials", "listErasures", "listRotations", "rotateMany", "contain", "explain", "introspect", "revoke", "exchange", "release"}


def fields_of(contract: Contract, operation) -> set:
    """Every parameter, and every member of a body at whatever depth."""
    found = {each["name"] for each in operation.parameters}
    seen = set()

    def walk(schema) -> None:
        schema = contract.resolve(schema)
        if id(schema) in seen:
            return
        seen.add(id(schema))
        for key in ("allOf", "oneOf", "anyOf"):
            for each in schema.get(key, []):
                walk(each)
        for name, each in schema.get("properties", {}).items():
            found.add(name)
            walk(each)
        if isinstance(schema.get("items"), dict):
            walk(schema["items"])

    for schema in operation.request.values():
        walk(schema)
    return found


def place_of(operation: str, field: str) -> tuple[str, str]:
    """The place in openapi_requests(), and the member of Names that goes there."""
    if field == "token_id":
        return ("initial_id",) * 2 if "Initial" in operation else ("admin_id",) * 2
    if operation == "contain" and field == "cursor":
        return field, "emergency_cursor"
    if operation in ("explain", "contain") and field == "client":
        return "explained client", "client"
    return field, ID_FIELDS[field]


def rest_questions(contract: Contract, tenant: Names):
    known = openapi_requests(tenant, tenant, {})
    for name, operation in contract.operations.items():
        if name in OF_NOBODY | FOR_OPERATORS:
            continue
        if name not in known:
            report(False, f"{name}: say in openapi_requests() how it is asked")
            continue
        # A manifest's members are the tenant's own names, but for the tenant's.
        fields = ({"tenant"} if name == "applyManifest" else fields_of(contract, operation))
        if name == "explain":
            fields |= {"issuer", "subject"}
        for field in sorted(fields - NO_IDS):
            if field != "token_id" and field not in ID_FIELDS:
                report(False, f"{name}: is {field} an id of something? Say so in this script.")
                continue
            place, member = place_of(name, field)
            if field != "tenant":
                # A subject is one of an issuer.
                also = {"issuer": "issuer"} if field == "subject" else {}
                yield Question(name, field, lambda a, x, n=name, p={place: member, **also}:
                               openapi_requests(a, x, {k: getattr(x, m) for k, m in p.items()})[n],
                               name in SEARCHES)
                continue
            if name in DOCUMENTS:
                yield Question(name, "tokens of the asker", lambda a, x, n=name: dataclasses.replace(
                    openapi_requests(a, x, {})[n], headers=bearer(x.admin)), True)
                continue
            # The whole request of another tenant's caller.
            yield Question(name, "path tenant", lambda a, x, n=name:
                           openapi_requests(a, x, {"tenant": x.tenant})[n],
                           of_caller=name in OF_ISSUERS)
            if "tenantAdmin" in operation.security:
                yield Question(name, "path tenant, by a user", lambda a, x, n=name:
                               openapi_requests(a, x, {"tenant": x.tenant, "admin": a.user})[n])
                for kind in ("admin", "user"):
                    yield Question(name, f"bearer token of an {kind}", lambda a, x, n=name, k=kind:
                                   openapi_requests(a, x, {"admin": getattr(x, k)})[n])
        if name == "applyManifest":
            yield Question(name, "tenant in the body", lambda a, x, n=name:
                           openapi_requests(a, x, {"tenant member": x.tenant})[n])
        if name == "registerClient":
            yield Question(name, "bearer token", lambda a, x, n=name:
                           openapi_requests(a, x, {"initial": x.initial})[n])
        if "client" in operation.security:
            yield Question(name, "client id in Basic", lambda a, x, n=name:
                           openapi_requests(a, x, {"client of Basic": (x.client, x.client_secret)}
                                            )[n])
    # Claims of tokens that the asker's own provider signs.
    for name in ("token", "exchange", "release", "explain"):
        for claim, member in (("iss", "issuer"), ("aud", "client"), ("client_id", "client"),
                              ("azp", "client"), ("sub", "subject"), ("tenant", "tenant")):
            yield Question(name, f"claim {claim}", lambda a, x, n=name, c=claim, m=member:
                           openapi_requests(a, x, {"subject_token": a.claim(**{c: getattr(x, m)})})[n],
                           True)
    for name in ("token", "exchange", "explain"):
        for claim, member in (("iss", "issuer"), ("aud", "client"), ("client_id", "client"),
                              ("azp", "client"), ("sub", "subject"), ("tenant", "tenant")):
            yield Question(name, f"claim {claim} of the actor", lambda a, x, n=name, c=claim, m=member:
                           openapi_requests(a, x, {"actor_token": a.claim(**{c: getattr(x, m)})})[n],
                           True)
    for name in ("token", "introspect", "revoke", "exchange", "release"):
        for claims in (("iss",), ("sub",), ("iss", "sub"), ("client_id",)):
            yield Question(name, f"claims {' '.join(claims)} of the client's assertion",
                           lambda a, x, n=name, c=claims: openapi_requests(
                               a, x, {"client_assertion": a.assertion(
                                   **{each: x.jwt_client for each in c})})[n], claims == ("client_id",))
        yield Question(name, "claim aud of the client's assertion", lambda a, x, n=name:
                       openapi_requests(a, x, {"client_assertion": a.assertion(aud=issuer_of(x))})[n])
    yield Question("token", "htu of the proof", lambda a, x: openapi_requests(
        a, x, {"DPoP": a.proof(htu=issuer_of(x) + "/token")})["token"])
    yield Question("token", "the whole proof", lambda a, x: openapi_requests(
        a, x, {"DPoP": x.proof()})["token"])
    for name in ("getCredential", "listCredentials", "listCredentialVersions"):
        for claim, member in (("iss", "issuer"), ("sub", "subject")):
            yield Question(name, f"claim {claim}", lambda a, x, n=name, c=claim, m=member:
                           openapi_requests(a, x, {"admin": a.claim(**{c: getattr(x, m)}),
                                                   "user": True})[n], True)


# Bodies that name something of `x`.
VAULT_BODIES = {
    "auth/approle/login": lambda x, a: {"role_id": "gw-01", "secret_id": x.secret},
    "auth/jwt/login": lambda x, a: {"role": x.client, "jwt": x.user},
    "auth/kubernetes/login": lambda x, a: {"role": x.client, "jwt": x.user},
    "auth/token/lookup": lambda x, a: {"token": x.session},
    "auth/token/renew": lambda x, a: {"token": x.session},
    "auth/token/revoke": lambda x, a: {"token": x.session},
    "auth/token/lookup-accessor": lambda x, a: {"accessor": x.accessor},
    "auth/token/revoke-accessor": lambda x, a: {"accessor": x.accessor},
    "sys/wrapping/lookup": lambda x, a: {"token": x.wrapping},
    "sys/wrapping/rewrap": lambda x, a: {"token": x.wrapping},
    "sys/wrapping/unwrap": lambda x, a: {"token": x.wrapping},
    "transit/decrypt/{}": lambda x, a: {"ciphertext": x.ciphertext},
    "transit/rewrap/{}": lambda x, a: {"ciphertext": x.ciphertext},
}
# And those that name nothing.
VAULT_CONTENTS = {
    "transit/encrypt/{}": {"plaintext": "YQ=="}, "transit/sign/{}": {"input": "YQ=="},
    "transit/sign/{}/{}": {"input": "YQ=="}, "transit/hmac/{}": {"input": "YQ=="},
    "transit/hmac/{}/{}": {"input": "YQ=="},
    "transit/verify/{}": {"input": "YQ==", "signature": "vault:v1:YQ=="},
    "transit/verify/{}/{}": {"input": "YQ==", "signature": "vault:v1:YQ=="},
    "transit/keys/{}/config": {"min_decryption_version": 99},
    "{}/data/{...}": {"data": {"token": "changed"}, "options": {"cas": 99}},
    "{}/metadata/{...}": {"max_versions": 0, "cas_required": "no"},
    "{}/delete/{...}": {"versions": [99]}, "{}/undelete/{...}": {"versions": [99]},
    "{}/destroy/{...}": {"versions": [99]},
}
# What makes something new of the asker's own when nothing of that name is there.
VAULT_MAKES = {("POST", "transit/keys/{}"), ("PUT", "transit/keys/{}")}
# For anybody, about no tenant; or refused to everybody.
VAULT_OF_NOBODY = {"sys/health", "sys/seal-status"}


def vault_request(method: str, pattern: str, asker: Names, *, tenant: str = "", namespace: str = "",
                  token: str = "", name: str = "", body=None) -> Request:
    path = pattern.replace("{...}", name or asker.credential).replace(
        "{}/", "secret/", 1 if pattern.startswith("{}") else 0)
    path = path.replace("{}", name or asker.credential, 1).replace("{}", "sha2-256")
    headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH"
               else "application/json"}
    if token:
        headers["X-Vault-Token"] = token
    if namespace:
        headers["X-Vault-Namespace"] = namespace
        prefix = "/v1/"
    else:
        prefix = f"/t/{tenant or asker.tenant}/v1/"
    if pattern == "sys/wrapping/wrap":
        headers["X-Vault-Wrap-TTL"] = "5m"
    if body is None and method in ("POST", "PUT", "PATCH"):
        names_own = VAULT_BODIES.get(pattern)
        body = names_own(asker, asker) if names_own else VAULT_CONTENTS.get(pattern, {})
    return Request(method, prefix + path, headers, body=body)


def vault_questions(routes: set):
    for route in sorted(routes):
        method, pattern = route.split(" ", 1)
        if pattern in VAULT_OF_NOBODY:
            continue
        for kind in ("admin", "session", "user_session"):
            yield Question(route, f"path tenant, by {kind}", lambda a, x, m=method, p=pattern, k=kind:
                           vault_request(m, p, a, tenant=x.tenant, token=getattr(a, k)))
            yield Question(route, f"namespace, by {kind}", lambda a, x, m=method, p=pattern, k=kind:
                           vault_request(m, p, a, namespace=x.tenant, token=getattr(a, k)))
        wraps = ("wrapping",) if pattern.startswith("sys/wrapping") else ()
        for kind in ("admin", "session", "user_session", *wraps):
            yield Question(route, f"token of another's {kind}",
                           lambda a, x, m=method, p=pattern, k=kind:
                           vault_request(m, p, a, token=getattr(x, k)), pattern.endswith("login"))
        if "{" in pattern and (method, pattern) not in VAULT_MAKES:
            for kind in ("admin", "session"):
                yield Question(route, f"name in the path, by {kind}",
                               lambda a, x, m=method, p=pattern, k=kind:
                               vault_request(m, p, a, token=getattr(a, k), name=x.credential),
                               pattern.startswith("{}") or "mounts" in pattern)
        if pattern == "{}/data/{...}" and method == "GET":
            for kind in ("admin", "session", "user_session"):
                yield Question(route, f"view of another's user, by {kind}",
                               lambda a, x, k=kind: vault_request(
                                   "GET", "{}/data/{...}", a, token=getattr(a, k),
                                   name="mcp-gateway/" + x.subject))
        if pattern == "auth/jwt/login":
            yield Question(route, "a user's token, beside a proof of one's own",
                           lambda a, x, m=method: Request(
                               m, f"/t/{a.tenant}/v1/auth/jwt/login", basic("gw-01", a.secret),
                               body={"role": "gw-01", "jwt": x.user}))
            yield Question(route, "a user's token, at their tenant",
                           lambda a, x, m=method: Request(
                               m, f"/t/{x.tenant}/v1/auth/jwt/login", basic("gw-01", a.secret),
                               body={"role": "gw-01", "jwt": a.user}))
        if pattern in VAULT_BODIES and method != "GET":
            yield Question(route, "body", lambda a, x, m=method, p=pattern:
                           vault_request(m, p, a, token=a.session, body=VAULT_BODIES[p](x, a)))


# Asking.

def takes_away(operation: str) -> int:
    """How much: it takes it from the questions after it, so what takes most comes last."""
    if "revoke" in operation:
        return 3  # the tokens that ask
    if operation.startswith("DELETE "):
        return 2
    return int(bool(re.search("(?<!un)delete|destroy|wrapping/(re|un)wrap|withdraw", operation)))


# Of the control's questions: those that get the same answer about what is one's own.
MOST_SILENT = 0.28


class Matrix:
    def __init__(self, tenants: list, nobody: Names, chooser: random.Random, pairs: int | None):
        self.tenants, self.nobody, self.chooser, self.pairs = tenants, nobody, chooser, pairs
        self.nobodies = {}
        self.requests = 0

    def nobody_like(self, model: Names) -> Names:
        if model.tenant not in self.nobodies:
            self.nobodies[model.tenant] = nobody_like(model, self.nobody)
        return self.nobodies[model.tenant]

    def ask(self, port: int, question: Question, asker: Names, asked: Names) -> str:
        """What is wrong, or nothing."""
        nobody = self.nobody_like(asked)
        theirs = question.ask(asker, asked).send(port)
        if question.of_caller:
            nowhere = question.ask(self.nobody_like(asker), asked).send(port)
        else:
            nowhere = question.ask(asker, nobody).send(port)
        self.requests += 2
        names = sorted({value for one in (asked, nobody)
                        for value in dataclasses.asdict(one).values()
                        if isinstance(value, str) and value}, key=len, reverse=True)
        if theirs.status < 400 and not question.may_succeed:
            return f"was answered: {theirs.status} {theirs.body[:300]!r}"
        if theirs.status == 429 or theirs.status >= 500:
            return f"says nothing: {theirs.status} {theirs.body[:300]!r}"
        if theirs.same(names) != nowhere.same(names):
            return f"theirs   {theirs.same(names)}\nnobody's {nowhere.same(names)}"
        if len(theirs.body) != len(nowhere.body):
            return f"{len(theirs.body)} and {len(nowhere.body)} bytes: {theirs.body[:300]!r}"
        return ""

    def run(self, name: str, port: int, questions: list) -> None:
        global BASE
        BASE = f"http://127.0.0.1:{port}"
        began, before = time.time(), self.requests
        every = list(itertools.permutations(self.tenants, 2))
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for question in questions:
                pairs = every if self.pairs is None else self.chooser.sample(every, self.pairs)
                faults = [(asker.tenant, asked.tenant, fault) for (asker, asked), fault in zip(
                    pairs, pool.map(lambda pair: self.ask(port, question, *pair), pairs)) if fault]
                report(not faults, f"{name}: {question.operation}, {question.field}: "
                       f"{len(faults)} of {len(pairs)} pairs", "\n".join(
                           f"{asker} about {asked}:\n{fault}" for asker, asked, fault in faults[:1]))
        print(f"   {name}: {len(questions)} questions, {self.requests - before} requests, "
              f"{time.time() - began:.0f} s", flush=True)


    def control(self, port: int, questions: list, names_silent: bool) -> None:
        """Who asks about what is its own gets another answer than about what nobody has."""
        global BASE
        BASE = f"http://127.0.0.1:{port}"
        one, *_ = self.tenants
        silent = [question
                  for question in sorted(questions, key=lambda each: takes_away(each.operation))
                  if not self.ask(port, dataclasses.replace(question, may_succeed=True), one, one)]
        same = [f"{question.operation}, {question.field}" for question in silent]
        report(len(same) < MOST_SILENT * len(questions), "control: questions tell something",
               "\n".join(same))
        if names_silent:
            print("\n".join(sorted(same)))
        print(f"   control: {len(questions) - len(same)} of {len(questions)} questions got another "
              "answer about what is one's own")


def loads(ops: int) -> float:
    text = Request("GET", "/metrics").send(ops).body.decode()
    return float(re.search(r"^postern_snapshot_loads_total (\S+)", text, re.M)[1])


def start_forgetful(build: pathlib.Path, data: pathlib.Path, log: pathlib.Path) -> tuple:
    """A second replica, whose memory holds a few tenants."""
    port = free_port()
    ops = port + 1
    passwords = dict(line.split() for line in
                     (data / "postgres/passwords").read_text().splitlines())
    def url(database: str) -> str:
        return (f"host={data}/postgres/run port=5432 dbname={database} "
                f"user=postern_service password={passwords['postern_service']}")
    settings = {
        "POSTERND_BASE_URL": f"http://127.0.0.1:{port}", "POSTERND_LISTEN_PORT": str(port),
        "POSTERND_OPS_PORT": str(ops), "POSTERND_SNAPSHOTS_MEMORY_BYTES": str(1024 * 1024),
        "POSTERND_DATABASE_URL": url("postern"),
        "POSTERND_SHARE_STORE_URL": url("postern_shares"),
        "POSTERND_KEYS_ROOT_KEY_FILE": str(data / "root.key"),
        "POSTERND_OPERATOR_TOKEN_FILE": str(data / "operator.token")}
    with open(log, "wb") as out:
        process = subprocess.Popen([str(build / "posternd"), "serve"], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=subprocess.STDOUT,
                                   env={**os.environ, **settings})
    for _ in range(300):
        try:
            if Request("GET", "/readyz").send(ops).status == 200:
                return process, port, ops
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the second replica does not start: " + log.read_text(errors="replace"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--tenants", type=int, default=10)
    parser.add_argument("--pairs", default="2")
    parser.add_argument("--silent", action="store_true",
                        help="name the questions of the control that tell nothing")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    given = parser.parse_args()
    build = ROOT / given.build
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`
    print(f"   {given.tenants} tenants, {given.pairs} pairs, seed {given.seed}")
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o711)  # a PostgreSQL that root starts runs as another user
        folder = pathlib.Path(scratch)
        server, second = Server(build, folder), None
        try:
            if not server.wait():
                raise RuntimeError("posternd: " + server.log.read_text(errors="replace"))
            made = Made(server.port, server.operator_token())
            tenants = [named("tenant", number, folder) for number in range(given.tenants)]
            for one in tenants:
                make_tenant(one, made, padding=25)
            before = [contents(one, made) for one in tenants]
            matrix = Matrix(tenants, named("nobody", 0, folder), random.Random(given.seed),
                            None if given.pairs == "all" else int(given.pairs))
            contract = Contract(ROOT / "sdk/openapi.yaml")
            vault = {each for each in routes_of_sources()
                     if not each.split(" ", 1)[1].startswith("/")}
            questions = list(rest_questions(contract, tenants[0])) + list(vault_questions(vault))
            loaded = loads(server.port + 1)
            matrix.run("warm", server.port, questions)
            reloaded = loads(server.port + 1) - loaded
            report(reloaded < matrix.requests / 20, "a warm service reads hardly a tenant anew",
                   f"{reloaded} of {matrix.requests} requests")
            second, port, ops = start_forgetful(build, server.data, folder / "second.log")
            requests = matrix.requests
            matrix.run("cold", port, questions)
            reloaded, requests = loads(ops), matrix.requests - requests
            report(reloaded > requests / 4, "a forgetful service reads most tenants anew",
                   f"{reloaded} of {requests} requests")
            print(f"   the forgetful replica read a tenant {reloaded:.0f} times")
            for one, was in zip(tenants, before):
                report(contents(one, made) == was, f"{one.tenant} has what it had")
            matrix.control(server.port, questions, given.silent)
        except Exception:  # an answer so wrong that the next call cannot be made of it
            report(False, "the matrix comes to its end", traceback.format_exc())
        finally:
            if second is not None:
                second.terminate()
                second.wait(60)
            status = server.stop()
        report(status == 0, "posternd ends well", f"exit status {status}")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
