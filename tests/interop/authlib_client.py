"""Debian's Authlib at our token endpoint, for authlib.test.mjs.

    authlib_client.py ACTION < parameters.json

Prints what the library returned as JSON, or {"error": code} for its OAuthError.
"""

import json
import os
import sys
import time

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback is plain http

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, jwt
from authlib.oauth2.rfc7523 import PrivateKeyJWT

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def session(given):
    if "private_key" in given:
        client = OAuth2Session(given["client_id"], given["private_key"],
                               token_endpoint_auth_method="private_key_jwt")
        # Left alone it signs for the token endpoint, and for an hour.
        claims = None if given.get("stock") else {"aud": given["issuer"], "exp": int(time.time()) + 300}
        client.register_client_auth_method(
            PrivateKeyJWT(given["issuer"] + "/token", claims=claims, alg="ES256"))
        return client
    return OAuth2Session(given["client_id"], given["client_secret"],
                         token_endpoint_auth_method=given.get("method", "client_secret_basic"))


def fetch(given):
    return session(given).fetch_token(given["issuer"] + "/token", **given["parameters"])


def exchange(given):
    given["parameters"]["grant_type"] = EXCHANGE
    return fetch(given)


def introspect(given):
    return session(given).introspect_token(given["issuer"] + "/introspect", token=given["token"]).json()


def revoke(given):
    answer = session(given).revoke_token(given["issuer"] + "/revoke", token=given["token"])
    return {"status": answer.status_code}


def verify(given):
    """As a backend that uses authlib.jose."""
    claims = jwt.decode(given["token"], JsonWebKey.import_key_set(given["keys"]), claims_options={
        "iss": {"essential": True, "value": given["issuer"]},
        "aud": {"essential": True, "value": given["audience"]},
        "exp": {"essential": True}, "sub": {"essential": True}})
    claims.validate()
    return {"header": claims.header, "claims": claims}


ACTIONS = (fetch, exchange, introspect, revoke, verify)


def main():
    action = {function.__name__: function for function in ACTIONS}[sys.argv[1]]
    try:
        print(json.dumps(action(json.load(sys.stdin))))
    except AuthlibBaseError as error:
        print(json.dumps({"error": error.error}))

if __name__ == "__main__":
    main()
