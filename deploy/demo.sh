#!/usr/bin/env bash
# The main job, end to end, on real parts: `make demo` calls this when everything is built.
#
# Keeps its state in target/demo (EVALFLEET_STATE__DIR names another), and stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

export EVALFLEET_STATE__DIR="${EVALFLEET_STATE__DIR:-$PWD/target/demo}"
export EVALFLEET_IMAGES__DIR="${EVALFLEET_IMAGES__DIR:-$PWD/target/images}"
export EVALFLEET_QEMU__SNAPSHOT_DIR="${EVALFLEET_QEMU__SNAPSHOT_DIR:-$PWD/target/templates}"
# A job that meets a fault of ours is tried again soon, so that the demonstration is short.
export EVALFLEET_BROKER__RETRY_TIERS="${EVALFLEET_BROKER__RETRY_TIERS:-2s}"
evalfleet=target/debug/evalfleet

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
was_up=$("$evalfleet" status >/dev/null 2>&1 && echo yes || echo no)
stop() {
    if [ "$was_up" = no ]; then
        say "Stopping what was started"
        "$evalfleet" down
    fi
}
trap stop EXIT

say "1. The image that the VMs boot (built once, cached)"
"$evalfleet" image build base

say "2. The machine: broker, Datomic, recorder, API, one worker"
"$evalfleet" up --detach --workers 1

say "3. The past: result files of the REPL, with their own times"
"$evalfleet" history import tests/data/batches/*.json

say "4. Ten evaluations, submitted without waiting"
target/debug/examples/demo

say "How to go on"
cat <<EOF
The same state, from this folder:
    export EVALFLEET_STATE__DIR=$EVALFLEET_STATE__DIR
    export EVALFLEET_IMAGES__DIR=$EVALFLEET_IMAGES__DIR EVALFLEET_QEMU__SNAPSHOT_DIR=$EVALFLEET_QEMU__SNAPSHOT_DIR
    $evalfleet up --detach          # prints the API's address
    $evalfleet repl                 # call tools, results arrive when they are ready
    $evalfleet run -- sh -c 'echo hi > /workspace/a; rm /etc/hostname'
    $evalfleet query '[:find ?name (avg ?rate) :with ?c :where [?c :function-call/name ?name] [?c :function-call/success-rate ?rate]]'
    $evalfleet dead list
    $evalfleet down
EOF
