#!/usr/bin/env bash
# Prints the path of the tests' gRPC client, and builds it there, in a folder of the user's cache, when it is missing. The
# only thing reached is the Go module proxy. The first build takes a minute on two cores; later runs take none.
#
#   ./tests/grpc-client/build.sh
set -euo pipefail
exec "$(dirname "$0")/../go-build.sh" grpc-client grpc-client "a gRPC client with xDS" "a minute"
