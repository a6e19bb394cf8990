#!/usr/bin/env bash
# Prints the path of CNCF distribution's registry for the tests, and builds it there, in a folder of the user's cache, when
# it is missing. The only thing reached is the Go module proxy. The first build takes 1 to 2 minutes on two cores; later
# runs take none.
#
#   ./tests/registry/build.sh
set -euo pipefail
exec "$(dirname "$0")/../go-build.sh" registry registry "distribution's registry from its Go module" "1 to 2 minutes"
