#!/usr/bin/env python3
"""A stand-in for an identity provider: an ES256 key, its JWKS, and signed tokens.

    idp.py keys DIRECTORY
        makes DIRECTORY/idp.pem (0600) and DIRECTORY/idp.jwks.json, unless they are there
    idp.py token DIRECTORY ISSUER SUBJECT AUDIENCE GROUPS SCOPE
        prints an access token of eight hours; GROUPS has commas between its members

For demonstrations only: anybody who may run it gets any token. Needs the
openssl program and nothing beyond Python's standard library.
"""

import base64
import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import time


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, stdout=subprocess.PIPE,
                          check=True).stdout


def make_keys(folder: pathlib.Path) -> None:
    pem, jwks = folder / "idp.pem", folder / "idp.jwks.json"
    if pem.exists() and jwks.exists():
        return
    os.umask(0o077)
    folder.mkdir(parents=True, exist_ok=True)
    pem.write_bytes(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    # The last 64 bytes of the public key's DER form are the point: x, then y.
    point = openssl("pkey", "-in", str(pem), "-pubout", "-outform", "DER")[-64:]
    key = {"crv": "P-256", "kty": "EC", "x": b64(point[:32]), "y": b64(point[32:])}
    thumbprint = b64(hashlib.sha256(compact(key)).digest())  # RFC 7638
    jwks.write_text(json.dumps({"keys": [{**key, "kid": thumbprint, "use": "sig", "alg": "ES256"}]},
                               indent=2) + "\n")


def raw_signature(der: bytes) -> bytes:
    """SEQUENCE of two INTEGERs to r || s, 32 bytes each (RFC 7518 section 3.4)."""
    out, at = b"", 2
    for _ in range(2):
        length = der[at + 1]
        number = int.from_bytes(der[at + 2:at + 2 + length], "big")
        out, at = out + number.to_bytes(32, "big"), at + 2 + length
    return out


def token(folder: pathlib.Path, issuer: str, subject: str, audience: str, groups: str,
          scope: str) -> str:
    [key] = json.loads((folder / "idp.jwks.json").read_text())["keys"]
    now = int(time.time())
    header = {"alg": "ES256", "kid": key["kid"], "typ": "at+jwt"}
    claims = {"iss": issuer, "sub": subject, "aud": audience, "groups": groups.split(","),
              "scope": scope, "client_id": "demo-app", "jti": secrets.token_urlsafe(9),
              "iat": now, "exp": now + 8 * 3600}
    signed = f"{b64(compact(header))}.{b64(compact(claims))}"
    der = openssl("dgst", "-sha256", "-sign", str(folder / "idp.pem"), stdin=signed.encode())
    return f"{signed}.{b64(raw_signature(der))}"


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "keys":
        make_keys(pathlib.Path(arguments[1]))
    elif len(arguments) == 7 and arguments[0] == "token":
        print(token(pathlib.Path(arguments[1]), *arguments[2:]))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
