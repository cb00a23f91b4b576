"""Counts each contender's queries to the name server, and measures its updates after the name server failed.

Runs itself in a network of its own, with a name server in Python.
"""

import concurrent.futures
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import namespace
from contenders import DIDIT, LIMITED, REQWEST, UREQ, Contender, peers
from namespace import LOOPBACK
from server import NAMED_SESSIONS, NAMED_TOKENS, Server

UPDATES = 100
AFTER_KILL, AFTER_STOP = 20, 2
SESSION = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10"


def answers() -> dict[str, dict] | None:
    """Returns, by contender, the number of queries. For the updates after the name server was killed or stopped, also how many
    failed, how many there were, and the seconds of the longest."""
    return namespace.run(__file__, "the name server")


class NameServer:
    """Answers every query for an IPv4 address with 127.0.0.1, and every other query with no record."""

    def __init__(self) -> None:
        self.queries = 0
        self.start()

    def start(self) -> None:
        self.silent = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 53))
        threading.Thread(target=self.serve, args=(self.socket,), daemon=True).start()

    def serve(self, own: socket.socket) -> None:
        while True:
            query, client = own.recvfrom(512)
            if not query:
                return own.close()
            self.queries += 1
            if not self.silent:
                own.sendto(self.answer(query), client)

    def answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question, asked = query[12:end], query[end - 4 : end - 2]
        address = asked == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1" + (60).to_bytes(4, "big") + b"\0\4" + socket.inet_aton("127.0.0.1")
        counts = b"\0\1" + (b"\0\1" if address else b"\0\0") + b"\0\0\0\0"
        return query[:2] + b"\x81\x80" + counts + question + (record if address else b"")

    def kill(self) -> None:
        """Stops listening: the system refuses every query at once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        while self.socket.fileno() != -1:
            time.sleep(0.001)

    def stop(self) -> None:
        """Receives queries and never answers them."""
        self.silent = True


class Program:
    """A contender that makes updates on demand."""

    def __init__(self, contender: Contender, env: dict[str, str]) -> None:
        command, extra = contender
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([*command, "serve"], env=env | extra, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def update(self, count: int) -> tuple[int, int, float]:
        """Returns how many failed, how many there were, and the seconds of the longest."""
        print(count, file=self.process.stdin, flush=True)
        failed, longest = self.process.stdout.readline().split()
        return int(failed), count, int(longest) / 1000

    def end(self) -> None:
        self.process.communicate()


class Curl:
    """One curl process with one connection. It makes its updates at once, or at a steady rate, because it cannot wait for a
    command."""

    def __init__(self, env: dict[str, str], folder: pathlib.Path, count: int, a_second: int | None = None) -> None:
        config = folder / f"curl-{count}"
        config.write_text(f"""
            cacert = {env["DIDIT_CA_FILE"]}
            user = "bench:bench-secret"
            data = "grant_type=client_credentials"
            output = /dev/null
            url = "{env["DIDIT_AUTH_URL"]}/auth/v2/token/"
            next
            cacert = {env["DIDIT_CA_FILE"]}
            request = PATCH
            header = "Authorization: Bearer token"
            header = "Content-Type: application/json"
            data = "{{\\"new_status\\":\\"Declined\\"}}"
            output = /dev/null
            write-out = "%{{http_code}} %{{time_total}}\\n"
            url = "{env["DIDIT_BASE_URL"]}/v1/session/{SESSION}/update-status/?[1-{count}]"
            """)
        rate = ["--rate", f"{a_second}/s"] if a_second else []
        self.process = subprocess.Popen(["curl", "-s", *rate, "-K", config], stdout=subprocess.PIPE, text=True)

    def end(self) -> tuple[int, int, float]:
        lines = [line.split() for line in self.process.communicate()[0].splitlines()]
        failed = sum(code != "200" for code, _ in lines)
        return failed, len(lines), max(float(seconds) for _, seconds in lines)


def measure(server: Server, name_server: NameServer) -> dict[str, dict]:
    env = server.env(sessions=NAMED_SESSIONS, tokens=NAMED_TOKENS)
    found = peers()
    contenders = {name: found[name, "z"] for name in (DIDIT, LIMITED, UREQ, REQWEST)}
    results: dict[str, dict] = {}
    for name, contender in contenders.items():
        name_server.queries = 0
        program = Program(contender, env)  # made one update
        program.update(UPDATES - 1)
        results[name] = {"queries": name_server.queries}
        name_server.kill()
        results[name]["killed"] = program.update(AFTER_KILL)
        program.end()
        name_server.start()
    if shutil.which("curl"):
        name_server.queries = 0
        Curl(env, server.folder, UPDATES).end()
        results["curl"] = {"queries": name_server.queries}
        curl = Curl(env, server.folder, 2 * AFTER_KILL, AFTER_KILL)
        time.sleep(1)
        name_server.kill()
        results["curl"]["killed"] = curl.end()
        name_server.start()
    programs = {name: Program(contender, env) for name, contender in contenders.items()}
    curl = Curl(env, server.folder, 2 * AFTER_KILL, AFTER_KILL) if "curl" in results else None
    time.sleep(1)
    name_server.stop()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        under_way = {name: pool.submit(program.update, AFTER_STOP) for name, program in programs.items()}
        for name, result in under_way.items():
            results[name]["stopped"] = result.result()
            programs[name].end()
    if curl:
        results["curl"]["stopped"] = curl.end()
    return results


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        namespace.prepare(folder)
        server = Server(folder)
        try:
            print(json.dumps(measure(server, NameServer())))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
