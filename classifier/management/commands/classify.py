"""manage.py classify: classify one product, or a table of products, with the live models."""

import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from PIL import Image
from tqdm import tqdm

from classifier.modalities import MODALITIES
from classifier.models import Category, Prediction
from classifier.serving.batch import predict_now
from classifier.serving.inference import OUTAGES, TOP, ModelOutput, round_probabilities, top_five
from classifier.serving.table_classification import ClassifiedRow, classify_table
from common.photo_decoding import decode_trusted
from common.photos.headers import PictureError
from common.tables.columns import NAMES, parse_columns
from common.tables.errors import SourceError
from common.tables.reader import ProductFile
from common.tables.writing import safe_cell
from common.text import clean_description, clean_title

BAR = 30
INTERRUPTED = 130
READ = ("title", "description", "image")


class Command(BaseCommand):
    help = (
        "Classify with the live models: one product, or every row of a csv file with photos beside it. Nothing is "
        "stored in the database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a csv file, or a folder with a products.csv")
        parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the table's results")
        parser.add_argument("--json-lines", action="store_true", help="write a JSON object for each row, not csv")
        parser.add_argument(
            "--column", action="append", default=[], metavar="FIELD=NAME", help=f"FIELD: {', '.join(NAMES)}"
        )
        parser.add_argument("--encoding", default="", metavar="NAME", help="the file's encoding, where it isn't UTF-8")
        parser.add_argument("--title", default="")
        parser.add_argument("--description", default="")
        parser.add_argument("--image", type=Path, metavar="FILE", help="a JPEG, PNG, WebP or HEIC picture")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(
        self, *, file: Path | None, title: str, description: str, image: Path | None, json: bool, **options: Any
    ) -> None:
        is_product = bool(title or description or image)
        if file and is_product:
            raise CommandError("Give a file, or one product by --title, --description and --image, but not both.")
        if not file and (options["out"] or options["json_lines"] or options["column"]):
            raise CommandError("--out, --json-lines and --column are for a file.")
        try:
            if file:
                self._classify_file(file, **options)
            else:
                self._classify_one(title, description, image, as_json=json)
        except OUTAGES as error:
            raise CommandError(f"No model can be loaded: {error}") from error

    def _classify_file(
        self, file: Path, *, out: Path | None, json_lines: bool, column: list[str], encoding: str, **options: Any
    ) -> None:
        products = _open_table(file, column, encoding)
        write = _write_json_lines if json_lines else _write_csv
        often = 0.2 if sys.stderr.isatty() else 10
        bar = tqdm(total=products.rows, desc=products.name, unit="row", file=sys.stderr, mininterval=often)
        faults = _Faults()
        try:
            with products, bar, _output(out, self.stdout) as lines:
                write(lines, faults.count(classify_table(products, progress=bar.update)))
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # the program that reads the results has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except SourceError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{out} can't be written: {error.strerror}.") from error
        self.stderr.write(faults.summary(out))

    def _classify_one(self, title: str, description: str, image: Path | None, *, as_json: bool) -> None:
        # Cleaned as forms and the API clean it: the models are fitted to such texts alone.
        title, description = clean_title(title), clean_description(description)
        if not (title or description or image):
            raise CommandError("Give a --title, a --description or an --image, or a csv file.")
        photo = open_photo(image) if image else None
        predict_now(title=title, description=description, photo=photo)  # loads the models
        start = time.perf_counter()
        result, categories = predict_now(title=title, description=description, photo=photo)
        milliseconds = round((time.perf_counter() - start) * 1000, 1)
        top5 = top_five(result.probabilities, categories)
        if as_json:
            content: dict[str, Any] = {"top5": top5, "unusual": result.unusual or None}
            for modality in MODALITIES:
                content[modality] = _describe_output(result.outputs.get(modality), categories)
            content |= {"ensemble": result.ensemble, "milliseconds": milliseconds}
            self.stdout.write(json.dumps(content, ensure_ascii=False))
            return
        for row in top5:
            bar = "█" * round(row["probability"] * BAR)
            self.stdout.write(f"{row['category']:28} {bar:{BAR}} {row['probability']:6.1%}")
        if result.unusual:
            self.stdout.write(f"Unusual for the models: {Prediction.Unusual(result.unusual).label.lower()}.")
        versions = " + ".join(str(output.version) for output in result.outputs.values())
        self.stdout.write(f"{versions}, {milliseconds} ms")


class _Faults:
    """Count the rows that pass, those without a result, and those whose photo is not used."""

    def __init__(self) -> None:
        self._rows = self._unanswered = self._without_photo = 0

    def count(self, rows: Iterator[ClassifiedRow]) -> Iterator[ClassifiedRow]:
        for row in rows:
            self._rows += 1
            self._unanswered += not row.top5
            self._without_photo += bool(row.top5 and row.fault)
            yield row

    def summary(self, out: Path | None) -> str:
        text = (
            f"{self._rows:,} rows, {self._unanswered:,} without a result, {self._without_photo:,} without their photo."
        )
        return f"{text} Written to {out}" if out else text


def _open_table(path: Path, column: list[str], encoding: str) -> ProductFile:
    try:
        products = ProductFile(path, parse_columns(column), encoding=encoding, needed=())
    except SourceError as error:
        raise CommandError(str(error)) from error
    if not any(getattr(products.columns, field) for field in READ) and not products.has_photos:
        raise CommandError(
            f"{products.table} has no column for the title, the description or the photo. Say which it is: "
            "--column title=NAME"
        )
    return products


@contextmanager
def _output(path: Path | None, standard: Any) -> Iterator[TextIO]:
    """Yield where to write to: standard output, or a file that takes its name once it is complete."""
    if path is None:
        yield standard
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_json_lines(lines: TextIO, rows: Iterator[ClassifiedRow]) -> None:
    for row in rows:
        lines.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")


def _write_csv(lines: TextIO, rows: Iterator[ClassifiedRow]) -> None:
    numbers = range(1, TOP + 1)
    head = [f"{name}{number}" for number in numbers for name in ("slug", "category", "probability")]
    lines.write(_csv_line(["id", *head, "fault"]))
    for row in rows:
        cells: list[Any] = []
        for choice in row.top5:
            cells += choice["slug"], safe_cell(choice["category"]), choice["probability"]
        blank = [""] * (len(head) - len(cells))
        lines.write(_csv_line([safe_cell(row.id), *cells, *blank, safe_cell(row.fault)]))


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def open_photo(path: Path) -> Image.Image:
    """Return the small copy that the models would read after an upload."""
    try:
        return Image.open(io.BytesIO(decode_trusted(path.read_bytes()).small))
    except FileNotFoundError as error:
        raise CommandError(f"There is no file {path}.") from error
    except (OSError, PictureError) as error:
        raise CommandError(f"{path} is not a readable JPEG, PNG, WebP or HEIC picture: {error}") from error


def _describe_output(output: ModelOutput | None, categories: Sequence[Category]) -> dict[str, Any] | None:
    if output is None:
        return None
    return {
        "version": output.version.name,
        "accuracy": output.version.accuracy,
        "engine": output.engine,
        "probabilities": round_probabilities(output.probabilities, categories),
    }
