#!/usr/bin/env bash
# Prints the path of go-control-plane's server for the benchmarks, and builds it there, in a folder of the user's cache,
# when it is missing. The only thing reached is the Go module proxy. The first build takes 2 to 3 minutes on two cores;
# later runs take none.
#
#   ./tests/peers/build.sh
set -euo pipefail
cd "$(dirname "$0")"

# What is built depends on these files alone, so their hash names the folder.
key="$(cat go.mod go.sum cmd/*/main.go build.sh | sha256sum | cut -c1-12)"
bin="${XDG_CACHE_HOME:-$HOME/.cache}/causeway/peers/$key"
if [[ ! -x "$bin/go-control-plane" ]]; then
  command -v go >/dev/null || { echo "build.sh: Go 1.26 or newer is needed (go.dev/dl, or apt-get install golang)" >&2; exit 1; }
  mkdir -p "$bin"
  exec 9>"$bin/.lock"
  flock 9 # two runs that start at once build once
fi
if [[ ! -x "$bin/go-control-plane" ]]; then
  echo "building go-control-plane's server from its Go module into $bin (2 to 3 minutes on two cores)" >&2
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o "$bin.new/" ./cmd/go-control-plane >&2
  mv "$bin.new"/* "$bin/"
  rmdir "$bin.new"
fi
echo "$bin/go-control-plane"
