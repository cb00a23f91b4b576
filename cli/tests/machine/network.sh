#!/usr/bin/env bash
# Tests the library in a network with dead addresses and a firewall, and in processes that are stopped, killed and traced.
# Needs root. Installs nft, ip, unshare and strace, and fails without them.
set -euo pipefail
cd "$(dirname "$0")/../../.."
missing=()
for package in nft:nftables ip:iproute2 unshare:util-linux strace:strace; do
    command -v "${package%:*}" >/dev/null || missing+=("${package#*:}")
done
if [ "${#missing[@]}" != 0 ]; then
    sudo=$(command -v sudo || true)
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq "${missing[@]}" >/dev/null
fi
cargo test --locked -p didit-cli --test machine --no-run
# shellcheck disable=SC2016 # The inner shell expands them.
exec unshare --net --mount bash -euo pipefail -c '
    ip link set lo up
    mount -t tmpfs tmpfs /mnt
    printf "127.0.0.1 localhost\n" >/mnt/hosts
    for host in one:1 three:3 seven:7; do
        for last in $(seq "${host#*:}") 8; do
            printf "127.0.0.%s %s.test\n" "$last" "${host%:*}" >>/mnt/hosts
        done
    done
    mount --bind /mnt/hosts /etc/hosts
    cargo test --locked --offline -p didit-cli --test machine -- addresses:: delivery:: stopped:: system_calls:: \
        --test-threads=1 --nocapture
'
