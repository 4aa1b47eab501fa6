#!/usr/bin/env bash
# Makes the lab's root disk out of Debian's packages: root.ext4, vmlinuz and initrd in the folder $1.
#
# Runs mmdebstrap, as root or, through user namespaces, as an ordinary user; nothing is mounted for good
# and no loop device is needed. Nothing of evalfleet is in it, so that it need not be made again when
# evalfleet changes: that comes on a second disk (see lab.sh).
set -euo pipefail

readonly SUITE=trixie
readonly PACKAGES=(
    linux-image-amd64 systemd systemd-sysv udev kmod dbus  # a machine
    qemu-system-x86 qemu-utils util-linux uidmap e2fsprogs # what a worker runs
    rabbitmq-server                                        # what a worker serves
    python3-minimal iproute2 procps                        # what trials look with
)
# The kernel's drivers in the initramfs; all others are loaded by udev.
readonly DRIVERS='virtio_pci virtio_blk ext4'
readonly DISK_SIZE=4G

out=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

. "$here/../mirror.sh"

# Runs in mmdebstrap with the finished root in $1. An ordinary user's root exists only inside of
# mmdebstrap's user namespace, so everything goes to the root's own /tmp/lab and is carried out from there.
finish() {
    local root=$1
    printf 'MODULES=list\nCOMPRESS=gzip\n' > "$root/etc/initramfs-tools/conf.d/lab"
    printf '%s\n' $LAB_DRIVERS >> "$root/etc/initramfs-tools/modules"
    chroot "$root" update-initramfs -u >&2
    printf 'lab\n' > "$root/etc/hostname"
    printf '127.0.0.1 localhost lab\n' > "$root/etc/hosts"
    printf 'kvm_amd\n' > "$root/etc/modules-load.d/kvm.conf"
    printf '%s\n' "$LAB_UNIT" > "$root/etc/systemd/system/evalfleet-lab.service"
    chroot "$root" systemctl --quiet enable evalfleet-lab.service
    chroot "$root" systemctl --quiet disable rabbitmq-server.service epmd.service epmd.socket
    # A login on the console would hang up on whatever else is written there; the rest is for machines that live longer.
    chroot "$root" systemctl --quiet mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-timesyncd.service
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
    mkdir "$root/tmp/lab"
    # The links' targets, not the links, which dangle here.
    cp "$root"/boot/vmlinuz-* "$root/tmp/lab/vmlinuz"
    cp "$root"/boot/initrd.img-* "$root/tmp/lab/initrd"
    dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${Package} ${Version}\n' > "$root/tmp/lab/packages"
    # Through a plain bind mount, which shows the root without what is mounted on it, and with an empty /tmp
    # over the one that we write to. In a mount namespace of its own: however this ends, the mounts are gone.
    unshare --mount sh -eu -c '
        mkdir "$1/tmp/lab/view"
        mount --bind "$1" "$1/tmp/lab/view"
        mount -t tmpfs -o mode=1777 tmpfs "$1/tmp/lab/view/tmp"
        PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -L root -E lazy_itable_init=1 -d "$1/tmp/lab/view" "$1/tmp/lab/root.ext4" "$2"
    ' finish "$root" "$LAB_DISK_SIZE" >&2
}

LAB_UNIT=$(cat "$here/evalfleet-lab.service")
LAB_DRIVERS=$DRIVERS LAB_DISK_SIZE=$DISK_SIZE
LAB_FINISH="$(declare -f finish); set -eu; finish \"\$1\""
export LAB_UNIT LAB_DRIVERS LAB_DISK_SIZE LAB_FINISH

if [ "$(id -u)" -eq 0 ]; then export TMPDIR=$out; fi
cd "$out"
include=$(IFS=,; echo "${PACKAGES[*]}")
source=$(mirror)
mmdebstrap --variant=minbase --format=null --include="$include" --aptopt='APT::Install-Recommends "false"' \
    --customize-hook='bash -c "$LAB_FINISH" finish "$1"' \
    --customize-hook='download /tmp/lab/root.ext4 root.ext4' \
    --customize-hook='download /tmp/lab/vmlinuz vmlinuz' \
    --customize-hook='download /tmp/lab/initrd initrd' \
    --customize-hook='download /tmp/lab/packages packages' \
    "$SUITE" /dev/null ${source:+"$source"}
# What was carried out through a pipe has no holes left.
fallocate --dig-holes root.ext4
