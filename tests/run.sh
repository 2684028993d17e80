#!/usr/bin/env bash
# Every check of this repository, on a bare Debian 12 or 13. CI runs exactly this.
#
#   tests/run.sh                    all stages, in the order below
#   tests/run.sh --fast             without the sanitizer builds
#   tests/run.sh --stage NAME       only this one (may be repeated)
#
#   install     packages, by tests/install-packages.sh
#   lint        include rule, source rules, layout of the code
#   build       everything into build/, and all tests that need no peer
#   asan        build-asan/: address and undefined behaviour
#   tsan        build-tsan/: data races, where threads meet
#   interop     real clients and identity providers from npm, and Authlib
#   quickstart  compose/quickstart on the build, and its second start
#   docs        commands in README.md and docs/ do what they say
#   contract    a running service and sdk/openapi.yaml, held to each other
#   matrix      ten tenants that ask for what is the others'
#
# The last line is `N passed, N failed`; the exit status is 1 if any failed.
# Runs as root or as a sudoer, may be repeated, and leaves nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stages=(install lint build asan tsan interop quickstart docs contract matrix)
chosen=()
while (($#)); do
  case $1 in
    --fast) chosen=(install lint build interop quickstart docs contract matrix) ;;
    --stage)
      [[ " ${stages[*]} " == *" ${2:-} "* ]] || { echo "run.sh: --stage is one of: ${stages[*]}" >&2; exit 2; }
      chosen+=("$2"); shift ;;
    -h | --help) sed -n '2,21s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done
((${#chosen[@]})) || chosen=("${stages[@]}")

jobs=$(nproc)
scratch=$(mktemp -d)
chmod 711 "$scratch"  # a PostgreSQL that root starts runs as another user
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 failures=()

pass() { passed=$((passed + 1)); printf '   ok      %s\n' "$1"; }
fail() { failed=$((failed + 1)); failures+=("$1"); printf '   FAILED  %s\n' "$1"; }

# One check that is a command: quiet when it passes, all of its output when not.
check() {
  local name=$1; shift
  if "$@" >"$scratch/out" 2>&1; then pass "$name"; else cat "$scratch/out"; fail "$name"; fi
}

# Adds the last line of a script that ends as this one does.
check_counted() {
  local name=$1 line; shift
  "$@" 2>&1 | tee "$scratch/out" || true
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$scratch/out" | tail -n 1)
  if [[ ! $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then fail "$name: ended without a count"; return; fi
  passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  ((BASH_REMATCH[2] == 0)) || failures+=("$name: ${BASH_REMATCH[2]}")
}

# build DIRECTORY CMAKE-OPTIONS... -- TARGETS...
build() {
  local directory=$1 options=() started=$SECONDS; shift
  while (($#)) && [[ $1 != -- ]]; do options+=("$1"); shift; done
  shift
  if ! { cmake -S . -B "$directory" -G Ninja "${options[@]}" &&
         cmake --build "$directory" -j "$jobs" --target "$@"; } >"$scratch/out" 2>&1; then
    tail -n 60 "$scratch/out"
    fail "$directory: build"
    return 1
  fi
  pass "$directory: build ($((SECONDS - started)) s)"
}

# Runs ctest and counts the cases inside each GoogleTest program.
run_ctest() {
  local directory=$1 name=$1 results=$scratch/results line; shift
  rm -rf "$results"; mkdir "$results"
  GTEST_OUTPUT="xml:$results/" ctest --test-dir "$directory" -j "$jobs" --output-on-failure \
    --no-tests=error --output-junit "$results/ctest-junit" "$@" >"$scratch/out" 2>&1 ||
    grep -vE '^\s*[0-9]+/[0-9]+ Test .* Passed|^\s*Start +[0-9]+:' "$scratch/out" | tail -n 400 || true
  if ! line=$(python3 tests/count_results.py "$results"); then fail "$name: ctest"; return; fi
  echo "   $name: $line"
  [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]
  passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  ((BASH_REMATCH[2] == 0)) || failures+=("$name: $line")
}

# The names of test targets from their sources, as tests/CMakeLists.txt makes them.
targets() {
  local source
  for source in "$@"; do
    [[ -e $source ]] || continue
    source=${source#tests/}; source=${source%.cc}
    echo "${source//\//_}"
  done
}
unit_targets() { find tests/unit -name '*_test.cc' -printf '%h\n' | sort -u | sed 's,^tests/unit/,unit_,'; }
fuzz_targets() { targets tests/fuzz/*.cc | grep -v '^fuzz_driver$'; }
# ctest's -R for exactly these.
exactly() { local IFS='|'; echo "^($*)\$"; }

stage_install() { check "packages" tests/install-packages.sh --tests; }

stage_lint() {
  check "folders include whom they may" python3 tests/lint/check_includes.py
  check "source rules" python3 tests/lint/check_sources.py
  check "each rule has its tests" python3 tests/lint/check_conformance.py
  check "the lint scripts refuse bad samples" python3 tests/lint/test_lint.py
  check "shell scripts parse" bash -c 'for f; do bash -n "$f" || exit 1; done' _ \
    tests/*.sh tests/*/*.sh compose/quickstart .ci/run
  local version; version=$(clang-format --version 2>/dev/null | grep -oE 'version [0-9]+' || true)
  if [[ $version == "version 14" ]]; then
    check "clang-format" bash -c \
      'find service sdk tests \( -name "*.h" -o -name "*.cc" \) -not -path "*/node_modules/*" -print0 |
         xargs -0 clang-format --dry-run --Werror'
  else
    echo "   skipped clang-format: layout is that of version 14, here is ${version:-none}"
  fi
}

# What the asan stage runs. The build stage leaves it to that one, when both run:
# compiling takes most of the time, and these say more under a sanitizer.
sanitized_targets() {
  unit_targets; fuzz_targets; targets tests/isolation/*_test.cc tests/integration/http_*_test.cc
}

stage_build() {
  if [[ " ${chosen[*]} " != *" asan "* ]]; then
    build build -- all || return 0
    run_ctest build -LE interop
    return
  fi
  local names
  mapfile -t names < <(targets tests/conformance/*_test.cc tests/integration/*_test.cc |
    grep -v '^integration_http_'; echo isolation_endpoints_without_aad)
  build build -- posternd postern "${names[@]}" || return 0
  run_ctest build -R "$(exactly "${names[@]}")"
}

stage_asan() {
  local names
  mapfile -t names < <(sanitized_targets)
  build build-asan -DPOSTERN_SANITIZE=address,undefined -- "${names[@]}" || return 0
  run_ctest build-asan -R "$(exactly "${names[@]}")"
}

stage_tsan() {
  local names
  mapfile -t names < <(echo unit_threads
    targets tests/integration/http_edge_test.cc tests/integration/service_main_job_test.cc)
  build build-tsan -DPOSTERN_SANITIZE=thread -- "${names[@]}" || return 0
  run_ctest build-tsan -R "$(exactly "${names[@]}")"
}

stage_interop() {
  [[ -e tests/interop/run.sh ]] || { echo "   skipped: tests/interop/run.sh is not there"; return 0; }
  ensure_programs || return 0
  check_counted "interop" tests/interop/run.sh build
}

stage_quickstart() {
  ensure_programs || return 0
  check_counted "quickstart" tests/docs/quickstart_test.sh build
}

stage_docs() {
  ensure_programs || return 0
  check_counted "docs" python3 tests/docs/check_commands.py build
}

stage_contract() {
  ensure_programs || return 0
  # Debian's Python, for its modules: another may come first on the PATH.
  check_counted "contract" /usr/bin/python3 tests/contract/contract_test.py build
}

stage_matrix() {
  ensure_programs || return 0
  # --pairs all asks about every pair of tenants, which takes an hour.
  check_counted "matrix" /usr/bin/python3 tests/isolation/tenant_matrix.py build --pairs 1
}

# For a stage that runs alone.
ensure_programs() {
  [[ -x build/posternd && -x build/postern ]] ||
    build build -- posternd postern
}

begun=$SECONDS
for stage in "${chosen[@]}"; do
  printf '\n== %s\n' "$stage"
  since=$SECONDS
  "stage_$stage"
  printf '   %s took %s s\n' "$stage" "$((SECONDS - since))"
done

printf '\n'
((failed == 0)) || printf 'failed: %s\n' "${failures[@]}"
printf 'all stages took %s s\n' "$((SECONDS - begun))"
printf '%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
