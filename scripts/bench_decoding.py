#!/usr/bin/env python3
"""Decoding speed against CTranslate2 and Marian, as a table in Markdown.

    scripts/bench_decoding.py --size S opus --compute f32 int8 --beam 1 5 --rounds 5 --ctranslate2 PYTHON --marian PYTHON

Each round runs every variant once, so that the load of the machine falls on all of them; only ratios within one call
mean anything. Models have random weights, and every translation has exactly 20 tokens. PYTHON has ctranslate2, torch,
transformers and sentencepiece, or pymarian and sentencepiece (scripts/peers/). Marian runs in f32 and ends by itself,
near 20 tokens. --avx2 limits all of them to AVX2. Peers translate the lines once before they are timed. So ours is the
time of `tallow translate` for the lines twice over, less that for the lines once: no program counts its start and its
first use of memory, but ours counts tokenization. The last column is a cold process that translates one line. Needs
data/multi30k (scripts/fetch-multi30k.sh) and target/release/tallow (cargo build --release).
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIZES = {  # flags of the model, and the numbers of sentences for greedy search and for beams: batches must be full
    "S": ("--d-model 256 --ff 1024 --layers 3 --heads 4 --pieces 8000", (1000, 1000)),
    "opus": ("--d-model 512 --ff 2048 --layers 6 --heads 8 --pieces 58101", (900, 200)),
}
LENGTH = 20


def seconds(command):
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def rate(command):
    """Tokens a second of a peer; none if it cannot compute in this format on this processor."""
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        print(found.stderr.splitlines()[-1:], file=sys.stderr)
        return []
    return [json.loads(found.stdout.splitlines()[-1])["tokens_per_second"]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["S"])
    parser.add_argument("--compute", nargs="+", default=["f32", "int8"])
    parser.add_argument("--beam", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ctranslate2", metavar="PYTHON")
    parser.add_argument("--marian", metavar="PYTHON")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--models", default=os.path.join(tempfile.gettempdir(), "tallow-bench-models"))
    parser.add_argument("--data", default=os.path.join(ROOT, "data", "multi30k"))
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "tallow"))
    o = parser.parse_args()
    peers = os.path.join(ROOT, "scripts", "peers")
    if o.avx2:  # CTranslate2 itself, and the libraries that compute its products
        for name in ("CT2_FORCE_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"):
            os.environ[name] = "AVX2"
    print("| size | beam | compute | Tallow, tokens/s | CTranslate2 | ratio | Marian | cold start, one line |")
    print("|---|---|---|---|---|---|---|---|")
    for size in o.size:
        flags, counts = SIZES[size]
        model = os.path.join(o.models, size)
        if not os.path.exists(os.path.join(model, "tokenizer_config.json")):
            if not o.ctranslate2:
                sys.exit("the first call makes the models; it needs --ctranslate2 PYTHON")
            subprocess.run([o.ctranslate2, os.path.join(peers, "random_marian.py"), model, "--data", o.data]
                           + flags.split(), check=True, stderr=subprocess.DEVNULL)
        text = open(os.path.join(o.data, "test_2016_flickr.en"), encoding="utf-8").read().splitlines()
        for beam in o.beam:
            lines, inputs = text[:counts[beam > 1]], {}
            for name, some in (("all", lines), ("twice", 2 * lines), ("one", lines[:1])):
                inputs[name] = os.path.join(o.models, f"{size}.{name}")
                with open(inputs[name], "w", encoding="utf-8") as file:
                    file.writelines(line + "\n" for line in some)
            for compute in o.compute:
                ours, theirs, marian, cold = [], [], [], []
                for _ in range(o.rounds):
                    times = {name: seconds([o.binary, "translate", model, "--input", path, "--beam", str(beam),
                                            "--min-length", str(LENGTH), "--max-length", str(LENGTH),
                                            "--compute", compute] + ["--instructions", "avx2"] * o.avx2)
                             for name, path in inputs.items()}
                    cold.append(times["one"])
                    ours.append(len(lines) * LENGTH / (times["twice"] - times["all"]))
                    common = [model, "--input", inputs["all"], "--beam", str(beam)]
                    if o.ctranslate2:
                        theirs += rate([o.ctranslate2, os.path.join(peers, "ctranslate2_decode.py")] + common
                                       + ["--compute", compute, "--length", str(LENGTH)])
                    if o.marian and compute == "f32":
                        marian += rate([o.marian, os.path.join(peers, "marian_decode.py")] + common
                                       + ["--tallow", o.binary])
                speed = statistics.median(ours)
                peer = statistics.median(theirs) if theirs else None
                name = "greedy" if beam == 1 else f"beam {beam}"
                print(f"| {size} | {name} | {compute} | {speed:,.0f} | {f'{peer:,.0f}' if peer else ''} "
                      f"| {f'{speed / peer:.2f}' if peer else ''} "
                      f"| {f'{statistics.median(marian):,.0f}' if marian else ''} | {statistics.median(cold):.2f} s |",
                      flush=True)


main()
