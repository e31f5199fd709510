#!/bin/sh
# Fill an empty installation: generated data, online features, a tuned model, and its promotion through the gates.
set -eu
data="$RAYSCORE_VAR_DIR/transactions"
[ -e "$data" ] || rayscore generate "$data" --rows 100000 --end today
rayscore materialize "$data"
rayscore tune --data "$data" --trials 20
rayscore promote
