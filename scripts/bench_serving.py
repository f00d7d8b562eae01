#!/usr/bin/env python3
"""What a server does under load, as tables in Markdown.

    scripts/bench_serving.py peers --size S --compute f32 int8 --ctranslate2 PYTHON     against CTranslate2 behind FastAPI
    scripts/bench_serving.py overhead --size S             against `tallow translate` with the same threads
    scripts/bench_serving.py half --size S                 latency at half of the greatest load
    scripts/bench_serving.py overload --size S             ten times as many clients as saturate it, for a minute

Each client sends a sentence of Multi30k and waits for its translation (a closed loop, by wrk); `half` sends at moments
of a Poisson process. Models have random weights, every translation has exactly 20 tokens, and the server's cache is off.
Each round runs every variant once. The load comes from the same machine. Needs wrk, data/multi30k
(scripts/fetch-multi30k.sh), target/release/tallow (cargo build --release), and for `peers` and to make the models a PYTHON
with ctranslate2, torch, transformers, sentencepiece, fastapi and uvicorn.
"""
import argparse, asyncio, json, os, random, re, statistics, subprocess, sys, tempfile, time, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(ROOT, "scripts", "peers")
SIZES = {
    "S": "--d-model 256 --ff 1024 --layers 3 --heads 4 --pieces 8000",
    "opus": "--d-model 512 --ff 2048 --layers 6 --heads 8 --pieces 58101",
}
LENGTH = 20
LUA = """
local lines = {{{lines}}}
local number = {begin}
local headers = {{["Content-Type"] = "application/json"}}
request = function()
  number = number + 1
  return wrk.format("POST", "/translate", headers, lines[number % #lines + 1])
end
{delay}
"""


def bodies(o):
    with open(os.path.join(o.data, "test_2016_flickr.en"), encoding="utf-8") as file:
        return [json.dumps({"q": line.rstrip("\n"), "source": "en", "target": "de"}) for line in file]


def model_of(o, size):
    model = os.path.join(o.models, size)
    if not os.path.exists(os.path.join(model, "tokenizer_config.json")):
        if not o.ctranslate2:
            sys.exit("the first call makes the models; it needs --ctranslate2 PYTHON")
        words = [o.ctranslate2, os.path.join(PEERS, "random_marian.py"), model, "--data", o.data]
        subprocess.run(words + SIZES[size].split(), check=True, stderr=subprocess.DEVNULL)
    return model


class Server:
    """A server until the end of a `with`."""

    def __init__(self, command, port):
        self.command, self.port = command, port

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begin = time.time()
        while time.time() - begin < 300:
            if self.process.poll() is not None:
                sys.exit(self.process.stderr.read().decode())
            try:
                self.get("/health")
                return self
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.command[0]} does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.M)[1])

    def memory(self):
        """Mebibytes in memory now."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def tallow(o, model, compute, beam, limits=""):
    path = os.path.join(o.folder, "serve.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'listen = "127.0.0.1:{o.port}"\ncache_mib = 0\n[limits]\nconnections = 20000\n{limits}\n[[model]]\n'
                   f'path = "{model}"\nsource = "en"\ntarget = "de"\n'
                   f'decode = {{ beam = {beam}, compute = "{compute}", min_length = {LENGTH}, max_length = {LENGTH} }}\n')
    return Server([o.binary, "serve", "--config", path, "--log", "quiet"], o.port)


def ctranslate2(o, model, compute, beam, layout):
    words = [o.ctranslate2, os.path.join(PEERS, "ctranslate2_serve.py"), model, "--port", str(o.port), "--beam", str(beam)]
    return Server(words + ["--compute", compute, "--length", str(LENGTH), "--layout", layout], o.port)


def load(o, connections, seconds, delay=""):
    """Requests per second that were answered, the 50th and 99th percentile of latency in milliseconds, and refusals."""
    script = os.path.join(o.folder, "load.lua")
    with open(script, "w", encoding="utf-8") as file:
        lines = ", ".join("[==[" + body + "]==]" for body in bodies(o))
        file.write(LUA.format(lines=lines, begin=random.randrange(1000), delay=delay))
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency", "-s", script]
    said = subprocess.run(words + [f"http://127.0.0.1:{o.port}"], capture_output=True, text=True, check=True).stdout

    def milliseconds(percentile):
        found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.M) or sys.exit(said)
        number, unit = found.groups()
        return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]

    answered = int(re.search(r"(\d+) requests in", said)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    refused = int(refused[1]) if refused else 0
    spent = float(re.search(r"requests in ([\d.]+)s", said)[1])
    return (answered - refused) / spent, milliseconds(50), milliseconds(99), refused / spent


def peers(o):
    print("| size | compute | connections | Tallow, sentences/s | p50, p99 in ms | CTranslate2 | p50, p99 | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for size in o.size:
        model = model_of(o, size)
        for compute in o.compute:
            servers = {"tallow": lambda: tallow(o, model, compute, o.beam)}
            for layout in sorted({f"{os.cpu_count()}x1", f"1x{os.cpu_count()}"}):
                servers[layout] = lambda layout=layout: ctranslate2(o, model, compute, o.beam, layout)
            found = {}
            for _ in range(o.rounds):
                for name, server in servers.items():
                    with server():
                        load(o, 8, 2)
                        for connections in o.connections:
                            found.setdefault((name, connections), []).append(load(o, connections, o.seconds))
            for connections in o.connections:
                middle = {name: [statistics.median(column) for column in zip(*found[name, connections])] for name in servers}
                ours = middle.pop("tallow")
                layout = max(middle, key=lambda name: middle[name][0])
                theirs = middle[layout]
                print(f"| {size} | {compute} | {connections} | {ours[0]:,.0f} | {ours[1]:.0f}, {ours[2]:.0f} | {theirs[0]:,.0f} "
                      f"({layout}) | {theirs[1]:.0f}, {theirs[2]:.0f} | {ours[0] / theirs[0]:.2f} |", flush=True)


def overhead(o):
    print("| size | compute | served, sentences/s | `tallow translate` | ratio |\n|---|---|---|---|---|")
    for size in o.size:
        model = model_of(o, size)
        lines = [json.loads(body)["q"] for body in bodies(o)]
        for compute in o.compute:
            served, translated = [], []
            for _ in range(o.rounds):
                seconds = {}
                for times in (1, 2):
                    path = os.path.join(o.folder, f"{times}.en")
                    with open(path, "w", encoding="utf-8") as file:
                        file.writelines(line + "\n" for line in lines * times)
                    begin = time.perf_counter()
                    words = [o.binary, "translate", model, "--input", path, "--beam", str(o.beam), "--compute", compute]
                    words += ["--min-length", str(LENGTH), "--max-length", str(LENGTH)]
                    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    seconds[times] = time.perf_counter() - begin
                translated.append(len(lines) / (seconds[2] - seconds[1]))
                with tallow(o, model, compute, o.beam):
                    load(o, 8, 2)
                    served.append(load(o, 256, o.seconds)[0])
            ours, whole = statistics.median(served), statistics.median(translated)
            print(f"| {size} | {compute} | {ours:,.0f} | {whole:,.0f} | {ours / whole:.2f} |", flush=True)


async def poisson(o, rate, seconds):
    """Latencies in milliseconds of requests at random moments."""
    texts, latencies, idle = bodies(o), [], []

    async def one(body):
        begin = time.perf_counter()
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", o.port)
        data = body.encode()
        head = f"POST /translate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        idle.append((reader, writer))
        latencies.append(1000 * (time.perf_counter() - begin))

    tasks, begin, moment = [], time.perf_counter(), 0.0
    while moment < seconds:
        moment += random.expovariate(rate)
        await asyncio.sleep(max(0.0, begin + moment - time.perf_counter()))
        tasks.append(asyncio.create_task(one(random.choice(texts))))
    await asyncio.gather(*tasks)
    return sorted(latencies)


def half(o):
    print("| size | compute | greatest, sentences/s | alone, p50 in ms | at half load, p50 | p99 | p99 of alone |")
    print("|---|---|---|---|---|---|---|")
    for size in o.size:
        for compute in o.compute:
            with tallow(o, model_of(o, size), compute, o.beam):
                load(o, 8, 2)
                most = load(o, 256, o.seconds)[0]
                alone = load(o, 1, o.seconds)[1]
                found = asyncio.run(poisson(o, most / 2, 2 * o.seconds))
            middle, last = found[len(found) // 2], found[len(found) * 99 // 100]
            print(f"| {size} | {compute} | {most:,.0f} | {alone:.1f} | {middle:.1f} | {last:.1f} | {last / alone:.1f} |", flush=True)


def overload(o):
    print("| size | compute | greatest, sentences/s | overloaded | of the greatest | refused/s | p99 in ms | MiB before | after |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in o.size:
        for compute in o.compute:
            limits = f"queue_tokens = {o.queue_tokens}"
            with tallow(o, model_of(o, size), compute, o.beam, limits) as server:
                load(o, 8, 2)
                most = load(o, 128, o.seconds)[0]
                before = server.memory()
                # A client that is refused waits a little, as clients do.
                delay = "delay = function() return 50 end"
                answered, _, late, refused = load(o, 1280, o.minute, delay)
                print(f"| {size} | {compute} | {most:,.0f} | {answered:,.0f} | {answered / most:.2f} | {refused:,.0f} | {late:.0f} "
                      f"| {before:.0f} | {server.memory():.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["peers", "overhead", "half", "overload"])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["S"])
    parser.add_argument("--compute", nargs="+", default=["int8"])
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--minute", type=int, default=60, help="seconds of the overload")
    parser.add_argument("--queue-tokens", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=5077)
    parser.add_argument("--ctranslate2", metavar="PYTHON")
    parser.add_argument("--models", default=os.path.join(tempfile.gettempdir(), "tallow-bench-models"))
    parser.add_argument("--data", default=os.path.join(ROOT, "data", "multi30k"))
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "tallow"))
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as o.folder:
        {"peers": peers, "overhead": overhead, "half": half, "overload": overload}[o.what](o)


if __name__ == "__main__":
    main()
