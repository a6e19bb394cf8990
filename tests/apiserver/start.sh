#!/usr/bin/env bash
# Starts one etcd and N real Kubernetes API servers ("clusters") on loopback.
# Nothing else runs: no kubelet, scheduler, controller manager or kube-proxy.
#
# For people and the quick start; the tests start theirs one by one (tests/it/support/apiserver.rs).
#
#   ./start.sh up [N]    start (default 2 clusters), wait for /readyz, print where
#   ./start.sh status    pid, RSS and port of each process
#   ./start.sh down      stop them all, by pid, and wait until they are gone
#
# Written under $RUN (default ./run; put it on tmpfs for less disk work):
#   cluster1.kubeconfig, cluster2.kubeconfig, ...  admin (group system:masters)
#   *.log, *.pid, certs/, tokens.csv, etcd/
#
# Environment: BIN (what build.sh prints), RUN, ETCD_PORT (12379; peers on +1), API_PORT (16443 for
# cluster1, +1 for each further one), AUTHZ (RBAC or AlwaysAllow),
# EXTRA_APISERVER_FLAGS.
# Needs: bash, openssl (one key), curl. Every `up` starts from an empty etcd.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
BIN="${BIN:-$("$here/build.sh")}"
RUN="${RUN:-$here/run}"
ETCD_PORT="${ETCD_PORT:-12379}"
API_PORT="${API_PORT:-16443}"
AUTHZ="${AUTHZ:-RBAC}"
EXTRA_APISERVER_FLAGS="${EXTRA_APISERVER_FLAGS:-}"
TOKEN="${TOKEN:-admin-token}" # loopback-only test servers: no secret
WAIT_S="${WAIT_S:-120}"

die() { echo "start.sh: $*" >&2; exit 1; }
now() { date +%s%N; }

# alive NAME: is the process in NAME.pid ours and running? (A pid can be reused.)
alive() {
  local pid
  pid="$(cat "$RUN/$1.pid" 2>/dev/null)" || return 1
  case "$(readlink "/proc/$pid/exe" 2>/dev/null)" in
    */etcd | */kube-apiserver | */etcd\ \(deleted\) | */kube-apiserver\ \(deleted\)) return 0 ;;
  esac
  return 1
}

# spawn NAME COMMAND...: in the background, detached from this shell
spawn() {
  local name="$1"
  shift
  # setsid without --fork execs in place, so $! is the server's own pid.
  setsid "$@" </dev/null >"$RUN/$name.log" 2>&1 &
  echo $! >"$RUN/$name.pid"
}

# wait_ok NAME CURL-ARGS...: until the URL answers 2xx, or the process is gone
wait_ok() {
  local name="$1" t0
  shift
  t0="$(now)"
  while ! curl -fsS -o /dev/null --max-time 2 "$@" 2>/dev/null; do
    # The pid is setsid's for an instant before the exec: only a pid that no
    # longer exists counts as gone.
    kill -0 "$(cat "$RUN/$name.pid")" 2>/dev/null || { tail -20 "$RUN/$name.log" >&2; die "$name exited"; }
    (( $(now) - t0 < WAIT_S * 1000000000 )) || { tail -20 "$RUN/$name.log" >&2; die "$name: not ready in $WAIT_S s"; }
    sleep 0.05
  done
}

up() {
  local n="${1:-2}" i port t0 t1
  [[ -x "$BIN/etcd" && -x "$BIN/kube-apiserver" ]] || die "no binaries in $BIN: run build.sh"
  for p in "$RUN"/*.pid; do
    [[ -e $p ]] && alive "$(basename "$p" .pid)" && die "already running ($p): ./start.sh down first"
  done
  rm -rf "$RUN/etcd" "$RUN/certs" "$RUN"/*.{pid,log,kubeconfig}
  mkdir -p "$RUN/certs"

  # One signing key for service account tokens, shared by all clusters; the
  # issuers differ, so a token of one cluster is not valid on another. The
  # serving certificates are made by the API servers themselves (--cert-dir).
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$RUN/certs/sa.key" 2>/dev/null
  echo "$TOKEN,admin,admin,\"system:masters\"" >"$RUN/tokens.csv"

  t0="$(now)"
  # --unsafe-no-fsync: test data, so no fsync per write. Both URLs of each pair
  # are needed or etcd refuses to start; peers are never used.
  spawn etcd "$BIN/etcd" --name=test --data-dir="$RUN/etcd" \
    --listen-client-urls="http://127.0.0.1:$ETCD_PORT" \
    --advertise-client-urls="http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-advertise-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-cluster="test=http://127.0.0.1:$((ETCD_PORT + 1))" \
    --unsafe-no-fsync --log-level=warn
  wait_ok etcd "http://127.0.0.1:$ETCD_PORT/health"
  alive etcd || die "something else answers on port $ETCD_PORT"
  t1="$(now)"
  echo "etcd ready in $(((t1 - t0) / 1000000)) ms"

  # All API servers start at once; on few cores that is no faster than one by one.
  t0="$(now)"
  for ((i = 1; i <= n; i++)); do
    port=$((API_PORT + i - 1))
    curl -ks -o /dev/null --max-time 1 "https://127.0.0.1:$port/" && die "port $port is taken"
    # shellcheck disable=SC2086
    spawn "cluster$i" "$BIN/kube-apiserver" \
      --etcd-servers="http://127.0.0.1:$ETCD_PORT" --etcd-prefix="/cluster$i" \
      --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$port" \
      --cert-dir="$RUN/certs/cluster$i" \
      --token-auth-file="$RUN/tokens.csv" --authorization-mode="$AUTHZ" \
      --service-account-issuer="https://cluster$i.test" \
      --service-account-key-file="$RUN/certs/sa.key" \
      --service-account-signing-key-file="$RUN/certs/sa.key" \
      --disable-admission-plugins=ServiceAccount \
      --service-cluster-ip-range="10.$((95 + i)).0.0/16" \
      --endpoint-reconciler-type=none \
      --allow-privileged=true \
      $EXTRA_APISERVER_FLAGS
  done
  for ((i = 1; i <= n; i++)); do
    port=$((API_PORT + i - 1))
    wait_ok "cluster$i" -k -H "Authorization: Bearer $TOKEN" "https://127.0.0.1:$port/readyz"
    t1="$(now)"
    alive "cluster$i" || die "something else answers on port $port"
    # apiserver.crt holds the leaf and the CA that signed it, so it serves as
    # the client's CA file. SANs: 127.0.0.1, kubernetes.default, ..., not localhost.
    cat >"$RUN/cluster$i.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: cluster$i
  cluster:
    server: https://127.0.0.1:$port
    certificate-authority-data: $(base64 -w0 "$RUN/certs/cluster$i/apiserver.crt")
users:
- name: admin
  user:
    token: $TOKEN
contexts:
- name: cluster$i
  context: {cluster: cluster$i, user: admin, namespace: default}
current-context: cluster$i
YAML
    echo "cluster$i ready in $(((t1 - t0) / 1000000)) ms: $RUN/cluster$i.kubeconfig"
  done
}

names() { # API servers first: etcd must go last
  local p
  for p in "$RUN"/cluster*.pid "$RUN"/etcd.pid; do
    if [[ -e $p ]]; then basename "$p" .pid; fi
  done
}

status() {
  local n pid
  for n in $(names); do
    pid="$(cat "$RUN/$n.pid")"
    if alive "$n"; then
      echo "$n pid $pid RSS $(awk '/^VmRSS/{print $2}' "/proc/$pid/status") kB peak $(awk '/^VmHWM/{print $2}' "/proc/$pid/status") kB"
    else
      echo "$n pid $pid not running"
    fi
  done
}

down() {
  local n pid i t0
  t0="$(now)"
  # All API servers get SIGTERM together, then etcd.
  for group in 'cluster*' etcd; do
    for p in "$RUN"/$group.pid; do
      [[ -e $p ]] || continue
      n="$(basename "$p" .pid)"
      if alive "$n"; then kill -TERM "$(cat "$p")"; fi
    done
    for p in "$RUN"/$group.pid; do
      [[ -e $p ]] || continue
      n="$(basename "$p" .pid)"
      for ((i = 0; i < 300; i++)); do
        alive "$n" || break
        sleep 0.1
      done
      if alive "$n"; then
        echo "$n did not stop in 30 s: SIGKILL" >&2
        kill -KILL "$(cat "$p")"
      fi
      rm -f "$p"
    done
  done
  echo "stopped in $((($(now) - t0) / 1000000)) ms"
}

case "${1:-}" in
  up) up "${2:-2}" ;;
  status) status ;;
  down) down ;;
  *) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
