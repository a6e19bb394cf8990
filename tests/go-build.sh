#!/usr/bin/env bash
# Prints the path of a program that is made from a Go module of the tests, and builds it, in a folder of the user's cache,
# when it is missing. The only thing reached is the Go module proxy.
#
#   tests/go-build.sh FOLDER PROGRAM WHAT HOW-LONG
#
# FOLDER is the module's, below this one, and PROGRAM one of its commands; WHAT and HOW-LONG (on two cores) are for whoever
# waits.
set -euo pipefail
folder=$1 program=$2 what=$3 how_long=$4
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/$folder"

# What is built depends on these files alone, so their hash names the folder.
key="$(cat go.mod go.sum cmd/*/main.go "$here/go-build.sh" | sha256sum | cut -c1-12)"
bin="${XDG_CACHE_HOME:-$HOME/.cache}/causeway/$folder/$key"
if [[ ! -x "$bin/$program" ]]; then
  command -v go >/dev/null || { echo "build.sh: Go 1.26 or newer is needed (go.dev/dl, or apt-get install golang)" >&2; exit 1; }
  mkdir -p "$bin"
  exec 9>"$bin/.lock"
  flock 9 # two runs that start at once build once
fi
if [[ ! -x "$bin/$program" ]]; then
  echo "building $what into $bin ($how_long on two cores)" >&2
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o "$bin.new/" "./cmd/$program" >&2
  mv "$bin.new"/* "$bin/"
  rmdir "$bin.new"
fi
echo "$bin/$program"
