#!/usr/bin/env python3
"""Times the Marian toolkit on a model directory of Tallow.

    scripts/peers/marian_decode.py MODEL --input LINES --beam 5 --tallow target/release/tallow

Needs pymarian, numpy and sentencepiece. The model is exported with `tallow export --form marian`; the lines are cut into pieces
first. Marian cannot be told an exact length: translations of random models end at 1.5 tokens for each source token. The
last line is JSON: target tokens a second, after a warm-up, without the start of the process and without tokenization.
"""
import argparse, json, os, subprocess, time

import numpy
import pymarian
import sentencepiece


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--input", required=True)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--tallow", required=True)
    o = parser.parse_args()
    exported = o.model.rstrip("/") + "-marian"
    if not os.path.exists(exported):
        subprocess.run([o.tallow, "export", o.model, "--form", "marian", "--output", exported], check=True)
        # Marian itself insists on a bias of the logits.
        path = os.path.join(exported, "model.npz")
        tensors = dict(numpy.load(path))
        tensors["decoder_ff_logit_out_b"] = numpy.zeros((1, len(tensors["Wemb"])), dtype="f4")
        numpy.savez(path, **tensors)
    pieces = sentencepiece.SentencePieceProcessor(model_file=os.path.join(o.model, "source.spm"))
    with open(o.input, encoding="utf-8") as file:
        source = [" ".join(pieces.encode(line.rstrip("\n"), out_type=str)) for line in file]
    vocabularies = [os.path.join(exported, name) for name in ("source.yml", "target.yml")]
    translator = pymarian.Translator(
        models=os.path.join(exported, "model.npz"), vocabs=vocabularies, beam_size=o.beam, normalize=1, mini_batch=64,
        maxi_batch=100, maxi_batch_sort="src", cpu_threads=os.cpu_count(), max_length_factor=1.5, quiet=True,
        quiet_translation=True)
    translator.translate(source)
    begin = time.perf_counter()
    output = translator.translate("\n".join(source))
    seconds = time.perf_counter() - begin
    lines = output.split("\n")
    # With the end of every sentence.
    tokens = sum(len(line.split()) + 1 for line in lines)
    print(json.dumps({"tokens_per_second": tokens / seconds, "tokens": tokens, "lines": len(lines)}))


main()
