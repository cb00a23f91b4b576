#!/usr/bin/env bash
# The library and a real name server that is killed, stopped, and told that a host has moved. Needs root, dnsmasq, and
# leave to make a network namespace, in which the name server has port 53 and loopback to itself.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if ! command -v dnsmasq >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq dnsmasq-base >/dev/null || true
fi
if ! command -v dnsmasq >/dev/null || ! unshare --net --mount true 2>/dev/null; then
    echo "NOT RUN: cli/tests/machine/names.sh needs root, dnsmasq and a network namespace of its own" >&2
    exit 0
fi
cargo test --locked -p didit-cli --test machine --no-run
exec unshare --net --mount bash -euo pipefail -c '
    ip link set lo up
    mount -t tmpfs tmpfs /mnt
    printf "nameserver 127.0.0.53\noptions timeout:1 attempts:2\n" >/mnt/resolv.conf
    mount --bind /mnt/resolv.conf /etc/resolv.conf
    cargo test --locked --offline -p didit-cli --test machine -- names:: --test-threads=1 --nocapture
'
