"""manage.py taxonomy: import, compare, apply, undo and export the category tree."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from classifier.models import TaxonomyChange, TaxonomyVersion
from classifier.taxonomy import exporting, versions
from classifier.taxonomy.files import SCHEMES, read_tree
from classifier.taxonomy.redirects import read_redirects
from classifier.taxonomy.tree import Tree, TreeError
from classifier.taxonomy.versions import TaxonomyError
from common.tables.errors import SourceError

MOST_SHOWN = 20  # changes of a kind, and problems


class Command(BaseCommand):
    help = "Import, compare, apply, undo and export the category tree."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        importing = verbs.add_parser("import", help="make the categories those of a file")
        importing.add_argument("--dry-run", action="store_true", help="only store a draft, and print what it changes")
        diff = verbs.add_parser("diff", help="print what a file would change; nothing is stored")
        for verb in (importing, diff):
            verb.add_argument(
                "file", type=Path, help="a listing by Google or Shopify, a table, or JSON; may be gzipped"
            )
            verb.add_argument("--scheme", choices=SCHEMES, default="", help="its form, where it isn't recognised")
            verb.add_argument(
                "--names", action="append", default=[], metavar="LANGUAGE=FILE", help="names in another language"
            )
            verb.add_argument(
                "--redirects", type=Path, metavar="FILE", help="what takes the place of earlier categories: from,to"
            )
            verb.add_argument(
                "--replace", action="store_true", help="retire all categories that the file lacks, of other schemes too"
            )
            verb.add_argument("--all", action="store_true", dest="shows_all", help="print every change")
        apply = verbs.add_parser("apply", help="apply a draft")
        apply.add_argument("version", type=int, help="its number: see `taxonomy list`")
        undo = verbs.add_parser("undo", help="undo the version that was applied last")
        undo.add_argument("version", type=int, nargs="?", help="its number, to be sure (default: the last one)")
        verbs.add_parser("list", help="the versions, newest first")
        export = verbs.add_parser("export", help="write the tree as JSON, or as a table of paths")
        export.add_argument("file", type=Path, help="a .json or .csv file")

    def handle(self, *, verb: str, **options: Any) -> None:
        verbs: dict[str, Callable[..., None]] = {
            "import": self._import, "diff": self._diff, "apply": self._apply, "undo": self._undo, "list": self._list,
            "export": self._export,
        }  # fmt: skip
        try:
            verbs[verb](options)
        except (TreeError, TaxonomyError, SourceError, OSError) as error:
            raise CommandError(str(error)) from error

    def _import(self, options: dict[str, Any]) -> None:
        draft = versions.draft_version(tree=_read_tree(options), source=options["file"].name, **_draft_options(options))
        self._print_changes(draft.counts, draft.changes.all(), draft.problems, shows_all=options["shows_all"])
        if options["dry_run"]:
            self.stdout.write(f"Draft {draft.pk}: `manage.py taxonomy apply {draft.pk}` applies it.")
        elif any(draft.counts.values()):
            self._apply({"version": draft.pk})
        else:
            draft.delete()
            self.stdout.write("The categories are those of the file.")

    def _diff(self, options: dict[str, Any]) -> None:
        found = versions.compare_with_categories(_read_tree(options), **_draft_options(options))
        rows = [TaxonomyChange(kind=change.kind, before=change.before, after=change.after) for change in found.changes]
        self._print_changes(found.counts(), rows, found.problems, shows_all=options["shows_all"])

    def _apply(self, options: dict[str, Any]) -> None:
        version = versions.apply_version(_find(options["version"]))
        self.stdout.write(f"Version {version.pk} is applied. `manage.py taxonomy undo` takes it back.")

    def _undo(self, options: dict[str, Any]) -> None:
        applied = TaxonomyVersion.objects.filter(state=TaxonomyVersion.State.APPLIED).order_by("-applied_at")
        version = _find(options["version"]) if options["version"] else applied.first()
        if version is None:
            raise TaxonomyError("No version is applied: there is nothing to undo.")
        versions.undo_version(version)
        self.stdout.write(f"Version {version.pk} ({version.source}) is undone.")

    def _list(self, options: dict[str, Any]) -> None:
        for version in TaxonomyVersion.objects.defer("nodes"):
            counts = ", ".join(f"{count:,} {kind}" for kind, count in version.counts.items() if count)
            day = version.created_at.strftime("%Y-%m-%d %H:%M")
            self.stdout.write(f"{version.pk:>4}  {day}  {version.state:<8} {version.source}: {counts or 'no change'}")

    def _export(self, options: dict[str, Any]) -> None:
        count = exporting.export_tree(options["file"])
        self.stdout.write(f"{count:,} categories are in {options['file']}.")

    def _print_changes(
        self, counts: dict[str, int], changes: Iterable[TaxonomyChange], problems: list[str], *, shows_all: bool
    ) -> None:
        shown: dict[str, int] = {}
        for change in changes:
            shown[change.kind] = shown.get(change.kind, 0) + 1
            if shows_all or shown[change.kind] <= MOST_SHOWN:
                self.stdout.write(_line(change))
            elif shown[change.kind] == MOST_SHOWN + 1:
                self.stdout.write(f"  ... {counts[change.kind] - MOST_SHOWN:,} more {change.get_kind_display()}")
        for problem in problems if shows_all else problems[:MOST_SHOWN]:
            self.stderr.write(f"Note: {problem}")
        if not shows_all and len(problems) > MOST_SHOWN:
            self.stderr.write(f"... {len(problems) - MOST_SHOWN:,} more notes (--all prints them).")
        words = [f"{count:,} {kind}" for kind, count in counts.items() if count]
        self.stdout.write(f"Changes: {', '.join(words) or 'none'}.")


def _line(change: TaxonomyChange) -> str:
    paths = " -> ".join(path for path in (change.before, change.after) if path)
    touched = ", ".join(f"{count:,} {model}" for model, count in change.touched.items())
    return f"  {change.get_kind_display():<9} {paths}{f'  ({touched})' if touched else ''}"


def _read_tree(options: dict[str, Any]) -> Tree:
    languages = {}
    for given in options["names"]:
        language, separator, file = given.partition("=")
        if not separator or not language or not file:
            raise TreeError(f"--names {given}: write LANGUAGE=FILE, such as de=categories.de.txt.")
        languages[language] = Path(file)
    return read_tree(options["file"], scheme=options["scheme"], languages=languages)


def _draft_options(options: dict[str, Any]) -> dict[str, Any]:
    redirects = read_redirects(options["redirects"]) if options["redirects"] else None
    return {"redirects": redirects, "replaces_all": options["replace"]}


def _find(number: int) -> TaxonomyVersion:
    version = TaxonomyVersion.objects.filter(pk=number).first()
    if version is None:
        raise TaxonomyError(f"There is no version {number}: see `manage.py taxonomy list`.")
    return version
