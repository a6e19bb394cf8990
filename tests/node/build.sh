#!/usr/bin/env bash
# Prints the path of CoreDNS or kube-proxy for the tests, and builds it there, in a folder of the user's cache, when it is
# missing. The only thing reached is the Go module proxy. The first build takes 2 to 4 minutes on two cores; later runs take
# none.
#
#   ./tests/node/build.sh coredns|kube-proxy
set -euo pipefail
exec "$(dirname "$0")/../go-build.sh" node "$1" "$1 from its Go module" "2 to 4 minutes"
