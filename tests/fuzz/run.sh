#!/usr/bin/env bash
# Fuzzes every decoder: builds the targets with coverage on a stable compiler, and runs one after the other.
#   tests/fuzz/run.sh [SECONDS] [TARGET…]    SECONDS for all of them together [300]; all targets where none is named
# What is new and interesting is kept in the target folder and begun with the next time; `corpus` is left as it is. Fails
# when an input shows a mistake, and says how to see it again. With a nightly compiler `cargo fuzz run --fuzz-dir tests/fuzz
# TARGET` does the same.
set -euo pipefail
cd "$(dirname "$0")"
seconds=300
case "${1:-}" in
  '' | *[!0-9]*) ;;
  *) seconds=$1; shift ;;
esac
all=()
for program in fuzz_targets/*.rs; do all+=("$(basename "$program" .rs)"); done
targets=("${@:-${all[@]}}")
for target in "${targets[@]}"; do
  if [ ! -f "fuzz_targets/$target.rs" ]; then
    echo "run.sh: there is no target '$target' (usage: run.sh [SECONDS] [TARGET…]); there are ${all[*]}" >&2
    exit 2
  fi
done
if ! command -v "${CXX:-c++}" >/dev/null; then
  echo "run.sh: libFuzzer needs a C++ compiler: install g++ or clang" >&2
  exit 1
fi
each=$((seconds / ${#targets[@]}))
if [ "$each" -lt 1 ]; then each=1; fi

# A folder of its own: what is compiled there sees coverage, and has the same name otherwise.
target_dir=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
mkdir -p "$target_dir"
target_dir=$(cd "$target_dir" && pwd)
echo "building ${#targets[@]} targets, each of which then runs for $each s"
CARGO_TARGET_DIR=$target_dir RUSTC_WRAPPER=$PWD/rustc-coverage.sh cargo build --locked --quiet "${targets[@]/#/--bin=}"

failed=0
printf '%-18s %10s %8s %8s %8s  %s\n' target runs runs/s coverage inputs outcome
for target in "${targets[@]}"; do
  found=$target_dir/corpus/$target
  crashes=$target_dir/crashes/$target
  log=$target_dir/$target.log
  mkdir -p "$found" "$crashes"
  dictionary=()
  if [ -f "dictionaries/$target" ]; then dictionary=("-dict=dictionaries/$target"); fi
  outcome=fine
  "$target_dir/debug/$target" "$found" "corpus/$target" "${dictionary[@]}" -max_total_time="$each" -timeout=10 \
    -rss_limit_mb=2048 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$crashes/" >"$log" 2>&1 || outcome=failed
  stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  coverage=$(grep -ao 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2 || true)
  printf '%-18s %10s %8s %8s %8s  %s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
    "$coverage" "$(find "$found" -type f | wc -l)" "$outcome"
  if [ "$outcome" = failed ]; then
    failed=1
    grep -a -m 1 -A 3 -E "panicked at|ERROR: libFuzzer" "$log" >&2 || tail -5 "$log" >&2
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    echo "  all of it: $log" >&2
    echo "  again:     $target_dir/debug/$target $input" >&2
    echo "  to mend:   cp $input tests/fuzz/corpus/$target/ && cargo test --test it corpus" >&2
  fi
done
exit $failed
