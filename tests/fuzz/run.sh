#!/usr/bin/env bash
# Fuzzes with coverage guidance: clang, libFuzzer, address and undefined behaviour.
#
#   tests/fuzz/run.sh [--seconds N] [--jobs N] [TARGET...]
#
# Each target (a file here without .cc; all of them unless named) runs N seconds, 300
# unless given, from its corpus. What is found new is thrown away; an input that ends a
# target is kept in build-fuzz/findings/. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=300 jobs=$(nproc) targets=()
while (($#)); do
  case $1 in
    --seconds) seconds=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    *) [[ -e tests/fuzz/$1.cc ]] || { echo "run.sh: no target $1" >&2; exit 2; }; targets+=("$1") ;;
  esac
  shift
done
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(cd tests/fuzz && ls -- *.cc | sed 's/\.cc$//' | grep -v '^driver$')
fi

tests/install-packages.sh --fuzz
build=build-fuzz
cmake -S . -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DPOSTERN_TESTS=OFF -DPOSTERN_FUZZ=ON -DPOSTERN_WERROR=OFF -DPOSTERN_SANITIZE=address,undefined >/dev/null
cmake --build "$build" -j "$jobs" --target "${targets[@]/#/fuzz_}"

mkdir -p "$build/findings"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

fuzz() {
  local target=$1 corpus=$scratch/$1 log=$scratch/$1.log
  mkdir "$corpus"
  if "$build/tests/fuzz_$target" "$corpus" "tests/fuzz/corpus/$target" \
      -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
      -artifact_prefix="$build/findings/$target-" >"$log" 2>&1; then
    echo "   ok      $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
      "$(ls "$corpus" | wc -l) that reached something new"
  else
    tail -n 40 "$log"
    echo "   FAILED  $target"
  fi
}
export -f fuzz
export build scratch seconds
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I{} bash -c 'fuzz {}' | tee "$scratch/all"
failed=$(grep -c '^   FAILED' "$scratch/all" || true)
echo "$((${#targets[@]} - failed)) passed, $failed failed"
((failed == 0))
