#!/usr/bin/env python3
"""Measures `didit` beside its peers in one run, and prints a Markdown table per question.

    bench/run.py [--quick] [--write] [QUESTION ...]

Questions: warm process trips names cost threads batch; all of them where none is named. What is missing is installed
(Debian's packages, and from PyPI into a virtual environment below target/), or named as skipped. Takes about twenty
minutes; BENCHMARKS.md is one run of `bench/run.py --write`.
"""

import argparse
import datetime
import os
import pathlib
import platform
import re
import tempfile
import time

import charts
import questions
from contenders import COMPARED, NODE, PYTHON, SKIPPED, build, install
from measure import output
from server import Server

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUESTIONS = ["warm", "process", "trips", "names", "cost", "threads", "batch"]


def machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rust = output(["rustc", "--version"], dict(os.environ)).strip()
    processor = f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}"
    return f"{datetime.date.today()}; {processor}, {memory:.0f} GiB; {platform.system()} {platform.release()}; {rust}."


def draw(figures: dict) -> None:
    """The two charts: of a whole process, and of a program's size."""
    taken = figures["process"]
    shown = [name for name in ("**didit update**", "two curl calls", NODE, PYTHON) if name in taken]
    processes = [
        (name, taken[name], f"{taken[name]:.1f} ms" if taken[name] < 10 else f"{taken[name]:.0f} ms") for name in shown
    ]
    charts.bars(ROOT / "docs/process.svg", "One update as a whole process, over TLS", [processes])
    sizes = figures["sizes"]
    groups = [
        [
            (f"{COMPARED[program]}, {tls}", size, f"{size / 1e6:.2f} MB")
            for (program, tls, opt), size in sizes.items()
            if (tls, opt) == (group, "z")
        ]
        for group in ("rustls", "native-tls")
    ]
    charts.bars(ROOT / "docs/size.svg", "Size of a program that updates one session", groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a figure to quote")
    parser.add_argument("--write", action="store_true", help="write BENCHMARKS.md, docs/process.svg and docs/size.svg")
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    arguments = parser.parse_args()
    wanted = arguments.questions or QUESTIONS
    if not set(wanted) <= set(QUESTIONS):
        parser.error(f"the questions are {', '.join(QUESTIONS)}")
    if arguments.write and wanted != QUESTIONS:
        parser.error("--write needs every question")
    few, start, page = arguments.quick, time.perf_counter(), []

    def emit(lines: list[str]) -> None:
        page.extend(lines)
        print("\n".join(lines), flush=True)

    install()
    emit(["# Benchmarks", "", machine(), "", "Made by `bench/run.py --write`. Lower is better, but for rates."])
    if arguments.write:
        emit(["", "![One update as a whole process](docs/process.svg)", "", "![Size of a program](docs/size.svg)"])
    seconds, figures = build(wanted, 1 if few else 3), {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder))
        ask = {
            "warm": lambda: questions.warm(server, 3 if few else 7, 0.1 if few else 0.5),
            "process": lambda: questions.process(server, 4 if few else 24, figures),
            "trips": lambda: questions.trips(server, 3 if few else 5),
            "names": questions.names,
            "cost": lambda: questions.cost(seconds, figures),
            "threads": lambda: questions.threads(server, 2000 if few else 20000),
            "batch": lambda: questions.batch(server, [1000, 10_000] if few else [1000, 10_000, 100_000]),
        }
        try:
            for question in wanted:
                emit(ask[question]())
        finally:
            server.stop()
    took = (time.perf_counter() - start) / 60
    emit(["", f"Skipped: {', '.join(SKIPPED) or 'nothing'}. The run took {took:.0f} minutes."])
    if arguments.write:
        (ROOT / "BENCHMARKS.md").write_text("\n".join(page) + "\n")
        draw(figures)


if __name__ == "__main__":
    main()
