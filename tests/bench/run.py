#!/usr/bin/env python3
"""Load test of the whole service, as ratios within one run on one machine.

Usage: run.py BUILD_DIRECTORY [--seconds N] [--tenants N] [--rows main|all] [--write FILE]

`--rows all` adds each signing algorithm, each client authentication, batches,
DPoP, and all tenants in turn, first cold and then warm. `--write FILE` puts the
tables between the marks in that page (docs/performance.md).

Server, PostgreSQL (fsync on) and the load tool share the machine's cores. The
yardsticks, under the same tool and settings, are nginx's static `return 200`
and this server's own empty reply. CPU is what posternd and every PostgreSQL
process used, from /proc, so that another program's noise weighs less.
"""
import argparse
import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CONNECTIONS = 64
TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, deadline=60):
    end = time.time() + deadline
    while time.time() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"bench: nothing listens on port {port}")


def children(pid):
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    found += children(int(child))
        except OSError:
            pass
    return found


def cpu_seconds(pids):
    total = 0.0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) * TICK
        except OSError:
            pass
    return total


def peak_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))


class Load:
    """One wrk run, with the CPU that the given processes used meanwhile."""

    def __init__(self, name, url, pids, seconds, requests=None):
        before = {p: cpu_seconds([p]) for group in pids for p in group}
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
        if requests:
            command += ["-s", os.path.join(HERE, "requests.lua"), url, "--", requests]
        else:
            command.append(url)
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # What a process that ended meanwhile has used is lost.
        used = [sum(max(0.0, cpu_seconds([p]) - before[p]) for p in group) for group in pids]
        requests = int(re.search(r"(\d+) requests in", out).group(1))
        self.name = name
        self.rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        self.p50 = re.search(r"^\s+50%\s+(\S+)", out, re.M).group(1)
        self.p99 = re.search(r"^\s+99%\s+(\S+)", out, re.M).group(1)
        self.cpu = [1e6 * value / requests for value in used]
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        self.failed = int(failed.group(1)) if failed else 0
        self.requests = requests
        if self.failed:
            raise SystemExit(f"bench: {name}: {self.failed} of {requests} requests failed")


class Api:
    def __init__(self, port, token):
        self.port, self.token = port, token

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        if reply.status >= 300:
            raise SystemExit(f"bench: {method} {path}: {reply.status} {text}")
        return json.loads(text) if text else {}


def metric(ops_port, name):
    connection = http.client.HTTPConnection("127.0.0.1", ops_port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return float(re.search(rf"^{name} (\S+)", text, re.M).group(1))


def micro(build, binary, pattern):
    """Microseconds of CPU per operation of a Google Benchmark binary."""
    path = os.path.join(build, "tests", binary)
    if not os.path.exists(path):
        return {}
    out = subprocess.run([path, "--benchmark_format=json", f"--benchmark_filter={pattern}",
                          "--benchmark_min_time=0.3"], capture_output=True, text=True)
    if out.returncode != 0:
        return {}
    unit = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
    found = {}
    for row in json.loads(out.stdout)["benchmarks"]:
        if row.get("error_occurred"):
            continue
        # A manually timed benchmark reports CPU of two processes as its real time.
        manual = "manual_time" in row["name"]
        name = row["name"].split("/iterations")[0]
        found[name] = row["real_time" if manual else "cpu_time"] * unit[row["time_unit"]]
    return found


# Operations of the vault beside what they need of libsodium, in calls of it and nothing else.
SEALING = {"seal_credential": "libsodium_seal", "open_credential/threads:1": "libsodium_open",
           "seal_credential_with_shares": "libsodium_seal_with_share",
           "open_credential_with_shares": "libsodium_open_with_share",
           "wrap_key": "libsodium_wrap_key", "unwrap_key": "libsodium_unwrap_key",
           "find_key/threads:1": None}


def sealing(build):
    """Nanoseconds of CPU of each, and of its yardstick: the least of many turns taken in random
    order, as whatever else runs here only ever adds to them."""
    names = [name for pair in SEALING.items() for name in pair if name]
    out = subprocess.run([os.path.join(build, "tests/vault_bench"), "--benchmark_format=json",
                          f"--benchmark_filter=^({'|'.join(names)})$", "--benchmark_min_time=0.005",
                          "--benchmark_repetitions=400",
                          "--benchmark_enable_random_interleaving=true"],
                         capture_output=True, text=True, check=True).stdout
    least = {}
    for row in json.loads(out)["benchmarks"]:
        if row["run_type"] == "iteration":
            name = row["run_name"]
            least[name] = min(row["cpu_time"], least.get(name, row["cpu_time"]))
    # What libsodium has nothing for is held against the operation that it is a part of.
    return [(name.split("/")[0], least[name], least[yardstick or "open_credential/threads:1"])
            for name, yardstick in SEALING.items()]


MOST_OVER = 0.2  # of what libsodium alone takes


def takes_too_long(sealed):
    """What costs more over libsodium than it may. A look-up is all over it."""
    over = {name: ours / bare - (name != "find_key") for name, ours, bare in sealed}
    return [f"{name}: {100 * share:.0f} % over libsodium, of {100 * MOST_OVER:.0f} % at most"
            for name, share in over.items() if share >= MOST_OVER]


def nginx(directory, stack):
    port = free_port()
    config = os.path.join(directory, "nginx.conf")
    with open(config, "w") as file:
        file.write(f"""daemon off; worker_processes 2; pid {directory}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "ok\\n"; }} }} }}
""")
    process = subprocess.Popen(["nginx", "-c", config], stderr=subprocess.DEVNULL)
    stack.append(process)
    wait_for(port)
    return port, process.pid


class Certificates:
    """A client's certificate of an authority, and one of its own, made by openssl."""

    def __init__(self, directory):
        path = lambda name: os.path.join(directory, name)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, stderr=subprocess.DEVNULL)

        self.authority = path("ca.pem")
        openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", path("ca.key"),
                "-out", self.authority)
        openssl("req", "-x509", *key, "-subj", "/CN=gw-own", "-keyout", path("own.key"),
                "-out", path("own.pem"))
        openssl("req", *key[:-2], "-subj", "/O=Bench/CN=gw-tls", "-keyout", path("tls.key"),
                "-out", path("tls.csr"))
        openssl("x509", "-req", "-in", path("tls.csr"), "-CA", self.authority, "-CAkey",
                path("ca.key"), "-CAcreateserial", "-days", "2", "-out", path("tls.pem"))
        with open(path("own.pem")) as own, open(path("tls.pem")) as tls:
            self.own, self.vouched_for = (ssl.PEM_cert_to_DER_cert(file.read()) for file in (own, tls))

    @staticmethod
    def header(der):
        """As a proxy passes it on (RFC 9440)."""
        return {"Client-Cert": f":{base64.b64encode(der).decode()}:"}

    def thumbprint(self):
        return base64.urlsafe_b64encode(hashlib.sha256(self.own).digest()).decode().rstrip("=")


def manifest(jwks, assertion_keys, certificates):
    backend = lambda name, **more: {"name": name, "audience": f"https://{name}.example.com/mcp",
                                    "scopes": [f"{name}:read", f"{name}:write"], **more}
    client = lambda name, **more: {"id": name, "backends": ["*"], "scopes": ["*"], **more}
    return {
        "tenant": "bench",
        "issuers": [{"name": "idp", "issuer": "https://idp.bench.example", "jwks": jwks,
                     "audiences": ["gw-01"]}],
        "clients": [client("gw-01"),
                    client("gw-jwt", audiences=["gw-01"], authentication={
                        "method": "private_key_jwt", "jwks": assertion_keys}),
                    client("gw-workload", audiences=["gw-01"], authentication={
                        "method": "workload_identity", "workload": {
                            "issuer": "idp", "audience": "gw-01", "claims": {"sub": ["user-0"]}}}),
                    client("gw-tls", audiences=["gw-01"], authentication={
                        "method": "tls_client_auth",
                        "tls_subject": {"dn": "CN=gw-tls,O=Bench"}}),
                    client("gw-own", audiences=["gw-01"], authentication={
                        "method": "self_signed_tls_client_auth",
                        "certificate_sha256": [certificates.thumbprint()]})],
        "backends": [backend("es256"), backend("eddsa", signing_algorithm="EdDSA"),
                     backend("rs256", signing_algorithm="RS256"),
                     backend("other"),
                     backend("vaulted", answer="vaulted",
                             credential={"name": "shared", "owner": "tenant"},
                             delivery={"env": {"API_TOKEN": "{token}"}})],
        "roles": [{"name": "all", "allow": ["*:*"]}],
        "bindings": [{"role": "all", "groups": ["engineering"]}],
    }


def many_tenants(api, count, jwks):
    """Makes tenants; returns the secret of gw-01 in each."""
    secrets = []
    for i in range(count):
        name = f"t{i:05d}"
        answer = api.call("PUT", f"/api/v1/tenants/{name}/manifest", {
            "tenant": name,
            "issuers": [{"name": "idp", "issuer": "https://idp.bench.example", "jwks": jwks,
                         "audiences": ["gw-01"]}],
            "clients": [{"id": "gw-01", "backends": ["*"], "scopes": ["*"]}],
            "backends": [{"name": f"backend-{k}", "audience": f"https://b{k}.{name}.example/mcp",
                          "scopes": ["read", "write"]} for k in range(5)],
            "roles": [{"name": "all", "allow": ["*:*"]}],
            "bindings": [{"role": "all", "groups": ["engineering"]}],
        })
        secrets.append(answer["client_secrets"][0]["client_secret"])
    return secrets


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY = ("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
        "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token")
ASSERTION = "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"


class Requests:
    """Request files for requests.lua."""

    def __init__(self, directory):
        self.directory, self.number = directory, 0

    def write(self, requests):
        self.number += 1
        path = os.path.join(self.directory, f"requests-{self.number}")
        with open(path, "w") as file:
            for target, headers, body in requests:
                fields = "|".join(f"{name}: {value}" for name, value in headers.items())
                file.write(f"{target}\t{fields}\t{body}\n")
        return path

    def exchange(self, tokens, audience, more="", headers=None):
        return self.write(("/t/bench/token", {**FORM, **(headers or {})},
                           f"{BODY}&subject_token={token}&audience={audience}{more}")
                          for token in tokens)


def lines_of(path):
    with open(path) as file:
        return file.read().split()


def cold_tenants(port, secrets, token):
    """The first exchange in each tenant after a start, one at a time: milliseconds, sorted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    taken = []
    for i, secret in enumerate(secrets):
        body = f"{BODY}&subject_token={token}&audience=backend-0&client_id=gw-01&client_secret={secret}"
        since = time.perf_counter()
        connection.request("POST", f"/t/t{i:05d}/token", body, FORM)
        reply = connection.getresponse()
        text = reply.read().decode()
        taken.append(1e3 * (time.perf_counter() - since))
        if reply.status != 200:
            raise SystemExit(f"bench: cold tenant: {reply.status} {text}")
    return sorted(taken)


READING_CERTIFICATES = (
    "What OpenSSL takes to read a certificate is measured on one thread; its decoders share locks "
    "and allocate a lot, and on all threads at once it takes half as long again.")

# Rows that may be more than one and a half times the sum of their parts, and why.
REASONS = {
    "known, private_key_jwt":
        "Its single use is a transaction of its own. Alone that takes the service and PostgreSQL "
        "together less than what 64 at once take PostgreSQL by itself: they wake and wait for each "
        "other, where audit records are committed together.",
    "known, workload identity":
        "A second token's claims are read, and held to the client's rules.",
    "known, tls_client_auth": READING_CERTIFICATES,
    "known, self_signed_tls_client_auth": READING_CERTIFICATES,
    "known, batch of 1":
        "The JSON of request and answer is in no part: 12 µs more than a form, which one item "
        "bears alone.",
    "TENANTS tenants in turn, each for the first time":
        "The parts are those of a warm tenant. The first request reads the tenant from PostgreSQL, "
        "opens its KEK and signing key, reads the issuer's keys, and verifies the user's token.",
    "TENANTS tenants in turn, again":
        "64 records that are committed together are of 64 tenants, so that 64 chains are read and "
        "written in place of one, and nothing of a tenant is in the processor's caches.",
}


def reason(name):
    return REASONS.get(re.sub(r"^\d+ tenants", "TENANTS tenants", name), "not known yet")


def put(path, mark, lines):
    """In place of what is between the marks of that name in a page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    with open(path) as file:
        head, rest = file.read().split(begin, 1)
    lines = [f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores.", "", *lines]
    with open(path, "w") as file:
        file.write(head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])


def write_sealing(path, sealed):
    put(path, "sealing", [
        "| Operation of the vault | CPU ns | libsodium alone; of `find_key`: opening | Ratio |",
        "| --- | ---: | ---: | ---: |",
        *(f"| `{name}` | {ours:.0f} | {bare:.0f} | {ours / bare:.2f} |"
          for name, ours, bare in sealed)])


def write_page(path, rows, parts, facts):
    """Puts the tables between the marks of a page."""
    lines = ["| Load, 64 connections | Requests/s | p50 | p99 | posternd µs | PostgreSQL µs "
             "| of its parts | Why |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        ratio = getattr(row, "ratio", None)
        why = reason(row.name) if ratio and ratio > 1.5 else ""
        lines.append(f"| {row.name} | {row.rate:.0f} | {row.p50} | {row.p99} | {row.cpu[0]:.0f} "
                     f"| {row.cpu[1]:.0f} | {f'{ratio:.2f}' if ratio else ''} | {why} |")
    lines += ["", "| Part, measured alone | CPU µs |", "| --- | ---: |"]
    lines += [f"| `{name}` | {value:.1f} |" for name, value in parts.items()]
    put(path, "figures", lines + [""] + [f"- {fact}" for fact in facts])


def print_sealing(sealed):
    print(f"\n{'operation of the vault':42} {'CPU ns':>9} {'libsodium':>9} {'ratio':>9}")
    for name, ours, bare in sealed:
        print(f"{name:42} {ours:9.0f} {bare:9.0f} {ours / bare:9.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rows", choices=("main", "all"), default="main")
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("--sealing", action="store_true", help="only operations of the vault")
    options = parser.parse_args()
    if options.sealing:
        sealed = sealing(os.path.abspath(options.build))
        print_sealing(sealed)
        if options.write:
            write_sealing(options.write, sealed)
        sys.exit("\n".join(takes_too_long(sealed)) or 0)
    build, seconds = os.path.abspath(options.build), options.seconds

    directory = tempfile.mkdtemp(prefix="postern-bench-")
    os.chmod(directory, 0o711)
    stack = []
    try:
        run(build, seconds, options.tenants, options.rows == "all", directory, stack, options.write)
    finally:
        for process in reversed(stack):
            process.terminate()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def run(build, seconds, tenants, all_rows, directory, stack, page):
    port, ops = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    tokens_per_run = 12000 * seconds
    single_use = 6000 * seconds

    def made(kind, algorithm, count, *about):
        """Public keys, and the lines that were signed with one of them."""
        jwks, out = (os.path.join(directory, f"{kind}-{algorithm}.{end}") for end in ("jwks", "out"))
        subprocess.run([os.path.join(build, "tests/make_tokens"), kind, algorithm, str(count), jwks,
                        out, *about], check=True)
        with open(jwks) as file:
            return json.load(file)["keys"], lines_of(out)

    es_keys, es = made("subject", "ES256", tokens_per_run)
    ed_keys, ed = made("subject", "EdDSA", tokens_per_run)
    assertion_keys, assertions = made("assertion", "ES256", single_use if all_rows else 1,
                                      f"{url}/t/bench")

    certificates = Certificates(directory)
    nginx_port, nginx_pid = nginx(directory, stack)
    data = os.path.join(directory, "data")

    def start(on_port, log_name, *arguments, **settings):
        started = time.time()
        with open(os.path.join(directory, log_name), "w") as log:
            process = subprocess.Popen([os.path.join(build, "posternd"), *arguments], stdout=log,
                                       stderr=log, env={**os.environ, **settings})
        stack.append(process)
        wait_for(on_port)
        return process, time.time() - started

    def start_dev(on_port, on_ops, log_name):
        return start(on_port, log_name, "dev", "--data-dir", data, "--port", str(on_port),
                     "--ops-port", str(on_ops))

    def start_behind_proxy(on_port, certificates):
        """Beside the first and on its database; it believes loopback's Client-Cert."""
        with open(os.path.join(data, "postgres/passwords")) as file:
            password = dict(line.split() for line in file)["postern_service"]
        at = f"host={data}/postgres/run port=5432 user=postern_service password={password}"
        return start(on_port, "proxied.log", "serve", POSTERND_BASE_URL=f"http://127.0.0.1:{on_port}",
                     POSTERND_LISTEN_PORT=str(on_port), POSTERND_OPS_PORT=str(free_port()),
                     POSTERND_PROXY_ADDRESSES="127.0.0.1/32",
                     POSTERND_PROXY_CLIENT_CA_FILE=certificates.authority,
                     POSTERND_DATABASE_URL=f"{at} dbname=postern",
                     POSTERND_SHARE_STORE_URL=f"{at} dbname=postern_shares",
                     POSTERND_KEYS_ROOT_KEY_FILE=os.path.join(data, "root.key"),
                     POSTERND_OPERATOR_TOKEN_FILE=os.path.join(data, "operator.token"))[0]

    server, first_start = start_dev(port, ops, "posternd.log")
    with open(os.path.join(data, "operator.token")) as file:
        operator_token = file.read().strip()
    api = Api(port, operator_token)
    answer = api.call("PUT", "/api/v1/tenants/bench/manifest",
                      manifest({"keys": es_keys + ed_keys}, {"keys": assertion_keys}, certificates))
    if all_rows:
        api.call("POST", "/api/v1/tenants/bench/signing-keys/rotation",
                 {"algorithm": "RS256", "publish_for": 0})
    secret = answer["client_secrets"][0]["client_secret"]
    api.call("PUT", "/api/v1/tenants/bench/credentials/shared", {"fields": {"token": "s3cr3t-value"}})
    basic = {"Authorization": "Basic " + base64.b64encode(f"gw-01:{secret}".encode()).decode()}
    post = f"&client_id=gw-01&client_secret={secret}"
    as_json = {"Content-Type": "application/json", **basic}

    files = Requests(directory)
    rows = []

    def load(name, requests, parts=(), process=None, on=None):
        process = process or server
        # A second one on the first one's database has no PostgreSQL of its own.
        pids = set(children(process.pid) + (children(server.pid) if server.poll() is None else []))
        rows.append(Load(name, on or url, [[process.pid], list(pids - {process.pid, server.pid})],
                         seconds, requests))
        rows[-1].parts = parts
        return rows[-1]

    everything = children(server.pid)
    groups = [[server.pid], [p for p in everything if p != server.pid]]
    static = Load("nginx return 200", f"http://127.0.0.1:{nginx_port}/", [children(nginx_pid), []],
                  seconds)
    empty = Load("empty reply (GET /livez)", f"{url}/livez", groups, seconds)
    # A few requests first, so that tenant and connections are warm.
    Load("warm-up", url, groups, 1, files.exchange(es[:64], "es256", post))

    common = ["parse_and_serialise", "audit_record_in_batch_of_64"]
    queries = metric(ops, "postern_database_queries_total")
    cold_es = load("exchange, new ES256 subject", files.exchange(es[64:], "es256", post),
                   common + ["verify/ES256", "sign/ES256"])
    cold_ed = load("exchange, new EdDSA subject", files.exchange(ed, "eddsa", post),
                   common + ["verify/EdDSA", "sign/EdDSA"])
    again = load("exchange, subject known, other backend", files.exchange(es[:64], "other", post),
                 common + ["sign/ES256"])
    warm = cold_es.requests + cold_ed.requests + again.requests
    queries = metric(ops, "postern_database_queries_total") - queries
    release = load("release of one credential", files.write(
        ("/api/v1/tenants/bench/release", as_json,
         json.dumps({"subject_token": token, "items": [{"backend": "vaulted"}]}))
        for token in es[:64]))

    if all_rows:
        known = es[:64]
        for algorithm in ("EdDSA", "RS256"):
            load(f"known, {algorithm} token issued",
                 files.exchange(known, algorithm.lower(), post), common + [f"sign/{algorithm}"])
        load("known, client_secret_basic", files.exchange(known, "other", headers=basic),
             common + ["sign/ES256"])
        load("known, private_key_jwt", files.write(
            ("/t/bench/token", FORM, f"{BODY}&subject_token={known[0]}&audience=other{ASSERTION}"
             f"&client_assertion={assertion}") for assertion in assertions),
            common + ["sign/ES256", "verify/ES256", "single_use_row"])
        load("known, workload identity", files.exchange(
            known, "other", f"{ASSERTION}&client_id=gw-workload&client_assertion={es[0]}"),
            common + ["sign/ES256", "verify/ES256"])
        proxied_port = free_port()
        proxied = start_behind_proxy(proxied_port, certificates)
        for method, name, der, how in (
                ("tls_client_auth", "gw-tls", certificates.vouched_for, ["vouch_for_certificate"]),
                ("self_signed_tls_client_auth", "gw-own", certificates.own, [])):
            load(f"known, {method}", files.exchange(known, "other", f"&client_id={name}",
                                                    certificates.header(der)),
                 common + ["sign/ES256", "read_certificate"] + how, proxied,
                 f"http://127.0.0.1:{proxied_port}")
        proxied.terminate()
        proxied.wait()
        stack.remove(proxied)
        _, proofs = made("dpop", "ES256", single_use, f"{url}/t/bench/token")
        load("known, DPoP", files.write(
            ("/t/bench/token", {**FORM, "DPoP": proof},
             f"{BODY}&subject_token={known[0]}&audience=other{post}") for proof in proofs),
            common + ["sign/ES256", "verify/ES256", "single_use_row"])
        for size in (1, 8, 64):
            names = ("es256", "other")
            load(f"known, batch of {size}", files.write(
                ("/api/v1/tenants/bench/exchange", as_json,
                 json.dumps({"subject_token": token,
                             "items": [{"audience": names[i % 2]} for i in range(size)]}))
                for token in known), (common + ["sign/ES256"]) * size)
    load_peak = peak_kib(server.pid)

    parts = micro(build, "parts_bench", ".")
    sealed = sealing(build)

    secrets = many_tenants(api, tenants, {"keys": es_keys})
    for i in range(tenants):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/t/t{i:05d}/jwks")
        connection.getresponse().read()
        connection.close()
    with open(f"/proc/{server.pid}/status") as file:
        resident = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    server.terminate()
    server.wait()
    stack.remove(server)
    port2, ops2 = free_port(), free_port()
    server2, second_start = start_dev(port2, ops2, "posternd2.log")
    cold = None
    if all_rows:
        cold = cold_tenants(port2, secrets[:1000], es[0])
        requests = files.write(
            (f"/t/t{i:05d}/token", FORM, f"{BODY}&subject_token={es[0]}&audience=backend-0"
             f"&client_id=gw-01&client_secret={one}") for i, one in enumerate(secrets))
        on = f"http://127.0.0.1:{port2}"
        first = load(f"{tenants} tenants in turn, each for the first time", requests,
                     common + ["sign/ES256"], server2, on)
        # Until each was asked: the load tool begins with the first again.
        Load("", on, [], int(2 * tenants / first.rate) + 2, requests)
        loads = metric(ops2, "postern_snapshot_loads_total")
        load(f"{tenants} tenants in turn, again", requests, common + ["sign/ES256"], server2, on)
        loads = metric(ops2, "postern_snapshot_loads_total") - loads

    print(f"\n{'load (64 connections)':42} {'req/s':>9} {'p50':>9} {'p99':>9} "
          f"{'posternd µs':>12} {'postgres µs':>12}")
    for row in [static, empty] + rows:
        print(f"{row.name:42} {row.rate:9.0f} {row.p50:>9} {row.p99:>9} "
              f"{row.cpu[0]:12.1f} {row.cpu[1]:12.1f}")
    if parts:
        print(f"\n{'part, measured alone':42} {'CPU µs':>9}")
        for name, value in parts.items():
            print(f"{name:42} {value:9.1f}")

    print_sealing(sealed)

    def total(row):
        return row.cpu[0] + row.cpu[1]

    print("\nratios")
    ratios = [("empty reply rate / nginx rate", empty.rate / static.rate, "aim ≥ 0.9"),
              ("empty reply CPU / nginx CPU", total(empty) / total(static), ""),
              ("known subject CPU / new ES256 subject CPU", total(again) / total(cold_es), "aim < 0.5"),
              ("release rate / exchange (new ES256) rate", release.rate / cold_es.rate, "aim ≥ 0.7"),
              ("release rate / exchange (known) rate", release.rate / again.rate, "")]
    for row in rows:
        row.ratio = None
        if row.parts and all(name in parts for name in row.parts):
            whole = sum(parts[name] for name in row.parts) + total(empty)
            row.ratio = total(row) / whole
            ratios.append((f"{row.name}: CPU / sum of parts", row.ratio, "aim ≤ 1.5"))
    for name, value, aim in ratios:
        print(f"  {name:60} {value:6.2f}  {aim}")
    facts = [f"database reads during {warm} warm exchanges: {queries:.0f}",
             f"peak memory under load: {load_peak / 1024:.0f} MiB; resident with {tenants} tenants "
             f"loaded: {resident / 1024:.0f} MiB" + (" (aim < 150)" if tenants == 1000 else ""),
             f"first start {first_start:.2f} s (with initdb), second start {second_start:.2f} s "
             f"(with PostgreSQL)"]
    if cold:
        facts.insert(0, f"tenants loaded anew while {tenants} were asked in turn again: {loads:.0f}")
        facts.insert(0, f"first exchange in a tenant after a start: p50 {cold[len(cold) // 2]:.2f} "
                        f"ms, p99 {cold[len(cold) * 99 // 100]:.2f} ms, one at a time")
    print("", *facts, sep="\n")
    if page:
        write_page(page, [static, empty] + rows, parts, facts)
        write_sealing(page, sealed)


if __name__ == "__main__":
    sys.exit(main())
