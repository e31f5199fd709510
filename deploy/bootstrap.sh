#!/bin/sh
# Fill an empty installation: generated data, online features, a tuned model, and its promotion through the gates.
set -eu
data="$RAYSCORE_VAR_DIR/transactions"
[ -e "$data" ] || python -m data generate "$data" --rows 100000 --end today
python -m data materialize "$data"
python -m tune --data "$data" --trials 20
python -m tune promote
