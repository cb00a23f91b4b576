"""The project's limits, and whether this run meets them."""

from contenders import NODE, PYTHON
from questions import table

# The most seconds for the first update, by number of dead addresses, and for later ones.
FIRST_UPDATE = {"1": 1.2, "3": 3.0, "7": 7.0}
LATER_UPDATE = 0.2
# How many times faster one update as a whole process must be than with another client.
FASTER = {"two curl calls": 4.5, NODE: 25.0, PYTHON: 40.0}


def compare(figures: dict) -> list[str]:
    """Returns a table of all limits. What was not measured has no figure."""
    sizes, process = figures["sizes"], figures["process"]
    ureq = sizes.get(("with-ureq", "rustls", "z"))
    ratio = lambda value, base: value / base if value and base else None
    size = lambda tls: ratio(sizes.get(("with-didit", tls, "z")), sizes.get(("with-ureq", tls, "z")))
    dead = figures.get("addresses", {})
    rows = [
        ("size of a program, rustls, vs ureq", size("rustls"), 1.10),
        ("size of a program, native-tls, vs ureq", size("native-tls"), 1.20),
        ("size of the command with its sandbox, vs a program on ureq", ratio(figures["command"], ureq), 1.65),
        ("crates, rustls", figures.get(("crates", ("with-didit", "rustls", "z"))), 36),
        *(
            (f"{what} of a warm update over {protocol}{base}", figures.get((what, protocol)), limit)
            for what, base, limit in (("instructions", ", vs ureq", 0.95), ("system calls", "", 9))
            for protocol in ("TLS 1.3", "plain HTTP")
        ),
        ("instructions of one update as a whole process, vs ureq", figures["whole process"], 0.72),
        *(
            (f"wall time of one update as a whole process, vs {name}", ratio(process["**didit update**"], wall), 1 / times)
            for name, times in FASTER.items()
            if (wall := process.get(name))
        ),
        ("queries to the name server", figures.get("queries"), 4),
    ]
    for count, limit in FIRST_UPDATE.items():
        first, later = dead.get(count, (None, None))
        rows.append((f"first update with {count} dead, s", first, limit))
        rows.append((f"later updates with {count} dead, s", later, LATER_UPDATE))
    cells = []
    for name, value, limit in rows:
        # The figures are compared as they are shown.
        shown, most = "" if value is None else f"{value:.3g}", f"{limit:.3g}"
        met = "" if value is None else "yes" if float(shown) <= float(most) else "**no**"
        cells.append([name, shown, most, met])
    return table("Limits", ["", "measured", "at most", "met"], cells)
