#!/usr/bin/env python3
"""A minimal server of translations by CTranslate2, for comparison: FastAPI, one call of the translator for each request.

    scripts/peers/ctranslate2_serve.py MODEL --port 5001 --beam 5 --compute int8 --length 20 --layout 2x1

MODEL is a MarianMT directory, converted at the first start. --layout is the number of translators and the threads of each.
Answers LibreTranslate's POST /translate. Needs ctranslate2, sentencepiece, fastapi, uvicorn, and for the conversion
transformers and torch.
"""
import argparse, os

import ctranslate2
import fastapi
import pydantic
import sentencepiece
import uvicorn

from ctranslate2_decode import TYPES, converted


class Body(pydantic.BaseModel):
    q: str
    source: str
    target: str


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--compute", choices=TYPES, default="f32")
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--layout", default=f"{os.cpu_count()}x1")
    o = parser.parse_args()
    kind = TYPES[o.compute]
    source = sentencepiece.SentencePieceProcessor(model_file=os.path.join(o.model, "source.spm"))
    target = sentencepiece.SentencePieceProcessor(model_file=os.path.join(o.model, "target.spm"))
    inter, intra = map(int, o.layout.split("x"))
    translator = ctranslate2.Translator(converted(o.model, kind), device="cpu", inter_threads=inter, intra_threads=intra,
                                        compute_type=kind)
    app = fastapi.FastAPI()

    # Not async: FastAPI calls it on threads, and the translator lets go of Python's lock.
    @app.post("/translate")
    def translate(body: Body):
        pieces = source.encode(body.q, out_type=str) + ["</s>"]
        found = translator.translate_batch([pieces], beam_size=o.beam, min_decoding_length=o.length,
                                           max_decoding_length=o.length)
        return {"translatedText": target.decode(found[0].hypotheses[0])}

    @app.get("/health")
    def health():
        return {"status": "ok"}

    uvicorn.run(app, port=o.port, log_level="warning")


main()
