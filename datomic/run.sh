#!/bin/sh
# Runs the gateway in the foreground; the process is the JVM itself. Arguments: see README.md.
# EVALFLEET_GATEWAY_HEAP bounds its heap (default 2g: some 40 000 evaluations in Datomic Local).
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
if [ ! -s "$here/target/classpath" ]; then
    echo "the gateway's jars are not here: run $here/build.sh" >&2
    exit 69
fi
jars="$(sed "s|lib/|$here/target/lib/|g" "$here/target/classpath")"
set -- -m evalfleet.gateway.main "$@"
set -- -cp "$jars:$here/src:$here/resources" clojure.main "$@"
if [ -s "$here/target/gateway.jsa" ]; then
    # Where it does not fit this JVM, the JVM goes without it, silently.
    set -- -XX:SharedArchiveFile="$here/target/gateway.jsa" -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off "$@"
fi
# Whoever starts it, it needs no privileges: root's are given up, for good.
if [ "$(id -u)" = 0 ]; then
    unprivileged="setpriv --no-new-privs --bounding-set=-all --inh-caps=-all"
else
    unprivileged=
fi
# The parallel collector gives up when it gets nowhere, so a query beyond the heap ends the process
# (its supervisor starts it again) rather than leave it crawling.
# shellcheck disable=SC2086
exec $unprivileged java -XX:+UseParallelGC -XX:TieredStopAtLevel=1 -Xmx"${EVALFLEET_GATEWAY_HEAP:-2g}" -XX:+ExitOnOutOfMemoryError \
    -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Djava.awt.headless=true "$@"
