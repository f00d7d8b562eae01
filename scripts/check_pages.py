#!/usr/bin/env python3
"""Opens the pages that Tallow writes in Chromium, works with them, and fails on any error.

    scripts/check_pages.py target/debug/tallow

A copy of each page gets a script that clicks and presses keys as a person would, and writes what it saw into the
document, which a headless Chromium then prints. Without Chromium it says so and succeeds.
"""
import html, http.server, json, os, re, shutil, subprocess, sys, tempfile, threading, urllib.error, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What a person does on the page of `tallow look`, and what must then be true.
LOOK = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const summary = () => document.getElementById("summary").textContent;
const detail = () => document.getElementById("detail").textContent;
for (const button of document.querySelectorAll("#blocks button")) {
  const name = button.textContent;
  button.click();
  const now = [...document.querySelectorAll("#blocks button")].find(other => other.textContent === name);
  expect(name + " is pressed", now.getAttribute("aria-pressed") === "true");
  const before = summary();
  const figures = document.querySelectorAll("#heads figure");
  figures[figures.length - 1].click();
  expect(name + ": another head has another summary", summary() !== before);
  press(document.getElementById("heads"), "ArrowLeft");
  expect(name + ": an arrow chooses the head before it",
    figures[figures.length - 2].getAttribute("aria-selected") === "true");
  const first = detail(), height = document.getElementById("detail").getBoundingClientRect().height;
  press(document.getElementById("map"), "ArrowDown");
  expect(name + ": an arrow chooses the next row", detail() !== first);
  const map = document.getElementById("map"), box = map.getBoundingClientRect(), second = detail();
  map.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + 150, clientY: box.top + 105, bubbles: true }));
  expect(name + ": the mouse chooses a row", detail() !== second);
  expect(name + ": nothing jumps", document.getElementById("detail").getBoundingClientRect().height === height);
  expect(name + ": the mask is told", detail().includes("masked") === (name === "decoder, to itself"));
}
for (const button of [...document.querySelectorAll("#stacks button")].reverse()) {
  const name = button.textContent;
  [...document.querySelectorAll("#stacks button")].find(other => other.textContent === name).click();
  expect(name + " has strips", document.querySelector("#strips canvas").height > 50);
}
const cells = document.querySelectorAll("#off td"), effect = () => document.getElementById("effect").textContent;
cells[0].click();
const before = effect();
cells[cells.length - 1].click();
expect("another head that is off has another effect", effect() !== before);
press(document.getElementById("off"), "ArrowLeft");
expect("an arrow chooses another head to switch off", effect() !== before);
const alone = [...document.querySelectorAll("#mode button")][1], without = document.getElementById("off").textContent;
alone.click();
expect("a head alone has other numbers", document.getElementById("off").textContent !== without);
expect("the model translates without a head", effect().includes("the model translates"));
const fates = () => document.getElementById("fates").textContent, firstStep = fates();
press(document.getElementById("tree"), "ArrowRight");
expect("an arrow chooses the next step of the search", fates() !== firstStep);
document.querySelector("#tree [data-step='0']").dispatchEvent(new MouseEvent("click", { bubbles: true }));
expect("a click chooses a step of the search", fates() === firstStep);
expect("the winner's way is drawn", document.querySelectorAll("#tree .winner").length > 2);
expect("the beam is beside greedy search", document.querySelectorAll("#found tr").length > 2);
expect("stages have costs", document.querySelectorAll("#cost tr").length === 11);
expect("times are drawn", document.querySelectorAll("#times svg path").length >= 2);
expect("the cut is told", document.querySelectorAll("#cut .pieces").length > 1);
expect("the text of the sentence stays text", document.querySelectorAll("main b b, main i").length === 0 &&
  document.getElementById("text").textContent.includes("<i>"));
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""

# The same with several checkpoints.
CHECKPOINTS = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const slider = document.getElementById("update"), steps = () => document.getElementById("steps").textContent;
const last = steps();
slider.value = "0";
slider.dispatchEvent(new Event("input", { bubbles: true }));
expect("an earlier checkpoint has other probabilities", steps() !== last);
expect("the update is told", document.querySelector("#slider label").textContent === "Update 5");
slider.value = slider.max;
slider.dispatchEvent(new Event("input", { bubbles: true }));
expect("the way back leads to the same page", steps() === last);
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""

# The same for the page of `tallow compare`.
COMPARE = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const press = name => [...document.querySelectorAll("#choice button")].find(button => button.textContent === name).click();
const text = name => document.getElementById(name).textContent;
expect("two metrics have tables", document.querySelectorAll("#scores table").length === 2);
expect("intervals are drawn", document.querySelectorAll("#scores canvas").length === 6);
expect("there are groups", document.querySelectorAll("#groups tr").length === 3);
const gained = text("sentences");
press("lost");
expect("other sentences have lost", text("sentences") !== gained);
press("third");
expect("another system has other counts", text("counts").startsWith("third against first"));
press("gained");
expect("changed words are marked", document.querySelectorAll("#sentences .changed.right").length > 0);
expect("text stays text", document.querySelectorAll("#sentences b").length === 0 && text("sentences").includes("<b>"));
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""

# The same for the page of `tallow report`, of two runs.
REPORT = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const text = name => document.getElementById(name).textContent;
const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
expect("there are plots", document.querySelectorAll("#plots svg").length >= 6);
expect("the settings differ in the seed", text("differences").includes("seed"));
const svg = document.querySelector("#plots svg"), told = () => document.querySelector("#plots .told").textContent;
press(svg, "ArrowLeft");
const last = told();
expect("an arrow tells values", last.startsWith("update 10"));
press(svg, "ArrowLeft");
expect("another arrow tells others", told() !== last);
const box = svg.getBoundingClientRect();
svg.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + box.width - 25, clientY: box.top + 40, bubbles: true }));
expect("the mouse tells values", told() === last);
document.querySelectorAll("#axis button")[1].click();
press(document.querySelector("#plots svg"), "ArrowLeft");
expect("time is an axis", told().includes("min"));
expect("there are samples of each validation", document.querySelectorAll("#samples tr").length === 4);
const before = text("samples");
[...document.querySelectorAll("#samples button")].find(button => button.textContent === "line 2").click();
expect("another line has other samples", text("samples") !== before);
expect("the test set has groups", document.querySelectorAll("#test tr").length > 4);
expect("the lowest scores are listed", document.querySelectorAll("#test .sentence").length > 3);
expect("settings are there", text("settings").includes("[model]"));
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""

# The same for the page of `tallow ablate`.
ABLATE = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const detail = () => document.getElementById("detail").textContent;
const rows = document.querySelectorAll("#table [data-row]");
expect("each part has a row", rows.length === 3);
expect("bars are drawn", document.querySelectorAll("#table canvas").length === 3);
rows[2].click();
const last = detail();
expect("a click tells the settings", last.includes("model.residual=false"));
rows[2].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
expect("an arrow chooses the row before it", detail() !== last && detail().includes("model.positions"));
expect("settings are there", document.getElementById("settings").textContent.includes("model.heads"));
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""

WRAP = """<pre id="result"></pre><script>
const errors = [];
window.addEventListener("error", event => errors.push(String(event.message)));
</script>"""

# What a person does on the page of a server.
SERVE = """
const seen = [];
const expect = (what, is) => seen.push([what, Boolean(is)]);
const until = async (what, is) => {
  for (let i = 0; i < 400 && !is(); i++) await new Promise(done => setTimeout(done, 25));
  expect(what, is());
};
const at = id => document.getElementById(id), output = () => at("output").textContent;
await until("languages are there", () => at("from").options.length === 3 && at("to").options.length > 0);
expect("a language has its name", [...at("from").options].some(option => option.text === "German"));
const write = text => { at("text").value = text; at("text").dispatchEvent(new Event("input")); };
write("Ein Hund rennt <b>schnell</b>.\\nWir");
await until("a text is translated", () => output().split("\\n").length === 2 && output().length > 5);
expect("its model is told", at("status").textContent.startsWith("de-en"));
const words = () => [...document.querySelectorAll("#output .word")], first = output();
words()[0].dispatchEvent(new MouseEvent("mouseenter"));
expect("a word shows where it comes from", document.querySelectorAll("#source .on").length > 0);
expect("the text stays text", document.querySelectorAll("#source b, #output b").length === 0 &&
  at("source").textContent.includes("<b>"));
words()[0].dispatchEvent(new MouseEvent("mouseleave"));
expect("the source is hidden again", at("source").textContent === "");
words()[0].click();
await until("other ways are offered", () => document.querySelectorAll("#choices button").length > 0);
const choice = document.querySelector("#choices button"), chosen = choice.textContent;
choice.click();
await until("a choice is taken", () => output().startsWith(chosen) && output() !== first);
expect("the other line stays", output().split("\\n")[1] === first.split("\\n")[1]);
at("from").value = "auto";
at("from").dispatchEvent(new Event("change"));
write("Der Hund steht auf der Stra\\u00dfe und bellt.");
await until("a language is detected", () => at("status").textContent.includes("from de"));
write("");
await until("no text has no translation", () => output() === "");
expect("the page is not wider than its window", document.documentElement.scrollWidth <= window.innerWidth);
"""


def prepared(text, script, is_async=False):
    """A page with a script that works with it."""
    # The listener for errors comes first, what a person does comes last.
    text = text.replace("<body>", "<body>" + WRAP, 1)
    # In braces, because the page has names of its own.
    work = ("let found = []; try {" + script + "found = seen; } catch (error) { errors.push(String(error)); }"
            "document.getElementById('result').textContent = JSON.stringify([found, errors]);")
    work = "(async () => {" + work + "})();" if is_async else "{" + work + "}"
    return text.replace("</body>", "<script>" + work + "</script></body>", 1)


def seen_by(browser, address, width, *flags):
    """What a script on a page saw."""
    found = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", *flags, "--dump-dom", address],
        capture_output=True, text=True, timeout=120)
    result = re.search(r'<pre id="result">(.*?)</pre>', found.stdout, re.S)
    if not result or not result.group(1):
        sys.exit(f"{address}: the page or the script stopped early:\n{found.stderr[-2000:]}")
    return json.loads(html.unescape(result.group(1)))


def work(browser, page, script, width):
    """Runs a script on a page and returns what it saw."""
    text = prepared(open(page, encoding="utf-8").read(), script)
    copy = os.path.join(os.path.dirname(page), f"work-{width}.html")
    with open(copy, "w", encoding="utf-8") as file:
        file.write(text)
    return seen_by(browser, "file://" + copy, width)


class Between(http.server.BaseHTTPRequestHandler):
    """Passes everything on to a server, but puts a script into its page."""

    behind = ""

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body):
        headers = {"Content-Type": self.headers.get("Content-Type", "")}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.behind + self.path, body, headers)) as answer:
                status, kind, text = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, text = error.code, error.headers["Content-Type"], error.read()
        if self.path == "/":
            text = prepared(text.decode(), SERVE, is_async=True).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind or "")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def check_server(binary, browser, at):
    """Works with the page of a server."""
    words = [binary, "serve", "de-en=model", "cs-en=model", "--listen", "127.0.0.1:0", "--log", "json"]
    server = subprocess.Popen(words, cwd=at, stderr=subprocess.PIPE, text=True)
    try:
        events = (json.loads(line) for line in server.stderr)
        Between.behind = "http://" + next(event["address"] for event in events if event["event"] == "listening")
        # Nobody reads the log any more.
        threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
        between = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
        threading.Thread(target=between.serve_forever, daemon=True).start()
        for width in (1280, 400):
            address = f"http://127.0.0.1:{between.server_port}/"
            seen, errors = seen_by(browser, address, width, "--virtual-time-budget=60000")
            faults = errors + [what for what, is_true in seen if not is_true]
            if faults or not seen:
                sys.exit(f"the page of a server at {width} pixels: " + "; ".join(faults))
            print(f"pages: the page of a server at {width} pixels: {len(seen)} checks")
    finally:
        server.terminate()
        server.wait()


def small_model(at):
    """The small model of the tests, with its tokenizer."""
    tests = os.path.join(ROOT, "crates", "tallow-cli", "tests", "fixtures", "opus", "model")
    tokenizer = os.path.join(ROOT, "crates", "tallow-text", "tests", "fixtures", "marian", "languages")
    os.makedirs(at)
    for folder, names in ((tests, ("config.json", "generation_config.json", "model.safetensors")),
                          (tokenizer, ("source.spm", "target.spm", "vocab.json", "tokenizer_config.json"))):
        for name in names:
            shutil.copy(os.path.join(folder, name), at)


def main():
    binary = os.path.abspath(sys.argv[1])
    browser = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if not browser:
        print("pages: skipped, there is no Chromium here")
        return
    with tempfile.TemporaryDirectory() as at:
        small_model(os.path.join(at, "model"))
        texts = {"reference": ["The <b>old</b> harbour sleeps .", "A dog runs .", "Rain falls on the sea all day ."],
                 "first": ["The harbour sleeps .", "A dog runs .", "Rain falls on sea ."],
                 "second": ["The <b>old</b> harbour sleeps .", "A cat runs .", "Rain falls on the sea ."],
                 "third": ["The <b>old</b> harbour .", "A dog .", "Rain falls on the sea all day ."]}
        for name, lines in texts.items():
            with open(os.path.join(at, name), "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
        check_server(binary, browser, at)
        check(binary, browser, at, LOOK, "look.html",
              ["look", "model", "The <i>old</i> harbour sleeps.", "-o", "look.html"])
        subprocess.run([binary, "toy", "reverse", "--output", "data/reverse", "--train", "200", "--valid", "20", "--test", "20"],
                       check=True, cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run = ["train", os.path.join(ROOT, "configs", "reverse.toml"), "--set", f"output='{at}/run'"]
        few = {"max_updates": 10, "checkpoint_every": 5, "validate_every": 5, "warmup_updates": 5, "workers": 1, "samples": 3}
        for key, value in few.items():
            run += ["--set", f"train.{key}={value}"]
        subprocess.run([binary, *run], check=True, cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(binary, browser, at, CHECKPOINTS, "checkpoints.html",
              ["look", "run", "1 2 3", "--checkpoints", "-o", "checkpoints.html"])
        ablation = ["ablate", *run[1:], "--only", "positions,residual", "--seeds", "1", "-o", "parts"]
        check(binary, browser, at, ABLATE, "parts/ablation.html", ablation)
        other = [change.replace("/run'", "/run-2'") for change in run] + ["--set", "seed=2"]
        subprocess.run([binary, *other], check=True, cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(binary, browser, at, REPORT, "report.html", ["report", "run", "run-2"])
        check(binary, browser, at, COMPARE, "compare.html",
              ["compare", "first", "second", "third", "--reference", "reference", "--html", "compare.html"])


def check(binary, browser, at, script, name, command):
    """Writes a page and works with it at two widths."""
    subprocess.run([binary, *command], check=True, cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for width in (1280, 400):
        seen, errors = work(browser, os.path.join(at, name), script, width)
        faults = errors + [what for what, is_true in seen if not is_true]
        if faults or not seen:
            sys.exit(f"{name} at {width} pixels: " + "; ".join(faults))
        print(f"pages: {name} at {width} pixels: {len(seen)} checks")


main()
