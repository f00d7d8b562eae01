#!/usr/bin/env python3
"""Training speed on Multi30k, in alternation with itself or with peers, as a table in Markdown.

    scripts/bench_training.py --size S --compute f32 bf16x3 bf16 --rounds 3
    scripts/bench_training.py --size S tiny base --pytorch python3 --markdown table.md
    scripts/bench_training.py --size S \
        --peer "other --d-model {d_model} --ff {feed_forward} --layers {layers} --heads {heads}"

Each round runs every variant of a size once, so that the load of the machine falls on all of them; only ratios within
one call mean anything. A variant of ours is one short run of the release binary; its figure is the median of its
updates, the first few left out; --set reaches it. --pytorch takes a Python that has torch and tokenizers, and alternates
with scripts/peers/pytorch_train.py in f32 and in bf16, a pinned process on each core. A peer is any other command whose
last line is JSON with the key target_tokens_per_second (and peak_gb, if it knows); the numbers of the size stand where its
name is in braces. Figures are target tokens per second, padding not counted. Needs data/multi30k
(scripts/fetch-multi30k.sh) and target/release/tallow (cargo build --release).
"""
import argparse, json, os, shlex, statistics, subprocess, sys, tempfile

SIZES = {  # d_model, feed_forward, layers of each stack, heads
    "S": (256, 1024, 3, 4),
    "tiny": (128, 256, 4, 4),
    "base": (512, 2048, 6, 8),
}
SKIPPED = 4
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def config(arguments, size, directory):
    d, f, layers, heads = SIZES[size]
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


def ours(arguments, size, compute):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "bench.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config(arguments, size, directory))
        command = [os.path.join(ROOT, "target/release/tallow"), "train", path, "--set", f"train.compute={compute}"]
        command += [word for setting in arguments.set for word in ("--set", setting)]
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


def pytorch(arguments):
    """The commands of PyTorch's program, for the same text, vocabulary and size of updates."""
    command = [arguments.pytorch, os.path.join(ROOT, "scripts/peers/pytorch_train.py")]
    sizes = "--d-model {d_model} --feed-forward {feed_forward} --layers {layers} --heads {heads}"
    same = ["--tokens", str(arguments.tokens), "--vocabulary", str(arguments.vocabulary), "--data", arguments.data]
    return [f"{shlex.join(command)} --dtype {dtype} {sizes} {shlex.join(same)}" for dtype in ("f32", "bf16")]


def named(command):
    """What distinguishes a peer in a table: its program and the flags that neither sizes nor this script set."""
    words = shlex.split(command)
    flags, skip = [], False
    for word, following in zip(words, words[1:] + [""]):
        if skip:
            skip = False
        elif word in ("--tokens", "--vocabulary", "--data") or word.startswith("--") and "{" in following:
            skip = True
        else:
            flags.append(os.path.basename(word))
    return " ".join(flags)


def measure(arguments, size):
    """Speeds, memory and loads of every variant, by name."""
    d, f, layers, heads = SIZES[size]
    places = {"d_model": d, "feed_forward": f, "layers": layers, "heads": heads}
    variants = [(f"tallow {compute}", lambda c=compute: ours(arguments, size, c)) for compute in arguments.compute]
    variants += [(named(command), lambda c=command: peer(c.format(**places))) for command in arguments.peer]
    results = {name: [] for name, _ in variants}
    for number in range(1, arguments.rounds + 1):
        for name, run in variants:
            load = os.getloadavg()[0]
            speed, memory = run()
            results[name].append((speed, memory, load))
            print(f"{size} round {number}  {name:<60}  {speed:8,.0f} tokens/s  {memory:5.2f} GB peak  load {load:.2f}", flush=True)
    return results


def table(arguments, results):
    peers = [named(command) for command in arguments.peer]
    heads = ["size", "", "tokens/s, each round", "median", "peak GB", "load before each"] + [f"x {name}" for name in peers]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for size, variants in results.items():
        medians = {name: statistics.median(speed for speed, _, _ in runs) for name, runs in variants.items()}
        for name, runs in variants.items():
            cells = [size, name, ", ".join(f"{speed:,.0f}" for speed, _, _ in runs), f"{medians[name]:,.0f}"]
            cells += [f"{max(memory for _, memory, _ in runs):.2f}", ", ".join(f"{load:.1f}" for _, _, load in runs)]
            cells += [f"{medians[name] / medians[other]:.2f}" for other in peers]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="*", choices=SIZES, default=["S"])
    parser.add_argument("--compute", nargs="*", default=["f32", "bf16x3", "bf16"], choices=["f32", "bf16x3", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--data", default=os.path.join(ROOT, "data/multi30k"))
    parser.add_argument("--peer", action="append", default=[], help="a command to alternate with; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our configuration")
    parser.add_argument("--pytorch", metavar="PYTHON", help="alternate with PyTorch, run by this Python")
    parser.add_argument("--markdown", help="a file for the table; without it, standard output")
    arguments = parser.parse_args()
    if arguments.updates <= SKIPPED:
        parser.error(f"--updates must be more than {SKIPPED}, which are left out")
    if arguments.pytorch:
        arguments.peer += pytorch(arguments)
    text = table(arguments, {size: measure(arguments, size) for size in arguments.size})
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
