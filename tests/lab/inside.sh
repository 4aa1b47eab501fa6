#!/bin/sh
# What is tried in the lab, step by step. Each step is bounded; the last line is the verdict.
#
#   kvm      the kernel's KVM on (emulated) SVM, and the cgroup v2 controllers
#   probe    evalfleet-worker probe: a template boots, is frozen, cloned and proved; it must say kvm
#   trials   the VM trials of tests/vm under KVM, which is asserted by their own labels and by every template's record
set -u
payload=$(dirname "$0")
. "$payload/settings"

# How much longer than on a machine of one's own everything may take.
readonly PATIENCE=6
failed=
begun=$(date +%s)
now() { echo $(($(date +%s) - begun)); }

# step NAME SECONDS FUNCTION: runs it unless others were asked for, and notes how it ended.
step() {
    case ",${ONLY:-$1}," in *",$1,"*) ;; *) return 0 ;; esac
    at=$(now)
    echo "== $1"
    "$2"
    code=$?
    took=$(($(now) - at))
    if [ "$code" -eq 0 ]; then
        summary="${summary:-}  ok      $1 ($took s)
"
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

probe() {
    export EVALFLEET_QEMU__ACCELERATOR=auto EVALFLEET_QEMU__BOOT_TIMEOUT=$((180 * PATIENCE))s EVALFLEET_QEMU__RESET_TIMEOUT=$((30 * PATIENCE))s
    export EVALFLEET_STATE__DIR="$PWD/target/lab-state" EVALFLEET_IMAGES__DIR="$PWD/target/images" EVALFLEET_QEMU__SNAPSHOT_DIR="$PWD/target/templates"
    answer=$(timeout 900 target/debug/evalfleet-worker probe --json) || { echo "  $answer"; return 1; }
    echo "  $answer"
    echo "$answer" | grep -q '"works":true' && echo "$answer" | grep -q '"accelerator":"kvm"'
}

trials() {
    # No fallback: a VM that does not stand under KVM fails its trial.
    export EVALFLEET_TEST_ACCELERATOR=kvm EVALFLEET_TEST_PATIENCE=$PATIENCE
    timeout 3600 target/debug/deps/vm --test-threads=1 ${TRIALS:+"$TRIALS"} 2>&1
    code=$?
    echo "  templates: $(cat target/templates/*/template.json | tr -d ' \n' | grep -o '"accelerator":"[a-z]*"' | sort | uniq -c)"
    if cat target/templates/*/template.json | tr -d ' \n' | grep -q '"accelerator":"tcg"'; then
        echo "  a template of the other accelerator is among them"
        return 1
    fi
    return "$code"
}

lay_checkout
echo "lab: up after $(cut -d' ' -f1 /proc/uptime) s: Linux $(uname -r), $(qemu-system-x86_64 --version | head -1), $(nproc) processors, $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) KiB"
echo
step kvm kvm
step probe probe
step trials trials
echo "summary, under KVM in the lab, after $(now) s:"
printf '%s' "${summary:-}"
if [ -z "$failed" ]; then echo "verdict: passed"; else echo "verdict: failed"; fi
