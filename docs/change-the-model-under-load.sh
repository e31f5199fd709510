#!/usr/bin/env bash
# Another version of the model takes over while requests come in, replicas are killed meanwhile, and it is taken back.
# Every command is one that a user types. At the end `python -m benchmarks.proof` holds what clients were told against
# the registry; the exit code is 1 when anything failed. RPS sets the load (default 150 requests/s).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/rayscore ] || make install
PATH="$PWD/.venv/bin:$PATH"

mkdir -p var
story=$(mktemp -d "$PWD/var/story.XXXXXX")
url_port=$(python -c 'from ray_app.environment.ports import free_port; print(free_port())')
unset RAY_ADDRESS
export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1 RAY_AUTH_MODE=disabled COLUMNS=120
export RAYSCORE_USE_CASE="$PWD/benchmarks/workloads/sent_cards.toml"
export RAYSCORE_VAR_DIR="$story/var" RAYSCORE_HTTP_PORT="$url_port" RAYSCORE_ADMIN_TOKEN="story-$RANDOM$RANDOM$RANDOM"
export RAYSCORE_GATEWAY_MIN_REPLICAS=2 RAYSCORE_GATEWAY_MAX_REPLICAS=2 RAYSCORE_FEATURE_MAX_REPLICAS=1
export RAYSCORE_MODEL_MIN_REPLICAS=2 RAYSCORE_MODEL_MAX_REPLICAS=2
# A kill is to cost time and no answer, on a machine of two cores that also makes the load.
export RAYSCORE_REQUEST_TIMEOUT_MS=10000 RAYSCORE_PREDICTION_LOG_SHARE=1
url="http://127.0.0.1:$url_port"
table="$story/transactions.parquet"

say() { printf '\n== %3d s: %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

# show COMMAND...: as one would type it.
show() {
  local word
  printf '$'
  for word in "${@//"$RAYSCORE_ADMIN_TOKEN"/\$RAYSCORE_ADMIN_TOKEN}"; do
    case $word in
      *\$*) printf ' "%s"' "$word" ;;
      *[!a-zA-Z0-9_./:=%,-]*) printf " '%s'" "$word" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
}

# run NAME COMMAND...: show it, carry it out, and note when it was given.
run() {
  local name=$1 at; shift
  show "$@"
  at=$(date +%s.%N)
  "$@"
  printf '{"name": "%s", "at": %s, "done": %s}\n' "$name" "$at" "$(date +%s.%N)" >> "$story/events.jsonl"
}

admin() { curl -sS --fail-with-body -H "authorization: Bearer $RAYSCORE_ADMIN_TOKEN" "$url/admin/$1" ${2:+-d "$2"}; }

# change NAME ACTION BODY: ask the admin API.
change() {
  run "$1" curl -sS --fail-with-body -w '\n' -H "authorization: Bearer $RAYSCORE_ADMIN_TOKEN" "$url/admin/$2" -d "$3"
}

# wait_until SECONDS EXPRESSION: until it is true of the status `s` that the admin API shows.
wait_until() {
  local end=$((SECONDS + $1)) look='import json, sys; s = json.load(sys.stdin); sys.exit(not eval(sys.argv[1]))'
  until admin status 2>/dev/null | python -c "$look" "$2" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || { tail -20 "$story/serve.log"; fail "the service has ended"; }
    [ $SECONDS -lt $end ] || fail "waited $1 s for $2"
    sleep 0.2
  done
}

# The processes of this story, all or those with a word in their command line: they carry its folder in the environment.
processes() {
  local entry
  for entry in /proc/[0-9]*; do
    if [ "${entry#/proc/}" != $$ ] && grep -qazF "RAYSCORE_VAR_DIR=$RAYSCORE_VAR_DIR" "$entry/environ" 2>/dev/null &&
      grep -qaF "${1:-}" "$entry/cmdline" 2>/dev/null; then echo "${entry#/proc/}"; fi
  done
}

# kill_one NAME: kill -9 a replica of a deployment.
kill_one() {
  local victim
  victim=$(processes "ServeReplica:default:$1")
  victim=${victim%%$'\n'*}
  [ -n "$victim" ] || fail "no replica of $1"
  run "kill -9 of $1" kill -9 "$victim"
}

# What a script runs in the background ignores Ctrl-C and its signal; the service is to end by it as it does for a user.
interruptible() {
  local heed='import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])'
  exec python -c "$heed" "$@"
}

server='' load=''
finish() {
  local code=$? pid
  trap '' INT TERM
  [ -z "$load" ] || kill -INT "$load" 2>/dev/null || true
  [ -z "$server" ] || kill -INT "$server" 2>/dev/null || true
  for _ in $(seq 150); do
    [ -n "$(processes)" ] || break
    sleep 0.2
  done
  for pid in $(processes); do kill -9 "$pid" 2>/dev/null || true; done
  # The shell tells of a background process that ended by a signal, unless it was waited for.
  wait 2>/dev/null || true
  [ $code -eq 0 ] || printf '\nended with exit code %s; what there is of it is in %s\n' "$code" "$story"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "two versions of a model"
run generate rayscore generate "$table" --rows 50000 --entities 2000 --end today
run "tune 1" rayscore tune --data "$table" --trials 3 --seed 1
run "promote 1" rayscore promote 1
run materialize rayscore materialize "$table"
run "tune 2" rayscore tune --data "$table" --trials 3 --seed 2

say "serve, and ask for ${RPS:=150} predictions a second from here on"
show serve run ray_app:graph
interruptible serve run ray_app:graph > "$story/serve.log" 2>&1 &
server=$!
ready_by=$((SECONDS + 180))
until curl -sf -o /dev/null "$url/ready"; do
  kill -0 $server 2>/dev/null || { tail -20 "$story/serve.log"; fail "the service has ended"; }
  [ $SECONDS -lt $ready_by ] || fail "the service is not ready"
  sleep 0.5
done
wait_until 60 's["control"]["settled"] and len(s["replicas"]) == 4'
command=(rayscore loadtest --url "$url" --rps "$RPS" --duration 900 --warmup 0 --timeout 15 --slo errors=0)
command+=(--mix "$table" --out "$story/load")
show "${command[@]}"
"${command[@]}" > "$story/load.log" 2>&1 &
load=$!

say "version 2 answers nobody, but whoever asks for it by name: is it served as it was trained?"
change "version 2 by name" weight '{"version": "2", "weight": 0}'
run "skew proof" rayscore skew 2 --url "$url" --rate 1000

say "version 2 listens in"
change "version 2 as shadow" weight '{"version": "2", "weight": 100, "mode": "shadow"}'
wait_until 90 's["shadows"] and s["shadows"][0]["rows"] >= 1000'
admin status | python -c 'import json, sys; print(json.load(sys.stdin)["shadows"][0]["text"])'

# Quick searches end at trees of other sizes, whose scores lie elsewhere while decisions agree: drift is not judged.
say "version 2 answers few, then more, then all; meanwhile a model replica and Control are killed"
run "rollout" rayscore rollout start 2 --steps 5,25,100 --hold 8s --min-requests 50 --slo p99=2s,drift=off
kill_one Model
wait_until 60 's["rollout"]["weight"] == 25'
before=$(admin status | python -c 'import json, sys; print(json.load(sys.stdin)["control"]["name"])')
kill_one Control
wait_until 60 "s['control']['name'] != '$before' and s['control']['settled']"
wait_until 120 's["rollout"]["state"] == "done" and s["rollout"]["weight"] == 100'
run "status" rayscore rollout status

say "through the gates, skew proof included: version 2 becomes the champion"
run "promote 2" rayscore promote 2 --skew-proof "$url" --rate 1000
wait_until 30 's["rules"]["champion"] == "2"'

say "back to version 1, by one command"
run "rollback" rayscore rollout rollback
wait_until 30 's["rules"]["champion"] == "1" and not s["rules"]["challengers"]'

say "there and back again by the admin API"
change "all to version 2" weight '{"version": "2", "weight": 100}'
sleep 3
run "rollback --url" rayscore rollout rollback --url "$url"
sleep 3
wait_until 60 'not s["registry"]["owed"] and len(s["replicas"]) == 4'

kill -INT "$load"
code=0; wait "$load" || code=$?
load=''
# Interrupted, it reports what it has measured so far.
[ $code -eq 130 ] || { tail -20 "$story/load.log"; fail "the load test ended with $code"; }
# What was answered last is on disk after the next flush.
sleep 3

say "the proof"
python -m benchmarks.proof "$story"
say "all of it is in $story"
