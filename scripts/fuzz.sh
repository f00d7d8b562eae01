#!/usr/bin/env bash
# Fuzzes a target, guided by coverage: scripts/fuzz.sh TARGET [SECONDS]
#
# TARGET is a file of fuzz/fuzz_targets/ without its ending, or `all`; SECONDS is 60 unless given. Needs cargo and a C++
# compiler, but neither nightly nor cargo-fuzz: libFuzzer is built from the crate libfuzzer-sys, and code is instrumented by
# the compiler's own flags. There is no address sanitizer; `cargo +nightly fuzz run TARGET crates/tallow-fuzz/seeds/TARGET`
# has one.
#
# Starts from crates/tallow-fuzz/seeds/TARGET and what earlier calls have left in target/fuzz/corpus/TARGET, and adds to the
# latter. An input that fails is written to target/fuzz/artifacts/TARGET; minimised, it belongs to the seeds. The last line
# says how many inputs were seen. More arguments go to libFuzzer.
#
#   scripts/fuzz.sh TARGET merge           writes to target/fuzz/merged/TARGET few inputs of seeds and corpus that reach
#                                          what all of them reach
#   scripts/fuzz.sh TARGET minimize FILE   writes to target/fuzz/minimized a shorter input that fails as FILE does
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:?"usage: scripts/fuzz.sh TARGET|all [SECONDS|merge|minimize FILE] [libFuzzer's options]"}
seconds=${2:-60}
shift $(($# < 2 ? $# : 2))

if [ "$target" = all ]; then
    for file in fuzz/fuzz_targets/*.rs; do
        bash scripts/fuzz.sh "$(basename "$file" .rs)" "$seconds" "$@"
    done
    exit
fi
[ -f "fuzz/fuzz_targets/$target.rs" ] || { echo "fuzz.sh: there is no target $target" >&2; exit 2; }

triple=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$PWD/target/fuzz/build
# What cargo-fuzz gives the compiler, but for the sanitizer.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions" \
    cargo build --manifest-path fuzz/Cargo.toml --locked --release --target "$triple" --bin "$target"
binary=$CARGO_TARGET_DIR/$triple/release/$target

corpus=target/fuzz/corpus/$target
artifacts=target/fuzz/artifacts/$target
seeds=crates/tallow-fuzz/seeds/$target
mkdir -p "$corpus" "$artifacts"
# Temporary directories are made for every input: in memory, if there is such a place.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
export RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1

if [ "$seconds" = merge ]; then
    merged=target/fuzz/merged/$target
    rm -rf "$merged"
    mkdir -p "$merged"
    exec "$binary" -merge=1 -rss_limit_mb=2048 -timeout=10 "$@" "$merged" "$seeds" "$corpus"
fi
if [ "$seconds" = minimize ]; then
    exec "$binary" -minimize_crash=1 -max_total_time=60 -timeout=10 -exact_artifact_path=target/fuzz/minimized "$@"
fi
log=$(mktemp)
status=0
"$binary" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="$artifacts/" "$@" "$corpus" "$seeds" > "$log" 2>&1 || status=$?
grep -E '^(==|SUMMARY|artifact_prefix|thread |stat::|#[0-9]+.*(DONE|INITED))' -A2 "$log" | tail -n 40
inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
echo "$target: ${inputs:-an unknown number of} inputs, $(find "$corpus" -type f | wc -l) kept in $corpus, exit code $status"
[ "$status" = 0 ] || { echo "the whole log: $log" >&2; exit "$status"; }
rm -f "$log"
