#!/bin/sh
# The compiler for what is fuzzed: `cargo xtask fuzz` has cargo call it, with the real one as its first argument, for the
# crates of this workspace. What runs while building has no fuzzer that would take the counts.
case " $* " in *" --crate-name build_script_"* | *" --crate-type proc-macro "*) exec "$@" ;; esac
# Which edges are taken is counted, and what is compared with what is remembered.
exec "$@" -Copt-level=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
