#!/usr/bin/env python3
"""Stand-ins for the CUDA libraries, to link against where there is no CUDA. Called by cuda-build.sh.

For every CUDA library that the crate cudarc binds, a static archive `lib<name>.a` with one function of each name.
A function works as an entry of an ELF procedure linkage table does under lazy binding: it jumps through a slot; at
first the slot leads to a resolver, which opens the real library (dlopen), finds the real function, stores its
address in the slot and continues there with all arguments untouched. So a program linked this way names no CUDA
library as needed, starts without any, and uses the real ones where they are.

Where the library or the function is missing, the call returns an error code of that library. That is silent for
the driver, because a machine without one is an ordinary machine without GPU; a missing library beside an existing
driver is reported on standard error, once.

x86-64 Linux only: the resolver is assembly, because only there can arguments of unknown types be kept.
"""

import argparse
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Library:
    """One CUDA library: its name for the linker, cudarc's module of bindings, the files that may hold it at run
    time in the order of preference, and the code that its functions return where it is missing."""

    name: str
    module: str
    files: tuple[str, ...]
    missing: str


# Major versions are those of CUDA 13.
LIBRARIES = [
    Library("cuda", "driver", ("libcuda.so.1",), "CUDA_ERROR_STUB_LIBRARY"),
    Library("cublas", "cublas", ("libcublas.so.13",), "CUBLAS_STATUS_NOT_INITIALIZED"),
    Library("cublasLt", "cublaslt", ("libcublasLt.so.13",), "CUBLAS_STATUS_NOT_INITIALIZED"),
    Library("curand", "curand", ("libcurand.so.10",), "CURAND_STATUS_INITIALIZATION_FAILED"),
    Library("nvrtc", "nvrtc", ("libnvrtc.so.13",), "NVRTC_ERROR_INTERNAL_ERROR"),
    Library("nccl", "nccl", ("libnccl.so.2",), "ncclSystemError"),
]

# The registers that carry arguments (rax counts the vector registers of a variadic call), and the rest of the stack
# frame: eight vector registers, and eight bytes that align the stack to 16 for the call.
INTEGER_REGISTERS = ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax"]
VECTOR_REGISTERS = [f"xmm{number}" for number in range(8)]
FRAME = 16 * len(VECTOR_REGISTERS) + 8


def functions(bindings: str) -> dict[str, bool]:
    """Name of every bound function, and whether it returns a text instead of a code."""
    found = re.findall(r"^pub unsafe fn (\w+)([^{]*)\{", bindings, re.MULTILINE)
    # cudarc's own functions, which are not the library's: `culib` and `is_culib_present`.
    return {name: bool(re.search(r"-> \*const [\w:]*c_char\s*$", rest)) for name, rest in found if "culib" not in name}


def assembly(library: Library, names: list[str]) -> str:
    """The functions, their slots and the way to the resolver."""
    lines = [".text"]
    for index, name in enumerate(names):
        lines += [f".globl {name}", f".type {name}, @function", f"{name}:", f"    jmp *.Lslots+{8 * index}(%rip)"]
        lines += [f".Lfirst{index}:", f"    pushq ${index}", "    jmp .Lresolve"]
    lines += [".Lresolve:"]
    lines += [f"    pushq %{register}" for register in INTEGER_REGISTERS]
    lines += [f"    subq ${FRAME}, %rsp"]
    lines += [f"    movups %{register}, {16 * at}(%rsp)" for at, register in enumerate(VECTOR_REGISTERS)]
    lines += [f"    movq {FRAME + 8 * len(INTEGER_REGISTERS)}(%rsp), %rdi"]  # the index that was pushed first
    lines += ["    leaq .Lslots(%rip), %rsi", f"    call resolve_{library.name}", "    movq %rax, %r11"]
    lines += [f"    movups {16 * at}(%rsp), %{register}" for at, register in enumerate(VECTOR_REGISTERS)]
    lines += [f"    addq ${FRAME}, %rsp"]
    lines += [f"    popq %{register}" for register in reversed(INTEGER_REGISTERS)]
    lines += ["    addq $8, %rsp", "    jmp *%r11"]
    lines += ['.section .data.rel.local, "aw"', ".balign 8", ".Lslots:"]
    lines += [f"    .quad .Lfirst{index}" for index in range(len(names))]
    lines += ['.section .note.GNU-stack, "", @progbits']
    return "\n".join(lines) + "\n"


RESOLVER = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static const char *const functions[] = {@FUNCTIONS@};
static const char returns_text[] = {@RETURNS_TEXT@};
static const char *const files[] = {@FILES@};
static const int silent = @SILENT@;

static void *library;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

static long missing(void) { return @MISSING@; }
static const char *missing_text(void) { return "the library lib@NAME@ is missing"; }

static void open_library(void) {
    for (unsigned at = 0; !library && at < sizeof files / sizeof *files; at++)
        library = dlopen(files[at], RTLD_NOW | RTLD_LOCAL);
    if (!library && !silent)
        fprintf(stderr, "%s\nput the folders of the CUDA 13 libraries into LD_LIBRARY_PATH\n", dlerror());
}

__attribute__((visibility("hidden"))) void *resolve_@NAME@(unsigned long index, void **slots) {
    pthread_once(&opened, open_library);
    void *function = library ? dlsym(library, functions[index]) : NULL;
    if (library && !function)
        fprintf(stderr, "lib@NAME@ has no function %s: is it older than CUDA 13.0?\n", functions[index]);
    if (!function)
        function = returns_text[index] ? (void *)missing_text : (void *)missing;
    __atomic_store_n(&slots[index], function, __ATOMIC_RELEASE);
    return function;
}
"""


def resolver(library: Library, found: dict[str, bool], code: str) -> str:
    """The C side: opens the library and finds functions in it."""
    parts = {
        "FUNCTIONS": ", ".join(f'"{name}"' for name in found),
        "RETURNS_TEXT": ", ".join(str(int(text)) for text in found.values()),
        "FILES": ", ".join(f'"{file}"' for file in library.files),
        "SILENT": str(int(library.name == "cuda")),
        "MISSING": code,
        "NAME": library.name,
    }
    return re.sub(r"@(\w+)@", lambda part: parts[part[1]], RESOLVER)


def build(library: Library, cudarc: Path, output: Path) -> None:
    """Writes one archive."""
    path = cudarc / "src" / library.module / "sys" / "mod.rs"
    bindings = path.read_text()
    found = functions(bindings)
    code = re.search(rf"\b{library.missing} = (\d+)", bindings)
    if not found or not code:
        raise SystemExit(f"{path}: no functions or no {library.missing}: has this version of cudarc another layout?")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "functions.s").write_text(assembly(library, list(found)))
        (folder / "resolver.c").write_text(resolver(library, found, code[1]))
        subprocess.run(["gcc", "-c", "functions.s"], cwd=folder, check=True)
        subprocess.run(["gcc", "-c", "-O2", "-fPIC", "-Wall", "resolver.c"], cwd=folder, check=True)
        archive = output / f"lib{library.name}.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "crs", archive.resolve(), "functions.o", "resolver.o"], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cudarc", type=Path, help="folder of the crate cudarc, whose bindings name the functions")
    parser.add_argument("output", type=Path, help="folder for the archives")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        build(library, arguments.cudarc, arguments.output)


if __name__ == "__main__":
    main()
