#!/bin/sh
# Runs the gateway's own tests, on both drivers.
set -eu
cd "$(dirname "$0")"
./build.sh
jars="$(sed "s|lib/|$(pwd)/target/lib/|g" target/classpath)"
exec java -XX:TieredStopAtLevel=1 -Xmx1g -XX:SharedArchiveFile=target/gateway.jsa -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off \
    -cp "$jars:src:resources:test" clojure.main -e "
(require 'clojure.test)
(def names '[evalfleet.gateway.wire-test evalfleet.gateway.store-test evalfleet.gateway.http-test evalfleet.gateway.retention-test evalfleet.gateway.databases-test])
(apply require names)
(let [{:keys [fail error]} (apply clojure.test/run-tests names)]
  (System/exit (if (zero? (+ fail error)) 0 1)))"
