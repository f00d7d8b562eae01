#!/usr/bin/env python3
"""The speed at which PyTorch trains the same Transformer on the same text, for scripts/bench_training.py.

    python3 scripts/peers/pytorch_train.py --d-model 256 --feed-forward 1024 --layers 3 --heads 4 --dtype bf16

Post-norm layers, sinusoidal positions, one embedding matrix for both sides and the output, dropout 0.1 of embeddings and
sublayers, label smoothing 0.1, clipping: what Tallow's configuration of that size trains. The tuning is what helped PyTorch
on two cores: fused projections and AdamW, scaled_dot_product_attention by products (for short sentences faster in bf16
than the flash kernel, and as fast in f32), batches of similar length, bf16 by autocast, memory that is kept when it is
freed (a third more speed), and as many processes of one pinned thread as there are cores (--processes), each with its
share of the tokens, whose speeds are added; they do not even exchange gradients. Needs torch and tokenizers
(pip install torch tokenizers) and data/multi30k.

Prints one line of JSON: target tokens per second without padding, the sum of the processes' medians over updates, and the
sum of their peaks of memory.
"""
import argparse, json, math, os, random, resource, statistics, sys, time
import multiprocessing, multiprocessing.connection

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAD, END, START = 0, 1, 2


def encoded(arguments):
    """Pairs of token lists from a joint BPE vocabulary, learned on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    paths = [os.path.join(arguments.data, name) for name in ("train.en", "train.de")]
    sides = [open(path, encoding="utf-8").read().split("\n")[:-1] for path in paths]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<pad>", "</s>", "<s>"]
    trainer = trainers.BpeTrainer(vocab_size=arguments.vocabulary, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(sides[0] + sides[1], trainer)
    source, target = ([line.ids + [END] for line in tokenizer.encode_batch(side)] for side in sides)
    return list(zip(source, target))


def batched(pairs, budget):
    """Batches of at most `budget` padded tokens, of similar lengths."""
    batches, batch, longest = [], [], 0
    for pair in sorted(pairs, key=lambda pair: (max(map(len, pair)), len(pair[1]))):
        longest = max(map(len, pair))
        if batch and (len(batch) + 1) * longest > budget:
            batches.append(batch)
            batch = []
        batch.append(pair)
    return batches + [batch]


def model_of(arguments):
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    width, heads, rate = arguments.d_model, arguments.heads, arguments.dropout

    class Attention(nn.Module):
        def __init__(self, crossed):
            super().__init__()
            self.crossed = crossed
            if crossed:
                self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
            else:
                self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)

        def forward(self, x, memory=None, mask=None, causal=False):
            split = lambda y: y.view(y.shape[0], y.shape[1], heads, width // heads).transpose(1, 2)
            if self.crossed:
                q, (k, v) = self.q(x), self.kv(memory).chunk(2, -1)
            else:
                q, k, v = self.qkv(x).chunk(3, -1)
            dropout = arguments.attention_dropout if self.training else 0.0
            with sdpa_kernel(SDPBackend.MATH if arguments.attention == "math" else SDPBackend.FLASH_ATTENTION):
                y = F.scaled_dot_product_attention(split(q), split(k), split(v), mask, dropout, is_causal=causal)
            return self.out(y.transpose(1, 2).reshape(x.shape))

    class Layer(nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.attention = Attention(False)
            self.cross = Attention(True) if decoder else None
            self.inner, self.outer = nn.Linear(width, arguments.feed_forward), nn.Linear(arguments.feed_forward, width)
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decoder else 2))

        def forward(self, x, mask, memory=None):
            drop = lambda y: F.dropout(y, rate, self.training)
            norms = iter(self.norms)
            decoder = self.cross is not None
            x = next(norms)(x + drop(self.attention(x, mask=None if decoder else mask, causal=decoder)))
            if decoder:
                x = next(norms)(x + drop(self.cross(x, memory, mask)))
            inner = F.dropout(F.relu(self.inner(x)), arguments.activation_dropout, self.training)
            return next(norms)(x + drop(self.outer(inner)))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(arguments.vocabulary, width)
            nn.init.normal_(self.embedding.weight, 0, width**-0.5)
            self.encoder = nn.ModuleList(Layer(False) for _ in range(arguments.layers))
            self.decoder = nn.ModuleList(Layer(True) for _ in range(arguments.layers))
            angles = torch.arange(512)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000) / width))
            self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], 1))

        def embed(self, ids):
            x = self.embedding(ids) * width**0.5 + self.positions[: ids.shape[1]]
            return F.dropout(x, rate, self.training)

        def forward(self, source, decoder_input):
            mask = (source != PAD)[:, None, None, :]
            x, y = self.embed(source), self.embed(decoder_input)
            for layer in self.encoder:
                x = layer(x, mask)
            for layer in self.decoder:
                y = layer(y, mask, x)
            return F.linear(y, self.embedding.weight)

    return Transformer()


def train(arguments, rank, barrier, results):
    import torch
    from torch.nn import functional as F

    if arguments.processes > 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
        torch.set_num_threads(1)
    torch.manual_seed(rank)
    batches = batched(encoded(arguments), arguments.tokens // arguments.processes)
    random.Random(rank).shuffle(batches)
    model = model_of(arguments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True)

    def update(batch):
        pad = lambda rows: torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, PAD)
        source, target = pad([s for s, _ in batch]), pad([t for _, t in batch])
        decoder_input = torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.dtype == "bf16"):
            logits = model(source, decoder_input)
        loss = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return sum(len(t) for _, t in batch)

    speeds, begun = [], None
    for number in range(1_000_000):
        if number == arguments.warmup:
            barrier.wait()
            begun = time.monotonic()
        before = time.monotonic()
        tokens = update(batches[number % len(batches)])
        if begun:
            speeds.append(tokens / (time.monotonic() - before))
            if time.monotonic() - begun > arguments.seconds:
                break
    results.put((statistics.median(speeds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, value in [
        ("d-model", int, 256),
        ("feed-forward", int, 1024),
        ("layers", int, 3),
        ("heads", int, 4),
        ("dropout", float, 0.1),
        ("attention-dropout", float, 0.0),
        ("activation-dropout", float, 0.0),
        ("vocabulary", int, 8000),
        ("tokens", int, 4096),
        ("seconds", float, 20),
        ("warmup", int, 5),
        ("processes", int, len(os.sched_getaffinity(0))),
        ("data", str, os.path.join(ROOT, "data/multi30k")),
    ]:
        parser.add_argument("--" + name, type=kind, default=value)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--attention", choices=["math", "flash"], default="math")
    arguments = parser.parse_args()
    # glibc reads these when a process starts: freed memory is kept, not returned to the kernel.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 40))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(arguments.processes), context.SimpleQueue()
    processes = [
        context.Process(target=train, args=(arguments, rank, barrier, results)) for rank in range(arguments.processes)
    ]
    for process in processes:
        process.start()
    running = {process.sentinel: process for process in processes}
    while running:
        # Whichever ends first: if one fails, the others wait for it at the barrier.
        for sentinel in multiprocessing.connection.wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                for other in processes:
                    other.terminate()
                sys.exit("a process failed; its message, if it left one, is above")
    measured = [results.get() for _ in processes]
    speeds, peaks = zip(*measured)
    print(json.dumps({"target_tokens_per_second": round(sum(speeds)), "peak_gb": round(sum(peaks), 2)}))


if __name__ == "__main__":
    main()
