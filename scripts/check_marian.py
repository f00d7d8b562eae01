#!/usr/bin/env python3
"""Compares a MarianMT directory in Tallow, in Hugging Face's transformers and in CTranslate2: token ids, logits, and greedy
translations and those of a beam, and says which lines differ and why.

    pip install torch transformers sentencepiece protobuf tokenizers ctranslate2 safetensors
    cargo build --release && cargo build --release -p tallow-model --example logits
    python3 scripts/check_marian.py runs/multi30k-en-de/best data/multi30k/test_2016_flickr.en --lines 200
    python3 scripts/check_marian.py ... --reference data/multi30k/test_2016_flickr.de --beams 5      # and BLEU

A translation that differs is explained by the score of ours and of theirs under one and the same model, that of
transformers, as sum of log-probabilities / length:

    tie        equal to 1e-5: rounding decides
    ours wins  the other program's search has missed the better translation that ours found
    theirs     the other way round

Blank lines are left out: Tallow answers them with an empty line, and the others with a sentence. Where the vocabulary was learned
with `text.trim`, lines lose the white space at their ends, of which SentencePiece knows the space alone. A line that begins with
`>>...<<` differs if the vocabulary has no language tags: transformers makes `<unk>` of it, and Tallow reads text.

The exit code is 1 if the ids of a line differ, logits by more than 1e-4, or more translations than --allow are "theirs".
"""

import argparse
import json
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import ctranslate2
import ctranslate2.converters
import torch
import transformers
from safetensors.torch import load_file

from check_sentencepiece import trimmed

TIE = 1e-5


def run(command: list[str], lines: list[str]) -> list[str]:
    text = "".join(line + "\n" for line in lines)
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False, encoding="utf-8")
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: {result.stderr}")
    return result.stdout.split("\n")[:-1]


def is_blank(line: str) -> bool:
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in line)


def lines_of(arguments: argparse.Namespace, path: str) -> list[str]:
    config = Path(arguments.directory) / "tokenizer_config.json"
    trims = config.exists() and json.loads(config.read_text(encoding="utf-8")).get("tallow_trim", False)
    lines = Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    return [trimmed(line) if trims else line for line in lines if not is_blank(line)]


def token_ids(arguments: argparse.Namespace, tokenizer, lines: list[str], target: bool) -> bool:
    command = [arguments.tallow, "tokenizer", "encode", "--ids", arguments.directory, *(["--target"] if target else [])]
    ours = run(command, lines)
    encode = (lambda line: tokenizer(text_target=line)) if target else tokenizer
    theirs = [" ".join(map(str, encode(line).input_ids[:-1])) for line in lines]
    different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    print(f"token ids, {'target' if target else 'source'} side: {len(lines)} lines, {len(different)} differ")
    for i in different[:5]:
        print(f"  line {i + 1}: {lines[i]!r}\n    tallow       {ours[i]}\n    transformers {theirs[i]}")
    return not different


def logits(arguments: argparse.Namespace, model, tokenizer, lines: list[str], translations: list[str]) -> bool:
    pairs = [(tokenizer(a).input_ids, tokenizer(text_target=b).input_ids) for a, b in zip(lines, translations, strict=True)]
    with tempfile.TemporaryDirectory() as place:
        output = str(Path(place) / "logits.safetensors")
        run([arguments.logits, arguments.directory, output], [json.dumps(pair) for pair in pairs])
        ours = load_file(output)
    worst = largest = 0.0
    for i, (source, target) in enumerate(pairs):
        with torch.no_grad():
            start = [model.config.decoder_start_token_id, *target[:-1]]
            theirs = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([start])).logits[0]
        worst = max(worst, (ours[f"logits.{i}"] - theirs).abs().max().item())
        largest = max(largest, theirs.abs().max().item())
    print(f"logits: {len(pairs)} sentences, {model.config.decoder_vocab_size} pieces, largest difference {worst:.1e} "
          f"(largest logit {largest:.1f})")
    return worst <= 1e-4


def of_transformers(model, tokenizer, lines: list[str], beam: int, length: int) -> list[str]:
    translations = []
    for start in range(0, len(lines), 16):
        batch = tokenizer(lines[start : start + 16], return_tensors="pt", padding=True)
        with torch.no_grad():
            # "never": no hypothesis is given up that could still win. Without `renormalize_logits`, the
            # probability that <pad> has would be missing in every score.
            ids = model.generate(**batch, num_beams=beam, max_length=length, length_penalty=1.0,
                                 early_stopping="never" if beam > 1 else False, renormalize_logits=True,
                                 # Cut at the maximum, as the others do it.
                                 forced_eos_token_id=None)
        translations += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return translations


def ctranslate2_of(directory: str):
    with tempfile.TemporaryDirectory() as place:
        converted = str(Path(place) / "model")
        if (Path(directory) / "model.npz").exists():
            vocabularies = [f"{directory}/source.yml", f"{directory}/target.yml"]
            ctranslate2.converters.MarianConverter(f"{directory}/model.npz", vocabularies).convert(converted)
        else:
            ctranslate2.converters.TransformersConverter(directory).convert(converted)
        return ctranslate2.Translator(converted, compute_type="float32")


def of_ctranslate2(translator, tokenizer, lines: list[str], beam: int, length: int, eos: bool) -> list[str]:
    tokens = [tokenizer.convert_ids_to_tokens(tokenizer(line).input_ids)[: None if eos else -1] for line in lines]
    # Patience 2: what it finds with 1 is often not the best of its own beam.
    results = translator.translate_batch(tokens, beam_size=beam, max_decoding_length=length, length_penalty=1.0,
                                         patience=2 if beam > 1 else 1)
    return [tokenizer.decode(ids_of(tokenizer, result.hypotheses[0]), skip_special_tokens=True) for result in results]


def ids_of(tokenizer, pieces: list[str]) -> list[int]:
    table = tokenizer.target_encoder if tokenizer.separate_vocabs else tokenizer.encoder
    return [table.get(piece, table["<unk>"]) for piece in pieces]


def score(model, tokenizer, line: str, translation: str) -> float:
    """Log-probability / length of a translation, `<pad>` left out. Its pieces are those that the text is cut into, which
    may be others than the ones that were found."""
    source = torch.tensor([tokenizer(line).input_ids])
    target = torch.tensor([tokenizer(text_target=translation).input_ids])
    start = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), target[:, :-1]], 1)
    with torch.no_grad():
        logits = model(input_ids=source, decoder_input_ids=start).logits[0]
    logits[:, model.config.pad_token_id] = -torch.inf
    return logits.log_softmax(-1).gather(1, target[0][:, None]).mean().item()


def bleu(arguments: argparse.Namespace, lines: list[str], reference: str) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))
        file.flush()
        scores = json.loads("\n".join(run([arguments.tallow, "score", file.name, "--reference", reference, "--metrics", "bleu",
                                           "--json", "--width", "2"], [])))
    return scores["score"] if isinstance(scores, dict) else scores[0]["score"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="of a MarianMT model; with a model.npz, of `tallow export --form marian`")
    parser.add_argument("text")
    parser.add_argument("--target-text", help="a text whose token ids are compared on the target side")
    parser.add_argument("--reference", help="translations of the whole text; then all of it is translated and scored")
    parser.add_argument("--model", help="what tallow translates with, if it is not the directory")
    parser.add_argument("--tallow", default="target/release/tallow")
    parser.add_argument("--logits", default="target/release/examples/logits")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--allow", type=int, default=0, help="translations that may be better in the other program")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()

    everything = lines_of(arguments, arguments.text)
    tokenizer = transformers.MarianTokenizer.from_pretrained(arguments.directory)
    fine = token_ids(arguments, tokenizer, everything, False)
    if arguments.target_text:
        fine &= token_ids(arguments, tokenizer, lines_of(arguments, arguments.target_text), True)
    is_npz = (Path(arguments.directory) / "model.npz").exists()
    model = None if is_npz else transformers.MarianMTModel.from_pretrained(arguments.directory, dtype=torch.float32).eval()
    # CTranslate2's loader of MarianMT directories has one vocabulary for both sides.
    translator = None if tokenizer.separate_vocabs and not is_npz else ctranslate2_of(arguments.directory)

    lines = everything if arguments.reference else everything[: arguments.lines]
    for beam in arguments.beams:
        command = [arguments.tallow, "translate", arguments.model or arguments.directory, "--beam", str(beam), "--max-length",
                   # Theirs counts the starting <pad>.
                   str(arguments.length - 1), "--length-penalty", "1", "--format", "json",
                   # Until no hypothesis can win any more, as the others are asked to below.
                   "--set", "decode.patience=1000"]
        ours = [json.loads(line)["translation"] for line in run(command, lines)]
        if model and beam == arguments.beams[0]:
            fine &= logits(arguments, model, tokenizer, lines[:50], ours[:50])
        programs = {}
        if model:
            programs["transformers"] = of_transformers(model, tokenizer, lines, beam, arguments.length)
        if translator:
            programs["CTranslate2"] = of_ctranslate2(translator, tokenizer, lines, beam, arguments.length - 1, not is_npz)
        for name, theirs in programs.items():
            different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a.strip() != b.strip()]
            reasons = {"tie": [], "ours wins": [], "theirs": []}
            for i in different:
                if model is None:
                    reasons["theirs"].append(i)
                    continue
                gain = score(model, tokenizer, lines[i], ours[i]) - score(model, tokenizer, lines[i], theirs[i])
                reasons["tie" if abs(gain) <= TIE else "ours wins" if gain > 0 else "theirs"].append(i)
            told = ", ".join(f"{len(found)} {reason}" for reason, found in reasons.items() if found)
            print(f"beam {beam}, {name}: {len(lines)} translations, {len(different)} differ{': ' + told if told else ''}")
            for i in reasons["theirs"][:5]:
                print(f"  line {i + 1}\n    tallow {ours[i]}\n    theirs {theirs[i]}")
            fine &= len(reasons["theirs"]) <= arguments.allow
        if arguments.reference:
            scores = {name: bleu(arguments, found, arguments.reference) for name, found in {"Tallow": ours, **programs}.items()}
            print(f"beam {beam}, BLEU: " + ", ".join(f"{name} {value:.2f}" for name, value in scores.items()))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
