"""Measure decoding an upload's picture and making its two clean copies, by Pillow and by pyvips.

Milliseconds of processor time a picture, for a JPEG, PNG and WebP of two sizes: Pillow without its draft mode, what
Aisle does, and pyvips with its shrink-on-load. See benchmarks/README.md.
"""

import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.items import draw_photo
from benchmarks.harness.processes import ROOT
from benchmarks.harness.progress import track_progress

WITH_PYVIPS = ROOT / "var" / "benchmarks" / "servers-venv" / "bin" / "python"
SIZES = ((1600, 1200), (4000, 3000))
FORMATS = {"JPEG": {"quality": 88}, "PNG": {}, "WEBP": {"quality": 85}}
Work = Callable[[bytes], Any]


def measure_pictures(options: Options) -> Figures:
    """Return the processor time to decode an upload and to copy it, by library."""
    if importlib.util.find_spec("pyvips") is None and WITH_PYVIPS.exists():
        os.execv(WITH_PYVIPS, [str(WITH_PYVIPS), "-m", "benchmarks.pictures", *sys.argv[1:]])  # noqa: S606
    rounds, pictures = (2, 2) if options.quick else (5, 6)
    works: dict[str, Work] = {"pillow_whole": copy_whole, "aisle": copy_reduced}
    decoders: dict[str, Work] = {"pillow_whole": decode_whole, "aisle": decode_reduced}
    if importlib.util.find_spec("pyvips"):
        works["pyvips"], decoders["pyvips"] = shrink_on_load()
    rows = compare_libraries(works, decoders, rounds, pictures)
    return {"pictures": rows, "has_pyvips": "pyvips" in works}


def compare_libraries(
    works: dict[str, Work], decoders: dict[str, Work], rounds: int, pictures: int
) -> list[dict[str, Any]]:
    """Return a row for each size and format."""
    rng = np.random.default_rng(18)
    rows = []
    cases = [(size, kind) for size in SIZES for kind in FORMATS]
    for size, kind in track_progress(cases, "Sizes and formats"):
        files = [encode_as(draw_photo(rng, size), kind) for _ in range(pictures)]
        row: dict[str, Any] = {"size": "x".join(map(str, size)), "format": kind, "kb": round(len(files[0]) / 1000)}
        spent: dict[str, list[float]] = {}
        for number in range(rounds + 1):  # they take turns, so that a busy moment of the machine hits all of them
            for what, table in (("decode", decoders), ("copies", works)):
                for name, work in table.items():
                    milliseconds = milliseconds_each(work, files)
                    if number:  # the first one warms up
                        spent.setdefault(f"{name}_{what}_ms", []).append(milliseconds)
        rows.append(row | {name: round(median(times), 1) for name, times in spent.items()})
    return rows


def encode_as(jpeg: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(buffer, kind, **FORMATS[kind])
    return buffer.getvalue()


def milliseconds_each(work: Work, files: Sequence[bytes]) -> float:
    start = time.process_time()
    for file in files:
        work(file)
    return (time.process_time() - start) * 1000 / len(files)


# What is measured: a file -> its large and its small copy, or its pixels


def copy_reduced(file: bytes) -> tuple[bytes, bytes]:
    from common.photos import copies

    return copies.make_copies(file)


def decode_reduced(file: bytes) -> Image.Image:
    from common.photos import copies, headers

    header = headers.read_header(headers.read_from(file), len(file))
    picture = copies.open_reduced(file, header)
    copies.load_whole(picture, file, header)
    return picture


def copy_whole(file: bytes) -> tuple[bytes, bytes]:
    """Make the two copies without the draft mode."""
    from common.photos.copies import LARGE_QUALITY, SMALL_QUALITY, SMALL_SIDE
    from common.photos.headers import LARGE_SIDE

    large = decode_whole(file).convert("RGB")
    large.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS)
    scale = SMALL_SIDE / min(large.size)
    small = large.resize((round(large.width * scale), round(large.height * scale)), Image.Resampling.LANCZOS)
    return encoded_jpeg(large, LARGE_QUALITY), encoded_jpeg(small, SMALL_QUALITY)


def encoded_jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decode_whole(file: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(file))
    picture.load()
    return picture


def shrink_on_load() -> tuple[Work, Work]:
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips

    from common.photos.copies import LARGE_QUALITY, SMALL_QUALITY, SMALL_SIDE
    from common.photos.headers import LARGE_SIDE

    pyvips.cache_set_max(0)

    def decode(file: bytes) -> Any:
        return pyvips.Image.thumbnail_buffer(file, LARGE_SIDE, height=LARGE_SIDE, size="down").copy_memory()

    def copies(file: bytes) -> tuple[bytes, bytes]:
        large = decode(file)
        small = large.resize(min(SMALL_SIDE / min(large.width, large.height), 1))
        return large.jpegsave_buffer(Q=LARGE_QUALITY, keep="none"), small.jpegsave_buffer(Q=SMALL_QUALITY, keep="none")

    return copies, decode


# The report


def print_report(figures: Figures) -> None:
    """Print a row for each size and format, a column for each library."""
    names = ["pillow_whole", "aisle"]
    if figures["has_pyvips"]:
        names.append("pyvips")
    print(f"{'CPU-ms a picture: decode, all':30}" + "".join(f"{name:>20}" for name in names))
    for row in figures["pictures"]:
        cells = [f"{row[f'{name}_decode_ms']:.1f}, {row[f'{name}_copies_ms']:.1f}" for name in names]
        print(f"{row['size']:10}{row['format']:6}{row['kb']:9} kB  " + "".join(f"{cell:>20}" for cell in cells))
    if not figures["has_pyvips"]:
        print("pyvips is not installed: see benchmarks/README.md")


if __name__ == "__main__":
    run_benchmark(__doc__, measure_pictures, print_report=print_report, quick="fewer repetitions: about half a minute")
