# Recipes for contributors. `just --list` shows them; each prints how long it took.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list

# Unit tests, without the two longest
test:
    time cargo test --lib -- --skip random_inputs_over_tls --skip sessions_of_all_servers

# All tests that need no other tool, in five minutes
test-all:
    time cargo test

# The tests of tests/it whose names contain NAME
test-one NAME:
    time cargo test --test it -- {{NAME}}

# The checks that decide whether a change can land
check:
    time ci/check

# Fuzz one target, for ever or as ARGS say
fuzz TARGET *ARGS:
    time cargo +nightly fuzz run {{TARGET}} -- {{ARGS}}

# Interleavings of the driver's threads; SCHEDULES sets how many
schedules:
    time ci/schedules

# Planted bugs, which the tests must find
mutations *WHAT:
    time ci/mutations {{WHAT}}

# Benchmarks of the working tree and of another commit, in alternating runs
bench-compare BASE *WORDS:
    time ci/bench-compare {{BASE}} {{WORDS}}

# Regenerate all snapshots
regen:
    time UPDATE_EXPECT=1 cargo test --lib transition_table
    time UPDATE_EXPECT=1 cargo test --test it egress::table
    time UPDATE_EXPECT=1 ci/public-api

# The documentation of the crate, in a browser
docs:
    time cargo doc --no-deps --all-features --open
