"""Debian's hvac at our Vault subset, for vault.test.mjs.

    vault_client.py < parameters.json

Parameters: url, namespace, token (of an admin), role_id, secret_id, workload (a JWT),
gateway_secret, alice (a user's JWT).
Prints what it saw as JSON; an exception ends it with status 1.
"""

import json
import sys

import hvac
from hvac import exceptions


def refused(kind, call):
    """Whether the call raises this exception, and what it says."""
    try:
        call()
    except kind as error:
        return {"errors": error.errors}
    return {"errors": None}


def as_admin(given):
    client = hvac.Client(url=given["url"], token=given["token"], namespace=given["namespace"])
    kv = client.secrets.kv.v2
    seen = {"authenticated": client.is_authenticated(),
            "stranger": hvac.Client(url=given["url"], token="hvs.none",
                                    namespace=given["namespace"]).is_authenticated(),
            "health": client.sys.read_health_status(method="GET")["sealed"],
            "head": client.sys.read_health_status(method="HEAD").status_code,
            "sealed": client.sys.is_sealed(),
            "mounts": sorted(client.sys.list_mounted_secrets_engines()["data"])}
    path = "hvac/team/db"
    seen["first"] = kv.create_or_update_secret(path, {"user": "app", "password": "one"},
                                               cas=0)["data"]["version"]
    seen["conflict"] = refused(exceptions.InvalidRequest,
                               lambda: kv.create_or_update_secret(path, {"user": "x"}, cas=0))
    seen["second"] = kv.create_or_update_secret(path, {"user": "app", "password": "two"},
                                                cas=1)["data"]["version"]
    kv.patch(path, {"password": "three"})  # reads, and writes with cas
    seen["read"] = kv.read_secret_version(path)["data"]["data"]
    seen["read_first"] = kv.read_secret_version(path, version=1)["data"]["data"]
    seen["list"] = kv.list_secrets("hvac")["data"]["keys"]
    seen["list_team"] = kv.list_secrets("hvac/team")["data"]["keys"]
    kv.delete_latest_version_of_secret(path)
    seen["deleted"] = refused(exceptions.InvalidPath, lambda: kv.read_secret_version(path))
    kv.undelete_secret_versions(path, [3])
    kv.delete_secret_versions(path, [1, 2])
    kv.destroy_secret_versions(path, [1])
    kv.update_metadata(path, max_versions=5, cas_required=False)
    metadata = kv.read_secret_metadata(path)["data"]
    seen["current"] = metadata["current_version"]
    seen["max_versions"] = metadata["max_versions"]
    seen["states"] = {number: "destroyed" if version["destroyed"] else
                              "deleted" if version["deletion_time"] else "live"
                      for number, version in metadata["versions"].items()}
    kv.create_or_update_secret(path, {"password": "four"})
    wrapped = client.read(f"secret/data/{path}", wrap_ttl="5m")["wrap_info"]["token"]
    seen["unwrapped"] = client.sys.unwrap(wrapped)["data"]["data"]
    seen["unwrapped_again"] = refused(exceptions.InvalidRequest, lambda: client.sys.unwrap(wrapped))
    text = client.write("sys/wrapping/wrap", wrap_ttl="60s", a="b")["wrap_info"]["token"]
    seen["unwrapped_by_itself"] = hvac.Client(
        url=given["url"], token=text, namespace=given["namespace"]).sys.unwrap()["data"]
    kv.delete_metadata_and_all_versions(path)
    seen["gone"] = refused(exceptions.InvalidPath, lambda: kv.read_secret_metadata(path))
    return seen


def as_client(given):
    client = hvac.Client(url=given["url"], namespace=given["namespace"])
    login = client.auth.approle.login(given["role_id"], given["secret_id"])
    kv = client.secrets.kv.v2
    seen = {"policies": login["auth"]["policies"],
            "self": client.auth.token.lookup_self()["data"]["display_name"],
            "read": kv.read_secret_version("shared-db")["data"]["data"],
            "other": refused(exceptions.Forbidden, lambda: kv.read_secret_version("other")),
            "write": refused(exceptions.Forbidden,
                             lambda: kv.create_or_update_secret("shared-db", {"url": "x"})),
            "renewed": client.auth.token.renew_self()["auth"]["client_token"] == client.token,
            "wrong": refused(exceptions.Forbidden, lambda: hvac.Client(
                url=given["url"], namespace=given["namespace"]).auth.approle.login(
                    given["role_id"], "wrong"))}
    token = client.token
    client.logout(revoke_token=True)
    client.token = token
    seen["after_logout"] = client.is_authenticated()
    for method in ("jwt", "kubernetes"):
        pod = hvac.Client(url=given["url"], namespace=given["namespace"])
        if method == "jwt":
            token = pod.auth.jwt.jwt_login("pod", given["workload"])["auth"]["client_token"]
        else:
            token = pod.auth.kubernetes.login("pod", given["workload"])["auth"]["client_token"]
        pod.token = token
        seen[method] = pod.secrets.kv.v2.read_secret_version("shared-db")["data"]["data"]
    return seen


def views(given):
    client = hvac.Client(url=given["url"], namespace=given["namespace"])
    login = client.write("auth/jwt/login", role="gateway", jwt=given["alice"],
                         client_secret=given["gateway_secret"])
    client.token = login["auth"]["client_token"]
    kv = client.secrets.kv.v2
    return {"policies": login["auth"]["policies"],
            "authenticated": client.is_authenticated(),
            "by_subject": kv.read_secret_version("mcp-gateway/1000")["data"]["data"],
            "by_name": kv.read_secret_version("alice/github")["data"]["data"],
            "bob": refused(exceptions.InvalidPath, lambda: kv.read_secret_version("bob/github")),
            "write": refused(exceptions.Forbidden,
                             lambda: kv.create_or_update_secret("alice/github", {"token": "x"})),
            "list": refused(exceptions.Forbidden, lambda: kv.list_secrets("alice"))}


def transit(given):
    manager = hvac.Client(url=given["url"], token=given["token"],
                          namespace=given["namespace"]).secrets.transit
    client = hvac.Client(url=given["url"], namespace=given["namespace"])
    client.auth.approle.login(given["role_id"], given["secret_id"])
    keys = client.secrets.transit
    manager.create_key(name="hvac", key_type="aes256-gcm96")
    manager.create_key(name="hvac-sign", key_type="ecdsa-p256", exportable=False)
    seen = {"keys": manager.list_keys()["data"]["keys"]}
    made = keys.encrypt_data(name="hvac", plaintext="dGV4dA==")["data"]["ciphertext"]
    seen["decrypted"] = keys.decrypt_data(name="hvac", ciphertext=made)["data"]["plaintext"]
    many = keys.encrypt_data(name="hvac", plaintext=None,
                             batch_input=[{"plaintext": "YQ=="}, {"plaintext": "Yg=="}])
    opened = keys.decrypt_data(name="hvac", ciphertext=None, batch_input=[
        {"ciphertext": each["ciphertext"]} for each in many["data"]["batch_results"]])
    seen["batch"] = [each["plaintext"] for each in opened["data"]["batch_results"]]
    manager.rotate_key(name="hvac")
    seen["rewrapped"] = keys.rewrap_data(name="hvac", ciphertext=made)["data"]["ciphertext"][:9]
    manager.update_key_configuration(name="hvac", min_decryption_version=2, deletion_allowed=True)
    seen["refused"] = refused(exceptions.InvalidRequest,
                              lambda: keys.decrypt_data(name="hvac", ciphertext=made))
    fresh = keys.generate_data_key(name="hvac", key_type="plaintext")["data"]
    seen["data_key"] = keys.decrypt_data(
        name="hvac", ciphertext=fresh["ciphertext"])["data"]["plaintext"] == fresh["plaintext"]
    mac = keys.generate_hmac(name="hvac", hash_input="dGV4dA==")["data"]["hmac"]
    for name, text in [("mac", "dGV4dA=="), ("other_mac", "b3RoZXI=")]:
        seen[name] = keys.verify_signed_data(name="hvac", hash_input=text, hmac=mac)["data"]["valid"]
    longer = keys.generate_hmac(name="hvac", hash_input="dGV4dA==", algorithm="sha2-512")
    for name, algorithm in [("mac_512", "sha2-512"), ("mac_384", "sha2-384")]:
        seen[name] = keys.verify_signed_data(name="hvac", hash_input="dGV4dA==",
                                             hmac=longer["data"]["hmac"],
                                             hash_algorithm=algorithm)["data"]["valid"]
    signature = keys.sign_data(name="hvac-sign", hash_input="dGV4dA==")["data"]["signature"]
    for name, text in [("signature", "dGV4dA=="), ("other_signature", "b3RoZXI=")]:
        seen[name] = keys.verify_signed_data(name="hvac-sign", hash_input=text,
                                             signature=signature)["data"]["valid"]
    shown = manager.read_key(name="hvac-sign")["data"]["keys"]["1"]["public_key"]
    seen["public_key"] = shown.split("\n")[0]
    manager.delete_key(name="hvac")
    seen["left"] = manager.list_keys()["data"]["keys"]
    return seen


def main():
    given = json.load(sys.stdin)
    print(json.dumps({"admin": as_admin(given), "client": as_client(given),
                      "views": views(given), "transit": transit(given)}))


if __name__ == "__main__":
    main()
