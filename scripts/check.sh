#!/usr/bin/env bash
# Every check of the project; .ci/run and `just check` only call this. Needs cargo and a C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "== format"
cargo fmt --all --check

echo "== clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings

echo "== tests (the README's command)"
cargo test --workspace

# The feature `mpi` needs an MPI library, and libclang to read its headers.
if command -v mpicc >/dev/null && command -v mpirun >/dev/null && ls /usr/lib/llvm*/lib/libclang*.so* >/dev/null 2>&1; then
    echo "== several processes (MPI)"
    cargo clippy --workspace --all-targets --features tallow-cli/mpi --quiet -- -D warnings
    cargo test --workspace --features tallow-cli/mpi --test ranks
else
    echo "== several processes: skipped, there is no MPI library or no libclang (Debian: openmpi-bin libopenmpi-dev libclang-dev)"
fi

echo "== pages"
if command -v python3 >/dev/null; then
    python3 scripts/check_pages.py target/debug/tallow
else
    echo "pages: skipped, there is no python3 here"
fi

# Crates with C code of others need a cross compiler and are left out.
aarch64=aarch64-unknown-linux-gnu
if [ -d "$(rustc --print sysroot)/lib/rustlib/$aarch64" ]; then
    echo "== another architecture ($aarch64)"
    cargo clippy --target "$aarch64" -p tallow-train --quiet -- -D warnings
else
    echo "== another architecture: skipped, \`rustup target add $aarch64\` brings its standard library"
fi

echo "== documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

echo "all checks passed"
