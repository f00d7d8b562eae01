#!/usr/bin/env python3
"""How fast several processes train together, against one process, as a table in Markdown.

    scripts/measure_ranks.py local --size S base --rounds 3
    sudo scripts/measure_ranks.py hosts --size S --gbits 10 1 0.1 --rounds 2
    scripts/measure_ranks.py kills --kills 20

`local` alternates one process of two workers with two processes of one worker, which make the same updates, and with
four processes that share the two cores. `hosts` makes a host for each process out of a network namespace (ip netns), a
core, and a link that is shaped (tc) to a number of Gbit/s, and starts the processes with mpirun through
`ip netns exec`; it needs root, iproute2 and Open MPI. `cut` cuts the link of a host in the middle of a run, waits for the
end, and compares the resumed run with one process. `kills` trains the shipped toy corpus, kills a random process again
and again, and resumes: with the same number of workers the end has the same bits, with others nearly the same loss.

Each round of `local` and `hosts` runs every variant once, so that the load of the machine falls on all of them; the figure
is the median of its rounds, each the median of the updates of a short run, the first few left out. Efficiency is the speed
over that of one process of as many workers without a network. Needs data/multi30k (scripts/fetch-multi30k.sh), but for
`kills`, and a binary with MPI (cargo build --release -p tallow-cli --features mpi).
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile, time

from bench_training import SIZES, config

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
SKIPPED = 3
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]


def write_config(arguments, size, directory):
    """The config of the other benchmark of training, in a folder, and the settings over it that all runs here have."""
    path = os.path.join(directory, "ranks.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config(arguments, size, directory))
    return path, [f"train.compute={arguments.compute}", f"data.prepared={arguments.prepared}", "train.rank_timeout=120"]


def run(arguments, size, launch, settings):
    """The target tokens per second of a short run."""
    with tempfile.TemporaryDirectory() as directory:
        path, common = write_config(arguments, size, directory)
        command = launch + [arguments.binary, "train", path]
        command += [word for setting in common + settings for word in ("--set", setting)]
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        with open(os.path.join(directory, "run", "timing.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    return statistics.median(line["target_tokens_per_second"] for line in lines if line.get("update", 0) > SKIPPED)


def measure(arguments, variants):
    results = {}
    for size in arguments.size:
        for number in range(1, arguments.rounds + 1):
            for name, (launch, settings) in variants.items():
                speed = run(arguments, size, launch, settings)
                results.setdefault((size, name), []).append(speed)
                print(f"{size} round {number}  {name:<60} {speed:8,.0f} tokens/s", flush=True)
    return results


def local(arguments):
    variants = {
        "1 process, 2 workers": ([], ["train.workers=2"]),
        "2 processes, 1 worker": (MPIRUN + ["-n", "2"], ["train.workers=1"]),
        "4 processes, 1 worker": (MPIRUN + ["-n", "4"], ["train.workers=1"]),
    }
    results = measure(arguments, variants)
    print("\n| size | | tokens/s, each round | median | of the first |\n|---|---|---|---|---|")
    for size in arguments.size:
        first = statistics.median(results[size, "1 process, 2 workers"])
        for name in variants:
            speeds = results[size, name]
            median = statistics.median(speeds)
            each = ", ".join(f"{speed:,.0f}" for speed in speeds)
            print(f"| {size} | {name} | {each} | {median:,.0f} | {median / first:.2f} |")


class Hosts:
    """Network namespaces on one bridge, each with a core of its own."""

    def __init__(self, count):
        self.names = [f"tallow{number}" for number in range(count)]
        self.addresses = [f"10.77.0.{number + 1}" for number in range(count)]
        self.remove()
        self.ip("link", "add", "tallowbr", "type", "bridge")
        self.ip("link", "set", "tallowbr", "up")
        for name, address in zip(self.names, self.addresses):
            self.ip("netns", "add", name)
            self.ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            self.ip("link", "set", f"{name}v", "master", "tallowbr", "up")
            self.ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            self.ip("-n", name, "link", "set", "eth0", "up")
            self.ip("-n", name, "link", "set", "lo", "up")
        self.folder = tempfile.TemporaryDirectory()
        self.agent = os.path.join(self.folder.name, "agent")
        cases = "\n".join(
            f"{address}) name={name}; core={number % os.cpu_count()};;"
            for number, (name, address) in enumerate(zip(self.names, self.addresses))
        )
        with open(self.agent, "w", encoding="utf-8") as file:
            # As ssh: options, a host, a command.
            file.write(
                '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\ncase "$1" in\n' + cases + "\nesac\nshift\n"
                'exec ip netns exec $name unshare --uts sh -c "hostname $name; exec taskset -c $core sh -c \'$*\'"\n'
            )
        os.chmod(self.agent, 0o755)

    @staticmethod
    def ip(*words, check=True):
        subprocess.run(["ip", *words], check=check, capture_output=not check)

    def shape(self, gbits):
        for name in self.names:
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "eth0", "root"], capture_output=True)
            rate = f"{gbits * 1000:.0f}mbit"
            burst = str(max(64_000, int(gbits * 1e9 / 8 / 250)))
            shaping = ["tbf", "rate", rate, "burst", burst, "latency", "50ms"]
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", "root", *shaping], check=True)

    def launch(self, arguments):
        first = ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c"]
        words = ["mpirun", "-n", str(len(self.names)), "--host", ",".join(self.addresses), "--bind-to", "none"]
        words += ["--mca", "plm_rsh_agent", self.agent, "--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]
        words += arguments.mpirun.split()
        words += ["--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24"]
        script = f'hostname {self.names[0]}; exec taskset -c 0 {" ".join(words)} "$@"'
        return first + [script, "sh"]

    def remove(self):
        for name in self.names:
            self.ip("netns", "del", name, check=False)
            self.ip("link", "del", f"{name}v", check=False)
        self.ip("link", "del", "tallowbr", check=False)


def hosts(arguments):
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    made = Hosts(arguments.hosts)
    try:
        # Workers of one process use the cores that the hosts have.
        alone = ["taskset", "-c", f"0-{min(arguments.hosts, os.cpu_count()) - 1}"]
        base = {"1 process": (alone, [f"train.workers={arguments.hosts}"])}
        options = {
            "as usual": [],
            "without overlap": ["train.overlap_reduction=false"],
            "without shards": ["train.shard_optimizer=false"],
            "bf16": ["train.reduce=bf16"],
            "bf16 without shards": ["train.reduce=bf16", "train.shard_optimizer=false"],
        }
        rows = {}
        for gbits in arguments.gbits:
            made.shape(gbits)
            variants = dict(base)
            variants |= {f"{name}": (made.launch(arguments), ["train.workers=1", *settings]) for name, settings in options.items()}
            rows[gbits] = measure(arguments, variants)
    finally:
        made.remove()
    print(f"\nEfficiency of {arguments.hosts} hosts\n\n| size | | " + " | ".join(f"{gbits:g} Gbit/s" for gbits in arguments.gbits) + " |")
    print("|---|---" + "|---" * len(arguments.gbits) + "|")
    for size in arguments.size:
        for name in options:
            cells = []
            for gbits in arguments.gbits:
                results = rows[gbits]
                cells.append(f"{statistics.median(results[size, name]) / statistics.median(results[size, '1 process']):.2f}")
            print(f"| {size} | {name} | " + " | ".join(cells) + " |")


def cut(arguments):
    """Cuts the link of a host while gradients are on it, and resumes the run."""
    made = Hosts(arguments.hosts)
    size = arguments.size[0]
    with tempfile.TemporaryDirectory() as directory:
        try:
            made.shape(arguments.gbits[-1])
            settings = ["train.checkpoint_every=4", "train.rank_timeout=5"]
            environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

            def command(name, launch, workers, extra=()):
                path, common = write_config(arguments, size, directory)
                words = launch + [arguments.binary, "train", path, "--set", f"output={directory}/{name}"]
                words += ["--set", f"train.workers={workers}", *extra]
                return words + [word for setting in common + settings for word in ("--set", setting)]

            whole = command("whole", [], arguments.hosts)
            subprocess.run(whole, check=True, capture_output=True, env=environment)
            errors = os.path.join(directory, "errors")
            with open(errors, "w", encoding="utf-8") as file:
                words = command("cut", made.launch(arguments), 1)
                running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file, env=environment)
            log = os.path.join(directory, "cut", "metrics.jsonl")
            while not os.path.exists(log) or '"update":6,' not in open(log, encoding="utf-8").read():
                time.sleep(0.05)
            made.ip("link", "set", f"{made.names[-1]}v", "down")
            begin = time.time()
            pattern = f"^{arguments.binary} train {directory}"
            while subprocess.run(["pgrep", "-f", pattern], capture_output=True).returncode == 0:
                if time.time() - begin > 120:
                    sys.exit("FAULTY: processes are left two minutes after the cut")
                time.sleep(0.1)
            print(f"all processes have ended {time.time() - begin:.1f} s after the cut; errors:")
            time.sleep(1)
            print("\n".join("  " + line for line in read(errors).decode().splitlines() if "error:" in line))
            # mpirun itself waits for the daemon of the lost host.
            subprocess.run(["pkill", "-KILL", "-f", f"mpirun.*{directory}"])
            running.wait()
            subprocess.run(["pkill", "-KILL", "orted"])
            made.ip("link", "set", f"{made.names[-1]}v", "up")
            time.sleep(1)
            resumed = command("cut", made.launch(arguments), 1, ["--resume"])
            subprocess.run(resumed, check=True, capture_output=True, env=environment)
        finally:
            made.remove()
        files = [f"checkpoints/{arguments.updates}/{name}" for name in ("model.safetensors", "state/moments.safetensors")]
        same = all(read(directory, "whole", name) == read(directory, "cut", name) for name in files + ["metrics.jsonl"])
        print("resumed: the same bits as one process" if same else "FAULTY: resumed, the run has other bits")


# What shares an update in each attempt: processes and the workers of each.
SAME = [(2, 1), (1, 2)]
OTHERS = [(2, 1), (3, 1), (1, 1)]


def kills(arguments):
    """Kills a random process at a random moment, and resumes, until so many are killed and the run is done."""
    random.seed(arguments.seed)
    config = os.path.join(ROOT, "configs", "numbers-en-de.toml")
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    settings = ["train.max_updates=300", "train.validate_every=100", "train.checkpoint_every=25", "train.rank_timeout=10"]

    def start(output, processes, workers, *flags):
        words = MPIRUN + ["-n", str(processes)] if processes > 1 else []
        words = words + [arguments.binary, "train", config, "--set", f"output={output}", *flags]
        words += [word for setting in settings + [f"train.workers={workers}"] for word in ("--set", setting)]
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def last_loss(output):
        lines = [json.loads(line) for line in read(output, "metrics.jsonl").splitlines()]
        return [line["valid"]["loss"] for line in lines if "valid" in line][-1]

    with tempfile.TemporaryDirectory() as directory:
        settings.append(f"data.prepared={directory}/prepared")
        whole = os.path.join(directory, "whole")
        begin = time.time()
        errors = start(whole, 1, 2).communicate()[1]
        seconds = time.time() - begin
        if not os.path.exists(os.path.join(whole, "run.json")):
            sys.exit(errors.decode())
        for dealings in (SAME, OTHERS):
            killed, runs, slowest = 0, 0, 0.0
            while killed < arguments.kills:
                output = os.path.join(directory, f"run{len(dealings)}-{runs}")
                flags, runs, attempt = [], runs + 1, 0
                while True:
                    running = start(output, *dealings[attempt % len(dealings)], *flags)
                    attempt += 1
                    time.sleep(random.uniform(0.2, 0.6 * seconds))
                    found = subprocess.run(["pgrep", "-f", f"^{arguments.binary} train .*{output} "], capture_output=True, text=True)
                    victims = found.stdout.split()
                    if victims and killed < arguments.kills:
                        subprocess.run(["kill", "-KILL", random.choice(victims)], capture_output=True)
                        killed += 1
                        begin = time.time()
                        running.communicate(timeout=120)
                        slowest = max(slowest, time.time() - begin)
                    else:
                        errors = running.communicate()[1]
                        if running.returncode:
                            sys.exit(f"FAULTY: a run that was not killed has failed:\n{errors.decode()}")
                    # A run that was killed before it began has nothing to resume.
                    flags = ["--resume"] if os.path.exists(os.path.join(output, "config.toml")) else []
                    if running.returncode == 0:
                        break
                if dealings is SAME:
                    names = ["checkpoints/300/model.safetensors", "checkpoints/300/state/moments.safetensors", "metrics.jsonl"]
                    same = all(read(whole, name) == read(output, name) for name in names)
                    told = "the bits of the whole run" if same else "FAULTY: other bits than the whole run"
                else:
                    told = f"valid loss {last_loss(output):.4f}, that of the whole run is {last_loss(whole):.4f}"
                print(f"{dealings}: run {runs} has ended after {attempt} starts, {killed} kills so far: {told}", flush=True)
            print(f"{dealings}: {killed} kills; the other processes ended within {slowest:.1f} s", flush=True)


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["local", "hosts", "cut", "kills"])
    parser.add_argument("--size", nargs="*", choices=SIZES, default=["S"])
    parser.add_argument("--compute", default="bf16", choices=["f32", "bf16x3", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=14)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--mpirun", default="", help="further flags for the mpirun of hosts, in one argument")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--gbits", nargs="*", type=float, default=[10, 1, 0.1])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the moments and victims of kills")
    parser.add_argument("--data", default=os.path.join(ROOT, "data/multi30k"))
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/tallow"))
    arguments = parser.parse_args()
    arguments.data = os.path.abspath(arguments.data)
    with tempfile.TemporaryDirectory() as prepared:
        arguments.prepared = prepared
        {"local": local, "hosts": hosts, "cut": cut, "kills": kills}[arguments.what](arguments)


if __name__ == "__main__":
    main()
