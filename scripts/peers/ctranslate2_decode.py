#!/usr/bin/env python3
"""Times CTranslate2 on a MarianMT directory; every translation has the same number of tokens.

    scripts/peers/ctranslate2_decode.py MODEL --input LINES --beam 5 --compute int8 --length 20

Needs ctranslate2, sentencepiece, and for the conversion transformers and torch. The last line is JSON: target tokens a
second in the best layout (one translator with all cores, or one single-threaded translator for each core), after a
warm-up, without the start of the process and without tokenization.
"""
import argparse, json, os, subprocess, sys, time

import ctranslate2
import sentencepiece

TYPES = {"f32": "float32", "bf16": "bfloat16", "int8": "int8"}


def converted(model, kind):
    """The model in CTranslate2's form, beside the model; made at the first call."""
    path = model.rstrip("/") + "-ct2-" + kind
    if not os.path.exists(path):
        converter = os.path.join(os.path.dirname(sys.executable), "ct2-transformers-converter")
        subprocess.run([converter, "--model", model, "--output_dir", path, "--quantization", kind],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--input", required=True)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--compute", choices=TYPES, default="f32")
    parser.add_argument("--length", type=int, default=20)
    o = parser.parse_args()
    kind = TYPES[o.compute]
    pieces = sentencepiece.SentencePieceProcessor(model_file=os.path.join(o.model, "source.spm"))
    with open(o.input, encoding="utf-8") as file:
        source = [pieces.encode(line.rstrip("\n"), out_type=str) + ["</s>"] for line in file]
    cores, speeds = os.cpu_count(), {}
    for inter, intra in sorted({(1, cores), (cores, 1)}):
        translator = ctranslate2.Translator(
            converted(o.model, kind), device="cpu", inter_threads=inter, intra_threads=intra, compute_type=kind)

        def translate(lines):
            return translator.translate_batch(lines, beam_size=o.beam, max_batch_size=64,
                                              min_decoding_length=o.length, max_decoding_length=o.length)

        translate(source)
        begin = time.perf_counter()
        tokens = sum(len(result.hypotheses[0]) for result in translate(source))
        speeds[f"{inter}x{intra}"] = tokens / (time.perf_counter() - begin)
    layout = max(speeds, key=speeds.get)
    print(json.dumps({"tokens_per_second": speeds[layout], "layout": layout, "all": speeds}))


if __name__ == "__main__":
    main()
