#!/bin/sh
# Sums up the log of one target: summary.sh NAME SEEDS < LOG.
awk -v name="$1" -v seeds="$2" '
    /^Done/ { runs = $2; seconds = $5 }
    / cov: / { for (at = 1; at < NF; at++) { if ($at == "cov:") cov = $(at + 1); if ($at == "corp:") inputs = $(at + 1) } }
    /^stat::average_exec_per_sec/ { rate = $2 }
    /^stat::slowest_unit_time_sec/ { slowest = $2 }
    /^stat::peak_rss_mb/ { memory = $2 }
    END {
        sub("/.*", "", inputs)
        printf "%s: %d runs in %d s, %d a second; %d seeds became %d inputs; %d edges covered; " \
            "slowest run %d s, peak memory %d MiB; nothing found\n", \
            name, runs, seconds, rate, seeds, inputs, cov, slowest, memory
    }'
