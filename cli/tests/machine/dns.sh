#!/usr/bin/env bash
# Tests the library with a real name server that is killed, stopped, and given a new address for a host. Installs dnsmasq.
# Needs root for a network namespace, in which the name server can use port 53. Fails without root.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if ! command -v dnsmasq >/dev/null; then
    sudo=$(command -v sudo || true)
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq dnsmasq-base >/dev/null
fi
unshare --net --mount true
cargo test --locked -p didit-cli --test machine --no-run
exec unshare --net --mount bash -euo pipefail -c '
    ip link set lo up
    mount -t tmpfs tmpfs /mnt
    printf "nameserver 127.0.0.53\noptions timeout:1 attempts:2\n" >/mnt/resolv.conf
    mount --bind /mnt/resolv.conf /etc/resolv.conf
    cargo test --locked --offline -p didit-cli --test machine -- dns:: --test-threads=1 --nocapture
'
