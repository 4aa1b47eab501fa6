#!/usr/bin/env bash
# Builds a bootable qcow2 of Debian packages, as clouds hand them out: a boot loader in the MBR, one ext4
# partition, systemd; nothing of evalfleet in it. Needs neither root nor loop devices.
#
#   cloud-image.sh ssh OUT.qcow2    with sshd and cloud-init
#   cloud-image.sh qga OUT.qcow2    with the QEMU guest agent alone
set -euo pipefail

readonly kind=$1 out=$2
readonly partition_sectors=$((1536 * 2048)) first_sector=2048

case $kind in
ssh) packages=openssh-server,cloud-init ;;
qga) packages=qemu-guest-agent ;;
*) echo "ssh or qga, not $kind" >&2; exit 64 ;;
esac

work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

cat > "$work/customize.sh" <<'HOOK'
set -eu
root=$1 kind=$2
cat > "$root/boot/grub.cfg" <<CFG
linux /vmlinuz root=/dev/vda1 ro quiet console=ttyS0
initrd /initrd.img
boot
CFG
echo '/dev/vda1 / ext4 defaults 0 1' > "$root/etc/fstab"
echo cloud > "$root/etc/hostname"
printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' > "$root/etc/systemd/network/80-dhcp.network"
[ "$kind" = qga ] || chroot "$root" systemctl enable systemd-networkd
if [ "$kind" = ssh ]; then
    rm -f "$root"/etc/ssh/ssh_host_*
    printf 'network: {config: disabled}\n' > "$root/etc/cloud/cloud.cfg.d/90-network.cfg"
    printf 'datasource_list: [NoCloud, None]\n' > "$root/etc/cloud/cloud.cfg.d/90-datasource.cfg"
fi
# The boot loader, out of the root itself: its first sector, and what it loads from the gap after it.
chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p '(hd0,msdos1)/boot' -c /boot/grub.cfg \
    biosdisk part_msdos ext2 linux
HOOK

# The modules that such a VM boots with, so that its initramfs is small.
cat > "$work/setup.sh" <<'HOOK'
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo 'MODULES=list' > "$1/etc/initramfs-tools/conf.d/evalfleet"
printf 'virtio_pci\nvirtio_blk\next4\ncrc32c\n' > "$1/etc/initramfs-tools/modules"
echo cloud > "$1/etc/hostname"
HOOK

# A second sight of the root shows it without what is mounted in it while packages are installed.
cat > "$work/pack.sh" <<'HOOK'
set -eu
PATH="$PATH:/usr/sbin:/sbin"
root=$1 kibibytes=$2
mkdir "$root.view"
mount --bind "$root" "$root.view"
mke2fs -q -t ext4 -L cloud -d "$root.view" "$root.ext4" "${kibibytes}k"
umount "$root.view"
rmdir "$root.view"
mv "$root.ext4" "$root/tmp/part.ext4"
HOOK

mmdebstrap --quiet --variant=minbase --format=null --aptopt='Acquire::Retries "3"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,udev,grub-pc-bin,python3-minimal,$packages" \
    --essential-hook="sh $work/setup.sh \"\$1\"" \
    --customize-hook="sh $work/customize.sh \"\$1\" $kind" \
    --customize-hook="copy-out /usr/lib/grub/i386-pc/boot.img $work" \
    --customize-hook="copy-out /tmp/core.img $work" \
    --customize-hook='rm -rf "$1"/tmp/* "$1"/usr/lib/grub "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
    --customize-hook="sh $work/pack.sh \"\$1\" $((partition_sectors / 2))" \
    --customize-hook="copy-out /tmp/part.ext4 $work" \
    trixie /dev/null

disk=$work/disk.raw
truncate -s $(((first_sector + partition_sectors) * 512)) "$disk"
dd if="$work/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
# One partition, bootable, of Linux: status, type and the two numbers, little endian.
le32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $((($1 >> 8) & 255)) $((($1 >> 16) & 255)) $((($1 >> 24) & 255)); }
printf "\\x80\\xfe\\xff\\xff\\x83\\xfe\\xff\\xff$(le32 $first_sector)$(le32 $partition_sectors)" |
    dd of="$disk" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$disk" bs=1 seek=510 conv=notrunc status=none
dd if="$work/part.ext4" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
qemu-img convert -q -c -f raw -O qcow2 "$disk" "$work/disk.qcow2"
mv "$work/disk.qcow2" "$out"
