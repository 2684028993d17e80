#!/usr/bin/env python3
"""Every key is replaced while credentials are released, and the program that does it is killed.

    rotation.py BUILD-DIRECTORY [--credentials N] [--tenants N] [--rate N] [--kills N] [--seconds N]
                [--rewrap-rate N]

100,000 credentials of as many users of 100 tenants; 300 releases a second, each begun when it is
due, however long the ones before take. Meanwhile a new root key, `posternd keys rotate-root`,
`rotate-tenant` and `rewrap` of all tenants, killed ten times with SIGKILL at random moments and,
after a rest, begun again. At the end every credential is released once and must have its value, and
the database is asked what is under an older key.

Releases beside a rotation are held against those before it, in the rests, and after it: all under
the same load, and never far apart, as a machine that others use too is slow by the minute. For the
same reason the p99 of either is the median of those of every 1,000 releases of it, one after the
other; the p99 of all of them, and what the machine gave to others (steal), are printed beside.

Prints what was measured, and fails when a release failed, a value did not come back, something is
left under an older key, it was killed less often than asked, or the p99 of releases was more than
twice that without. Needs python3-cryptography.
"""

import argparse
import asyncio
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / each) for each in ("compose/demo", "tests/contract", "tests/docs")]

import idp  # noqa: E402
from contract_test import Server  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402

CONNECTIONS = 32
REST = 15  # seconds
CHUNK = 1000  # releases
IDLE = 5  # seconds
DEFAULT_RATE = 500  # rows a second, of `keys rewrap`


def value_of(tenant: str, user: str) -> str:
    return f"secret-of-{user}-at-{tenant}"


class Tenant:
    def __init__(self, number: int, folder: pathlib.Path, users: int, api):
        self.name = f"tenant-{number}"
        self.issuer = f"https://idp.{self.name}.example"
        self.users = [f"user-{each}" for each in range(users)]
        keys = folder / self.name
        idp.make_keys(keys)
        jwks = json.loads((keys / "idp.jwks.json").read_text())
        self.kid = jwks["keys"][0]["kid"]
        self.key = serialization.load_pem_private_key((keys / "idp.pem").read_bytes(), None)
        made = api("PUT", f"/api/v1/tenants/{self.name}/manifest", {
            "tenant": self.name, "display_name": "of the bench",
            "issuers": [{"name": "corp", "issuer": self.issuer, "jwks": jwks,
                         "audiences": ["gw-01"], "subject_prefix": "corp:"}],
            "clients": [{"id": "gw-01", "backends": ["*"], "scopes": ["*"]}],
            "backends": [{"name": "github", "audience": "https://github.mcp.example/mcp",
                          "answer": "vaulted", "token_field": "token",
                          "credential": {"name": "github", "owner": "principal"},
                          "delivery": {"env": {"GITHUB_TOKEN": "{token}"}}}],
            "roles": [{"name": "developer", "allow": ["*:*"]}],
            "bindings": [{"name": "devs", "role": "developer", "groups": ["corp:engineering"]}]})
        secret = made["client_secrets"][0]["client_secret"]
        self.basic = "Basic " + base64.b64encode(f"gw-01:{secret}".encode()).decode()

    def token(self, user: str) -> str:
        now = int(time.time())
        signed = ".".join(idp.b64(idp.compact(part)) for part in (
            {"alg": "ES256", "kid": self.kid, "typ": "at+jwt"},
            {"iss": self.issuer, "sub": user, "aud": "gw-01", "groups": ["engineering"],
             "client_id": "demo-app", "iat": now, "exp": now + 3 * 3600, "jti": user}))
        r, s = utils.decode_dss_signature(
            self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{idp.b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def release(self, user: str) -> bytes:
        """The whole request."""
        body = json.dumps({"subject_token": self.token(user), "items": [{"backend": "github"}]})
        return (f"POST /api/v1/tenants/{self.name}/release HTTP/1.1\r\nHost: bench\r\n"
                f"Authorization: {self.basic}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


class Connection:
    """One kept alive; a request at a time."""

    def __init__(self, port: int):
        self.port, self.reader, self.writer, self.used = port, None, None, 0.0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        # As HTTP clients do: what was idle for long, the server may be about to close.
        if self.writer is not None and time.perf_counter() - self.used > IDLE:
            self.writer.close()
            self.writer = None
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.used = time.perf_counter()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                      if line.lower().startswith(b"content-length:"))
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)


class Load:
    """Releases that begin at a steady rate until stop(), or as fast as they are answered."""

    def __init__(self, port: int, wanted: list):
        self.port, self.wanted = port, wanted
        self.milliseconds, self.failures = [], []
        self.stage = "once"  # what else goes on: set from outside
        self.by_stage = {}  # milliseconds

    async def one(self, connection: Connection, due: float, tenant: Tenant, user: str) -> None:
        of_stage = self.by_stage.setdefault(self.stage, [])
        try:
            status, body = await connection.ask(tenant.release(user))
        except (OSError, EOFError) as error:
            status, body = type(error).__name__, b""
            connection.writer = None
        self.milliseconds.append((time.perf_counter() - due) * 1000)
        of_stage.append(self.milliseconds[-1])
        try:
            right = status == 200 and json.loads(body)["items"][0]["env"]["GITHUB_TOKEN"] == \
                value_of(tenant.name, user)
        except (KeyError, ValueError):
            right = False
        if not right:
            self.failures.append(f"{tenant.name} {user}: {status} {body[:200]!r}")

    async def at_rate(self, rate: int, until) -> None:
        idle = [Connection(self.port) for _ in range(CONNECTIONS)]
        running, begun, number = set(), time.perf_counter(), 0

        async def ask(connection, due):
            await self.one(connection, due, *random.choice(self.wanted))
            idle.append(connection)
        while not until():
            due = begun + number / rate
            number += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            connection = idle.pop() if idle else Connection(self.port)
            running.add(task := asyncio.create_task(ask(connection, due)))
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def all_of_them(self) -> None:
        left = iter(self.wanted)

        async def ask():
            connection = Connection(self.port)
            for tenant, user in left:
                await self.one(connection, time.perf_counter(), tenant, user)
        await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))

    def of(self, *stages: str) -> list:
        return [each for stage in stages for each in self.by_stage.get(stage, [])]

    def p99_of(self, *stages: str) -> float:
        times = self.of(*stages)
        return statistics.median(percentile(times[at:at + CHUNK], .99)
                                 for at in range(0, max(1, len(times) - CHUNK // 2), CHUNK))

    def __str__(self) -> str:
        return (f"{len(self.milliseconds)} releases, {len(self.failures)} failed, "
                f"{described(self.milliseconds)}")


def percentile(times: list, share: float) -> float:
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


def described(times: list) -> str:
    return (f"p50 {percentile(times, .5):.1f} ms, p99 {percentile(times, .99):.1f} ms, "
            f"longest {max(times):.0f} ms")


class Steal:
    """How much of the processors' time the machine gave to others, by stage."""

    def __init__(self):
        self.seen, self.by_stage = self.ticks(), {}

    @staticmethod
    def ticks() -> list:
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(each) for each in file.readline().split()[1:9]]
        return [numbers[7], sum(numbers)]

    def ended(self, stage: str) -> None:
        now = self.ticks()
        sums = self.by_stage.setdefault(stage, [0, 0])
        for at in (0, 1):
            sums[at] += now[at] - self.seen[at]
        self.seen = now

    def percent(self, stage: str) -> float:
        taken, all_of_it = self.by_stage[stage]
        return 100 * taken / max(1, all_of_it)


class Keys:
    """`posternd keys` on the database and the root key file of a running service."""

    def __init__(self, build: pathlib.Path, data: pathlib.Path):
        self.program, self.file = str(build / "posternd"), str(data / "root.key")
        passwords = dict(line.split() for line in
                         (data / "postgres/passwords").read_text().splitlines())
        database, shares = (
            f"host={data}/postgres/run port=5432 dbname={name} "
            f"user=postern_service password={passwords['postern_service']}"
            for name in ("postern", "postern_shares"))
        self.database = database
        self.superuser = (f"host={data}/postgres/run port=5432 dbname=postern "
                          f"user=postgres password={passwords['postgres']}")
        share_store = data / "share-store.url"
        share_store.touch(0o600)
        share_store.write_text(shares)
        self.environment = {
            **os.environ, "POSTERND_BASE_URL": "http://127.0.0.1:1",
            "POSTERND_DATABASE_URL": self.database,
            "POSTERND_KEYS_ROOT_KEY_FILE": self.file,
            "POSTERND_SHARE_STORE_URL_FILE": str(share_store),
            "POSTERND_OPERATOR_TOKEN_FILE": str(data / "operator.token")}

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen([self.program, "keys", *arguments], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"posternd keys {' '.join(arguments)}: {out.decode()}")
        return out.decode()


    def rows_by_key(self, active: str) -> dict:
        """Asked of the database as who may see all: how many rows are under a tenant's newest
        KEK (0), the one before (1), and so on; how many KEKs are under the active root key (0),
        or another (1)."""
        def ask(sql: str) -> dict:
            out = subprocess.run(["psql", "-AtF,", "-c", sql, self.superuser],
                                 capture_output=True, text=True, check=True).stdout
            return {int(age): int(count) for age, count in
                    (line.split(",") for line in out.split())}
        newest = ("(SELECT max(version) FROM postern.kek k WHERE k.tenant_id = t.tenant_id)"
                  " - t.kek_version")
        rows = {table: ask(f"SELECT {newest}, count(*) FROM postern.{table} t GROUP BY 1")
                for table in ("credential_version", "signing_key")}
        rows["kek"] = ask(f"SELECT CASE root_key_id WHEN '{active}' THEN 0 ELSE 1 END, count(*)"
                          " FROM postern.kek GROUP BY 1")
        return rows

    def mebibytes(self, table: str) -> float:
        """A table with its indexes."""
        out = subprocess.run(["psql", "-Atc", f"SELECT pg_total_relation_size('postern.{table}')",
                              self.database], capture_output=True, text=True, check=True).stdout
        return int(out) / 2**20


def rotate(keys: Keys, kills: int, rewrap: list, rewrap_seconds: float, stage) -> list:
    """All three, each begun again, after a rest, as often as it was killed. Returns which ones
    were. `stage` is told what begins."""
    killed = []
    keys.run("add", keys.file)
    time.sleep(3)  # until the service has read it, or rotate-root refuses
    # One new KEK for each tenant, however often it is begun again.
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    steps = [("rotate-root",), ("rotate-tenant", "--all", "--older-than", begun),
             ("rewrap", "--all", *rewrap)]
    for index, step in enumerate(steps):
        # Most of the time goes into the last one, and so do most of the kills: all that are
        # left, for the others may end before they are killed.
        planned = kills // 4 if index < 2 else kills - len(killed)
        longest = max(1.5, rewrap_seconds / (planned + 1)) if index == 2 else 0.3
        for _ in range(planned):
            stage("rotation")
            process = keys.start(*step)
            time.sleep(random.uniform(longest / 2 if index == 2 else 0.05, longest))
            if process.poll() is not None:
                process.communicate()
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed.append(step[0])
            stage("rest")
            time.sleep(REST)
        stage("rotation")
        keys.run(*step)
    return killed


def memory_of(pid: int) -> dict:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return {name: int(lines[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--credentials", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=30, help="before it, and after it")
    parser.add_argument("--rewrap-rate", type=int, help="rows a second, in place of the default")
    given = parser.parse_args()
    rewrap = [] if given.rewrap_rate is None else ["--rate", str(given.rewrap_rate)]
    build = given.build.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`
    ok = True
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as scratch:
        os.chmod(scratch, 0o711)  # a PostgreSQL that root starts runs as another user
        folder = pathlib.Path(scratch)
        server = Server(build, folder)
        try:
            if not server.wait():
                raise SystemExit(server.log.read_text(errors="replace"))
            operator = "Bearer " + server.operator_token()

            def api(method: str, path: str, body=None):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                connection.request(method, path, json.dumps(body), {
                    "Authorization": operator, "Content-Type": "application/json"})
                reply = connection.getresponse()
                text = reply.read()
                connection.close()
                if reply.status >= 300:
                    raise SystemExit(f"{method} {path}: {reply.status} {text!r}")
                return json.loads(text)

            users = given.credentials // given.tenants
            tenants = [Tenant(number, folder, users, api) for number in range(given.tenants)]
            wanted = [(tenant, user) for tenant in tenants for user in tenant.users]
            before, began = memory_of(server.process.pid), time.time()

            def store(pair) -> None:
                tenant, user = pair
                api("PUT", f"/api/v1/tenants/{tenant.name}/credentials/github"
                    f"?issuer={tenant.issuer}&subject={user}",
                    {"fields": {"token": value_of(tenant.name, user)}})
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(store, wanted, chunksize=100))
            print(f"{len(wanted)} credentials stored in {time.time() - began:.0f} s; posternd takes "
                  f"{memory_of(server.process.pid)['VmRSS']} MiB, {before['VmRSS']} before", flush=True)

            keys = Keys(build, server.data)
            print("in the database: " + ", ".join(
                f"{table} {keys.mebibytes(table):.0f} MiB" for table in
                ("credential", "credential_version", "audit_record")), flush=True)

            load, steal = Load(server.port, wanted), Steal()

            def stage(name: str) -> None:
                steal.ended(load.stage)
                load.stage = name

            def all_stages() -> list:
                stage("before")
                time.sleep(given.seconds)
                killed = rotate(keys, given.kills, rewrap,
                                given.credentials / (given.rewrap_rate or DEFAULT_RATE), stage)
                stage("after")
                time.sleep(given.seconds)
                stage("")
                return killed
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                rotation = pool.submit(all_stages)
                asyncio.run(load.at_rate(given.rate, rotation.done))
                killed = rotation.result()
            where = ", ".join(f"{step} {killed.count(step)}" for step in sorted(set(killed)))
            print(f"{load}; killed {len(killed)} times ({where})")
            for name in ("before", "rotation", "rest", "after"):
                if load.of(name):
                    print(f"  {name}: {len(load.of(name))} releases, {described(load.of(name))}, "
                          f"median p99 of {CHUNK} {load.p99_of(name):.1f} ms, "
                          f"steal {steal.percent(name):.0f} %")
            without = ("before", "rest", "after")
            ratio = load.p99_of("rotation") / load.p99_of(*without)
            of_all = percentile(load.of("rotation"), .99) / percentile(load.of(*without), .99)
            print(f"p99 with a rotation to without: {ratio:.2f}; of all releases {of_all:.2f}",
                  flush=True)
            ok = ok and len(killed) == given.kills and ratio <= 2

            every = Load(server.port, wanted)
            began = time.time()
            asyncio.run(every.all_of_them())
            print(f"every credential once, in {time.time() - began:.0f} s: {every}; posternd takes "
                  f"{memory_of(server.process.pid)['VmRSS']} MiB")
            status = json.loads(keys.run("status", "--json"))
            left = {"KEKs": status["keks_to_rotate"], **status["rows_to_rewrap"]}
            print(f"under an older key: {left}; rows moved: {status['rows_rewrapped']}")
            ok = ok and not any(left.values())
            rows = keys.rows_by_key(status["root_keys"][0]["id"])
            print(f"rows of the database by how old their key is: {rows}")
            ok = ok and all(set(ages) <= {0} for ages in rows.values())
            for each in (load, every):
                for failure in each.failures[:3]:
                    print("FAILED", failure)
                ok = ok and not each.failures
            ok = ok and len(every.milliseconds) == len(wanted)
        finally:
            ended = server.stop()
        ok = ok and ended == 0
    print("passed" if ok else "failed")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
