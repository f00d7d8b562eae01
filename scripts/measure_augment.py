#!/usr/bin/env python3
"""Measures how models translate text as people type it: the table of docs/data.md, "Changed pairs".

    python3 scripts/measure_augment.py --source test.en --target test.de runs/plain runs/augmented

Changes a test set in several ways, translates it with each model, and prints BLEU (that of `tallow score`) and, where
something must be copied, how often it was. The changes are made here, and not by the code that training uses.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FACES = "😀😂😍😎😭😡🤔🙏👍🎉"


def word(rng):
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(4, 10)))


def with_item(rng, source, target, item):
    """The item before the final mark, at the beginning, or at the end of both sides."""
    place = rng.randrange(3)
    if place == 0:
        return f"{item} {source}", f"{item} {target}"
    if place == 1:
        return f"{source} {item}", f"{target} {item}"
    def before_mark(line):
        bare = line.rstrip(".!?")
        return f"{bare} {item}{line[len(bare):]}"
    return before_mark(source), before_mark(target)


def in_the_middle(rng, source, item):
    words = source.split()
    at = rng.randint(1, max(1, len(words) - 1))
    return " ".join(words[:at] + [item] + words[at:])


def with_typos(rng, source):
    words = source.split()
    for at in rng.sample(range(len(words)), max(1, len(words) // 8)):
        text = words[at]
        if len(text) < 4 or not text.isalpha():
            continue
        i = rng.randrange(len(text) - 1)
        words[at] = rng.choice([
            text[:i] + text[i + 1] + text[i] + text[i + 2:],
            text[:i] + text[i + 1:],
            text[:i] + text[i] + text[i:],
        ])
    return " ".join(words)


def url(rng):
    return f"https://www.{word(rng)}.com/{word(rng)}/{rng.randint(1, 999)}"


def variants(pairs):
    """Name, sources, references, and what each translation must contain."""
    def one(name, change):
        rng = random.Random(name)
        changed = [change(rng, source, target) for source, target in pairs]
        return name, *(list(column) for column in zip(*changed))

    def item(make):
        def change(rng, source, target):
            made = make(rng)
            return *with_item(rng, source, target, made), made
        return change

    def middle(make):
        def change(rng, source, target):
            made = make(rng)
            return in_the_middle(rng, source, made), target, made
        return change

    yield one("as it is", lambda rng, s, t: (s, t, ""))
    yield one("capitals", lambda rng, s, t: (s.upper(), t.upper(), ""))
    yield one("a capital for each word", lambda rng, s, t: (s.title(), t.title(), ""))
    yield one("typing errors", lambda rng, s, t: (with_typos(rng, s), t, ""))
    yield one("no final mark", lambda rng, s, t: (s.rstrip(".!?"), t.rstrip(".!?"), ""))
    yield one("an URL", item(url))
    yield one("an e-mail address", item(lambda rng: f"{word(rng)}.{word(rng)}@{word(rng)}.org"))
    yield one("a placeholder", item(lambda rng: rng.choice(["{amount}", "%s", "%(city)s", "{3}"])))
    yield one("an emoji", item(lambda rng: rng.choice(FACES)))
    yield one("an emoji in the middle", middle(lambda rng: rng.choice(FACES)))
    yield one("an URL in the middle", middle(url))
    joined = [pairs[i:i + 3] for i in range(0, len(pairs) - 2, 3)]
    sources = [" ".join(source for source, _ in group) for group in joined]
    targets = [" ".join(target for _, target in group) for group in joined]
    yield "three sentences on a line", sources, targets, [""] * len(joined)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--tallow", default="target/release/tallow")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="one more column: the last model with decode.keep")
    arguments = parser.parse_args()
    lines = [Path(path).read_text().splitlines()[:arguments.lines] for path in (arguments.source, arguments.target)]
    columns = [(Path(model).name, [model]) for model in arguments.models]
    if arguments.keep:
        name, model = columns[-1]
        kinds = 'decode.keep=["url", "email", "tag", "emoji"]'
        columns.append((f"{name}, with decode.keep", [*model, "--set", kinds]))
    print("| input | " + " | ".join(name for name, _ in columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for name, sources, references, items in variants(list(zip(*lines))):
            (place / "source").write_text("".join(line + "\n" for line in sources))
            (place / "reference").write_text("".join(line + "\n" for line in references))
            cells = []
            for _, model in columns:
                with open(place / "source") as source, open(place / "hypothesis", "w") as hypothesis:
                    subprocess.run([arguments.tallow, "translate", *model], stdin=source, stdout=hypothesis,
                                   stderr=subprocess.DEVNULL, check=True)
                score = subprocess.run(
                    [arguments.tallow, "score", str(place / "hypothesis"), "--reference", str(place / "reference"),
                     "--metrics", "bleu", "--json"], capture_output=True, text=True, check=True)
                found = json.loads(score.stdout)
                bleu = (found[0] if isinstance(found, list) else found)["score"]
                cell = f"{bleu:.1f} BLEU"
                if any(items):
                    output = (place / "hypothesis").read_text().splitlines()
                    copied = sum(item in line for item, line in zip(items, output))
                    cell += f", {100 * copied / len(items):.1f} % copied"
                cells.append(cell)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
