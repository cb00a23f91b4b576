"""The contenders: how to install or build them, and how to run them."""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "target"
VENV = TARGET / "venv"
SKIPPED: list[str] = []

# A contender's command, and its variables in addition to the common ones.
Contender = tuple[list[str], dict[str, str]]

SOCKET = "bare socket (rustls)"
UREQ = "ureq, no limits on time"
LIMITED = "ureq"
DIDIT = "**didit**"
REQWEST = "reqwest::blocking"
PYTHON = "Python didit-sdk 0.4.0"
NODE = "Node fetch"

# The three programs whose size and build time are compared, and their builds: program, TLS library, opt-level.
COMPARED = {"with-ureq": LIMITED, "with-didit": DIDIT, "with-reqwest": REQWEST}
Build = tuple[str, str, str]
BUILDS = [
    *((program, "rustls", "z") for program in COMPARED),
    *((program, "rustls", "3") for program in COMPARED if program != "with-reqwest"),
    *((program, "native-tls", "z") for program in COMPARED),
]


def quiet(*command: str, **options) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options).returncode == 0


def install() -> None:
    tools = {
        "nginx": "nginx-light",
        "openssl": "openssl",
        "valgrind": "valgrind",
        "strace": "strace",
        "curl": "curl",
        "node": "nodejs",
        "unshare": "util-linux",
        "ip": "iproute2",
        "time": "time",
    }
    missing = [package for tool, package in tools.items() if not shutil.which(tool)]
    if not quiet("pkg-config", "--exists", "openssl"):
        missing += ["libssl-dev", "pkg-config"]
    if missing and shutil.which("apt-get"):
        sudo = ["sudo"] if os.geteuid() and shutil.which("sudo") else []
        quiet(*sudo, "apt-get", "update")
        quiet(*sudo, "apt-get", "install", "-y", *missing)
    if not (VENV / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=False)
    quiet(str(VENV / "bin/pip"), "install", "didit-sdk==0.4.0")
    if not quiet(str(VENV / "bin/python"), "-c", "import didit"):
        SKIPPED.append(PYTHON)
    SKIPPED.extend(tool for tool in ("node", "curl", "valgrind", "time") if not shutil.which(tool))
    # Where tracing is forbidden, strace is installed but does not work.
    if not quiet("strace", "-f", "-c", "true"):
        SKIPPED.append("strace")
    if not shutil.which("nginx") or not shutil.which("openssl"):
        sys.exit("nginx and openssl are required and could not be installed")


def directory(build: Build) -> pathlib.Path:
    """Each build has a target directory of its own, so that it is a cold build."""
    return TARGET / "-".join(build)


def binary(program: str, tls: str = "rustls", opt: str = "z") -> pathlib.Path:
    return (directory((program, tls, opt)) if program in COMPARED else TARGET) / "release" / program


def cargo(folder: pathlib.Path, target: pathlib.Path, *arguments: str, opt: str = "z") -> bool:
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", str(target), *arguments]
    return (
        subprocess.run(command, cwd=folder, env=os.environ | {"CARGO_PROFILE_RELEASE_OPT_LEVEL": opt}).returncode == 0
    )


def build(wanted: list[str], turns: int) -> dict[Build, float]:
    """Builds what the wanted questions need. For the question `cost`, returns the median seconds of each of `BUILDS`, built cold
    and in turns. Programs are built one at a time, because built together they would share the features of their common
    crates."""
    cold = "cost" in wanted
    builds = [(p, tls, opt) for p, tls, opt in BUILDS if cold or (tls == "rustls" and (opt == "z" or "warm" in wanted))]
    seconds: dict[Build, list[float]] = {}
    # No measured build waits for a download.
    for workspace in (HERE, HERE.parent):
        quiet("cargo", "fetch", cwd=workspace)
    for turn in range(turns if cold else 1):
        for each in builds if turn % 2 == 0 else reversed(builds):
            program, tls, opt = each
            if cold:
                shutil.rmtree(directory(each), ignore_errors=True)
            start = time.perf_counter()
            if cargo(HERE, directory(each), *features(program, tls), opt=opt):
                seconds.setdefault(each, []).append(time.perf_counter() - start)
            elif turn == 0:
                SKIPPED.append(f"{program} with {tls} at opt-level {opt}")
    # These reuse the crates of the program on didit.
    shared = directory(("with-didit", "rustls", "z"))
    ok = cargo(HERE, shared, "-p", "threads")
    ok &= cargo(HERE.parent, shared, "-p", "didit-cli")
    for program in ("with-socket", "with-attohttpc", "with-minreq"):
        ok &= cargo(HERE, TARGET, "-p", program)
    if not ok:
        sys.exit("a build failed")
    return {each: statistics.median(times) for each, times in seconds.items()}


COMMAND = directory(("with-didit", "rustls", "z")) / "release/didit"
THREADS = COMMAND.with_name("threads")


def features(program: str, tls: str) -> list[str]:
    return ["--no-default-features", "--features", tls, "-p", program]


def rust(program: str, opt: str = "z", **environment: str) -> Contender:
    return [str(binary(program, opt=opt))], environment


def peers() -> dict[tuple[str, str], Contender]:
    """Returns the contenders that can make both warm updates and one update as a whole process, by name and opt-level."""
    found = {
        (SOCKET, "z"): rust("with-socket"),
        (UREQ, "z"): rust("with-ureq"),
        (LIMITED, "z"): rust("with-ureq", BENCH_LIMITS="1"),
        (DIDIT, "z"): rust("with-didit"),
        (REQWEST, "z"): rust("with-reqwest"),
        ("attohttpc", "z"): rust("with-attohttpc"),
        ("minreq", "z"): rust("with-minreq"),
        (LIMITED, "3"): rust("with-ureq", opt="3", BENCH_LIMITS="1"),
        (DIDIT, "3"): rust("with-didit", opt="3"),
    }
    if PYTHON not in SKIPPED:
        found[PYTHON, ""] = ([str(VENV / "bin/python"), str(HERE / "peers/sdk.py")], {})
    if "node" not in SKIPPED:
        found[NODE, ""] = (["node", str(HERE / "peers/fetch.mjs")], {})
    return found
