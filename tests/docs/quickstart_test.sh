#!/usr/bin/env bash
# The quickstart on programs built already: quickstart_test.sh BUILD-DIRECTORY
# What it must show is looked for in its output; the second start must be quick
# work, and nothing may be left running.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
chmod 711 "$scratch"
export POSTERN_QUICKSTART_BUILD=$repo/${1:-build} POSTERN_QUICKSTART_DIR=$scratch/data
# A free pair of ports, below those that clients are given.
for ((port = 20000 + RANDOM % 10000; ; port += 2)); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || (exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null || break
done
export POSTERN_QUICKSTART_PORT=$port
quickstart=$repo/compose/quickstart
trap '"$quickstart" --clean >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); echo "   ok      $1"; }
bad() { failed=$((failed + 1)); echo "   FAILED  $1"; }
succeeds() { local name=$1; shift; if "$@" >"$scratch/out" 2>&1; then ok "$name"; else cat "$scratch/out"; bad "$name"; fi; }
shows() { if grep -qE -- "$2" "$scratch/first"; then ok "$1"; else bad "$1 (no line like: $2)"; fi; }

succeeds "quickstart" "$quickstart"
cp "$scratch/out" "$scratch/first"
shows "alice's server sees alice's account" '^ *account: +alice$'
shows "bob's server sees bob's account" '^ *account: +bob$'
shows "the child sees the released variable and none of the parent's" \
  '^ *variables: (HOME |LANG |LC_[A-Z]+ |LOGNAME |PATH |SHELL |TERM |TZ |TMPDIR |XDG_RUNTIME_DIR )*TICKETS_TOKEN( TERM| TMPDIR| TZ| USER| XDG_RUNTIME_DIR)*$'
shows "the exchanged token has one audience" '"aud": "https://files.mcp.acme.example/mcp"'
shows "and a narrow scope" '"scope": "files:read"'
for reason in invalid_client invalid_scope invalid_target; do
  shows "a refusal says $reason" "$reason"
done
shows "stopping works from any folder, for this directory" "POSTERN_QUICKSTART_DIR=$scratch/data .*$quickstart --stop"
shows "the audit trail is verified" 'intact|verified'
token=$(sed -n 's/^tkt_//p' "$scratch/data/alice.ticket")
if grep -rqs "$token" "$scratch/first" "$scratch/data/posternd.log"; then bad "no secret is shown or logged"; else ok "no secret is shown or logged"; fi

pid=$(cat "$scratch/data/posternd.pid")
succeeds "the second run uses all of it again" "$quickstart"
if [[ $(cat "$scratch/data/posternd.pid") == "$pid" ]]; then ok "with the same service"; else bad "with the same service"; fi
succeeds "stop" "$quickstart" --stop
if kill -0 "$pid" 2>/dev/null; then bad "the service is gone"; else ok "the service is gone"; fi
started=$SECONDS
succeeds "start after a stop" "$quickstart"
echo "   the run after a stop took $((SECONDS - started)) s"
succeeds "clean" "$quickstart" --clean
if [[ -e $scratch/data ]]; then bad "its data is gone"; else ok "its data is gone"; fi

says() { # says WORDS NAME COMMAND...: it does, whatever it returns
  local words=$1 name=$2; shift 2
  "$@" >"$scratch/out" 2>&1 || true
  if grep -qF -- "$words" "$scratch/out"; then ok "$name"; else cat "$scratch/out"; bad "$name"; fi
}
says "nothing to stop" "stop says when nothing runs" "$quickstart" --stop
says "nothing to delete" "clean says when there is nothing" "$quickstart" --clean
mkdir "$scratch/other" && touch "$scratch/other/posternd.log"
export POSTERN_QUICKSTART_DIR=$scratch/other
says "nothing was deleted" "clean refuses a directory of others" "$quickstart" --clean
says "is not empty" "start refuses a directory of others" "$quickstart"
if [[ -e $scratch/other/posternd.log ]]; then ok "and leaves it alone"; else bad "and leaves it alone"; fi
for bad_port in 0 65535 x "1 2" 08; do
  POSTERN_QUICKSTART_PORT=$bad_port says "must be a number" "port $bad_port is refused" "$quickstart" --stop
done
export POSTERN_QUICKSTART_DIR=$scratch/data  # for the trap

echo "$passed passed, $failed failed"
((failed == 0))
