#!/usr/bin/env bash
# An S3 server on a loopback port, out of moto: `server.sh PORT` runs it until it is ended, `server.sh` only
# installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
server=target/moto/bin/moto_server
if [ ! -x "$server" ]; then
    python3 -m venv target/moto || { echo "python3 or its venv is missing: install Debian's python3-venv" >&2; exit 69; }
    target/moto/bin/pip install --quiet --disable-pip-version-check 'moto[s3,server]>=5,<6'
fi
[ $# = 0 ] || exec "$server" --host 127.0.0.1 --port "$1"
