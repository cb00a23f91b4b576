"""Measures how long each contender needs to connect to a host whose first addresses do not answer.

Runs itself in a network of its own.
"""

import concurrent.futures
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import namespace
from contenders import DIDIT, LIMITED, REQWEST, Contender, peers
from server import DEAD_DOMAIN, LIVE, TOKENS, Server

# Numbers of dead addresses, and hosts that have them.
HOSTS = {1: f"one.{DEAD_DOMAIN}", 3: f"three.{DEAD_DOMAIN}", 7: f"seven.{DEAD_DOMAIN}"}
LATER = 3


def answers() -> dict[str, dict] | None:
    """Returns, by contender and number of dead addresses, the seconds of the first update and of the slowest later one. None
    instead of the seconds means that the first update failed."""
    return namespace.run(__file__, "dead addresses")


def hosts() -> str:
    """The hosts file. The system sorts the live address, 127.0.0.8, behind 127.0.0.1 to 127.0.0.7."""
    lines = []
    for dead, host in HOSTS.items():
        lines += [f"127.0.0.{last} {host}\n" for last in range(1, dead + 1)]
        lines.append(f"{LIVE} {host}\n")
    return "".join(lines)


def kill_address(address: str, port: int) -> list[socket.socket]:
    """Listens with a full queue, so that the system does not answer a SYN. It lasts while the sockets are open."""
    listener = socket.socket()
    listener.bind((address, port))
    listener.listen(0)
    sockets = [listener]
    for _ in range(100):
        client = socket.socket()
        client.settimeout(0.1)
        sockets.append(client)
        try:
            client.connect((address, port))
        except TimeoutError:
            return sockets
    raise RuntimeError("the queue never fills up")


def program(contender: Contender, env: dict[str, str]) -> tuple[float | None, float | None]:
    """Every update uses a new connection, because the server closes each after one response."""
    command, extra = contender
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    start = time.perf_counter()
    process = subprocess.Popen([*command, "serve"], env=env | extra, **pipes)
    ready = process.stdout.readline() == "ready\n"
    first = time.perf_counter() - start
    if not ready:
        process.communicate()
        return None, None
    output, _ = process.communicate(f"{LATER}\n")
    failed, longest = output.split()
    return first, None if int(failed) else int(longest) / 1000


def curl(env: dict[str, str]) -> tuple[float | None, float | None]:
    url = f"{env['DIDIT_BASE_URL']}/v1/session/[1-{LATER + 1}]/update-status/"
    command = ["curl", "-s", "--cacert", env["DIDIT_CA_FILE"], "--connect-timeout", "10", "--max-time", "30"]
    command += ["-X", "PATCH", "-d", "{}", "-o", "/dev/null", "-w", "%{http_code} %{time_total}\n", url]
    done = subprocess.run(command, capture_output=True, text=True)
    times = [float(seconds) if code == "200" else None for code, seconds in map(str.split, done.stdout.splitlines())]
    return times[0], None if None in times else max(times[1:])


def measure(server: Server) -> dict[str, dict]:
    port = server.ports["DEAD"]
    # Kept until the end: closing one would let its address answer.
    dead = [kill_address(f"127.0.0.{last}", port) for last in range(1, max(HOSTS) + 1)]
    found = peers()
    env = server.env(tokens=TOKENS)
    tasks = {}
    # Whoever waits for a dead address uses no processor, so all can wait at the same time.
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for count, host in HOSTS.items():
            own = env | {"DIDIT_BASE_URL": f"https://{host}:{port}"}
            for name in (DIDIT, LIMITED, REQWEST):
                tasks[name, count] = pool.submit(program, found[name, "z"], own)
            if shutil.which("curl"):
                tasks["curl", count] = pool.submit(curl, own)
    del dead
    results: dict[str, dict] = {}
    for (name, count), task in tasks.items():
        results.setdefault(name, {})[count] = task.result()
    return results


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        namespace.prepare(folder, hosts())
        server = Server(folder)
        try:
            print(json.dumps(measure(server)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
