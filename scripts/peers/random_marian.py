#!/usr/bin/env python3
"""Writes a MarianMT directory with random weights, to measure how fast programs decode.

    scripts/peers/random_marian.py OUT --d-model 512 --ff 2048 --layers 6 --heads 8 --pieces 58101

Needs torch, transformers and sentencepiece. The vocabulary is learned from data/multi30k; pieces beyond it are fillers.
"""
import argparse, json, os, shutil, tempfile

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

LEARNED = 7999


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    for name, default in [("d-model", 256), ("ff", 1024), ("layers", 3), ("heads", 4), ("pieces", 8000)]:
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--data", default=os.path.join(os.path.dirname(__file__), "..", "..", "data", "multi30k"))
    return parser.parse_args()


def write_vocabulary(out, pieces, data):
    """`source.spm`, `target.spm` and `vocab.json`, in which `<pad>` is the last of `pieces`."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "joint")
        sentencepiece.SentencePieceTrainer.train(
            input=[os.path.join(data, "train." + side) for side in ("en", "de")], model_prefix=prefix,
            vocab_size=min(LEARNED, pieces - 1), model_type="unigram", eos_id=0, unk_id=1, bos_id=-1, pad_id=-1,
            minloglevel=2)
        for side in ("source", "target"):
            shutil.copy(prefix + ".model", os.path.join(out, side + ".spm"))
        model = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    names = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    names += [f"<filler{i}>" for i in range(len(names), pieces - 1)] + ["<pad>"]
    with open(os.path.join(out, "vocab.json"), "w", encoding="utf-8") as file:
        json.dump({name: i for i, name in enumerate(names)}, file, ensure_ascii=False)
    with open(os.path.join(out, "tokenizer_config.json"), "w") as file:
        json.dump({"source_lang": "en", "target_lang": "de", "separate_vocabs": False, "model_max_length": 512}, file)


def main():
    o = options()
    torch.manual_seed(1)
    pad = o.pieces - 1
    shape = {f"{side}_{key}": value for side in ("encoder", "decoder")
             for key, value in (("layers", o.layers), ("attention_heads", o.heads), ("ffn_dim", o.ff))}
    config = MarianConfig(
        vocab_size=o.pieces, decoder_vocab_size=o.pieces, d_model=o.d_model, activation_function="swish",
        scale_embedding=True, static_position_embeddings=True, pad_token_id=pad, decoder_start_token_id=pad,
        eos_token_id=0, bos_token_id=0, forced_eos_token_id=0, max_position_embeddings=512, bad_words_ids=[[pad]],
        share_encoder_decoder_embeddings=True, tie_word_embeddings=True, **shape)
    model = MarianMTModel(config)
    with torch.no_grad():
        model.model.shared.weight[pad] = 0
    os.makedirs(o.out, exist_ok=True)
    model.save_pretrained(o.out)
    write_vocabulary(o.out, o.pieces, o.data)


main()
