#!/usr/bin/env bash
# Prints the folder that holds kube-apiserver, etcd and kubectl for the tests, and builds them there when they are missing:
# $KUBEBUILDER_ASSETS where that is set (what setup-envtest downloads), else a folder in the user's cache. The only
# thing reached is the Go module proxy. The first build takes 6 to 10 minutes on two cores; later runs take none.
#
#   ./tests/apiserver/build.sh
set -euo pipefail
cd "$(dirname "$0")"
binaries=(kube-apiserver etcd kubectl)

missing() {
  local name
  for name in "${binaries[@]}"; do
    [[ -x "$1/$name" ]] || { echo "$name"; return; }
  done
}

if [[ -n "${KUBEBUILDER_ASSETS:-}" ]]; then
  lacks="$(missing "$KUBEBUILDER_ASSETS")"
  [[ -z $lacks ]] || { echo "build.sh: KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no executable $lacks; correct it or unset it" >&2; exit 1; }
  echo "$KUBEBUILDER_ASSETS"
  exit
fi

# What is built depends on these files alone, so their hash names the folder.
key="$(cat go.mod go.sum cmd/*/main.go build.sh | sha256sum | cut -c1-12)"
bin="${XDG_CACHE_HOME:-$HOME/.cache}/causeway/kubernetes/$key"
if [[ -n "$(missing "$bin")" ]]; then
  command -v go >/dev/null || { echo "build.sh: Go 1.25 or newer is needed (go.dev/dl, or apt-get install golang), or KUBEBUILDER_ASSETS" >&2; exit 1; }
  mkdir -p "$bin"
  exec 9>"$bin/.lock"
  flock 9 # two test runs that start at once build once
fi
if [[ -n "$(missing "$bin")" ]]; then
  echo "building kube-apiserver, etcd and kubectl from Go modules into $bin (6 to 10 minutes on two cores)" >&2
  kube="$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"
  IFS=. read -r major minor _ <<<"${kube#v}"
  # Without these the server says that it is v0.0.0-master. No date: the same source makes the same bytes.
  ldflags="-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    ldflags+=" -X $package.gitVersion=$kube -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
  done
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="$ldflags" -o "$bin.new/" ./cmd/kube-apiserver ./cmd/etcd ./cmd/kubectl >&2
  mv "$bin.new"/* "$bin/"
  rmdir "$bin.new"
fi
echo "$bin"
