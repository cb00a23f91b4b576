"""The server for all contenders, and a proxy that delays every byte."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent

# Sessions and tokens have a host each. Every Linux has these addresses, every client treats them as two hosts, and they
# need no name server.
SESSIONS, TOKENS = "127.0.0.1", "127.0.0.2"
# Their names in name_server.py.
NAMED_SESSIONS, NAMED_TOKENS = "sessions.bench.test", "tokens.bench.test"
# The domain of the hosts in addresses.py, and their only address that answers.
DEAD_DOMAIN, LIVE = "dead.test", "127.0.0.8"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, host: str = SESSIONS) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on {host}:{port}")


class Server:
    """nginx with a certificate of a CA made for this run. Plain HTTP, TLS 1.3, TLS 1.2, and TLS 1.3 for hosts with dead
    addresses each have a port."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.ca = folder, folder / "ca.pem"
        self.ports = {name: free_port() for name in ("PLAIN", "TLS13", "TLS12", "DEAD")}
        run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=bench", "-days", "2")
        run(*new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=bench.test")
        names = [f"IP:{SESSIONS}", f"IP:{TOKENS}", f"DNS:{NAMED_SESSIONS}", f"DNS:{NAMED_TOKENS}", f"DNS:*.{DEAD_DOMAIN}"]
        (folder / "names").write_text(f"subjectAltName={','.join(names)}\n")
        sign = ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        run(*sign, "-out", "server.pem", "-days", "2", "-extfile", "names")
        text = (HERE / "nginx.conf").read_text()
        for name, value in {"DIR": folder, **self.ports}.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "nginx.conf").write_text(text)
        shutil.copy(HERE / "locations.conf", folder)
        self.process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        for name, port in self.ports.items():
            wait_for(port, LIVE if name == "DEAD" else SESSIONS)

    def env(
        self,
        protocol: str = "TLS13",
        port: int | None = None,
        sessions: str = SESSIONS,
        tokens: str = TOKENS,
    ) -> dict[str, str]:
        """Returns the environment of a contender, without the caller's own settings and proxies."""
        scheme = "http" if protocol == "PLAIN" else "https"
        port = port or self.ports[protocol]
        own = lambda key: key.upper().endswith("_PROXY") or key.startswith("DIDIT_")
        ca = str(self.ca)
        return {key: value for key, value in os.environ.items() if not own(key)} | {
            "DIDIT_BASE_URL": f"{scheme}://{sessions}:{port}",
            "DIDIT_AUTH_URL": f"{scheme}://{tokens}:{port}",
            "DIDIT_CLIENT_ID": "bench",
            "DIDIT_CLIENT_SECRET": "bench-secret",
            "DIDIT_CA_FILE": ca,
            "SSL_CERT_FILE": ca,
            "NODE_EXTRA_CA_CERTS": ca,
        }

    def log(self) -> list[list[str]]:
        """Returns the connection and the method of each request since the last call."""
        time.sleep(0.3)  # nginx writes its log every 100 ms
        path = self.folder / "access.log"
        lines = [line.split() for line in path.read_text().splitlines()]
        os.truncate(path, 0)
        return lines

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Delay:
    """Delays every byte by `seconds` in each direction, as if the server were far away.

    Bytes that are sent at the same time are delayed at the same time, as on a long cable. The kernel connects to this
    proxy without a delay, so what the client sends before the first response is also delayed by the round trip of the
    TCP handshake.

    `ways` counts sequential one-way trips, however long each took: what one side sends is one way further than what it
    had received. A TCP connection takes the client two.
    """

    def __init__(self, target: int, seconds: float) -> None:
        self.target, self.seconds, self.port = target, seconds, free_port()
        self.ways = 0
        self.open: set[asyncio.Task] = set()
        threading.Thread(target=lambda: asyncio.run(self.listen()), daemon=True).start()
        wait_for(self.port)

    async def listen(self) -> None:
        server = await asyncio.start_server(self.connected, [SESSIONS, TOKENS], self.port)
        await server.serve_forever()

    async def connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self.open.add(task)  # asyncio itself holds its tasks weakly
        task.add_done_callback(self.open.discard)
        host = to_client.get_extra_info("sockname")[0]
        server, to_server = await asyncio.open_connection(host, self.target)
        later = asyncio.get_running_loop().call_later
        handshake, connected, at_server = 2 * self.seconds, self.ways + 2, 0

        def deliver_to_server(data: bytes, ways: int) -> None:
            nonlocal at_server
            at_server = max(at_server, ways)
            to_server.write(data)

        def deliver_to_client(data: bytes, ways: int) -> None:
            nonlocal handshake
            handshake = 0
            if not client.at_eof():  # the client still reads
                self.ways = max(self.ways, ways)
            to_client.write(data)

        def end(writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write_eof()

        async def out() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await client.read(65536):
                    later(handshake + self.seconds, deliver_to_server, data, max(self.ways, connected) + 1)
            later(handshake + self.seconds, end, to_server)

        async def back() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await server.read(65536):
                    later(self.seconds, deliver_to_client, data, at_server + 1)
            later(self.seconds, end, to_client)

        await asyncio.gather(out(), back())
        await asyncio.sleep(2 * self.seconds)
        for writer in (to_client, to_server):
            writer.close()
