# The quick start's part with API servers; read by deploy/quickstart.sh, whose variables and functions it uses.

say "kube-apiserver, etcd and kubectl (the first time they are built, which takes some minutes)"
binaries=$(./tests/apiserver/build.sh)
kubectl=$binaries/kubectl
# West is a cluster that nothing outside reaches: a host of its own that lets connections out and none in. It takes rights
# to make one, without which west is on this machine beside the rest.
in_west=() near=${QUICKSTART_WEST_NET:-198.19.255}.1 far=${QUICKSTART_WEST_NET:-198.19.255}.2
make_west_host() {
  local name=causeway-west-$$
  ip netns add "$name" || return 1
  west_host=$name in_west=(ip netns exec "$name")
  ip link add "cw-west-$$" type veth peer name eth0 netns "$name" &&
    ip addr add "$near/30" dev "cw-west-$$" &&
    ip link set "cw-west-$$" up &&
    "${in_west[@]}" ip link set lo up &&
    "${in_west[@]}" ip addr add "$far/30" dev eth0 &&
    "${in_west[@]}" ip link set eth0 up &&
    "${in_west[@]}" nft -f - <<'RULES'
table inet causeway {
  chain in {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
  }
}
RULES
}
if make_west_host 2>"$run/west-host.log"; then
  # Where its member finds the primary.
  members=$near:${members##*:}
else
  in_west=()
  say "west is on this machine like the rest: a host of its own takes root with CAP_NET_ADMIN, and the commands ip and nft"
fi

say "starting three API servers: primary, east and west"
api_port=${QUICKSTART_API_PORT:-16443} etcd_port=${QUICKSTART_ETCD_PORT:-12379}
api_servers() { # folder, how many, a prefix of the command...
  mkdir -p "$1"
  "${@:3}" env BIN="$binaries" RUN="$1" ETCD_PORT="$etcd_port" API_PORT="$api_port" ./tests/apiserver/start.sh up "$2"
}
if [ ${#in_west[@]} -gt 0 ]; then
  api_servers "$run/apiservers" 2
  # It listens at all of that host's addresses, so that nothing but the host keeps others out.
  EXTRA_APISERVER_FLAGS=--bind-address=0.0.0.0 api_servers "$run/apiservers-west" 1 "${in_west[@]}"
  mv "$run/apiservers-west/cluster1.kubeconfig" "$run/apiservers/cluster3.kubeconfig"
else
  api_servers "$run/apiservers" 3
fi
number=1
for cluster in "${clusters[@]}"; do
  cp "$run/apiservers/cluster$number.kubeconfig" "$run/$cluster.kubeconfig"
  number=$((number + 1))
done
on() { # cluster, kubectl's arguments...
  local cluster=$1 there=()
  shift
  if [ "$cluster" = west ]; then there=("${in_west[@]}"); fi
  "${there[@]}" "$kubectl" --kubeconfig "$run/$cluster.kubeconfig" "$@"
}
if [ ${#in_west[@]} -gt 0 ]; then
  if curl -ks -o /dev/null --max-time 1 "https://$far:$api_port/"; then fail "west is reached from outside."; fi
  "${in_west[@]}" curl -ks -o /dev/null --max-time 5 "https://$far:$api_port/" || fail "west's API server does not answer within west."
  say "west is on a host of its own, $far, that lets connections out and none in"
fi

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
  say "causeway cluster join $cluster ${*//$run\//}"
  "$causeway" cluster join "$cluster" --kubeconfig "$run/primary.kubeconfig" --network flat --region eu-1 --zone a "$@"
}
# The primary reads east, for which it has a credential; west has a manager of its own, which dials in and tells.
join east --sub-kubeconfig "$run/east.kubeconfig"
join west --push --primary-address "$members" --data-dir "$run/data" --out "$run/west.yaml"
# As the people of west would.
on west apply --server-side -f "$run/west.yaml" >>"$run/kubectl.log"
# As a pod of west is given it.
on west -n causeway-system get secret causeway-member -o 'jsonpath={.data.member\.yaml}' | base64 -d >"$run/member-west.yaml"
start member-west "${in_west[@]}" "$causeway" member --config "$run/member-west.yaml" --kubeconfig "$run/west.kubeconfig"
on primary wait --for=condition=Synced --timeout=30s clusterinfo/west >>"$run/kubectl.log" || fail "west's member did not tell what west has."

show_objects() {
  # The API server is told a moment after the gateways have proved it.
  on primary -n shop wait --for=condition=Published --timeout=30s clusteraccess/checkout >>"$run/kubectl.log"
  on primary get causeway -A
  echo
}
