#!/bin/sh
# Does without HTTP what the gateway does with it, for comparing (bench/README.md, `history`):
#   inside.sh record FILE UNCOUNTED   transacts the batches of a file, one on each line, into fresh databases, and times
#                                     all but the first
#   inside.sh ask STORAGE DB FILE N   asks the queries of a file, one on each line, N times, of a database that is there
# Prints one EDN map. Heap and JVM are the gateway's.
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
jars="$(sed "s|lib/|$here/target/lib/|g" "$here/target/classpath")"
exec java -XX:+UseParallelGC -XX:TieredStopAtLevel=1 -Xmx"${EVALFLEET_GATEWAY_HEAP:-2g}" -XX:+ExitOnOutOfMemoryError \
    -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Djava.awt.headless=true \
    -cp "$jars:$here/src:$here/resources" clojure.main "$here/bench/inside.clj" "$@"
