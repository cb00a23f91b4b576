"""Each function runs one command and returns one figure."""

import os
import re
import statistics
import subprocess
import tempfile
import time

from contenders import SKIPPED


def output(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.stdout


def wall_and_cpu(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Returns milliseconds."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    with process.stderr as errors:
        if status != 0:
            raise RuntimeError(f"{command}: {errors.read()}")
    return wall * 1000, (used.ru_utime + used.ru_stime) * 1000


def peak(command: list[str], env: dict[str, str]) -> str:
    """Returns the peak memory in MB. `time` starts the command, because a child of this process begins with its memory."""
    if "time" in SKIPPED:
        output(command, env)
        return ""
    done = subprocess.run(["/usr/bin/time", "-f", "%M", *command], env=env, capture_output=True, text=True, check=True)
    return f"{int(done.stderr.split()[-1]) / 1024:.1f}"


def instructions(command: list[str], env: dict[str, str]) -> int | None:
    """Returns the instructions of a whole process in user space."""
    if "valgrind" in SKIPPED:
        return None
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    done = subprocess.run(tool, env=env, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    return int(found[1]) if found and done.returncode == 0 else None


def system_calls(command: list[str], env: dict[str, str]) -> int | None:
    """Returns the system calls of all threads of a process."""
    if "strace" in SKIPPED:
        return None
    with tempfile.NamedTemporaryFile("r") as file:
        subprocess.run(["strace", "-f", "-c", "-o", file.name, *command], env=env, capture_output=True, check=True)
        total = file.read().splitlines()[-1].split()
    return int(total[3])


def per_update(count, command: list[str], env: dict[str, str]) -> float | None:
    """Returns what `count` measures for one warm update: the difference between many updates and few."""
    few, many = 20, 220
    counted = [count([*command, "warm", str(updates)], env) for updates in (few, many)]
    return None if None in counted else (counted[1] - counted[0]) / (many - few)


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
