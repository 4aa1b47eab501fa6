#!/bin/sh
# What is tried in the lab, step by step. Each step is bounded; the last line is the verdict.
#
#   kvm      the kernel's KVM on (emulated) SVM, and the cgroup v2 controllers
#   probe    evalfleet-worker probe: a template boots, is frozen, cloned and proved; it must say kvm
#   service  a worker as deploy/systemd/ starts it, without root, on a real broker: one job, in a jail that lacks nothing
#   trials   the VM trials of tests/vm on reset, jail, limits, network and scenarios, under KVM, which is asserted by their
#            own labels and by every template's record
#   faults   those on faults
#   more     those on strategies, supply and effects
#   ratios   the benchmarks of pace and reset, only when asked for: times mean nothing here, but what is compared in one
#            run is emulated alike
set -u
payload=$(dirname "$0")
. "$payload/settings"
# What differs from boot to boot is on the kernel's command line.
asked() { sed -n "s/.*lab\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
ONLY=$(asked only) TRIALS=$(asked trials) LIMIT_SECONDS=$(asked seconds)

# How much longer than on a machine of one's own everything may take.
readonly PATIENCE=6
readonly NO_TIME=75 TRIALS_SECONDS_MIN=300
failed= incomplete=
begun=$(date +%s)
now() { echo $(($(date +%s) - begun)); }

# step NAME FUNCTION: runs it unless others were asked for, and notes how it ended.
step() {
    case ",${ONLY:-$1}," in *",$1,"*) ;; *) return 0 ;; esac
    at=$(now) again=
    echo "== $1"
    "$2"
    code=$?
    took=$(($(now) - at))
    if [ "$code" -eq 0 ]; then
        summary="${summary:-}  ok      $1 ($took s)$again
"
    elif [ "$code" -eq "$NO_TIME" ]; then
        summary="${summary:-}  NOT RUN $1, for want of time
"
        incomplete=yes
    else
        summary="${summary:-}  FAILED  $1 ($took s), exit status $code
"
        failed=yes
    fi
    echo
}

# The checkout at its own path, readable and writable, over what is on the disk.
lay_checkout() {
    mkdir -p "$CHECKOUT" /run/lab
    mount -t tmpfs -o size=3G tmpfs /run/lab
    mkdir /run/lab/upper /run/lab/work
    mount -t overlay -o "lowerdir=$payload/checkout,upperdir=/run/lab/upper,workdir=/run/lab/work" overlay "$CHECKOUT"
    cd "$CHECKOUT" || exit 1
}

kvm() {
    modprobe kvm_amd
    dmesg | grep -iE 'kvm_amd|kvm:|SVM' | sed 's/^/  /'
    ls -l /dev/kvm && grep -q kvm_amd /proc/modules || return 1
    echo "  cgroup v2 controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
    grep -qw pids /sys/fs/cgroup/cgroup.controllers
}

# Settings of the worker, all of them with this machine's patience.
environment() {
    export EVALFLEET_QEMU__BOOT_TIMEOUT=$((180 * PATIENCE))s EVALFLEET_QEMU__RESET_TIMEOUT=$((30 * PATIENCE))s
    export EVALFLEET_STATE__DIR="$PWD/target/lab-state" EVALFLEET_IMAGES__DIR="$PWD/target/images" EVALFLEET_QEMU__SNAPSHOT_DIR="$PWD/target/templates"
    # No fallback: a VM that does not stand under KVM, or in less than a whole jail, fails its trial.
    export EVALFLEET_TEST_PATIENCE=$PATIENCE EVALFLEET_TEST_SETTINGS='QEMU__ACCELERATOR=kvm QEMU__JAIL=required'
}

# alone SECONDS COMMAND: as a service of its own, whose cgroup is its own to divide.
alone() {
    seconds=$1
    shift
    variables=$(env | sed -n 's/^\(EVALFLEET_[A-Z_]*\)=.*/--setenv=\1/p')
    # shellcheck disable=SC2086 # names without blanks
    systemd-run --quiet --wait --pipe --collect --property=Delegate=yes --property="RuntimeMaxSec=$seconds" \
        --property="WorkingDirectory=$PWD" $variables "$@" 2>&1
}

probe() {
    environment
    alone 900 "$PWD/target/debug/evalfleet-worker" probe --json > /run/lab/answer
    code=$?
    sed 's/^/  /' /run/lab/answer
    [ "$code" -eq 0 ] && grep -q '"works":true' /run/lab/answer && grep -q '"accelerator":"kvm"' /run/lab/answer
}

# The VM trials, by the arguments of their program.
run_trials() {
    environment
    # Whatever happens, time is left for the summary.
    left=$((LIMIT_SECONDS - $(cut -d. -f1 /proc/uptime) - 60))
    [ "$left" -ge "$TRIALS_SECONDS_MIN" ] || { echo "  $left s are left, which is too little"; return "$NO_TIME"; }
    { alone "$left" "$PWD/target/debug/deps/vm" --test-threads=1 "$@"; echo $? > /run/lab/code; } | tee /run/lab/said
    code=$(cat /run/lab/code)
    failed_trials=$(sed -n '/^failures:$/,$ s/^    \([a-z0-9_:]*\)$/\1/p' /run/lab/said)
    if [ "$code" -ne 0 ] && [ -n "$failed_trials" ]; then
        # The emulated SVM loses a guest now and then. What fails twice is not that.
        code=0
        for trial in $failed_trials; do
            echo "  once more, alone: $trial"
            alone "$left" "$PWD/target/debug/deps/vm" --test-threads=1 --exact "$trial" || code=1
        done
        again=", after $(echo "$failed_trials" | wc -l) were tried once more"
    fi
    labels=$(cat target/templates/*/template.json | tr -d ' \n' | grep -o '"accelerator":"[a-z]*"' | sort | uniq -c)
    echo "  templates:$labels"
    case $labels in *tcg*) echo "  one is of the other accelerator"; return 1 ;; esac
    return "$code"
}

trials() {
    if [ -n "$TRIALS" ]; then run_trials "$TRIALS"; else run_trials --skip faults:: --skip strategies:: --skip supply:: --skip effects::; fi
}

faults() { run_trials faults::; }

more() {
    run_trials --skip reset:: --skip jail:: --skip limits:: --skip faults:: --skip accelerator:: \
        --skip network:: --skip scenarios:: --skip foreign_
}

ratios() {
    environment
    export EVALFLEET_QEMU__ACCELERATOR=kvm EVALFLEET_LOG=warn
    alone 2400 "$PWD/target/release/evalfleet-bench" pace --blocks 2 &&
        alone 2400 "$PWD/target/release/evalfleet-bench" reset --runs 3
}

# Everything that a host of one's own has: the account, the settings, the unit, a broker.
install_worker() {
    install -m 755 target/debug/evalfleet target/debug/evalfleet-worker target/debug/evalfleet-jail /usr/local/bin/
    install -m 644 deploy/systemd/evalfleet.sysusers /usr/lib/sysusers.d/evalfleet.conf
    install -m 644 deploy/systemd/evalfleet-worker@.service /etc/systemd/system/
    systemd-sysusers evalfleet.conf
    mkdir -p /etc/evalfleet /var/lib/evalfleet
    cat > /etc/evalfleet/evalfleet.toml <<END
[qemu]
accelerator = "kvm"
boot_timeout = "$((180 * PATIENCE))s"
reset_timeout = "$((30 * PATIENCE))s"
jail = "required"
END
    cp -r target/images /var/lib/evalfleet/
    chown -R evalfleet:evalfleet /var/lib/evalfleet
    systemctl daemon-reload
    timeout 600 systemctl start rabbitmq-server && timeout 120 evalfleet topology declare
}

# How a QEMU at work is locked up, as the kernel tells it.
show_jail() {
    for pid in $(pgrep -x qemu-system-x86 || pgrep qemu-system); do
        group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
        echo "  QEMU: uid $(awk '/^Uid/ {print $2}' "/proc/$pid/status"), capabilities $(awk '/^CapEff/ {print $2}' "/proc/$pid/status")," \
            "no new privileges $(awk '/^NoNewPrivs/ {print $2}' "/proc/$pid/status"), seccomp $(awk '/^Seccomp:/ {print $2}' "/proc/$pid/status")"
        echo "    cgroup ${group#/sys/fs/cgroup}: memory.max $(cat "$group/memory.max"), pids.max $(cat "$group/pids.max"), cpu.max $(cat "$group/cpu.max")"
    done
}

# What a worker that did not come up was given.
show_delegation() {
    systemctl show --property=ControlGroup,Delegate,DelegateControllers,NRestarts evalfleet-worker@1 | sed 's/^/  /'
    group=/sys/fs/cgroup$(systemctl show --value --property=ControlGroup evalfleet-worker@1)
    ls -ld "$group" "$group"/* | grep -E 'procs|control|main' | sed 's/^/  /'
    (cd "$group" && grep -H . cgroup.controllers cgroup.subtree_control cgroup.procs) | sed 's/^/  /'
}

# Whether it was started again and again: then there is nothing to wait for.
gives_up() { [ "$(systemctl show --value --property=NRestarts evalfleet-worker@1)" -ge 3 ]; }

service() {
    unset EVALFLEET_STATE__DIR EVALFLEET_IMAGES__DIR EVALFLEET_QEMU__SNAPSHOT_DIR EVALFLEET_QEMU__BOOT_TIMEOUT EVALFLEET_QEMU__RESET_TIMEOUT
    export HOME=/root
    install_worker || return 1
    systemctl start evalfleet-worker@1
    timeout 900 evalfleet run --json --wall 120s -- sh -c 'echo hi > /workspace/a; sleep 10' > /run/lab/result &
    job=$!
    until [ -s /run/lab/jailed ] || ! kill -0 "$job" 2> /dev/null; do
        sleep 2
        show_jail > /run/lab/jailed
        if gives_up; then kill "$job"; fi
    done
    wait "$job"
    code=$?
    [ "$code" -eq 0 ] || show_delegation
    journalctl --quiet --no-pager --output=cat --unit=evalfleet-worker@1 | sed 's/^/  /'
    cat /run/lab/jailed
    tr -d ' \n' < /run/lab/result | grep -oE '"status":"[a-z_]*"|"accelerator":"[a-z]*"|"path":"/workspace/a","change":"[a-z]*"' | sed 's/^/  /'
    systemctl stop evalfleet-worker@1
    echo "  stopped: $(systemctl show --property=Result --property=ExecMainStatus evalfleet-worker@1 | tr '\n' ' '), QEMUs left: $(pgrep -c qemu-system)"
    [ "$code" -eq 0 ] && tr -d ' \n' < /run/lab/result | grep -q '"accelerator":"kvm"' &&
        [ "$(systemctl show --value --property=Result evalfleet-worker@1)" = success ] && ! pgrep qemu-system > /dev/null
}

lay_checkout
echo "lab: up after $(cut -d' ' -f1 /proc/uptime) s: Linux $(uname -r), $(qemu-system-x86_64 --version | head -1), $(nproc) processors, $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) KiB"
echo
step kvm kvm
step probe probe
step service service
step trials trials
step faults faults
step more more
case ",$ONLY," in *,ratios,*) step ratios ratios ;; esac
echo "summary, under KVM in the lab, after $(now) s:"
printf '%s' "${summary:-}"
if [ -n "$failed" ]; then echo "verdict: failed"; elif [ -n "$incomplete" ]; then echo "verdict: incomplete"; else echo "verdict: passed"; fi
