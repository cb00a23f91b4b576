"""One function per question. It measures, returns the lines of its tables, and adds to `figures` what charts and limits need."""

import os
import statistics
import time

import addresses as dead_addresses
import name_server
from contenders import (
    BUILDS, COMMAND, COMPARED, DIDIT, HERE, LIMITED, NODE, PYTHON, REQWEST, SKIPPED, SOCKET, THREADS, UREQ,
    binary, features, peers,
)  # fmt: skip
from measure import instructions, output, peak, per_update, spread, system_calls, wall_and_cpu
from server import SESSIONS, Delay, Server

SESSION = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10"
UPDATE = [str(COMMAND), "update", SESSION, "declined", "--comment", "Duplicated user"]
AWAY = 0.04


def table(title: str, head: list[str], rows: list[list[str]], note: str = "") -> list[str]:
    lines = ["", f"## {title}", "", "| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return lines + (["", note] if note else [])


def ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f} ×" if value and base else ""


def warm(server: Server, rounds: int, seconds: float, figures: dict) -> list[str]:
    lines = []
    for protocol, title in (("TLS13", "TLS 1.3"), ("PLAIN", "plain HTTP")):
        env = server.env(protocol)
        contenders = {key: each for key, each in peers().items() if protocol != "PLAIN" or key[1] != "3"}
        times: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
        counts: dict[tuple[str, str], int] = {}
        for round_ in range(rounds + 1):
            for key, (command, extra) in contenders.items():
                count = counts.get(key, 30)
                each = int(output([*command, "warm", str(count)], env | extra)) / count
                if round_ == 0:
                    # This round is not counted. It shows how many updates fill a round.
                    counts[key] = max(30, min(5000, int(seconds * 1e9 / each)))
                else:
                    times[key].append(each / 1000)
        instructions_, calls = {}, {}
        for key in [(SOCKET, "z"), *((name, opt) for opt in "z3" for name in (UREQ, LIMITED, DIDIT, REQWEST))]:
            if key in contenders:
                command, extra = contenders[key]
                instructions_[key] = per_update(instructions, command, env | extra)
                calls[key] = per_update(system_calls, command, env | extra)
        base = statistics.median(times[SOCKET, "z"])
        own, of_ureq = instructions_[DIDIT, "z"], instructions_[LIMITED, "z"]
        figures["instructions", title] = own / of_ureq if own and of_ureq else None
        called = calls[DIDIT, "z"]
        figures["system calls", title] = called and round(called)
        rows = []
        for key, values in times.items():
            name, opt = key
            counted, of_ureq, called = instructions_.get(key), instructions_.get((LIMITED, opt)), calls.get(key)
            rows.append([
                # Without TLS, the socket has no rustls.
                name if protocol != "PLAIN" else name.removesuffix(" (rustls)"),
                opt,
                spread(values),
                ratio(statistics.median(values), base),
                f"{counted / 1000:.1f} k" if counted else "",
                ratio(counted, of_ureq),
                f"{called:.0f}" if called else "",
            ])  # fmt: skip
        head = ["", "opt-level", "µs (least–most)", "vs socket", "instructions", "vs ureq", "system calls"]
        note = (
            f"Median of {rounds} interleaved rounds of about {seconds} s. Unless a row says otherwise, each request has "
            "didit's default limits: 30 s in all, 10 s to connect. The hosts are IP addresses, so no name server is "
            "involved. attohttpc and minreq do not reuse connections."
        )
        lines += table(f"A warm update over {title}", head, rows, note)
    return lines


def process(server: Server, rounds: int, figures: dict) -> list[str]:
    token_file = {"DIDIT_TOKEN_FILE": str(server.folder / "token")}
    found = peers()
    program = lambda key: ([*found[key][0], "once"], found[key][1])
    contenders = {
        "**didit update**": ("z", UPDATE, {}),
        "**didit update**, warm token file": ("z", UPDATE, token_file),
        "**a minimal program on didit**": ("z", *program((DIDIT, "z"))),
        "a minimal program on ureq": ("z", *program((LIMITED, "z"))),
        "a minimal program on reqwest::blocking": ("z", *program((REQWEST, "z"))),
    }
    if "curl" not in SKIPPED:
        contenders["two curl calls"] = ("", [str(HERE / "peers/curl.sh")], {})
    contenders |= {name: ("", *program((name, ""))) for name in (PYTHON, NODE) if (name, "") in found}
    env = server.env()
    output(UPDATE, env | token_file)
    server.log()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    connections: dict[str, int] = {}
    for round_ in range(rounds):
        for name, (_, command, extra) in contenders.items():
            results[name].append(wall_and_cpu(command, env | extra))
            if round_ == 0:
                connections[name] = len({entry[0] for entry in server.log()})
    walls = {name: [wall for wall, _ in values] for name, values in results.items()}
    figures["process"] = {name: statistics.median(values) for name, values in walls.items()}
    counted = {
        name: instructions(command, env | extra)
        for name, (opt, command, extra) in contenders.items()
        if opt and "reqwest" not in name
    }
    own, of_ureq = counted["**a minimal program on didit**"], counted["a minimal program on ureq"]
    figures["whole process"] = own / of_ureq if own and of_ureq else None
    rows = [
        [
            name,
            opt,
            spread(walls[name]),
            ratio(figures["process"][name], figures["process"]["**didit update**"]),
            f"{statistics.median(cpu for _, cpu in results[name]):.1f}",
            f"{counted[name] / 1e6:.2f} M" if counted.get(name) else "",
            ratio(counted.get(name), counted["a minimal program on ureq"]),
            peak(command, env | extra),
            str(connections[name]),
        ]
        for name, (opt, command, extra) in contenders.items()
    ]
    head = ["", "opt-level", "wall ms (least–most)", "vs didit update", "CPU ms", "instructions", "vs ureq"]
    note = (
        "Each process fetches a token and makes an update, on two hosts as with Didit. With a warm token file, and with "
        "the Python SDK, which uses an API key, it only makes the update. All have the same limits on time."
    )
    return table("One update as a whole process, over TLS 1.3", [*head, "peak MB", "connections"], rows, note)


def trips(server: Server, rounds: int) -> list[str]:
    token_file = {"DIDIT_TOKEN_FILE": str(server.folder / "far-token")}
    found = peers()
    program = lambda key: ([*found[key][0], "once"], found[key][1])
    contenders = {
        (SOCKET, 1): program((SOCKET, "z")),
        ("**didit update**", 1): (UPDATE, {}),
        ("**didit update**, warm token file", 1): (UPDATE, token_file),
        ("**a minimal program on didit**", 1): program((DIDIT, "z")),
        ("a minimal program on ureq", 1): program((LIMITED, "z")),
        ("a minimal program on reqwest::blocking", 1): program((REQWEST, "z")),
        ("**didit update**", 2): (UPDATE, {}),
        ("a minimal program on ureq", 2): program((LIMITED, "z")),
        ("a minimal program on reqwest::blocking", 2): program((REQWEST, "z")),
    }
    if "curl" not in SKIPPED:
        contenders["two curl calls", 2] = ([str(HERE / "peers/curl.sh")], {})
    if (PYTHON, "") in found:
        contenders[PYTHON, 1] = program((PYTHON, ""))
    if (NODE, "") in found:
        contenders[NODE, 2] = program((NODE, ""))
    runs = [("TLS13", name, hosts) for name, hosts in contenders]
    runs += [("TLS12", name, hosts) for name, hosts in contenders if name == "**didit update**"]
    proxies = {protocol: Delay(server.ports[protocol], AWAY) for protocol in ("TLS13", "TLS12")}
    rows = []
    for protocol, name, hosts in runs:
        command, extra = contenders[name, hosts]
        proxy = proxies[protocol]
        env = server.env(port=proxy.port, **({"tokens": SESSIONS} if hosts == 1 else {})) | extra
        wall_and_cpu(command, env)  # not counted: it writes the token file for this host
        counted, walls = [], []
        for _ in range(rounds):
            proxy.ways = 0
            walls.append(wall_and_cpu(command, env)[0])
            counted.append(proxy.ways / 2)
        one = "token" in name or name == PYTHON
        tls = protocol.replace("TLS1", "1.")
        rows.append([name, tls, "–" if one else str(hosts), f"{statistics.median(counted):g}", spread(walls, 0)])
    head = ["", "TLS", "hosts", "round trips", "wall ms (least–most)"]
    note = (
        f"Every byte is delayed by {AWAY * 1000:.0f} ms in each direction. The table counts sequential round trips. A "
        "request on a new connection takes three: TCP, TLS 1.3, and the request itself. The bare socket uses a new "
        "connection for the update. With a warm token file, and with the Python SDK, there is only one request."
    )
    return table(f"One update at {2000 * AWAY:.0f} ms round-trip time", head, rows, note)


def names(figures: dict) -> list[str]:
    found = name_server.answers()
    if found is None:
        return []
    figures["queries"] = found[DIDIT]["queries"]
    rows = []
    for name, each in found.items():
        cells = [
            f"{failed} of {count} ({longest:.1f} s)" for failed, count, longest in (each["killed"], each["stopped"])
        ]
        rows.append([name, "" if name == "curl" else "z", str(each["queries"]), *cells])
    head = [
        "",
        "opt-level",
        f"queries for {name_server.UPDATES} updates",
        "killed: failed (longest)",
        "stopped: failed (longest)",
    ]
    note = (
        "Each program fetches a token and makes updates, on two hosts, and reuses its connections. Then the name server is "
        "killed (queries are refused at once) or stopped (queries are never answered), while the program makes more "
        "updates over the same connection. curl cannot wait for a command, so it makes its updates at a steady rate, and "
        "about half of them come after the failure."
    )
    return table("The name server", head, rows, note)


def addresses(figures: dict) -> list[str]:
    found = dead_addresses.answers()
    if found is None:
        return []
    figures["addresses"] = found[DIDIT]
    shown = lambda seconds: "failed" if seconds is None else f"{seconds:.2f}"
    rows = [[name, *(shown(seconds) for pair in each.values() for seconds in pair)] for name, each in found.items()]
    head = [""]
    for dead in dead_addresses.HOSTS:
        head += [f"{dead} dead: first s", "later s"]
    note = (
        "A host whose first addresses do not answer, and whose last one does. Every update uses a new connection. The first "
        f"update includes the token; the later one is the slowest of {dead_addresses.LATER}. opt-level z."
    )
    return table("Dead addresses", head, rows, note)


def cost(seconds: dict[tuple[str, str, str], float], figures: dict) -> list[str]:
    rows, sizes = [], {}
    for build in BUILDS:
        if build not in seconds:
            continue
        program, tls, opt = build
        sizes[build] = size = binary(*build).stat().st_size
        manifest = str(HERE / "Cargo.toml")
        command = ["cargo", "tree", "-e", "normal", "--prefix", "none", "--manifest-path", manifest]
        tree = output([*command, *features(program, tls)], dict(os.environ))
        # Without the program itself and the crate that the contenders share.
        crates = len({line.removesuffix(" (*)") for line in tree.splitlines()}) - 2
        base, taken = ("with-ureq", tls, opt), seconds[build]
        row = [f"{COMPARED[program]}, {tls}", opt, str(crates), f"{taken:.1f}", ratio(taken, seconds.get(base))]
        rows.append([*row, f"{size / 1e6:.2f}", ratio(size, sizes.get(base))])
        figures["crates", build] = crates
    size = COMMAND.stat().st_size
    rows.append(
        [
            "**the command `didit`**, with its sandbox, rustls",
            "z",
            "",
            "",
            "",
            f"{size / 1e6:.2f}",
            ratio(size, sizes["with-ureq", "rustls", "z"]),
        ]
    )
    figures["sizes"], figures["command"] = sizes, size
    return table(
        "The cost of the dependency",
        ["", "opt-level", "crates", "cold build s", "vs ureq", "size MB", "vs ureq"],
        rows,
        "A program that updates one session. Every row includes serde_json, base64 and the program itself. Cold builds took "
        "turns, and each time is a median.",
    )


def threads(server: Server, updates: int) -> list[str]:
    env, rows = server.env(), []
    server.log()
    for count in (1, 2, 4, 16, 64):
        each = max(1, updates // count)
        nanos = int(output([str(THREADS), str(count), str(each)], env))
        seen = server.log()
        sessions = {entry[0] for entry in seen if entry[1] == "PATCH"}
        tokens = sum(entry[1] == "POST" for entry in seen)
        rows.append([str(count), f"{count * each / nanos * 1e9:.0f}", str(len(sessions)), str(tokens)])
    head = ["threads", "updates a second", "connections", "token requests"]
    note = f"On {os.cpu_count()} cores, shared with the server. opt-level z."
    return table("Many threads on one client, over TLS 1.3", head, rows, note)


def batch(server: Server, sizes: list[int]) -> list[str]:
    env, rows = server.env("PLAIN"), []
    for size in sizes:
        source, journal = server.folder / f"{size}.csv", server.folder / f"{size}.journal"
        with source.open("w") as file:
            file.write("session_id,new_status,comment\n")
            for number in range(size):
                file.write(f"{number:08x}-0000-4000-8000-000000000000,Declined,Duplicated user\n")
        command = [str(COMMAND), "batch", str(source), "--journal", str(journal)]
        command += ["--rate", "10000000", "--jobs", "8", "--quiet"]
        start = time.perf_counter()
        memory = peak(command, env)
        seconds = time.perf_counter() - start
        rows.append([f"{size:,}", f"{size / seconds:.0f}", memory, f"{journal.stat().st_size / size:.0f}"])
        server.log()
    title = "A long batch: `didit batch` with eight workers, no rate limit, over plain HTTP"
    note = "The intent of each row is on disk before its update is sent, and its result before the next row. opt-level z."
    return table(title, ["rows", "rows a second", "peak MB", "journal bytes a row"], rows, note)
