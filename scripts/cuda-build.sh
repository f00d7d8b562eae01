#!/usr/bin/env bash
# Builds with the feature `cuda` on a machine with neither GPU, driver nor CUDA toolkit.
#
#   scripts/cuda-build.sh                                    build --release --features cuda
#   scripts/cuda-build.sh test --features cuda --no-run      or any other arguments for cargo
#
# Needs Linux on x86-64, cargo, gcc, and python3 with pip, which fetches the compiler from PyPI's CUDA 13.0 wheels.
# They are kept in ${XDG_CACHE_HOME:-~/.cache}/tallow-cuda, which may be deleted at any time. The results are below
# target/cuda (or $CARGO_TARGET_DIR/cuda), beside those of builds without CUDA.
#
# The binary needs no CUDA to start: it opens the CUDA libraries when it first uses them (cuda-stubs.py), and where
# they are missing a CUDA device is an error and the CPU works. To use a GPU it needs the driver (580 or newer) and
# cuBLAS, cuRAND and NVRTC of CUDA 13: installed in the system, or for example from a Python environment that has
# the wheels nvidia-cublas, nvidia-curand and nvidia-cuda-nvrtc, with LD_LIBRARY_PATH on its nvidia/cu13/lib.
#
#   CUDA_COMPUTE_CAP=90    compute capability of the GPU without its dot. 90, Hopper, by default. Kernels for 90 run
#                          on 9.0 only; those for 80, 86 or 89 also on newer GPUs.
#   QUANTIZED=1            keeps Candle's kernels for quantized tensors: many more minutes. Without them, a program
#                          that uses quantized tensors on CUDA does not link.
set -euo pipefail

fail() {
    echo "cuda-build.sh: $1" >&2
    exit 1
}

case ${1-} in
-h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit
    ;;
"") set -- build --release --features cuda ;;
esac

[ "$(uname -sm)" = "Linux x86_64" ] || fail "only Linux on x86-64 is supported, this is $(uname -sm)"
for program in cargo gcc ar python3; do
    command -v "$program" >/dev/null || fail "$program is missing: please install it"
done
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: please install it (python3-pip)"

# Versions that belong together: those of cuda-toolkit 13.0.2. Not newer than 13.0, because kernels travel as PTX,
# which the driver compiles, and a driver rejects PTX of a newer CUDA than its own.
wheels=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-cuda-cccl==13.0.85
    nvidia-cuda-runtime==13.0.96
)
export CUDARC_CUDA_VERSION=13000

stubs=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/cuda-stubs.py
packages=$(cargo metadata --format-version 1 --all-features --filter-platform x86_64-unknown-linux-gnu) ||
    fail "run this in the project's folder"
cudarc=$(python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "cudarc":
        print(os.path.dirname(package["manifest_path"]))' <<<"$packages")
[ -d "$cudarc" ] || fail "expected one crate cudarc among the dependencies, found: ${cudarc:-none}"

# The toolkit's folder is named by what it is made of, and appears only when it is complete.
made_of=$({ echo "${wheels[@]}" "$(basename "$cudarc")"; cat "$stubs" "${BASH_SOURCE[0]}"; } | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tallow-cuda
toolkit=$cache/$made_of
if [ ! -d "$toolkit" ]; then
    echo "cuda-build.sh: making the toolkit in $toolkit" >&2
    mkdir -p "$cache"
    scratch=$(mktemp -d "$cache/unfinished.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
        --target "$scratch" "${wheels[@]}" || fail "pip could not fetch the CUDA wheels from PyPI"
    new=$scratch/nvidia/cu13
    [ -x "$new/bin/nvcc" ] || fail "the CUDA wheels have another layout than expected: no nvidia/cu13/bin/nvcc"

    # The runtime library is linked statically (it finds the driver by itself), everything else through stand-ins.
    rm -f "$new"/lib/libcudart.so*
    mv "$new/lib/libcudart_static.a" "$new/lib/libcudart.a"
    python3 "$stubs" "$cudarc" "$new/lib"
    ln -s lib "$new/lib64" # where nvcc looks

    # An nvcc that makes empty objects of the kernels for quantized tensors.
    mkdir "$new/bin/without-quantized"
    cat >"$new/bin/without-quantized/nvcc" <<'NVCC'
#!/bin/sh
compile= quantized= object= last=
for argument in "$@"; do
    [ "$last" = -o ] && object=$argument
    case $argument in
    -c) compile=1 ;;
    */moe_*.cu | */mmvq_*.cu | */mmq_*.cu) quantized=1 ;;
    esac
    last=$argument
done
[ "$compile$quantized" = 11 ] && exec gcc -x c -c /dev/null -o "$object"
exec "$(dirname "$0")/../nvcc" "$@"
NVCC
    chmod +x "$new/bin/without-quantized/nvcc"
    mv -T "$new" "$toolkit" 2>/dev/null || [ -d "$toolkit" ] || fail "could not write $toolkit"
    rm -rf "$scratch"
    trap - EXIT
fi

export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export CUDA_HOME=$toolkit
unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB # cudarc would look there too
export PATH=$toolkit/bin:$PATH
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
if [ "${QUANTIZED:-0}" = 1 ]; then
    export NVCC=$toolkit/bin/nvcc
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda-quantized
else
    export NVCC=$toolkit/bin/without-quantized/nvcc
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda
fi
exec cargo "$@"
