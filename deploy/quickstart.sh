#!/usr/bin/env bash
# Two clusters, two gateways, one address and one name: all of Causeway on this machine, on loopback, without rights.
#   ./deploy/quickstart.sh           builds, starts, prints what to try, stops on Ctrl-C
#   ./deploy/quickstart.sh --check   builds, starts, sends requests through DNS and the VIPs, prints a table, stops
#   ./deploy/quickstart.sh --kubernetes [--check]   the same with three real API servers, of which the control
#                                                   plane reads two, and the third has a manager that dials in, as
#                                                   root from a host that lets nothing in
set -euo pipefail
cd "$(dirname "$0")/.."

check=false kubernetes=false
for argument in "$@"; do
  case "$argument" in
    --check) check=true ;;
    --kubernetes) kubernetes=true ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart: unknown argument '$argument' (try --help)" >&2; exit 2 ;;
  esac
done

started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*"; }
fail() {
  printf 'quickstart: %s\n' "$*" >&2
  for log in "$run"/*.log; do printf -- '--- last lines of %s\n' "$log" >&2; tail -n 15 "$log" >&2; done
  exit 1
}

xds=127.0.0.1:${QUICKSTART_XDS_PORT:-18000}
admin=127.0.0.1:${QUICKSTART_ADMIN_PORT:-18080}
dns=127.0.0.1:${QUICKSTART_DNS_PORT:-5353}
members=127.0.0.1:${QUICKSTART_MEMBER_PORT:-18443}
gateway_admins=(127.0.0.1:${QUICKSTART_GATEWAY1_PORT:-19001} 127.0.0.1:${QUICKSTART_GATEWAY2_PORT:-19002})
ranges=(127.12.1.0/24 127.12.2.0/24)
export CAUSEWAY_ADMIN_ADDR=$admin

run=$(mktemp -d "${TMPDIR:-/tmp}/causeway-quickstart.XXXXXX")
# Under a name that can be copied from a page.
mkdir -p target && ln -sfn "$run" target/quickstart
pids=()
stop() {
  trap - EXIT INT TERM
  # In reverse, so that nobody is told that the control plane went away; each pid is one that we started.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  for servers in "$run"/apiservers*; do
    if [ -d "$servers" ]; then BIN=${binaries:-} RUN=$servers ./tests/apiserver/start.sh down >/dev/null 2>&1 || true; fi
  done
  if [ -n "${west_host:-}" ]; then ip netns del "$west_host" 2>/dev/null || true; fi
  if [ "$(readlink target/quickstart)" = "$run" ]; then rm -f target/quickstart; fi
  rm -rf "$run"
}
trap stop EXIT
trap 'echo; say "stopping"; exit 0' INT TERM

start() { # name, command...
  local name=$1
  shift
  "$@" >"$run/$name.log" 2>&1 &
  pids+=($!)
}
alive() { for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done; }
wait_for() { # seconds, what, command...
  local until=$((SECONDS + $1)) what=$2
  shift 2
  while ! "$@" >/dev/null 2>&1; do
    alive || fail "a process ended early while waiting for $what."
    [ $SECONDS -lt "$until" ] || fail "waited in vain for $what."
    sleep 0.1
  done
}

envoy=$(./deploy/envoy.sh)
say "Envoy: $("$envoy" --version | sed -n 's/.*version: [0-9a-f]*\/\([^/]*\)\/.*/\1/p') at $envoy"
if [ -n "${CAUSEWAY_BIN:-}" ]; then
  causeway=$CAUSEWAY_BIN
else
  say "building causeway (some minutes the first time)"
  cargo build --locked --bin causeway
  causeway=${CARGO_TARGET_DIR:-target}/debug/causeway
fi

if $kubernetes; then
  services=(checkout) clusters=(primary east west) vips=1
  source deploy/quickstart/kubernetes/start.sh
else
  services=(checkout catalog) clusters=(east west) vips=3
  say "starting the control plane with the clusters east and west"
  cp -r deploy/quickstart/clusters "$run/clusters"
  cp deploy/quickstart/backends.yaml "$run/backends.yaml"
  start causeway "$causeway" serve --manifests "$run/clusters" --data-dir "$run/data" \
    --xds-addr "$xds" --admin-addr "$admin" --dns-addr "$dns"
  wait_for 30 "the control plane to be ready" "$causeway" status
fi

say "starting the pods (one Envoy that answers for all of them), two gateways and their agents"
start pods "$envoy" -c "$run/backends.yaml" --use-dynamic-base-id --concurrency 1 --log-level warn
for i in 0 1; do
  name=gateway-$((i + 1))
  "$causeway" bootstrap --role gateway --node-id "$name" --cluster east --network flat --region eu-1 --zone a \
    --xds "$xds" --envoy-admin "${gateway_admins[i]}" >"$run/$name.yaml"
  start "$name" "$envoy" -c "$run/$name.yaml" --use-dynamic-base-id --concurrency 1 --log-level warn
  start "agent-$((i + 1))" "$causeway" agent --control-plane "http://$xds" --envoy-admin "${gateway_admins[i]}" \
    --assign "${ranges[i]}" --state-dir "$run/agent-$((i + 1))"
done

probe() { "$causeway" probe "http://$1.shop.svc.clusterset.local:8080/" --dns "$dns" "${@:2}"; }
for service in "${services[@]}"; do wait_for 30 "$service's name to be answered" probe "$service" -n 1; done
all_published() { [ "$("$causeway" vips --no-headers | grep -c ' Published ')" = "$vips" ]; }
wait_for 30 "all VIPs to be published" all_published

if $check; then
  for service in "${services[@]}"; do
    say "200 requests to $service, through DNS and the VIP"
    probe "$service" -n 200 | tee "$run/answers"
    for cluster in "${clusters[@]}"; do
      grep -q "$service-$cluster-" "$run/answers" || fail "no pod of cluster $cluster answered for $service."
    done
  done
fi
echo
"$causeway" vips
echo
if $kubernetes; then
  show_objects
fi
if $check; then
  say "all is well"
  exit 0
fi

if $kubernetes; then
  cat <<TRY
Try in another terminal:
  export KUBECONFIG=$run/primary.kubeconfig CAUSEWAY_ADMIN_ADDR=$admin
  $kubectl get causeway -A
  $kubectl -n shop get clusteraccess checkout -o yaml
  $causeway snapshot get -n shop
  $causeway cluster list
  $causeway probe http://checkout.shop.svc.clusterset.local:8080/ --dns $dns -n 50
  $kubectl --kubeconfig $run/east.kubeconfig -n shop delete endpointslice checkout-1
Ctrl-C stops everything.
TRY
else
  cat <<TRY
Try in another terminal:
  export CAUSEWAY_ADMIN_ADDR=$admin
  $causeway status
  $causeway vips --watch
  $causeway probe http://checkout.shop.svc.clusterset.local:8080/ --dns $dns -n 50
  dig @${dns%:*} -p ${dns#*:} +short checkout.shop.svc.clusterset.local
  curl http://$admin/debug/xds/nodes/gateway-1
Edit the clusters and watch it follow:
  $PWD/target/quickstart/clusters/east/checkout.yaml
Write a policy of your own: README.md says how, in Rust and in JavaScript.
Ctrl-C stops everything.
TRY
fi
while alive; do sleep 0.5; done
fail "a process ended by itself."
