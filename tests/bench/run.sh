#!/usr/bin/env bash
# Builds an optimised posternd and prints the load table (see run.py).
#   tests/bench/run.sh [--seconds N] [--tenants N] [--rows main|all] [--write FILE] [--sealing]
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${POSTERN_BENCH_BUILD:-build-bench}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPOSTERN_TESTS=OFF -DPOSTERN_BENCH=ON >/dev/null
cmake --build "$build" --target posternd make_tokens parts_bench vault_bench >/dev/null
exec python3 tests/bench/run.py "$build" "$@"
