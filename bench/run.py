#!/usr/bin/env python3
"""Measures `didit` beside its peers in one run, and prints a Markdown table per question.

    bench/run.py [--quick] [QUESTION ...]        questions: warm process cost threads batch

What is missing is installed (Debian's packages, and from PyPI into a virtual environment below target/), or named as
skipped.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "target"
RELEASE = TARGET / "release"
VENV = TARGET / "venv"
SKIPPED: list[str] = []
PYTHON, NODE = "Python didit-sdk 0.4.0", "Node fetch"


# -- what is needed -----------------------------------------------------------------------------------------------------


def quiet(*command: str, **options) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options).returncode == 0


def install() -> None:
    wanted = {"nginx": "nginx-light", "valgrind": "valgrind", "curl": "curl", "openssl": "openssl", "node": "nodejs", "/usr/bin/time": "time"}
    missing = [package for tool, package in wanted.items() if not shutil.which(tool)]
    if not quiet("pkg-config", "--exists", "openssl"):
        missing += ["libssl-dev", "pkg-config"]
    if missing and shutil.which("apt-get"):
        quiet("apt-get", "update")
        quiet("apt-get", "install", "-y", *missing)
    if not (VENV / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=False)
    quiet(str(VENV / "bin/pip"), "install", "didit-sdk==0.4.0")
    if not quiet(str(VENV / "bin/python"), "-c", "import didit"):
        SKIPPED.append(PYTHON)
    for tool in ("node", "curl", "valgrind"):
        if not shutil.which(tool):
            SKIPPED.append(tool)
    if not shutil.which("nginx") or not shutil.which("openssl"):
        sys.exit("nginx and openssl are needed, and could not be installed")


def build() -> None:
    # One at a time: built together, one contender's features of a shared crate would become every one's.
    for program in sorted((HERE / "programs").iterdir()):
        command = ["cargo", "build", "--release", "--quiet", "-p", program.name]
        subprocess.run(command, cwd=HERE, check=True)
    command = ["cargo", "build", "--release", "--quiet", "--features", "cli", "--bin", "didit", "--target-dir", TARGET]
    subprocess.run(command, cwd=HERE.parent, check=True)


# -- the server ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """nginx with a certificate of a CA made for this run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.plain, self.tls = folder, free_port(), free_port()
        self.ca = folder / "ca.pem"
        run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=bench", "-days", "2")
        run(*new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        sign = ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        run(*sign, "-out", "server.pem", "-days", "2", "-extfile", "names")
        text = (HERE / "nginx.conf").read_text()
        for name, value in {"DIR": folder, "PLAIN": self.plain, "TLS": self.tls}.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder])
        for port in (self.plain, self.tls):
            wait_for(port)

    def env(self, tls: bool = True, port: int | None = None) -> dict[str, str]:
        url = f"https://127.0.0.1:{port or self.tls}" if tls else f"http://127.0.0.1:{port or self.plain}"
        base = {key: value for key, value in os.environ.items() if not key.upper().endswith("_PROXY")}
        ca = str(self.ca)
        return base | {
            "DIDIT_BASE_URL": url,
            "DIDIT_AUTH_URL": url,
            "DIDIT_CLIENT_ID": "bench",
            "DIDIT_CLIENT_SECRET": "bench-secret",
            "DIDIT_CA_FILE": ca,
            "SSL_CERT_FILE": ca,
            "NODE_EXTRA_CA_CERTS": ca,
        }

    def log(self) -> list[list[str]]:
        """What arrived since the last time: connection and method of each request."""
        time.sleep(0.3)  # nginx writes its log every 100 ms
        path = self.folder / "access.log"
        lines = [line.split() for line in path.read_text().splitlines()]
        os.truncate(path, 0)
        return lines

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


class Delay:
    """A proxy that holds every byte back for a while, each way: what a user far from the server feels."""

    def __init__(self, target: int, seconds: float) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target, self.seconds = target, seconds
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near: socket.socket) -> None:
        time.sleep(2 * self.seconds)  # the TCP handshake's way there and back
        far = socket.create_connection(("127.0.0.1", self.target))
        for side in (near, far):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.seconds)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


# -- measuring ----------------------------------------------------------------------------------------------------------


Contender = tuple[list[str], dict[str, str]]

LIMIT = "bare socket (rustls)"
UREQ = "ureq, no limits on time"
LIMITED = "ureq, with didit's limits on time"
DIDIT = "**didit**"
REQWEST = "reqwest::blocking"


def peers() -> dict[str, Contender]:
    """The contenders that can do both a warm update and a whole process: their commands, and what they read besides."""
    rust = lambda name: [str(RELEASE / f"with-{name}")]
    found = {
        LIMIT: (rust("socket"), {}),
        UREQ: (rust("ureq"), {}),
        LIMITED: (rust("ureq"), {"BENCH_LIMITS": "1"}),
        DIDIT: (rust("didit"), {}),
        REQWEST: (rust("reqwest"), {}),
        "attohttpc": (rust("attohttpc"), {}),
        "minreq": (rust("minreq"), {}),
    }
    if PYTHON not in SKIPPED:
        found[PYTHON] = ([str(VENV / "bin/python"), str(HERE / "peers/sdk.py")], {})
    if "node" not in SKIPPED:
        found[NODE] = (["node", str(HERE / "peers/fetch.mjs")], {})
    return found


def table(title: str, head: list[str], rows: list[list[str]], note: str = "") -> None:
    print(f"\n## {title}\n")
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if note:
        print(f"\n{note}")
    sys.stdout.flush()


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def output(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.stdout


def instructions(command: list[str], env: dict[str, str]) -> float | None:
    """Of one warm update: the difference between a run of many and one of few."""
    few, many = 20, 220
    counts = []
    for count in (few, many):
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command, "warm", str(count)]
        done = subprocess.run(tool, env=env, capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if not found:
            return None
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (many - few)


def warm(server: Server, rounds: int, seconds: float) -> None:
    contenders = peers()
    for tls in (True, False):
        env = server.env(tls)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        counts: dict[str, int] = {}
        for round_ in range(rounds + 1):
            for name, (command, extra) in contenders.items():
                count = counts.get(name, 30)
                each = int(output([*command, "warm", str(count)], env | extra)) / count
                if round_ == 0:
                    # Not counted: it tells how many updates fill a round.
                    counts[name] = max(30, min(5000, int(seconds * 1e9 / each)))
                else:
                    times[name].append(each / 1000)
        counted = {}
        if "valgrind" not in SKIPPED:
            for name in (LIMIT, UREQ, LIMITED, DIDIT, REQWEST):
                command, extra = contenders[name]
                counted[name] = instructions(command, env | extra)
        limit = statistics.median(times[LIMIT])
        rows = [
            [
                name,
                spread(values),
                f"{statistics.median(values) / limit:.2f} ×",
                f"{counted[name] / 1000:.0f} k" if counted.get(name) else "",
            ]
            for name, values in times.items()
        ]
        table(
            f"A warm update over {'TLS' if tls else 'plain HTTP'}",
            ["", "µs (least–most)", "to the limit", "instructions"],
            rows,
            f"Median of {rounds} interleaved rounds of about {seconds} s. attohttpc and minreq keep no connection.",
        )


def measure(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU in milliseconds."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{command}: {process.stderr.read()}")
    process.returncode = 0
    return wall * 1000, (used.ru_utime + used.ru_stime) * 1000


def peak(command: list[str], env: dict[str, str]) -> str:
    """Peak memory in MB. A child of this process would be charged with this process's own."""
    if not shutil.which("/usr/bin/time"):
        return ""
    done = subprocess.run(["/usr/bin/time", "-f", "%M", *command], env=env, capture_output=True, text=True, check=True)
    return f"{int(done.stderr.split()[-1]) / 1024:.1f}"


def process(server: Server, rounds: int) -> None:
    session = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10"
    command = [str(RELEASE / "didit"), "update", session, "declined", "--comment", "Duplicated user"]
    token_file = {"DIDIT_TOKEN_FILE": str(server.folder / "token")}
    found = peers()
    program = lambda name: ([*found[name][0], "once"], found[name][1])
    contenders = {
        "**didit update**": (command, {}),
        "**didit update**, warm token file": (command, token_file),
        "**a minimal program on didit**": program(DIDIT),
        "a minimal program on ureq": program(UREQ),
    }
    if "curl" not in SKIPPED:
        contenders["two curl calls"] = ([str(HERE / "peers/curl.sh")], {})
    contenders |= {name: program(name) for name in (PYTHON, NODE) if name in found}
    for delay in (0, 0.04):
        proxy = Delay(server.tls, delay) if delay else None
        env = server.env(port=proxy.port if proxy else None)
        # The token file is bound to the URL: made anew for each.
        output(command, env | token_file)
        server.log()
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        connections: dict[str, int] = {}
        for round_ in range(max(3, rounds // 4) if delay else rounds):
            for name, (line, extra) in contenders.items():
                results[name].append(measure(line, env | extra))
                if round_ == 0:
                    connections[name] = len({entry[0] for entry in server.log()})
        base = statistics.median(wall for wall, _ in results["**didit update**"])
        rows = []
        for name, values in results.items():
            walls, cpus = zip(*values)
            line, extra = contenders[name]
            ratio = statistics.median(walls) / base
            row = [name, spread(list(walls)), f"{ratio:.2f} ×", f"{statistics.median(cpus):.1f}"]
            rows.append([*row, peak(line, env | extra), str(connections[name])])
        table(
            "One update as a whole process, over TLS" + (f", {int(delay * 1000)} ms away each way" if delay else ""),
            ["", "wall ms (least–most)", "to didit update", "CPU ms", "peak MB", "connections"],
            rows,
            "Token and PATCH, but for the token file, and for the Python SDK, which uses an API key: one request each.",
        )


def cost(server: Server, rounds: int) -> None:
    rows = []
    for tls in ("rustls", "native-tls"):
        figures = {}
        for name in ("with-ureq", "with-didit", "with-reqwest"):
            features = ["--no-default-features", "--features", tls, "-p", name]
            tree = output(["cargo", "tree", "-e", "normal", "--prefix", "none", "--manifest-path", str(HERE / "Cargo.toml"), *features], dict(os.environ))
            crates = {line.removesuffix(" (*)") for line in tree.splitlines()}
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                command = ["cargo", "build", "--release", "--quiet", "--target-dir", folder, *features]
                if subprocess.run(command, cwd=HERE, capture_output=True).returncode != 0:
                    SKIPPED.append(f"{name} with {tls}")
                    continue
                seconds = time.perf_counter() - start
                size = (pathlib.Path(folder) / "release" / name).stat().st_size
            # The program itself and what the contenders share are not the contender's.
            figures[name] = (len(crates) - 2, seconds, size)
        if "with-ureq" not in figures:
            continue
        _, seconds0, size0 = figures["with-ureq"]
        for name, (crates, seconds, size) in figures.items():
            label = {"with-ureq": "ureq", "with-didit": "**didit**", "with-reqwest": "reqwest::blocking"}[name]
            rows.append([f"{label}, {tls}", str(crates), f"{seconds:.1f}", f"{seconds / seconds0:.2f} ×", f"{size / 1e6:.2f}", f"{size / size0:.2f} ×"])
    command = (RELEASE / "didit").stat().st_size
    rows.append(["**the command `didit`**", "", "", "", f"{command / 1e6:.2f}", ""])
    table(
        "What it costs to depend on it",
        ["", "crates", "cold build s", "to ureq", "size MB", "to ureq"],
        rows,
        "A program that updates one session; serde_json, base64 and the program's own crate are in every row.",
    )


def threads(server: Server, updates: int) -> None:
    env, rows = server.env(), []
    server.log()
    for count in (1, 2, 4, 16, 64):
        each = max(1, updates // count)
        nanos = int(output([str(RELEASE / "threads"), str(count), str(each)], env))
        seen = server.log()
        sessions = {entry[0] for entry in seen if entry[1] == "PATCH"}
        tokens = sum(entry[1] == "POST" for entry in seen)
        rows.append([str(count), f"{count * each / nanos * 1e9:.0f}", str(len(sessions)), str(tokens)])
    table(
        "Many threads on one client, over TLS",
        ["threads", "updates a second", "connections", "token requests"],
        rows,
        "On two cores, which the server shares. The token's connection may carry updates too.",
    )


def batch(server: Server, sizes: list[int]) -> None:
    env, rows = server.env(tls=False), []
    for size in sizes:
        source = server.folder / f"{size}.csv"
        with source.open("w") as file:
            file.write("session_id,new_status,comment\n")
            for number in range(size):
                file.write(f"{number:08x}-0000-4000-8000-000000000000,Declined,Duplicated user\n")
        command = [str(RELEASE / "didit"), "batch", str(source), "--rate", "10000000", "--jobs", "8", "--quiet"]
        wall, _ = measure(command, env)
        journal = pathlib.Path(f"{source}.journal")
        size_of_journal = journal.stat().st_size
        journal.unlink()
        memory = peak(command, env)
        rows.append([f"{size:,}", f"{size / wall * 1000:.0f}", memory, f"{size_of_journal / size:.0f}"])
        server.log()
    table(
        "A long batch: `didit batch` with eight workers, no rate limit, over plain HTTP",
        ["rows", "rows a second", "peak MB", "journal bytes a row"],
        rows,
        "Every row's intent is on disk before it is sent, and its result before the next.",
    )


def main() -> None:
    questions = ["warm", "process", "cost", "threads", "batch"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a figure to quote")
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    arguments = parser.parse_args()
    arguments.questions = arguments.questions or questions
    if not set(arguments.questions) <= set(questions):
        parser.error(f"the questions are {', '.join(questions)}")
    few = arguments.quick
    start = time.perf_counter()
    install()
    build()
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rust = output(["rustc", "--version"], dict(os.environ)).strip()
    print("# Benchmarks\n")
    print(f"{datetime.date.today()}; {os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB; {platform.system()} {platform.release()}; {rust}.")
    print("\nMade by `bench/run.py`. Lower is better, but for rates.")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = Server(pathlib.Path(folder))
        try:
            if "warm" in arguments.questions:
                warm(server, 3 if few else 9, 0.1 if few else 0.6)
            if "process" in arguments.questions:
                process(server, 4 if few else 24)
            if "cost" in arguments.questions:
                cost(server, 1)
            if "threads" in arguments.questions:
                threads(server, 2000 if few else 20000)
            if "batch" in arguments.questions:
                batch(server, [1000, 10000] if few else [1000, 10_000, 100_000])
        finally:
            server.stop()
    print(f"\nSkipped: {', '.join(SKIPPED) or 'nothing'}. The run took {(time.perf_counter() - start) / 60:.0f} minutes.")


main()
