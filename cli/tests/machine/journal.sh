#!/usr/bin/env bash
# Tests what the journal of a batch has on disk before a request is sent. Installs strace, and fails if strace is not allowed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if ! command -v strace >/dev/null; then
    sudo=$(command -v sudo || true)
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq strace >/dev/null
fi
strace -o /dev/null true
cargo test --locked -p didit-cli --test machine -- journal:: --test-threads=1
