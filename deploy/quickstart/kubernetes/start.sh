# The quick start's part with API servers; read by deploy/quickstart.sh, whose variables and functions it uses.

say "kube-apiserver, etcd and kubectl (the first time they are built, which takes some minutes)"
binaries=$(./tests/apiserver/build.sh)
kubectl=$binaries/kubectl
say "starting three API servers: primary, east and west"
mkdir "$run/apiservers"
BIN=$binaries RUN=$run/apiservers ETCD_PORT=${QUICKSTART_ETCD_PORT:-12379} API_PORT=${QUICKSTART_API_PORT:-16443} \
  ./tests/apiserver/start.sh up 3
number=1
for cluster in "${clusters[@]}"; do
  cp "$run/apiservers/cluster$number.kubeconfig" "$run/$cluster.kubeconfig"
  number=$((number + 1))
done
on() { # cluster, kubectl's arguments...
  local cluster=$1
  shift
  "$kubectl" --kubeconfig "$run/$cluster.kubeconfig" "$@"
}

# Pods are ports of this machine's own address.
address=$(hostname -I | tr ' ' '\n' | grep -m1 -v : || true)
[ -n "$address" ] || fail "this machine has no IPv4 address besides loopback, which a pod of an API server needs."
port=${QUICKSTART_POD_PORT:-21080} backends=()
for cluster in "${clusters[@]}"; do
  on "$cluster" create namespace shop >>"$run/kubectl.log"
  deploy/quickstart/kubernetes/service.sh "$cluster" "$address" $port $((port + 1)) |
    on "$cluster" apply --server-side -f - >>"$run/kubectl.log"
  backends+=("checkout-$cluster-1=$port" "checkout-$cluster-2=$((port + 1))")
  port=$((port + 2))
done
deploy/quickstart/kubernetes/backends.sh "$address" "${backends[@]}" >"$run/backends.yaml"

say "installing Causeway's kinds, an address pool and an access to checkout"
"$causeway" crds | on primary apply --server-side -f - >>"$run/kubectl.log"
on primary wait --for=condition=Established --timeout=60s crd clusterinfos.causeway.dev clusteraccesses.causeway.dev vippools.causeway.dev >>"$run/kubectl.log"
on primary apply --server-side -f deploy/quickstart/kubernetes/primary.yaml >>"$run/kubectl.log"

say "starting the control plane on the primary"
start causeway "$causeway" serve --kubeconfig "$run/primary.kubeconfig" --data-dir "$run/data" \
  --xds-addr "$xds" --admin-addr "$admin" --dns-addr "$dns" --member-addr "$members"
wait_for 30 "the control plane to be ready" "$causeway" status

join() { # cluster, flags...
  local cluster=$1
  shift
  say "causeway cluster join $cluster $*"
  "$causeway" cluster join "$cluster" --kubeconfig "$run/primary.kubeconfig" --sub-kubeconfig "$run/$cluster.kubeconfig" \
    --network flat --region eu-1 --zone a "$@"
}
# The primary reads east, for which it has a credential; west has a manager of its own, which dials in and tells.
join east
join west --push --primary-address "$members" --data-dir "$run/data"
# As a pod of west is given it.
on west -n causeway-system get secret causeway-member -o 'jsonpath={.data.member\.yaml}' | base64 -d >"$run/member-west.yaml"
start member-west "$causeway" member --config "$run/member-west.yaml" --kubeconfig "$run/west.kubeconfig"
on primary wait --for=condition=Synced --timeout=30s clusterinfo/west >>"$run/kubectl.log" || fail "west's member did not tell what west has."

show_objects() {
  # The API server is told a moment after the gateways have proved it.
  on primary -n shop wait --for=condition=Published --timeout=30s clusteraccess/checkout >>"$run/kubectl.log"
  on primary get causeway -A
  echo
}
