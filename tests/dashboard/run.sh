#!/usr/bin/env bash
# The dashboard in a real browser, and the API against its own description: `make test-dashboard` calls this
# when everything is built, `make test` the second half. Installs what is missing: a Chromium, Node's packages,
# schemathesis.
#
# SHOTS=FOLDER takes the README's pictures as well; ONLY=pages or ONLY=api runs one half. ASSETS=insight/dashboard takes the
# pages' files from there, without a build. ONLY=bench runs neither, but
# measures how soon pages are there: `make bench-pages` calls it so, with how many evaluations and how many rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
only="${ONLY:-all}"
# Pinned: what a newer one finds is news for whoever updates it, and no reason for others' tests to fail.
schemathesis=4.32.5

need() {
    command -v "$1" >/dev/null && return
    echo "$1 is missing: installing Debian's $2"
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get install --yes --quiet --no-install-recommends "$2"
}

browser() {
    need node nodejs
    need npm npm
    if [ -z "${CHROMIUM:-}" ]; then
        need chromium chromium
        CHROMIUM="$(command -v chromium)"
    fi
    export CHROMIUM PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
    npm ci --prefix tests/dashboard --no-audit --no-fund --silent
}

pages() {
    browser
    (cd tests/dashboard && npx playwright test "$@")
}

api() {
    python3 -c 'import ensurepip' 2>/dev/null || { echo "python3-venv is missing: run deploy/setup.sh"; exit 69; }
    local dir=target/schemathesis-$schemathesis
    local tool=$dir/bin/schemathesis
    [ -x "$tool" ] || { python3 -m venv "$dir" && "$dir/bin/pip" install --quiet "schemathesis==$schemathesis"; }
    # The stage lives as long as its input is open.
    coproc STAGE { STAGE_EVALUATIONS=200 target/debug/dashboard-stage; }
    local pid=$STAGE_PID out=${STAGE[0]} in=${STAGE[1]} line
    read -r -u "$out" line
    local url token
    url="$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["url"])' "$line")"
    token="$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["token"])' "$line")"
    local failed=0
    # Streams do not end, and a rebuild makes what else is asked wait. What a schema cannot say (a moment, a
    # selector, Datalog) may well be refused though the schema admits it.
    "$tool" --config-file tests/dashboard/schemathesis.toml run "$url/openapi.json" --header "Authorization: Bearer $token" --max-examples "${EXAMPLES:-15}" --seed 1 \
        --exclude-path /v1/events --exclude-path /v1/projection/rebuild --request-timeout 30 --checks all \
        --exclude-checks ignored_auth,positive_data_acceptance || failed=$?
    exec {in}>&-
    wait "$pid" || true
    return "$failed"
}

if [ "$only" = bench ]; then
    browser >&2
    exec node tests/dashboard/measure.mjs "$@"
fi
[ "$only" = api ] || pages "$@"
[ "$only" = pages ] || api
