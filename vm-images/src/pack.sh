# Runs once in mmdebstrap, when the root is complete: cleans it, lists what is in it, and packs it.
#
# $1 is the root. In an ordinary user's build this runs in a user namespace that cannot read the user's home, so
# everything comes by environment and everything goes to the root's own /tmp, from where mmdebstrap carries it out.
#
#   EVALFLEET_STARTED      seconds since 1970, before the first package was unpacked
#   EVALFLEET_HOSTNAME     the guest's name
#   EVALFLEET_KERNEL       the kernel's package, or one that depends on it
#   EVALFLEET_COMPRESSION  lz4 or none
#   EVALFLEET_UUID         of the file system

set -eu
root=$1
out=$root/tmp/evalfleet
mkdir -p "$out"

echo "evalfleet: packages" >&2
dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${Package}\t${Version}\n' > "$out/packages"

echo "evalfleet: kernel" >&2
(
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    real=$(apt-cache depends --important "$EVALFLEET_KERNEL" | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    cd "$out"
    # apt's own user cannot write here.
    apt-get download -qq -o APT::Sandbox::User=root "${real:-$EVALFLEET_KERNEL}"
    mv ./*.deb kernel.deb
)

echo "evalfleet: clean" >&2
# The interpreter reads this at every call, and must not write it then: a job would seem to have changed the image.
if [ -x "$root/usr/bin/python3" ] && [ -d "$root/opt/evalfleet/tools/lib" ]; then
    chroot "$root" python3 -EsSB -c '
import os, py_compile
folder = "/opt/evalfleet/tools/lib"
for name in sorted(os.listdir(folder)):
    if name.endswith(".py"):
        path = os.path.join(folder, name)
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
'
fi
# One commit each, by nobody, at a time before any package's: the same files give the same bytes.
for folder in "$root"/opt/evalfleet/repositories/*/; do
    [ -d "$folder" ] || continue
    name=$(basename "$folder")
    echo "evalfleet: repository $name" >&2
    chroot "$root" env -i PATH=/usr/bin:/bin HOME=/nonexistent LC_ALL=C GIT_CONFIG_NOSYSTEM=1 \
        GIT_AUTHOR_NAME=evalfleet GIT_AUTHOR_EMAIL=evalfleet@localhost GIT_AUTHOR_DATE='1700000000 +0000' \
        GIT_COMMITTER_NAME=evalfleet GIT_COMMITTER_EMAIL=evalfleet@localhost GIT_COMMITTER_DATE='1700000000 +0000' \
        sh -eu -c '
            cd "$1"
            git init --quiet --initial-branch=main
            git add --all
            git commit --quiet --message="As it came"
            git -c pack.threads=1 bundle create --quiet "../$2.bundle" HEAD main
        ' repository "/opt/evalfleet/repositories/$name" "$name"
    rm -rf "$folder"
done
printf '%s\n' "$EVALFLEET_HOSTNAME" > "$root/etc/hostname"
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$EVALFLEET_HOSTNAME" > "$root/etc/hosts"
: > "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
chmod 644 "$root/etc/hostname" "$root/etc/hosts" "$root/etc/resolv.conf"
chmod 444 "$root/etc/machine-id"
# The guest has no network, and where the packages came from is the builder's business.
: > "$root/etc/apt/sources.list"
rm -rf "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/ldconfig/* "$root"/var/cache/debconf/*-old
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/*
rm -f "$root"/var/lib/dpkg/*-old "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow-
find "$root/var/log" -type f -delete
# The day on which a password was last changed: today, for accounts without one.
sed -i -E 's/^([^:]*:[^:]*):[0-9]+:/\1:1:/' "$root/etc/shadow"

# From here on through a plain bind mount, which shows the root without what is mounted on it. In a mount namespace of
# its own: however this ends, the mount is gone. Where namespaces are forbidden, so are mounts, and nothing is in the way.
view=$root
enter=
if unshare --mount true 2> /dev/null; then
    view=$out/view
    enter='unshare --mount'
    mkdir "$view"
fi
$enter sh -eu -s -- "$root" "$out" "$view" << 'END'
root=$1
out=$2
view=$3
[ "$view" = "$root" ] || mount --bind "$root" "$view"
cd "$view"

# What this build wrote gets the time of the newest packaged file: that stays the same while the packages do. Packaged
# files keep their own, by which Python knows its compiled modules to be fresh.
newest=$(find . -xdev -not -newermt "@$EVALFLEET_STARTED" -printf '%T@\n' | cut -d. -f1 | sort -n | tail -n 1)
find . -xdev -newermt "@$newest" -not -path './tmp/*' -exec touch --no-dereference --date="@$newest" {} +

echo "evalfleet: index" >&2
inside='-path ./proc/* -o -path ./sys/* -o -path ./dev/* -o -path ./run/* -o -path ./tmp/*'
set -f
find . \( $inside \) -prune -o -printf '%y %m %U %G %s %T@\0%P\0%l\0' > "$out/objects"
find . \( $inside \) -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum --zero > "$out/sums"
find . \( $inside \) -prune -o \( -type b -o -type c \) -print0 | xargs -0 -r stat --printf '%t %T\0%n\0' > "$out/devices"
set +f

echo "evalfleet: pack" >&2
case $EVALFLEET_COMPRESSION in
    none) compression= ;;
    *) compression=-z$EVALFLEET_COMPRESSION ;;
esac
SOURCE_DATE_EPOCH=$newest mkfs.erofs --quiet $compression -U "$EVALFLEET_UUID" \
    --exclude-regex='^(proc|sys|dev|run|tmp)/.*' "$out/root.erofs" . < /dev/null >&2
END
