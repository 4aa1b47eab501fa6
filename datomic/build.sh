#!/bin/sh
# Fetches the gateway's jars and builds its class archive. Does only what is missing or out of date.
#
#   target/lib        jars named by pom.xml
#   target/classpath  the same, in the order that works, relative to target/
#   target/gateway.jsa  classes of Clojure and Datomic, mapped at start instead of parsed (optional)
set -eu
cd "$(dirname "$0")"

if [ -s target/classpath ] && [ target/classpath -nt pom.xml ]; then
    echo "jars: up to date"
else
    echo "jars: fetching with Maven"
    rm -rf target/lib target/classpath target/gateway.jsa
    mkdir -p target
    mvn -q -B dependency:copy-dependencies -DoutputDirectory=target/lib \
        dependency:build-classpath -Dmdep.outputFile=target/classpath.new -Dmdep.prefix=lib -Dmdep.fileSeparator=/
    # Last, so that an interrupted fetch is fetched again.
    mv target/classpath.new target/classpath
    echo "jars: $(ls target/lib | wc -l) in target/lib"
fi

# The archive holds for one JVM and one place of the jars.
here="$(java -version 2>&1 | tr '\n' ' ') $(pwd)"
if [ -s target/gateway.jsa ] && [ target/gateway.jsa -nt target/classpath ] && [ "$(cat target/gateway.jsa.for 2>/dev/null)" = "$here" ]; then
    echo "class archive: up to date"
else
    echo "class archive: building (once)"
    rm -f target/gateway.jsa target/gateway.jsa.for
    jars="$(sed "s|lib/|$(pwd)/target/lib/|g" target/classpath)"
    if java -XX:+UseParallelGC -XX:ArchiveClassesAtExit=target/gateway.jsa -XX:TieredStopAtLevel=1 -Xlog:cds=off -Xlog:cds+dynamic=off \
        -cp "$jars" clojure.main warm.clj >target/archive.log 2>&1 && [ -s target/gateway.jsa ]; then
        printf '%s' "$here" >target/gateway.jsa.for
        echo "class archive: $(du -h target/gateway.jsa | cut -f1)"
    else
        echo "class archive: not built, the gateway starts without it (see target/archive.log)"
    fi
fi
