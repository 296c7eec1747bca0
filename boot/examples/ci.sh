#!/bin/sh
# Six lines for a CI job: it fails exactly if there is a leak, a command that is mistyped or fails, a hang or a crash. Forges
# show leaks.xml as results of tests and leaks.sarif at the lines that allocated what was lost.
set -eu
cargo run -q -- --timeout "${LIMIT:-60}" --fail-on-leak \
    --junit leaks.xml --sarif leaks.sarif --script "$1"
