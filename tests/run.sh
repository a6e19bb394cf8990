#!/usr/bin/env bash
# Runs every test. Sets up what they need first, and says so.
#   ./tests/run.sh           lints, unit and integration tests with real Envoys and API servers, the quick start's checks
#   ./tests/run.sh --long    the above, and then the checks that take long (kill -9 rounds, churn, scale, outages of ten
#                            minutes, and one of an hour), with their figures
set -euo pipefail
cd "$(dirname "$0")/.."
long=false
case "${1:-}" in
  "") ;;
  --long) long=true ;;
  *) echo "run.sh: unknown argument '$1' (usage: ./tests/run.sh [--long])" >&2; exit 2 ;;
esac
started=$SECONDS
step() { printf '\n=== [%4ds] %s\n' $((SECONDS - started)) "$*"; }

step "tools"
# Commands that the tests run, and the distribution's packages that have them. Go builds a registry of images, Helm,
# CoreDNS, kube-proxy, and kube-apiserver, etcd and kubectl where nobody says where they are.
declare -A packages=([ip]=iproute2 [sqlite3]=sqlite3 [curl]=curl [openssl]=openssl [base64]=coreutils [go]=golang-go
  [node]=nodejs [npm]=npm [git]=git [python3]=python3-venv [systemd-analyze]=systemd [nft]=nftables [unshare]=util-linux
  [setpriv]=util-linux [sysctl]=procps [getent]=libc-bin)
# The fuzzer is C++.
if $long; then packages[c++]=g++; fi
lacking=()
for name in "${!packages[@]}"; do
  command -v "$name" >/dev/null 2>&1 || lacking+=("${packages[$name]}")
done
# PostgreSQL's server is not on the PATH.
if [ -z "${CAUSEWAY_POSTGRES_BIN:-}" ]; then
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || lacking+=(postgresql)
fi
if [ ${#lacking[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing ${lacking[*]} from the distribution"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${lacking[@]}" >/dev/null
  else
    echo "run.sh: the tests need what these packages have: ${lacking[*]}; install them" >&2
    exit 1
  fi
fi
ENVOY_BIN=$(./deploy/envoy.sh)
export ENVOY_BIN
echo "Envoy: $ENVOY_BIN"
echo "kube-apiserver, etcd, kubectl: $(./tests/apiserver/build.sh)"
echo "registry: $(./tests/registry/build.sh)"
echo "Helm: $(./tests/helm/build.sh)"
echo "the Prometheus operator's definitions: $(./tests/prometheus-operator/definitions.sh)"
echo "gRPC client: $(./tests/grpc-client/build.sh)"
echo "CoreDNS: $(./tests/node/build.sh coredns)"
echo "kube-proxy: $(./tests/node/build.sh kube-proxy)"

step "format and lints"
cargo fmt --all --check
cargo clippy --locked --all-targets -- -D warnings
# The embeddable xDS library alone: no database, no Kubernetes types, no HTTP API.
cargo check --locked --lib --no-default-features

step "policies"
# Guests by themselves, on this machine; and the committed components are what their source makes.
(cd plugins && cargo fmt --all --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked)
./plugins/build.sh --check

step "tests"
cargo test --locked

step "an older Envoy"
# The oldest whose binary is published where the tests get theirs.
ENVOY_BIN=$(./deploy/envoy.sh 1.36) cargo test --locked --test it ads_envoy

step "the xDS rules, each broken"
# Each takes some seconds: the library is compiled with one rule broken, and a test has to notice.
./tests/mutations/run.py

step "the quick start's own checks"
# The binary that the tests were run with; by itself the quick start builds its own.
export CAUSEWAY_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/causeway
quickstart=$(mktemp)
trap 'rm -f "$quickstart"' EXIT
./deploy/quickstart.sh --check
./deploy/quickstart.sh --kubernetes --check | tee "$quickstart"
# It goes on without, where that cannot be had; here it can.
grep -q "west is on a host of its own" "$quickstart"

step "the README's own policies, as they stand there"
./tests/readme.sh

if $long; then
  step "the image's program"
  # As the Containerfile builds it, but for the profile; a second build of everything.
  target=$(rustc --print host-tuple)
  RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --bin causeway --target "$target"
  CAUSEWAY_STATIC_BIN=${CARGO_TARGET_DIR:-$PWD/target}/$target/debug/causeway cargo test --locked --test it packaging::image

  step "every decoder, fuzzed"
  # A third build of everything; four minutes of running for all of them together.
  ./tests/fuzz/run.sh 240

  step "long checks"
  cargo test --locked --release --features long-checks --test it -- e2e:: kubernetes:: --nocapture --test-threads 1
fi
step "done"
