#!/usr/bin/env bash
# Tests the library and the command without spare threads or file descriptors. Needs root, to become a user without other
# processes, and setpriv and prlimit of util-linux. Fails without them.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null || ! command -v prlimit >/dev/null; then
    echo "cli/tests/machine/limits.sh needs root, setpriv and prlimit" >&2
    exit 1
fi
cargo test --locked -p didit-cli --test machine -- limits:: --test-threads=1
