#!/usr/bin/env bash
# What the journal of a batch has on disk before a request goes out. Needs strace, and leave to use it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if ! command -v strace >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq strace >/dev/null || true
fi
if ! strace -o /dev/null true 2>/dev/null; then
    echo "NOT RUN: cli/tests/machine/journal.sh needs strace, and leave to use it" >&2
    exit 0
fi
cargo test --locked -p didit-cli --test machine -- journal:: --test-threads=1
