#!/usr/bin/env python3
"""Checks that a learned tokenizer.json and a SentencePiece model of the same pieces give the same ids.

The model is put together here from the pieces alone, without merges, which is what `.spm` files hold. Works
for `kind = "bpe"`, "unigram" and "char" with `normalization = "none"`, with and without `trim`; with it, lines lose the white
space at their ends before SentencePiece sees them, because it removes spaces alone.

    pip install tokenizers sentencepiece protobuf
    python3 scripts/check_sentencepiece.py tokenizer.json text.txt ...
"""

import argparse
import json
import sys

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as proto

Piece = proto.ModelProto.SentencePiece


WITHOUT_WIDTH = "\u200b\u2060\ufeff"


def trimmed(line: str) -> str:
    """A line without white space and characters without width at its ends. Python also strips U+001C to U+001F, which are
    white space to it alone."""
    start, end = 0, len(line)
    is_white = lambda c: c in WITHOUT_WIDTH or (c.isspace() and not "\x1c" <= c <= "\x1f")  # noqa: E731
    while start < end and is_white(line[start]):
        start += 1
    while end > start and is_white(line[end - 1]):
        end -= 1
    return line[start:end]


def trims(path: str) -> bool:
    with open(path, encoding="utf-8") as file:
        return '"Replace"' in json.dumps(json.load(file)["normalizer"])


def model_of(path: str) -> proto.ModelProto:
    """The SentencePiece model with the pieces of a learned tokenizer.json. `<pad>`, the last, stays outside."""
    with open(path, encoding="utf-8") as file:
        source = json.load(file)["model"]
    unigram = source["type"] == "Unigram"
    if unigram:
        pieces = [(text, score) for text, score in source["vocab"]]
    else:
        # An earlier piece is merged first, so its score is higher.
        pieces = [(text, -float(id)) for text, id in sorted(source["vocab"].items(), key=lambda item: item[1])]
    assert [text for text, _ in pieces[:2]] == ["</s>", "<unk>"] and pieces.pop()[0] == "<pad>"

    model = proto.ModelProto()
    for text, score in pieces:
        if text == "</s>":
            kind, score = Piece.CONTROL, 0.0
        elif text == "<unk>":
            kind, score = Piece.UNKNOWN, 0.0
        elif text.startswith("<0x"):
            kind, score = Piece.BYTE, 0.0
        elif text.startswith("<extra"):
            kind, score = Piece.UNUSED, 0.0
        else:
            kind = Piece.NORMAL
        model.pieces.add(piece=text, score=score, type=kind)
    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.UNIGRAM if unigram else proto.TrainerSpec.BPE
    trainer.vocab_size = len(pieces)
    trainer.byte_fallback = source["byte_fallback"]
    trainer.eos_id, trainer.unk_id, trainer.bos_id, trainer.pad_id = 0, 1, -1, -1
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = trims(path)
    normalizer.escape_whitespaces = True
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("text", nargs="+")
    arguments = parser.parse_args()

    ours = tokenizers.Tokenizer.from_file(arguments.tokenizer)
    tidy = trimmed if trims(arguments.tokenizer) else str
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model_of(arguments.tokenizer).SerializeToString())
    lines = different = 0
    for path in arguments.text:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                line = line.removesuffix("\n")
                lines += 1
                left, right = ours.encode(line, add_special_tokens=False).ids, theirs.encode(tidy(line))
                if left != right:
                    different += 1
                    if different <= 5:
                        print(f"{line!r}\n  tokenizers    {[ours.id_to_token(id) for id in left]}\n"
                              f"  SentencePiece {[theirs.id_to_piece(id) for id in right]}")
    print(f"{lines} lines, {different} with different ids")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
