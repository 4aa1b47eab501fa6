#!/bin/sh
# The figures that evalfleet is held to, beside what bench/results/ has of each: a table in Markdown.
#
#   figures.sh            print it
#   figures.sh --write    put it, the table of resets and the recorded dialogue into the README; whatever writes a
#                         result ends with that
set -eu
cd "$(dirname "$0")/results"

# Puts standard input into the README, between its comments of that name.
splice() {
    awk -v name="$1" '
        FILENAME == "-" { new = new $0 "\n"; next }
        $0 == "<!-- end of " name " -->" { skip = 0 }
        !skip
        $0 == "<!-- " name " -->" { printf "%s", new; skip = 1 }
    ' - ../../README.md > ../../README.md.new
    mv ../../README.md.new ../../README.md
}

if [ "${1:-}" = --write ]; then
    ../figures.sh | splice figures
    { echo '```text'; sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' reset.txt; echo '```'; } | splice resets
    { echo '```text'; cat ../../producer/dialogue.txt; echo '```'; } | splice dialogue
    exit
fi

# figure FILE 'LINE': the number after a line's name. row FILE 'LINE': the median of a row of times.
figure() { [ ! -e "$1" ] || sed -n "s|^$2: \([0-9.]*\).*|\1|p" "$1" | tail -1; }
row() { [ ! -e "$1" ] || awk -v name="$2" 'index($0, name) == 1 { split(substr($0, length(name) + 1), columns, " "); print columns[2]; exit }' "$1"; }

# line 'WHAT' BAR UNIT FOUND FILE: BAR is `<= N` or `>= N`.
line() {
    what=$1 bar=$2 unit=$3 found=$4 file=$5
    reached=$(awk -v bar="$bar" -v found="$found" 'BEGIN {
        split(bar, parts, " ")
        print found == "" ? "not measured" : (parts[1] == "<=" ? found + 0 <= parts[2] + 0 : found + 0 >= parts[2] + 0) ? "yes" : "**no**"
    }')
    echo "| $what | $(echo "$bar" | sed 's/<=/≤/; s/>=/≥/') $unit | ${found:-?} | $reached | [$file](/bench/results/$file) |"
}

spare='clone, spare ready'
echo '| figure | to reach | measured | reached | table |'
echo '|---|---|---|---|---|'
line 'a job taken to its first command'"'"'s result, spare ready, against a bare exec in a guest that runs' '<= 1.3' 'times' \
    "$(figure reset.txt "$spare / no reset, in a guest that runs, of medians")" reset.txt
line 'the same against `snapshot-load` in one QEMU' '>= 30' 'times faster' \
    "$(figure reset.txt "snapshot-load, the same QEMU / $spare, of medians")" reset.txt
line 'a spare of 2 GiB against one of 512 MiB' '<= 1.3' 'times' \
    "$(figure reset.txt "$spare, four times the memory / $spare, of medians")" reset.txt
line 'private memory of an idle spare, 4M for translations' '<= 32' 'MiB' \
    "$(figure reset.txt 'private memory of an idle spare, 4M for translations')" reset.txt
line 'no-op jobs a second and core, against a loop of `snapshot-load`' '>= 5' 'times' \
    "$(figure pace.txt 'a worker / snapshot-load loop, jobs a second and core')" pace.txt
line 'effects of a job of 100 operations, from `sync` to the list' '<= 60' 'ms' \
    "$(row effects.txt '100 operations: flush to list')" effects.txt
line 'effects of a job that touched nothing' '<= 25' 'ms' \
    "$(row effects.txt 'nothing touched: flush to list')" effects.txt
line 'output out of the guest' '>= 40' 'MiB/s' "$(figure stream.txt '256 MiB, by the median')" stream.txt
line 'marks that 10,000 jobs found of earlier ones' '<= 0' '' "$(figure soak.txt 'marks of earlier jobs found')" soak.txt
line 'jobs lost or recorded twice, all parts killed with -9, on two RabbitMQs' '<= 0' '' \
    "$([ ! -e crash.txt ] || awk '/^(lost|recorded twice) / { sum += $NF; seen++ } END { if (seen >= 4) print sum }' crash.txt)" crash.txt
line 'no confirm after the death of the queue'"'"'s leader, the election of the next included, the worse of the medians' '<= 2' 's' \
    "$([ ! -e crash.txt ] || sed -n 's/^ *\([0-9.]*\) s median, .*/\1/p' crash.txt | sort -g | tail -1)" crash.txt
line '`submit_many`, 1 KB, against lapin alone that sends one such message over and over, 1,000 under way' '>= 90' '%' \
    "$(figure submit.txt "submit_many, of lapin's rate with a window, median of pairs")" submit.txt
line '`submit_many` against one at a time' '>= 10' 'times' \
    "$(figure submit.txt 'submit_many against one at a time, median of pairs')" submit.txt
line 'a no-op job through the queue, one at a time' '<= 5' 'ms' "$(figure queue.txt 'one at a time, p50')" queue.txt
line 'a million jobs queued: the slowest tenth'"'"'s rate against the first' '>= 0.9' 'times' \
    "$(figure backlog.txt 'the slowest tenth against the first')" backlog.txt
line '`dead list --where`, first page of 100,000 letters' '<= 200' 'ms' \
    "$(row history.txt 'dead letters, of a tool and an error')" history.txt
line 'simulated schedules a minute, on one core' '>= 1000' '' "$([ ! -e simulation.txt ] || sed -n 's/.* schedules, \([0-9]*\) a minute.*/\1/p' simulation.txt)" simulation.txt
line 'pages out of 100,000 evaluations, the slowest' '<= 5' 'ms' \
    "$(for page in 'overview ' 'timeline ' 'evaluations, first page' 'evaluations, of a tool and failed' 'tools ' 'a tool, with its series' 'models '; do
        row history.txt "$page"; done | sort -g | tail -1)" history.txt
line 'first paint of a page, 100,000 evaluations, headless Chromium with nothing kept, the slowest page' '<= 300' 'ms' \
    "$(figure pages.txt "first paint, the slowest page's median")" pages.txt
line 'a result committed, until a page shows it, the longest' '<= 500' 'ms' \
    "$(figure pages.txt 'an event visible, the longest')" pages.txt
line 'one evaluation, as of an earlier moment' '<= 10' 'ms' "$(row history.txt 'one evaluation, as of earlier')" history.txt
line 'a result published, until the API shows it' '<= 300' 'ms' \
    "$(row history.txt 'a result published, until the API shows it')" history.txt
line 'transacting through the gateway against in one process, Datomic Local' '>= 0.7' 'of the rate' \
    "$(figure history.txt 'transacting through the gateway, rate against in one process, Datomic Local')" history.txt
line 'the same, in memory' '>= 0.7' 'of the rate' \
    "$(figure history.txt 'transacting through the gateway, rate against in one process, in memory')" history.txt
line 'the three queries through the API, over 1.2 times their time in one process, the slowest' '<= 2' 'ms' \
    "$([ ! -e history.txt ] || for query in 'query 1: one model'"'"'s evaluations' 'query 2: mean of each day' 'query 3: failing functions'; do
        inside=$(figure history.txt "$query, in one process, p50") through=$(row history.txt "$query")
        [ -z "$inside" ] || awk -v inside="$inside" -v through="$through" 'BEGIN { printf "%.1f\n", through - 1.2 * inside }'
    done | sort -g | tail -1)" history.txt
line 'recording at 100,000 evaluations, against the first tenth' '<= 1.3' 'times' \
    "$(figure history.txt 'recording, the last tenth / the first')" history.txt
line 'recording at 300,000 evaluations in the peer, against the first tenth' '<= 1.3' 'times' \
    "$(figure growth.txt 'recording, the last tenth / the first')" growth.txt
line 'a tool with 20 cases, two workers, against 20 bare jobs' '<= 1.2' 'times' \
    "$(figure entrust.txt 'a tool with 20 cases / 20 bare jobs, medians')" entrust.txt
line 'ten patches of one base from its prefix, against ten whose bases nobody knows' '>= 5' 'times faster' \
    "$(figure entrust.txt 'the first / the second')" entrust.txt
line 'a change, beyond its own commands in the VM, its base known, spares ready' '<= 1000' 'ms' \
    "$(row entrust.txt '  beyond its commands in the VM')" entrust.txt
line 'different verdicts on one change, evaluated 20 times' '<= 1' '' \
    "$([ ! -e entrust.txt ] || sed -n 's/^verdicts on an unchanged .*: \([0-9]*\).*/\1/p' entrust.txt | sort -g | tail -1)" entrust.txt
line 'annotated real series: F1, margin 5, one default for all' '>= 0.80' '' \
    "$(figure analytics.txt 'F1 on real series, mean')" analytics.txt
line 'the same, above the best of Apache Otava, PELT, BinSeg and marking nothing' '>= 0' '' \
    "$(figure analytics.txt 'lead over the best of the others')" analytics.txt
line 'a step of 2 deviations, found within 10 points, in series of the worst kind' '>= 95' '%' \
    "$(figure analytics.txt 'steps of 2 deviations found within 10 points, the worst kind')" analytics.txt
line 'clean series with a false alarm, of the worst kind' '<= 1' '%' \
    "$(figure analytics.txt 'clean series with a false alarm, the worst kind')" analytics.txt
line 'a rate that falls from 0.95 to 0.80, found within 60 evaluations and confirmed' '>= 90' '%' \
    "$(figure analytics.txt 'drops found within 60 and confirmed, threshold 4.5')" analytics.txt
line '10,000 clean evaluations with a confirmed alarm' '<= 1' '%' \
    "$(figure analytics.txt 'clean runs with a confirmed alarm, threshold 4.5')" analytics.txt
line 'failures that are one, found as one: adjusted Rand index' '>= 0.9' '' \
    "$(figure analytics.txt 'adjusted Rand index, the least')" analytics.txt
line 'change points of 10,000 series of 200 points, one core' '<= 60' 's' \
    "$(figure analytics.txt '10000 series of 200 points')" analytics.txt
line 'one new evaluation, watched in every series, on average' '<= 1' 'ms' \
    "$(figure analytics.txt 'one evaluation, watched')" analytics.txt
line 'alerts on simulated fleets with ailing machines: right, of those that were raised' '>= 0.98' '' \
    "$(figure analytics.txt 'alerts that were right, of those that were raised')" analytics.txt
line 'regressions in these that were found' '>= 0.95' '' \
    "$(figure analytics.txt 'regressions that were found, of those that were injected')" analytics.txt
