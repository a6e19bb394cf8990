#!/usr/bin/env bash
# Prints the path of the tests' gRPC client, and builds it there, in a folder of the user's cache, when it is missing. The
# only thing reached is the Go module proxy. The first build takes a minute on two cores; later runs take none.
#
#   ./tests/grpc-client/build.sh
set -euo pipefail
cd "$(dirname "$0")"

# What is built depends on these files alone, so their hash names the folder.
key="$(cat go.mod go.sum cmd/*/main.go build.sh | sha256sum | cut -c1-12)"
bin="${XDG_CACHE_HOME:-$HOME/.cache}/causeway/grpc-client/$key"
if [[ ! -x "$bin/grpc-client" ]]; then
  command -v go >/dev/null || { echo "build.sh: Go 1.26 or newer is needed (go.dev/dl, or apt-get install golang)" >&2; exit 1; }
  mkdir -p "$bin"
  exec 9>"$bin/.lock"
  flock 9 # two test runs that start at once build once
fi
if [[ ! -x "$bin/grpc-client" ]]; then
  echo "building a gRPC client with xDS into $bin (a minute on two cores)" >&2
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o "$bin.new/" ./cmd/grpc-client >&2
  mv "$bin.new"/* "$bin/"
  rmdir "$bin.new"
fi
echo "$bin/grpc-client"
