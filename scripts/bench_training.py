#!/usr/bin/env python3
"""Training speed on Multi30k, in alternation with itself or with a peer.

    scripts/bench_training.py --size S --compute f32 bf16 --rounds 3
    scripts/bench_training.py --size tiny --compute bf16 --peer "python3 peer.py --d-model 128"

Each round runs every variant once, so that the load of the machine falls on all of them; only ratios within one call
mean anything. A variant of ours is one short run of the release binary; its figure is the median of its updates, the
first few left out. A peer is any command whose last line is JSON with the key target_tokens_per_second. Figures are
target tokens per second, padding not counted. Needs data/multi30k (scripts/fetch-multi30k.sh) and target/release/tallow
(cargo build --release).
"""
import argparse, json, os, shlex, statistics, subprocess, sys, tempfile

SIZES = {  # d_model, feed_forward, layers of each stack, heads
    "S": (256, 1024, 3, 4),
    "tiny": (128, 256, 4, 4),
    "base": (512, 2048, 6, 8),
}
SKIPPED = 4
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def config(arguments, directory):
    d, f, layers, heads = SIZES[arguments.size]
    data = os.path.abspath(arguments.data)
    return f"""name = "bench"
output = "{directory}/run"
[text]
kind = "bpe"
vocabulary = {arguments.vocabulary}
byte_fallback = false
[data]
train = [{{ source = "{data}/train.en", target = "{data}/train.de" }}]
batch_tokens = {arguments.tokens}
[model]
d_model = {d}
feed_forward = {f}
encoder_layers = {layers}
decoder_layers = {layers}
heads = {heads}
dropout = 0.1
[train]
max_updates = {arguments.updates}
label_smoothing = 0.1
validate_every = 1000000
checkpoint_every = 1000000
log_every = 1
"""


def ours(arguments, compute):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "bench.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config(arguments, directory))
        command = [os.path.join(ROOT, "target/release/tallow"), "train", path, "--set", f"train.compute={compute}"]
        # A child of its own, so that its peak of memory is not that of an earlier round.
        code = (
            "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
            "sys.stderr.write(r.stderr if r.returncode else '');"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
        )
        output = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
        with open(os.path.join(directory, "run", "timing.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        speeds = [line["target_tokens_per_second"] for line in lines if line.get("update", 0) > SKIPPED]
        return statistics.median(s for s in speeds if s), int(output.stdout) / 1e6


def peer(command):
    output = subprocess.run(shlex.split(command), check=True, capture_output=True, text=True).stdout
    result = json.loads(output.strip().splitlines()[-1])
    return result["target_tokens_per_second"], result.get("peak_gb", float("nan"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--compute", nargs="*", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--data", default=os.path.join(ROOT, "data/multi30k"))
    parser.add_argument("--peer", action="append", default=[], help="a command to alternate with; may be repeated")
    arguments = parser.parse_args()
    if arguments.updates <= SKIPPED:
        parser.error(f"--updates must be more than {SKIPPED}, which are left out")
    variants = [(f"tallow {compute}", lambda c=compute: ours(arguments, c)) for compute in arguments.compute]
    variants += [(command[-48:], lambda c=command: peer(c)) for command in arguments.peer]
    results = {name: [] for name, _ in variants}
    for number in range(1, arguments.rounds + 1):
        for name, run in variants:
            load = os.getloadavg()[0]
            speed, memory = run()
            results[name].append(speed)
            print(f"round {number}  {name:<48}  {speed:8,.0f} tokens/s  {memory:5.2f} GB peak  load {load:.2f}", flush=True)
    first = statistics.median(results[variants[-1][0]])
    for name, speeds in results.items():
        median = statistics.median(speeds)
        print(f"median   {name:<48}  {median:8,.0f} tokens/s  {median / first:5.2f} x the last")


if __name__ == "__main__":
    main()
