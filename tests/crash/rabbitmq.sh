#!/usr/bin/env bash
# Makes a root with the RabbitMQ of Debian 13 (4.x) in the folder $1, to be run in place beside the host's own.
#
# As root or, through user namespaces, as an ordinary user: the root travels as a tar file and belongs to whoever
# unpacks it. Does nothing where it is there already.
set -euo pipefail

readonly SUITE=trixie
out=$1

[ ! -e "$out/.complete" ] || exit 0

. "$(dirname "$0")/../mirror.sh"

rm -rf "$out"
mkdir -p "$out"
mmdebstrap --quiet --variant=apt --include=rabbitmq-server --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Retries "3"' "$SUITE" - $(mirror) |
    tar -x -C "$out" --no-same-owner --exclude='./dev/*'
touch "$out/.complete"
