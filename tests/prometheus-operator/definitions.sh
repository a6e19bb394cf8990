#!/usr/bin/env bash
# Prints the folder of the Prometheus operator's custom resource definitions, from its Go module, which is downloaded where
# it is not in the module cache.
#
#   ./tests/prometheus-operator/definitions.sh
set -euo pipefail
cd "$(dirname "$0")"
command -v go >/dev/null || { echo "definitions.sh: Go 1.26 or newer is needed (go.dev/dl, or apt-get install golang)" >&2; exit 1; }
# Held against go.sum.
go mod download github.com/prometheus-operator/prometheus-operator >&2
echo "$(go list -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)/example/prometheus-operator-crd"
