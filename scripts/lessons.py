#!/usr/bin/env python3
"""Makes the figures and pictures of docs/lessons anew.

    cargo build --release
    python3 scripts/lessons.py target/release/tallow

Trains the shipped toy, number words from English to German, for 120 updates with three seeds for every line of the tables:
some quarter of an hour on two cores. Runs lie in runs/lessons; the same command goes on after a kill. It writes
docs/lessons/figures.md and docs/lessons/cost.svg.
"""
import json, os, platform, statistics, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = "configs/numbers-en-de.toml"
SHORT = ["train.max_updates=120", "train.validate_every=120", "train.checkpoint_every=120"]
SEEDS = (1, 2, 3)

# A table for each lesson that has runs of its own: what is trained, and the settings.
TABLES = {
    "Tokens and vocabulary": [
        (f"{pieces} pieces", [f"text.vocabulary={pieces}"]) for pieces in (60, 100, 300, 1000)],
    "Positions": [
        ("sines and cosines", []), ("learned", ["model.positions='learned'"]), ("none", ["model.positions='none'"])],
    "Scaling, by the width of a head": [
        (f"{heads} head{'s' if heads > 1 else ''} of {128 // heads}, " + ("scaled" if scaled else "not scaled"),
         [f"model.heads={heads}", f"model.scale_attention={str(scaled).lower()}"])
        for heads in (1, 4, 16) for scaled in (True, False)],
    "Adam beside SGD": [("Adam, rate 0.003", [])] + [
        (f"SGD, rate {rate}", ["train.optimizer='sgd'", f"train.learning_rate={rate}"]) for rate in (0.1, 1.0, 10.0)],
}


def tallow(binary, *arguments):
    run = subprocess.run([binary, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"tallow {' '.join(arguments)}:\n{run.stderr[-2000:]}")
    return run.stdout


def exact_match(binary, name, changes):
    """Percent of the unseen numbers that one run translates exactly."""
    directory = os.path.join("runs", "lessons", name)
    record = os.path.join(ROOT, directory, "run.json")
    if not os.path.exists(record) or not json.load(open(record)).get("results"):
        sets = [part for change in SHORT + changes for part in ("--set", change)]
        tallow(binary, "train", CONFIG, "--overwrite", "--set", f"output='{directory}'", *sets)
    return json.load(open(record))["results"]["test"]["exact_match"]


def processor():
    for line in open("/proc/cpuinfo", encoding="utf-8") if os.path.exists("/proc/cpuinfo") else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "an unknown processor"


def main():
    binary = os.path.abspath(sys.argv[1])
    lines = ["# Figures of the lessons", "",
             "Made by `scripts/lessons.py`: [numbers-en-de](../../configs/numbers-en-de.toml), 120 updates, seeds 1 to 3; percent of",
             f"1,000 unseen numbers that are translated exactly, mean ± standard deviation. {os.cpu_count()} cores of {processor()}.", ""]
    for title, rows in TABLES.items():
        lines += [f"## {title}", "", "| what is trained | right, % | runs |", "|---|--:|---|"]
        for number, (what, changes) in enumerate(rows):
            name = f"{title.split()[0].lower().strip(',')}-{number}"
            values = [exact_match(binary, f"{name}-{seed}", [*changes, f"seed={seed}"]) for seed in SEEDS]
            told = ", ".join(f"{value:.1f}" for value in values)
            lines.append(f"| {what} | {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} | {told} |")
            print(lines[-1], flush=True)
        lines.append("")
    sets = [part for change in SHORT for part in ("--set", change)]
    tallow(binary, "ablate", CONFIG, *sets, "--output", "runs/lessons/ablation")
    with open(os.path.join(ROOT, "runs", "lessons", "ablation", "ablation.md"), encoding="utf-8") as file:
        lines += ["## Every part switched off", "", *file.read().rstrip("\n").split("\n"), ""]
    cost = tallow(binary, "cost", CONFIG, "--svg", "docs/lessons/cost.svg")
    lines += ["## What a sentence costs", "", "`tallow cost configs/numbers-en-de.toml`", "", "```text", cost.rstrip("\n"), "```"]
    with open(os.path.join(ROOT, "docs", "lessons", "figures.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


main()
