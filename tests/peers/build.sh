#!/usr/bin/env bash
# Prints the path of go-control-plane's server for the benchmarks, and builds it there, in a folder of the user's cache,
# when it is missing. The only thing reached is the Go module proxy. The first build takes 2 to 3 minutes on two cores;
# later runs take none.
#
#   ./tests/peers/build.sh
set -euo pipefail
exec "$(dirname "$0")/../go-build.sh" peers go-control-plane "go-control-plane's server from its Go module" "2 to 3 minutes"
