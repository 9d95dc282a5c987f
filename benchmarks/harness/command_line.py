"""Run a benchmark from the command line: options, measurement, report.

Every benchmark has the options --quick and --json, says on which machine and at what load it ran, and compares what it
measures with a baseline of the same run.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.processes import ROOT
from benchmarks.harness.report import print_figures

Options = argparse.Namespace
Figures = dict[str, Any]


def run_benchmark(
    description: str | None,
    measure: Callable[[Options], Figures],
    *,
    print_report: Callable[[Figures], None] = print_figures,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    quick: str,
) -> None:
    """Measure what the command line asks for and print a report, or with --json one JSON object on the last line.

    `quick` says what --quick does. Figures with `passed` false make the exit status 1.
    """
    # SIGTERM ends the benchmark as an exception does, so that every process it started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    if add_options:
        add_options(parser)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)  # before the benchmark itself is the load
    try:
        figures = measure(options)
    except TimeoutError as error:
        sys.exit(f"The benchmark ended: {error}.")
    machine = describe_machine() | {"load_at_start": load}
    if options.json:
        print(json.dumps(figures | machine))
    else:
        print_report(figures | machine)
        print(
            f"\n{machine['cores']} cores of {machine['cpu']}, {machine['device']}, torch {machine['torch']}, "
            f"load {load} at the start"
        )
    if figures.get("passed") is False:
        sys.exit(1)


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data, which names real products; without it benchmarks make some up."""
    parser.add_argument(
        "--data", type=Path, help="folder of product data, one folder a set (default: made-up products)"
    )


def add_found_data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data, which names real products; its default is the data beside the checkout, where there are any."""
    beside = ROOT.parent / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=beside if beside.is_dir() else None,
        help="folder of product data, one folder a set (default: ../shared/data if it exists, else made-up products)",
    )
