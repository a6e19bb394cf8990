#!/usr/bin/env bash
# Runs a command until its own standard input ends, which it does when whoever started this is gone, however it went.
#
#   supervise.sh LOGFILE COMMAND...
#
# Lines on standard input are signals to send, such as `STOP`, `CONT` or `KILL`.
log=$1
shift
"$@" </dev/null >>"$log" 2>&1 &
child=$!
while read -r signal; do kill -s "$signal" "$child" 2>/dev/null; done
kill -s CONT "$child" 2>/dev/null
kill -s KILL "$child" 2>/dev/null
wait "$child" 2>/dev/null
