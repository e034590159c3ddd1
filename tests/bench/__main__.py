"""Runs the benchmarks: `python -m tests.bench [--quick] [name ...]`.

Every number stands beside a baseline of the same run, since machines differ and are busy with other
things. `--quick` takes small counts, to see that they run at all, and judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import time
from collections.abc import Sequence

import structlog

from tests.bench.report import show, write
from tests.bench.world import load_average

NAMES = (
    "unary",
    "throughput",
    "flat",
    "start",
    "rpc_wrapping",
    "aggregate",
    "registration",
    "node_changes",
    "agents",
    "cni",
    "console",
    "extender",
    "kernel_routes",
    "policy_compute",
    "policy_kernel",
    "policy_service",
    "steering",
    "device_state",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, no judgement")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for name in options.names or NAMES:
        module = importlib.import_module(f"tests.bench.{name}")
        begin = time.monotonic()
        rows = asyncio.run(module.measure(quick=options.quick))
        show(f"{name}: {module.TITLE}", rows, judged=not options.quick)
        write(f"{time.monotonic() - begin:.0f} s, {load_average()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
