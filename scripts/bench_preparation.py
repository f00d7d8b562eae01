#!/usr/bin/env python3
"""How fast a large corpus is prepared, how soon training begins afterwards, and how much memory both take.

    scripts/bench_preparation.py --pairs 10000000 [--folder DIR] [--updates 50] [--set KEY=VALUE ...] [--keep]

Generates parallel text (the example generated_pairs of tallow-data), or takes that of --tsv FILE. Then it prepares the
text with a learned vocabulary, trains a small model for some updates, and trains the same model on the first thousand
pairs: the difference in memory is what the data takes. Memory is the peak of the resident memory of the process. Needs target/release/tallow (cargo build --release).
"""
import argparse, os, re, shutil, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = """
[data]
train = [{{ tsv = "{tsv}" }}]
prepared = "{folder}/prepared"
[text]
vocabulary = 32000
[model]
d_model = 64
heads = 2
feed_forward = 128
encoder_layers = 1
decoder_layers = 1
[train]
max_updates = {updates}
validate_every = 100000
checkpoint_every = 100000
"""


def measured(command, log):
    """Seconds, and megabytes of memory, of a command."""
    begin = time.perf_counter()
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed: see {log}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--tsv")
    parser.add_argument("--folder")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "tallow"))
    o = parser.parse_args()
    folder = o.folder or tempfile.mkdtemp(prefix="tallow-preparation-")
    os.makedirs(folder, exist_ok=True)
    tsv = os.path.abspath(o.tsv or os.path.join(folder, "pairs.tsv"))
    if not os.path.exists(tsv):
        generate = ["cargo", "run", "--release", "-q", "-p", "tallow-data", "--example", "generated_pairs", "--"]
        with open(tsv, "w") as out:
            subprocess.run(generate + [str(o.pairs)], stdout=out, check=True, cwd=ROOT)
    few = os.path.join(folder, "few.tsv")
    with open(tsv, "rb") as text, open(few, "wb") as out:
        out.writelines(line for line, _ in zip(text, range(1000)))
    settings = [word for each in o.set for word in ("--set", each)]
    for name, path in [("all", tsv), ("few", few)]:
        with open(os.path.join(folder, name + ".toml"), "w") as out:
            out.write(CONFIG.format(tsv=path, folder=folder, updates=o.updates))
        os.utime(path, (time.time() - 60,) * 2)  # text that was written a moment ago is read twice
    run = lambda name, *arguments: [o.binary, *arguments, os.path.join(folder, name + ".toml"), *settings]
    log = os.path.join(folder, "log")
    output = ["--set", f"output={folder}/run", "--overwrite"]
    size = os.path.getsize(tsv) / 1e9
    seconds, memory = measured(run("all", "prepare"), log)
    with open(log) as said:
        said = said.read()
        sys.stdout.write(said)
    print(f"prepared {size:.2f} GB of text: {seconds:.1f} s in all, {memory:.0f} MB of memory")
    seconds, memory = measured(run("all", "prepare"), log)
    with open(log) as said:
        vocabulary = re.search(r"pieces of (\S+),", said.read()).group(1)
    print(f"prepared once more: {seconds:.2f} s, {memory:.0f} MB")
    seconds, training = measured(run("all", "train") + output, log)
    same = ["--set", f"text.path={vocabulary}"]
    few_seconds, base = measured(run("few", "train") + output + same, log)
    print(f"{o.updates} updates: {seconds:.1f} s, {training:.0f} MB; of 1000 pairs {few_seconds:.1f} s, {base:.0f} MB")
    if not o.keep and not o.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
