#!/usr/bin/env bash
# Tests the command as the first process of a container. Needs root and unshare of util-linux. Fails without them.
set -euo pipefail
cd "$(dirname "$0")/../../.."
unshare --pid --fork --mount-proc true
cargo test --locked -p didit-cli --test machine -- process_1:: --test-threads=1
