#!/usr/bin/env bash
# Makes a PostgreSQL server's folder and runs the server in it until its own standard input ends, which it does when
# whoever started this is gone, however it went. Then the folder is removed.
#
#   serve.sh BIN DIR PORT PASSWORD
#
# Lines on standard input are commands, each answered by a line: `start`, `stop` (as an operator would), `crash` (all
# its processes are killed), `freeze` and `thaw` (they are there, and answer nobody).
set -u
bin=$1 dir=$2 port=$3 password=$4
as=()
if [ "$(id -u)" = 0 ]; then
  # The server refuses to run as root.
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chown postgres "$dir"
fi
log=$dir/server.log
printf '%s' "$password" >"$dir/password" && chmod 644 "$dir/password"
cd "$dir" || exit 1
"${as[@]}" "$bin/initdb" --pgdata="$dir/data" --username=causeway --auth=scram-sha-256 --pwfile="$dir/password" \
  --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -f "$dir/password"

server=
# The server and its children, each of which leads a session of its own.
processes() { echo "$server"; cat "/proc/$server/task/$server/children" 2>/dev/null; }
send() { local pid; for pid in $(processes); do kill -s "$1" "$pid" 2>/dev/null; done; }
start() {
  # Test data: no flush for each write. What is killed is processes, not the machine.
  "${as[@]}" "$bin/postgres" -D "$dir/data" -k "$dir" -p "$port" -c listen_addresses=127.0.0.1 -c fsync=off \
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
