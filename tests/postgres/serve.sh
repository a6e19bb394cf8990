#!/usr/bin/env bash
# Makes a PostgreSQL server's folder and runs the server in it until its own standard input ends, which it does when
# whoever started this is gone, however it went. Then the folder is removed.
#
#   serve.sh BIN DIR ADDRESS PORT PASSWORD [NAMESPACE]
#
# NAMESPACE is a network namespace of this machine, which the address belongs to. DIR/ca.crt is who vouches for the
# server's certificate, where TLS is asked for.
#
# Lines on standard input are commands, each answered by a line: `start`, `stop` (as an operator would), `crash` (all
# its processes are killed), `freeze` and `thaw` (they are there, and answer nobody).
set -u
bin=$1 dir=$2 address=$3 port=$4 password=$5 namespace=${6:-}
as=()
if [ "$(id -u)" = 0 ]; then
  # The server refuses to run as root.
  [ -n "$namespace" ] && as=(ip netns exec "$namespace")
  as+=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chown postgres "$dir"
fi
log=$dir/server.log
printf '%s' "$password" >"$dir/password" && chmod 644 "$dir/password"
cd "$dir" || exit 1
"${as[@]}" "$bin/initdb" --pgdata="$dir/data" --username=causeway --auth=scram-sha-256 --pwfile="$dir/password" \
  --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -f "$dir/password"
{
  echo "host all all 0.0.0.0/0 scram-sha-256" >>"$dir/data/pg_hba.conf"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=the tests' authority" \
    -keyout "$dir/ca.key" -out "$dir/ca.crt"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=postgres" \
    -keyout "$dir/data/server.key" -out "$dir/server.csr"
  openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
    -extfile <(echo "subjectAltName=IP:$address") -out "$dir/data/server.crt"
  chown --reference="$dir/data" "$dir/data/server.key" "$dir/data/server.crt" && chmod 600 "$dir/data/server.key"
} >>"$log" 2>&1 || { cat "$log" >&2; exit 1; }

server=
# The server and its children, each of which leads a session of its own.
processes() { echo "$server"; cat "/proc/$server/task/$server/children" 2>/dev/null; }
send() { local pid; for pid in $(processes); do kill -s "$1" "$pid" 2>/dev/null; done; }
start() {
  # Test data: no flush for each write. What is killed is processes, not the machine.
  "${as[@]}" "$bin/postgres" -D "$dir/data" -k "$dir" -p "$port" -c "listen_addresses=$address" -c ssl=on -c fsync=off \
    -c max_connections=200 -c shared_buffers=32MB -c dynamic_shared_memory_type=mmap </dev/null >>"$log" 2>&1 &
  server=$!
}
stop() { kill -s INT "$server" 2>/dev/null; wait "$server" 2>/dev/null; }
while read -r command; do
  case "$command" in
    start) start ;;
    stop) stop ;;
    crash) send KILL; wait "$server" 2>/dev/null ;;
    freeze) send STOP ;;
    thaw) send CONT ;;
  esac
  echo "$command"
done
send CONT
stop
rm -rf "$dir"
