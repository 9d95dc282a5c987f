"""Ask Evidently's DataDriftPreset about the windows in a folder; `benchmarks.drift` runs it."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    warnings.simplefilter("ignore")
    found: dict[str, list[tuple[bool, bool]]] = {}
    for path in sorted(Path(sys.argv[1]).glob("*.window.csv")):
        name, _turn, _rest = path.name.split(".", 2)
        reference = pandas.read_csv(str(path).replace(".window.", ".reference."), keep_default_na=True)
        found.setdefault(name, []).append(drifts(reference, pandas.read_csv(path)))
    shares = {
        name: {"windows": len(x), "any": sum(a for a, _ in x) / len(x), "preset": sum(b for _, b in x) / len(x)}
        for name, x in found.items()
    }
    print(json.dumps(shares))


def drifts(reference: Any, window: Any) -> tuple[bool, bool]:
    """Return whether any column drifted, and whether the share of them did that the preset calls a drift."""
    numbers = [name for name in reference if reference[name].dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in reference if name not in numbers]
    )
    one, other = (Dataset.from_pandas(part, data_definition=definition) for part in (window, reference))
    metrics = Report([DataDriftPreset()]).run(one, other).dict()["metrics"]
    count = next(metric for metric in metrics if "DriftedColumnsCount" in str(metric))["value"]
    return count["count"] > 0, count["share"] >= 0.5


if __name__ == "__main__":
    main()
