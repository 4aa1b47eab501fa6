#!/usr/bin/env bash
# The lab: a Debian machine of its own, emulated with AMD's SVM, in which KVM, cgroup v2 and systemd really
# work, whatever the machine around it lacks. What needs them is tried in it; `make lab` calls this.
#
#   tests/lab/lab.sh                      everything; the log goes to bench/results/lab.txt
#   tests/lab/lab.sh --only faults        only these steps (see inside.sh); where they are one of the groups that
#                                         everything consists of, they take its place in the log
#   tests/lab/lab.sh --only ratios        benchmarks whose ratios are to be seen under KVM
#   tests/lab/lab.sh --trials reset::     of the VM trials only those whose names contain this
#
# It is started anew for each group of steps. An emulated SVM is not all that a real one is: now and then such a machine
# goes down in the midst of its work, without a word. Its group is then begun again, and the log says so.
#
# Everything lives in target/lab. The root disk is made once and never written to by a run; evalfleet itself
# comes on a second disk, made anew each time. Exit code: 0 passed, 1 something failed, 3 the lab
# itself did, or had no time for all of it.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly MEMORY=4G
readonly PROCESSORS=2
# For one group, its boot included; one emulated machine inside of another takes its time.
readonly LIMIT_SECONDS=${LAB_LIMIT_SECONDS:-3600}
# How often a group is begun.
readonly TRIES=3
readonly GROUPS_OF_STEPS='probe,service trials faults more'
readonly WORK=$PWD/target/lab
readonly RESULT=bench/results/lab.txt
readonly INFRASTRUCTURE=3 USAGE=64

say() { printf 'lab: %s\n' "$*" >&2; }

only= trials=
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=${2:?--only takes a list}; shift 2 ;;
        --trials) trials=${2:?--trials takes a name}; shift 2 ;;
        --help | -h) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) say "unknown: $1 (see --help)"; exit "$USAGE" ;;
    esac
done

# One at a time: a lab takes all of a small machine, and they would share their files.
mkdir -p "$WORK"
exec 9> "$WORK/lock"
flock --nonblock 9 || { say "another lab runs on this checkout"; exit "$INFRASTRUCTURE"; }

# The root disk, by the digest of what makes it.
root() {
    local key
    key=$(cat tests/lab/root.sh tests/lab/evalfleet-lab.service | sha256sum | cut -c1-12)
    ROOT=$WORK/root-$key
    [ ! -e "$ROOT/root.ext4" ] || return 0
    say "making the lab's root disk out of Debian's packages (once; a few minutes)"
    rm -rf "$WORK"/root-* "$WORK/building"
    tests/lab/root.sh "$WORK/building" > "$WORK/root.log" 2>&1 || { tail -20 "$WORK/root.log" >&2; return 1; }
    mv "$WORK/building" "$ROOT"
}

# The second disk: the parts of this checkout that the trials use, laid out as they are here.
payload() {
    local tree=$WORK/payload trials_program
    say "building what is tried"
    trials_program=$(cargo test --locked --workspace --test vm --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    rm -rf "$tree"
    [ -n "$trials_program" ] || { say "the trials do not build"; return 1; }
    mkdir -p "$tree/checkout/target/debug/deps" "$tree/checkout/target/images" "$tree/checkout/target/x86_64-unknown-linux-gnu/guest"
    cp tests/lab/inside.sh "$tree/"
    printf 'CHECKOUT=%q\n' "$PWD" > "$tree/settings"
    cp -r vm-images deploy "$tree/checkout/"
    cp "${EVALFLEET_AGENT:-target/x86_64-unknown-linux-gnu/guest/evalfleet-guest}" "$tree/checkout/target/x86_64-unknown-linux-gnu/guest/"
    local program
    for program in evalfleet evalfleet-worker evalfleet-jail; do
        slim "target/debug/$program" "$tree/checkout/target/debug/$program"
    done
    slim "$trials_program" "$tree/checkout/target/debug/deps/vm"
    case ",$only," in
        *,ratios,*)
            cargo build --locked --release --workspace --bins
            mkdir -p "$tree/checkout/target/release"
            for program in evalfleet-bench evalfleet-jail; do
                slim "target/release/$program" "$tree/checkout/target/release/$program"
            done
            ;;
    esac
    local image
    for image in target/images/*/; do
        image=$(basename "$image")
        [ -e "target/images/$image/current" ] || continue
        mkdir "$tree/checkout/target/images/$image"
        cp -a "target/images/$image/current" "target/images/$image/$(readlink "target/images/$image/current")" \
            "$tree/checkout/target/images/$image/"
    done
    rm -f "$WORK/payload.ext4"
    # ext4, which keeps the holes in the images' disks.
    PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -m 0 -O ^has_journal -d "$tree" "$WORK/payload.ext4" \
        "$(($(du --summarize --block-size=1M "$tree" | cut -f1) * 5 / 4 + 64))M" >&2
    rm -rf "$tree"
}

# Symbols for a debugger are most of a program, and nobody debugs in the lab.
slim() { strip --strip-debug -o "$2" "$1" 2> /dev/null || cp "$1" "$2"; }

# boot STEPS LOG: boots, shows the lab's log as it comes, and waits for the end.
boot() {
    local log=$2 console=$WORK/console qemu_log=$WORK/qemu.log qemu follower
    : > "$log"
    rm -f "$console"
    say "$1: booting a machine with SVM under emulation; at most $((LIMIT_SECONDS / 60)) minutes, console in $console"
    TMPDIR=$WORK timeout --foreground --kill-after=10 "$LIMIT_SECONDS" \
        nice -n 5 qemu-system-x86_64 -accel tcg,thread=multi -cpu EPYC,+svm,+npt -smp "$PROCESSORS" -m "$MEMORY" \
        -nodefaults -no-user-config -display none -no-reboot -nic none \
        -kernel "$ROOT/vmlinuz" -initrd "$ROOT/initrd" \
        -append 'root=/dev/vda rw console=ttyS0 quiet mitigations=off panic=-1 '"lab.only=$1 lab.trials=$trials lab.seconds=$LIMIT_SECONDS" \
        -drive "file=$ROOT/root.ext4,format=raw,if=virtio,snapshot=on" \
        -drive "file=$WORK/payload.ext4,format=raw,if=virtio,read-only=on" \
        -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0 \
        -serial "file:$console" -device virtio-serial-pci \
        -chardev "file,id=lab,path=$log" -device virtserialport,chardev=lab,name=lab \
        > "$qemu_log" 2>&1 < /dev/null 9>&- &
    qemu=$!
    # timeout passes its end on to QEMU.
    trap 'kill "$qemu" 2> /dev/null || true' EXIT
    tail --lines=+1 --follow --sleep-interval=0.5 --pid="$qemu" "$log" 9>&- &
    follower=$!
    wait "$qemu" || say "the lab was ended from outside, after $LIMIT_SECONDS s or by its emulator"
    wait "$follower" || true
    trap - EXIT
}

verdict_of() { sed -n 's/^verdict: //p' "$1" | tail -1; }

# run STEPS: one group, begun again where its machine went down; all that was said is kept as the group's.
run() {
    local try log=$WORK/log said=$WORK/said/$1 began=$SECONDS
    mkdir -p "$WORK/said"
    : > "$said.new"
    for try in $(seq "$TRIES"); do
        boot "kvm,$1" "$log"
        cat "$log" >> "$said.new"
        [ -z "$(verdict_of "$log")" ] || break
        echo "the lab's machine went down, at try $try of $TRIES" >> "$said.new"
        say "the lab's machine went down: the end of its console:"
        tail -5 "$WORK/console" >&2 || true
    done
    verdicts="$verdicts $(verdict_of "$log" | grep . || echo none)"
    # Of some trials of a group nobody takes it for the whole.
    [ -z "$trials" ] || return 0
    { printf '#### %s: evalfleet %s, %s, %s s\n\n' "$1" "$COMMIT" "$(date -u '+%Y-%m-%d %H:%M UTC')" "$((SECONDS - began))"; cat "$said.new"; } > "$said"
    rm "$said.new"
}

# Host and conditions, then what the lab said last of each group.
report() {
    local group
    cat <<END
lab: evalfleet under KVM, in an emulated machine with SVM
  around it: $(qemu-system-x86_64 --version | head -1), -cpu EPYC,+svm,+npt, emulated on $(nproc) shared cores

It shows that a path works, never how fast: KVM itself is emulated here, and no time below says anything
about real hardware. Made by \`make lab\`, a machine for each group.
END
    for group in $GROUPS_OF_STEPS; do
        echo
        # Where the checkout lies is nobody's business.
        sed "s|$PWD/||g" "$WORK/said/$group"
    done
}

COMMIT=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2> /dev/null)" ] || COMMIT="$COMMIT and changes"
root || { say "the root disk could not be made; see $WORK/root.log"; exit "$INFRASTRUCTURE"; }
payload || { say "what is tried could not be built"; exit "$INFRASTRUCTURE"; }
verdicts= whole=yes
if [ -n "$only$trials" ]; then
    run "${only:-trials}"
else
    for group in $GROUPS_OF_STEPS; do run "$group"; done
fi
for group in $GROUPS_OF_STEPS; do [ -e "$WORK/said/$group" ] || whole=; done
if [ -n "$whole" ]; then
    report > "$RESULT"
    say "what was said of each group is in $RESULT"
fi
say "verdicts:$verdicts"
case $verdicts in
    *failed*) exit 1 ;;
    *none*) say "a machine never came to its end"; exit "$INFRASTRUCTURE" ;;
    *incomplete*) say "no time was left for all of it: LAB_LIMIT_SECONDS=$((LIMIT_SECONDS * 2)) gives more"; exit "$INFRASTRUCTURE" ;;
esac
