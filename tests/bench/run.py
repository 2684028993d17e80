#!/usr/bin/env python3
"""Load test of the whole service, as ratios within one run on one machine.

Usage: run.py BUILD_DIRECTORY [--seconds N]

Server, PostgreSQL (fsync on) and the load tool share the machine's cores. The
yardsticks, under the same tool and settings, are nginx's static `return 200`
and this server's own empty reply. CPU is what posternd and every PostgreSQL
process used, from /proc, so that another program's noise weighs less.
"""
import argparse
import base64
import http.client
import json
import os
import re
import shutil
import socket
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

    def __init__(self, name, url, pids, seconds, script=None, arguments=()):
        before = {p: cpu_seconds([p]) for group in pids for p in group}
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
        if script:
            command += ["-s", os.path.join(HERE, script)]
        command.append(url)
        if arguments:
            command += ["--", *map(str, arguments)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = [sum(cpu_seconds([p]) - before[p] for p in group) for group in pids]
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


def manifest(jwks):
    backend = lambda name, **more: {"name": name, "audience": f"https://{name}.example.com/mcp",
                                    "scopes": [f"{name}:read", f"{name}:write"], **more}
    return {
        "tenant": "bench",
        "issuers": [{"name": "idp", "issuer": "https://idp.bench.example", "jwks": jwks,
                     "audiences": ["gw-01"]}],
        "clients": [{"id": "gw-01", "backends": ["*"], "scopes": ["*"]}],
        "backends": [backend("es256"), backend("eddsa", signing_algorithm="EdDSA"),
                     backend("other"),
                     backend("vaulted", answer="vaulted",
                             credential={"name": "shared", "owner": "tenant"},
                             delivery={"env": {"API_TOKEN": "{token}"}})],
        "roles": [{"name": "all", "allow": ["*:*"]}],
        "bindings": [{"role": "all", "groups": ["engineering"]}],
    }


def many_tenants(api, count):
    for i in range(count):
        name = f"t{i:04d}"
        spec = manifest_for_memory(name)
        api.call("PUT", f"/api/v1/tenants/{name}/manifest", spec)


def manifest_for_memory(name):
    return {
        "tenant": name,
        "issuers": [{"name": "idp", "issuer": f"https://idp.{name}.example",
                     "jwks_uri": f"https://idp.{name}.example/jwks", "audiences": ["gw-01"]}],
        "clients": [{"id": "gw-01", "backends": ["*"], "scopes": ["*"]}],
        "backends": [{"name": f"backend-{i}", "audience": f"https://b{i}.{name}.example/mcp",
                      "scopes": ["read", "write"]} for i in range(5)],
        "roles": [{"name": "all", "allow": ["*:*"]}],
        "bindings": [{"role": "all", "groups": ["engineering"]}],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--tenants", type=int, default=1000)
    options = parser.parse_args()
    build, seconds = os.path.abspath(options.build), options.seconds

    directory = tempfile.mkdtemp(prefix="postern-bench-")
    os.chmod(directory, 0o711)
    stack = []
    try:
        run(build, seconds, options.tenants, directory, stack)
    finally:
        for process in reversed(stack):
            process.terminate()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def run(build, seconds, tenants, directory, stack):
    tokens_per_run = 12000 * seconds
    files = {}
    for algorithm in ("ES256", "EdDSA"):
        jwks, tokens = (os.path.join(directory, f"{algorithm}.{kind}") for kind in ("jwks", "tokens"))
        subprocess.run([os.path.join(build, "tests/make_tokens"), algorithm,
                        str(tokens_per_run), jwks, tokens], check=True)
        with open(jwks) as file:
            files[algorithm] = (json.load(file)["keys"], tokens)

    nginx_port, nginx_pid = nginx(directory, stack)
    port, ops = free_port(), free_port()
    data = os.path.join(directory, "data")
    started = time.time()
    with open(os.path.join(directory, "posternd.log"), "w") as log:
        server = subprocess.Popen([os.path.join(build, "posternd"), "dev", "--data-dir", data,
                                   "--port", str(port), "--ops-port", str(ops)],
                                  stdout=log, stderr=log)
    stack.append(server)
    wait_for(port)
    first_start = time.time() - started

    with open(os.path.join(data, "operator.token")) as file:
        api = Api(port, file.read().strip())
    spec = manifest({"keys": files["ES256"][0] + files["EdDSA"][0]})
    secret = api.call("PUT", "/api/v1/tenants/bench/manifest", spec)["client_secrets"][0]["client_secret"]
    api.call("PUT", "/api/v1/tenants/bench/credentials/shared", {"fields": {"token": "s3cr3t-value"}})
    basic = base64.b64encode(f"gw-01:{secret}".encode()).decode()

    url = f"http://127.0.0.1:{port}"
    everything = children(server.pid)
    posternd, postgres = [server.pid], [p for p in everything if p != server.pid]
    es, ed = files["ES256"][1], files["EdDSA"][1]
    rows = []

    def load(name, script, *arguments):
        pids = children(server.pid)
        rows.append(Load(name, url, [posternd, [p for p in pids if p != server.pid]], seconds,
                         script, arguments))
        return rows[-1]

    static = Load("nginx return 200", f"http://127.0.0.1:{nginx_port}/", [children(nginx_pid), []],
                  seconds)
    empty = Load("empty reply (GET /livez)", f"{url}/livez", [posternd, postgres], seconds)
    # A few requests first, so that tenant and connections are warm.
    Load("warm-up", url, [posternd, postgres], 1, "exchange.lua", (es, secret, "es256", 0, 64))

    queries = metric(ops, "postern_database_queries_total")
    cold_es = load("exchange, new ES256 subject", "exchange.lua", es, secret, "es256", 64,
                   tokens_per_run - 64)
    cold_ed = load("exchange, new EdDSA subject", "exchange.lua", ed, secret, "eddsa", 0,
                   tokens_per_run)
    again = load("exchange, subject known, other backend", "exchange.lua", es, secret, "other", 0, 64)
    queries = metric(ops, "postern_database_queries_total") - queries
    release = load("release of one credential", "release.lua", es, basic, 0, 64)
    load_peak = peak_kib(server.pid)

    parts = micro(build, "parts_bench", ".")

    many_tenants(api, tenants)
    for i in range(tenants):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/t/t{i:04d}/jwks")
        connection.getresponse().read()
        connection.close()
    with open(f"/proc/{server.pid}/status") as file:
        resident = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    server.terminate()
    server.wait()
    stack.remove(server)
    port2 = free_port()
    with open(os.path.join(directory, "posternd2.log"), "w") as log:
        started = time.time()
        server = subprocess.Popen([os.path.join(build, "posternd"), "dev", "--data-dir", data,
                                   "--port", str(port2), "--ops-port", str(free_port())],
                                  stdout=log, stderr=log)
    stack.append(server)
    wait_for(port2)
    second_start = time.time() - started

    print(f"\n{'load (64 connections)':42} {'req/s':>9} {'p50':>9} {'p99':>9} "
          f"{'posternd µs':>12} {'postgres µs':>12}")
    for row in [static, empty] + rows:
        print(f"{row.name:42} {row.rate:9.0f} {row.p50:>9} {row.p99:>9} "
              f"{row.cpu[0]:12.1f} {row.cpu[1]:12.1f}")
    if parts:
        print(f"\n{'part, measured alone':42} {'CPU µs':>9}")
        for name, value in parts.items():
            print(f"{name:42} {value:9.1f}")

    def total(row):
        return row.cpu[0] + row.cpu[1]

    print("\nratios")
    ratios = [("empty reply rate / nginx rate", empty.rate / static.rate, "aim ≥ 0.9"),
              ("empty reply CPU / nginx CPU", total(empty) / total(static), ""),
              ("known subject CPU / new ES256 subject CPU", total(again) / total(cold_es), "aim < 0.5"),
              ("release rate / exchange (new ES256) rate", release.rate / cold_es.rate, "aim ≥ 0.7"),
              ("release rate / exchange (known) rate", release.rate / again.rate, "")]
    for algorithm, row in (("ES256", cold_es), ("EdDSA", cold_ed)):
        names = [f"verify/{algorithm}", f"sign/{algorithm}", "parse_and_serialise",
                 "audit_record_in_batch_of_64"]
        if all(name in parts for name in names):
            whole = sum(parts[name] for name in names) + total(empty)
            ratios.append((f"exchange CPU / sum of its parts ({algorithm})", total(row) / whole,
                           "aim ≤ 1.5"))
    for name, value, aim in ratios:
        print(f"  {name:48} {value:6.2f}  {aim}")
    print(f"\ndatabase reads during {cold_es.requests + cold_ed.requests + again.requests} warm "
          f"exchanges: {queries:.0f}")
    print(f"peak memory under load: {load_peak / 1024:.0f} MiB; resident with {tenants} tenants "
          f"loaded: {resident / 1024:.0f} MiB (aim < 150)")
    print(f"first start {first_start:.2f} s (with initdb), second start {second_start:.2f} s "
          f"(with PostgreSQL)")


if __name__ == "__main__":
    sys.exit(main())
