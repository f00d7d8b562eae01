#!/usr/bin/env python3
"""Compares a model directory written by Tallow in Tallow, in Hugging Face's transformers and in CTranslate2: token ids,
greedy translations and those of a beam, and says which lines differ.

    pip install torch transformers sentencepiece ctranslate2
    cargo build --release
    python3 scripts/check_marian.py runs/multi30k-en-de/best data/multi30k/test_2016_flickr.en --lines 200

The exit code is 1 if a line's ids differ, or more translations than --allow. Scores of hypotheses that are equal to f32's
accuracy may fall out one way here and another way there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ctranslate2
import ctranslate2.converters
import torch
import transformers


def tallow(arguments: argparse.Namespace, command: list[str], lines: list[str]) -> list[str]:
    text = "".join(line + "\n" for line in lines)
    result = subprocess.run([arguments.tallow, *command], input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: {result.stderr}")
    return result.stdout.split("\n")[:-1]


def of_transformers(model, tokenizer, lines: list[str], beam: int, length: int) -> list[str]:
    translations = []
    for start in range(0, len(lines), 16):
        batch = tokenizer(lines[start : start + 16], return_tensors="pt", padding=True)
        with torch.no_grad():
            # "never": no hypothesis is given up that could still win, which is Tallow's rule too.
            ids = model.generate(**batch, num_beams=beam, max_length=length, length_penalty=1.0, early_stopping="never")
        translations += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return translations


def of_ctranslate2(directory: str, tokenizer, lines: list[str], beam: int, length: int) -> list[str]:
    with tempfile.TemporaryDirectory() as place:
        converted = str(Path(place) / "model")
        ctranslate2.converters.TransformersConverter(directory).convert(converted)
        translator = ctranslate2.Translator(converted, compute_type="float32")
        tokens = [tokenizer.convert_ids_to_tokens(tokenizer(line).input_ids) for line in lines]
        results = translator.translate_batch(tokens, beam_size=beam, max_decoding_length=length, length_penalty=1.0)
        ids = [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("text")
    parser.add_argument("--tallow", default="target/release/tallow")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--allow", type=int, default=0, help="translations that may differ, of each program and beam")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()

    everything = Path(arguments.text).read_text(encoding="utf-8").split("\n")[:-1]
    tokenizer = transformers.MarianTokenizer.from_pretrained(arguments.directory)
    model = transformers.MarianMTModel.from_pretrained(arguments.directory).eval()

    ours = tallow(arguments, ["tokenizer", "encode", "--ids", arguments.directory], everything)
    theirs = [" ".join(map(str, tokenizer(line).input_ids[:-1])) for line in everything]
    different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    print(f"token ids: {len(everything)} lines, {len(different)} differ")
    for i in different[:5]:
        print(f"  line {i + 1}: {everything[i]!r}\n    tallow       {ours[i]}\n    transformers {theirs[i]}")
    failed = bool(different)

    lines = everything[: arguments.lines]
    for beam in arguments.beams:
        ours = tallow(arguments, ["translate", arguments.directory, "--beam", str(beam), "--max-length",
                                  str(arguments.length), "--format", "json"], lines)
        ours = [json.loads(line)["translation"] for line in ours]
        programs = {
            "transformers": of_transformers(model, tokenizer, lines, beam, arguments.length),
            "CTranslate2": of_ctranslate2(arguments.directory, tokenizer, lines, beam, arguments.length),
        }
        for name, theirs in programs.items():
            different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a.strip() != b.strip()]
            print(f"beam {beam}, {name}: {len(lines)} translations, {len(different)} differ")
            for i in different[:5]:
                print(f"  line {i + 1}\n    tallow {ours[i]}\n    theirs {theirs[i]}")
            failed |= len(different) > arguments.allow
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
