#!/usr/bin/env bash
# Installs what evalfleet needs and this machine lacks: says what, and why, and changes nothing else.
#
#   deploy/setup.sh           install what is missing (sudo where it must; without it, prints the line)
#   deploy/setup.sh --check   only say what is missing; exit 69 if something is
#
# Debian 12 and 13, Ubuntu 24.04 and newer. Rust itself comes from https://rustup.rs.
set -euo pipefail

# From QEMU 9 on, clones are sound; older ones load snapshots, which is slower.
readonly QEMU_MAJOR_MIN=7
readonly QEMU_MAJOR_CLONES=9
readonly JAVA_MIN=17
readonly UNREACHABLE=69

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
major() { grep -oE '[0-9]+' | head -1; }

packages=()
reasons=()
want() { # package, why
    packages+=("$1")
    reasons+=("  $1: $2")
}

qemu_major() { have qemu-system-x86_64 && qemu-system-x86_64 --version | grep -oE 'version [0-9]+' | major; }
java_version() { have java && java -version 2>&1 | grep -oE '"[0-9]+' | major; }

look() {
    have cc || want gcc "links Rust programs"
    [ -e "/usr/lib/$(uname -m)-linux-gnu/libc.a" ] || want libc6-dev "links the agent statically"
    have git || want git "reads the revisions that are evaluated"
    have gpg || want gpg "verifies Debian's packages"
    have pgrep || want procps "lets the tests see what runs"
    [ "$(qemu_major || echo 0)" -ge "$QEMU_MAJOR_MIN" ] || want qemu-system-x86 "runs the VMs (version $QEMU_MAJOR_MIN or newer)"
    have qemu-img || want qemu-utils "makes disks for snapshots, checks and unpacks imported images"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || want rabbitmq-server "carries jobs and results"
    [ "$(java_version || echo 0)" -ge "$JAVA_MIN" ] || want default-jre-headless "runs Datomic"
    have mvn || want maven "fetches Datomic from Maven Central"
    have mmdebstrap || want mmdebstrap "builds VM images out of Debian's packages"
    have mkfs.erofs || want erofs-utils "packs the images' roots"
    have mke2fs || PATH="$PATH:/usr/sbin:/sbin" have mke2fs || want e2fsprogs "formats the VMs' disks"
    have ssh-keygen || want openssh-client "reaches into VMs of imported images"
    have setpriv || want util-linux "lets no image build outlive its maker"
    have xz || want xz-utils "unpacks kernel modules"
    have ed || want ed "runs a tool of the images in a test"
    have cpio || want cpio "reads in a test what the VMs boot from"
    have zstd || want zstd "unpacks kernel modules"
    python3 -c 'import ensurepip' 2>/dev/null || want python3-venv "holds schemathesis, which puts the API to its own description, and the S3 server of a test"
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || want debian-archive-keyring "verifies Debian's packages"
    if [ "$(id -u)" -ne 0 ]; then
        have newuidmap || want uidmap "builds images without root"
    fi
}

# Debian 12 itself has QEMU 7.2, in which 9 of 200 clones came up broken; its backports have 10.
needs_backports() {
    [[ " ${packages[*]} " == *" qemu-"* ]] || return 1
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] || return 1
    ! grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d
}

backports_source() {
    local mirror
    mirror=$(grep -rhsoE '(https?|mirror\+file):[^ ]*debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d | head -1 | tr -d ' ')
    if [ -z "$mirror" ]; then
        say "No Debian mirror is named in /etc/apt: add the suite bookworm-backports there yourself, then run this again."
        exit "$UNREACHABLE"
    fi
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
        "$mirror"
}

# Run as root, by us or through sudo. Installing RabbitMQ would start a node of its own for all the
# network to see; evalfleet starts a private one when it needs it, so the package's is kept from starting.
install_script() {
    echo 'set -e; export DEBIAN_FRONTEND=noninteractive'
    if needs_backports; then
        local source
        source=$(backports_source)
        printf 'cat > /etc/apt/sources.list.d/evalfleet-backports.sources <<EOF\n%s\nEOF\n' "$source"
    fi
    cat <<'EOF'
apt-get update -q
made=
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=yes
fi
trap '[ -z "$made" ] || rm -f /usr/sbin/policy-rc.d' EXIT
EOF
    local qemu=() others=() package
    for package in "${packages[@]}"; do
        if [[ "$package" = qemu-* ]]; then qemu+=("$package"); else others+=("$package"); fi
    done
    if [ "${#qemu[@]}" -gt 0 ]; then
        local suite=()
        if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ]; then suite=(-t bookworm-backports); fi
        echo "apt-get install -q -y --no-install-recommends ${suite[*]} ${qemu[*]}"
    fi
    if [ "${#others[@]}" -gt 0 ]; then
        echo "apt-get install -q -y --no-install-recommends ${others[*]}"
    fi
    return 0
}

# What works, and could be better.
advise() {
    local major
    major=$(qemu_major || echo 0)
    if [ "$major" -lt "$QEMU_MAJOR_CLONES" ]; then
        say "setup: QEMU $major works, but every VM loads a snapshot; $QEMU_MAJOR_CLONES or newer is several times faster"
        say "       (Debian 12 has it in bookworm-backports: apt-get install -t bookworm-backports qemu-system-x86)"
    fi
}

main() {
    if ! have cargo; then
        say "Rust is missing: install it from https://rustup.rs, then run this again."
        exit "$UNREACHABLE"
    fi
    look
    if [ "${#packages[@]}" -eq 0 ]; then
        advise
        say "setup: nothing is missing"
        return
    fi
    say "setup: missing on this machine:"
    printf '%s\n' "${reasons[@]}" >&2
    if [ "${1:-}" = --check ]; then exit "$UNREACHABLE"; fi
    if ! have apt-get; then
        say "This machine has no apt-get: install the same with its own package manager, then run this again."
        exit "$UNREACHABLE"
    fi
    if [ "$(id -u)" -eq 0 ]; then
        install_script | bash
    elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        say "setup: installing these takes root; asking sudo"
        install_script | sudo bash
    else
        say "Installing these takes root, and there is no sudo to ask. Run this as root, then try again:"
        say "    $(cd "$(dirname "$0")" && pwd)/setup.sh"
        exit "$UNREACHABLE"
    fi
    hash -r
    packages=() reasons=()
    look
    if [ "${#packages[@]}" -gt 0 ]; then
        say "setup: still missing after the installation: ${packages[*]}"
        exit "$UNREACHABLE"
    fi
    advise
    say "setup: done"
}

main "$@"
