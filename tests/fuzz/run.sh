#!/bin/sh
# Fuzzes every target, or those that are named, for FUZZ_SECONDS (600) each; whatever it finds is in
# tests/fuzz/artifacts, and the exit status is not 0. bench/results/fuzz.txt says of each how it went last. The corpus
# grows in target/fuzz/corpus; what is in the repository are its seeds.
#
# The targets are in cargo-fuzz's layout, but cargo-fuzz wants a nightly compiler. The same instrumentation is had from
# a stable one: coverage is LLVM's and needs no more than flags. There is no address sanitizer then, and nothing here for
# it to find: the readers have no unsafe code.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
seconds=${FUZZ_SECONDS:-600}
target=x86_64-unknown-linux-gnu
work=$root/target/fuzz
command -v c++ > /dev/null || { echo "fuzz: libFuzzer is C++, and there is no c++ (Debian: package g++)" >&2; exit 69; }
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
 -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
CARGO_TARGET_DIR=$work RUSTFLAGS=$(echo "$flags" | tr -d '\n') \
    cargo build --locked --quiet --release --target "$target" --bin disk --bin frames --bin guard --bin network
report=$root/bench/results/fuzz.txt
host="$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(rustc -V | cut -d' ' -f1,2)"
for name in ${*:-disk frames guard network}; do
    mkdir -p "$work/corpus/$name" "artifacts/$name"
    log=$work/$name.log
    echo "fuzz: $name for $seconds s; $log tells how it goes" >&2
    nice "$work/$target/release/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 \
        -max_len=65536 -print_final_stats=1 -artifact_prefix="artifacts/$name/" "$work/corpus/$name" "corpus/$name" \
        > "$log" 2>&1 || { tail -n 40 "$log" >&2; echo "fuzz: $name: see tests/fuzz/artifacts/$name" >&2; exit 1; }
    { ./summary.sh "$name" "$(ls "corpus/$name" | wc -l)" < "$log"; echo "    $(date -u '+%Y-%m-%d %H:%M UTC'), $host"; } | tee "$work/$name.said"
    # What was said of the others stays.
    {
        echo "fuzz: the readers of what VMs say and leave, and the guard of questions (make fuzz)"
        for other in disk frames guard network; do
            if [ "$other" = "$name" ]; then cat "$work/$name.said"; else grep -A 1 "^$other: " "$report" || true; fi
        done
    } > "$work/report"
    cp "$work/report" "$report"
done
