#!/usr/bin/env bash
# The library and the command without a thread or a descriptor to spare. Needs root, to become a user with no other
# process, and setpriv and prlimit of util-linux.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null || ! command -v prlimit >/dev/null; then
    echo "NOT RUN: cli/tests/machine/limits.sh needs root, setpriv and prlimit" >&2
    exit 0
fi
cargo test --locked -p didit-cli --test machine -- limits:: --test-threads=1
