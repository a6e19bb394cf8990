#!/usr/bin/env bash
# Runs the README's chapter "Write a policy of your own" as it stands, line by line, in a copy of what git has here and
# beside the quick start. `causeway probe … # of 200 answers [about] N are from CLUSTER` is tried until that is so.
# With CAUSEWAY_BIN the quick start does not build its own.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
chapter='### Write a policy of your own'

started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*"; }
work=$(mktemp -d "${TMPDIR:-/tmp}/causeway-readme.XXXXXX")
quickstart=
stop() {
  if [ -n "$quickstart" ]; then
    kill -TERM "$quickstart" 2>/dev/null || true
    wait "$quickstart" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap stop EXIT
fail() {
  printf 'readme: %s\n' "$*" >&2
  tail -n 20 "$work/quickstart.log" >&2
  exit 1
}

mkdir "$work/clone"
git ls-files --cached --others --exclude-standard -z | tar --null --ignore-failed-read -cT - | tar -xC "$work/clone"
cd "$work/clone"
# What is made on the way is kept for the next time; what is made is where a user would find it.
export CARGO_BUILD_BUILD_DIR=${CARGO_TARGET_DIR:-$root/target}/tmp/policies
case $CARGO_BUILD_BUILD_DIR in /*) ;; *) CARGO_BUILD_BUILD_DIR=$root/$CARGO_BUILD_BUILD_DIR ;; esac
unset CARGO_TARGET_DIR
if [ -n "${CAUSEWAY_BIN:-}" ]; then
  mkdir -p target/debug && ln -s "$(realpath "$CAUSEWAY_BIN")" target/debug/causeway
fi

say "starting the quick start"
./deploy/quickstart.sh >"$work/quickstart.log" 2>&1 &
quickstart=$!
until grep -q 'Ctrl-C stops everything' "$work/quickstart.log"; do
  kill -0 "$quickstart" 2>/dev/null || fail "the quick start ended."
  sleep 0.2
done

# Where rustup cannot add the target, the way that plugins/README.md has for that.
rustup() {
  command rustup "$@" || { RUSTC=$("$root"/plugins/build.sh --toolchain) && export RUSTC; }
}
# Line, answers that it should have, of which cluster, and by how many they may differ: 99.9 % of samples of 200 keep to
# half and half within 24.
probe() {
  local until=$((SECONDS + 30)) found
  while true; do
    found=$(eval "$1" | tee "$work/answers" | awk -v pod="-$3-" 'index($1, pod) { sum += $3 } END { print sum + 0 }')
    [ $((found < $2 ? $2 - found : found - $2)) -gt "${4:-0}" ] || break
    [ $SECONDS -lt $until ] || { cat "$work/answers"; fail "$found answers are from $3, and $2 should be: $1"; }
    sleep 0.2
  done
  cat "$work/answers"
}

lines=0
while IFS= read -r line <&3; do
  say "\$ $line"
  if [[ $line =~ ^causeway\ probe\ .*\#\ of\ 200\ answers\ (about\ )?([0-9]+)\ are\ from\ ([a-z]+)$ ]]; then
    probe "$line" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}" "${BASH_REMATCH[1]:+24}"
  else
    eval "$line"
  fi
  lines=$((lines + 1))
done 3< <(awk -v chapter="$chapter" '
  $0 == chapter { inside = 1; next }
  inside && /^### / { exit }
  inside && /^```/ { code = ($0 == "```sh"); next }
  inside && code && NF' README.md)
[ $lines -gt 20 ] || fail "README.md has no chapter \"$chapter\" that could be run."
say "all $lines lines of the chapter do what it says"
