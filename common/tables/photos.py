"""Find the photos of a product file: in its folder, in folders below it, and in zip archives.

Neither names nor archives are trusted: only files that were found by listing are read, and archives may inflate.
"""

import lzma
import os
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock

from common.tables.errors import RowError

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif")
# Files that are no photos to Aisle are found too, so that the decoder says what they are.
PICTURE_ENDINGS = (*PHOTO_ENDINGS, ".jfif", ".gif", ".avif", ".bmp", ".tif", ".tiff")
DEEPEST_FOLDER = 6

# What zipfile raises for a member; RuntimeError if it is encrypted or compressed by an unknown method.
_UNREADABLE = (
    OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError, MemoryError,
)  # fmt: skip
_UTF8_NAME = 0x800  # the flag of a member whose name is UTF-8


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo's path from the table's folder or from its archive's root, and its place."""

    path: str
    archive: str = ""  # the archive's name; empty for a file in a folder
    member: zipfile.ZipInfo | None = None

    @property
    def where(self) -> str:
        return f"{self.path} in {self.archive}" if self.archive else self.path


@dataclass
class _Listing:
    """All photos by their last name, and the archives that can't be read."""

    by_name: dict[str, list[_Photo]] = field(default_factory=lambda: defaultdict(list))
    broken_archives: dict[str, str] = field(default_factory=dict)


class PhotoFolder:
    """The photos beside a table: in its folder, in folders below it, and in zip archives.

    A name finds the photo whose path ends with it, whatever the case and the Unicode form of either.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._lock = Lock()
        self._archives: dict[str, zipfile.ZipFile] = {}

    @property
    def has_photos(self) -> bool:
        """Whether there is any photo or archive."""
        with self._lock:
            listing = self._listing
        return bool(listing.by_name or listing.broken_archives)

    def close(self) -> None:
        """Close the archives that were opened."""
        for archive in self._archives.values():
            archive.close()

    def find(self, name: str, shard: str = "") -> _Photo | None:
        """Return the photo of this name, from the archive `shard` if there is one; None if there is none.

        Raises RowError for a name that fits several photos, and where an archive can't be read.
        """
        with self._lock:
            listing = self._listing
        parts = _parts(name)
        if not parts or ".." in parts:
            return None
        for names in _with_endings(parts):
            found = [photo for photo in listing.by_name.get(names[-1], ()) if _ends_with(photo.path, names)]
            if found:
                return self._choose([photo for photo in found if photo.archive == shard] or found, names, name)
        if listing.broken_archives and (not shard or shard in listing.broken_archives):
            archive, why = next(iter(listing.broken_archives.items()))
            raise RowError("unreadable archive", f"{archive}: {why}")
        return None

    def read(self, photo: _Photo, limit: int) -> bytes:
        """Return a photo file of at most `limit` bytes. Raises RowError. Threads may call it at once."""
        if photo.member is None:
            return _read_file(self._root / photo.path, limit)
        if photo.member.file_size > limit:
            raise RowError(
                "photo too large", f"{photo.path!r} has {photo.member.file_size} bytes; the limit is {limit}."
            )
        try:
            with self._archives[photo.archive].open(photo.member) as file:
                # Read one byte more: the archive's directory may state a wrong size.
                return _within(file.read(limit + 1), limit, photo.path)
        except _UNREADABLE as error:
            raise RowError("broken photo", f"{photo.path!r} in its archive: {error}") from error

    def _choose(self, found: Sequence[_Photo], names: Sequence[str], given: str) -> _Photo:
        """Return the photo that is meant. Raises RowError if several may be."""
        written = unicodedata.normalize("NFC", given.strip().replace("\\", "/").strip("/"))
        # From the narrowest sense of the name to the widest: the file itself, its place below the table, its spelling.
        senses = (
            [photo for photo in found if unicodedata.normalize("NFC", photo.path) == written],
            [photo for photo in found if len(PurePosixPath(photo.path).parts) == len(names)],
            [photo for photo in found if f"/{unicodedata.normalize('NFC', photo.path)}".endswith(f"/{written}")],
            found,
        )
        for sense in senses:
            if len(sense) == 1 or (sense and self._are_copies(sense)):
                return sense[0]
        places = ", ".join(sorted(photo.where for photo in found)[:3])
        raise RowError(
            "ambiguous photo",
            f"{given.strip()!r} fits {len(found)} photos: {places}. Write their folders into the table too.",
        )

    def _are_copies(self, photos: Sequence[_Photo]) -> bool:
        """Return whether all photos have the same content, as an archive and its unpacked folder have."""
        with suppress(OSError):
            return len({self._fingerprint(photo) for photo in photos}) == 1
        return False

    def _fingerprint(self, photo: _Photo) -> tuple[int, int]:
        if photo.member is not None:
            return photo.member.file_size, photo.member.CRC
        content = (self._root / photo.path).read_bytes()
        return len(content), zlib.crc32(content)

    @cached_property
    def _listing(self) -> _Listing:
        listing = _Listing()
        for path in _files(self._root):
            name = path.name.lower()
            if name.endswith(PICTURE_ENDINGS):
                photo = _Photo(str(path.relative_to(self._root)))
                listing.by_name[_fold(path.name)].append(photo)
            elif name.endswith(".zip") and path.parent == self._root and not path.is_symlink():
                self._list_archive(path, listing)
        return listing

    def _list_archive(self, path: Path, listing: _Listing) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            listing.broken_archives[path.name] = str(error)
            return
        self._archives[path.name] = archive
        for member_path, member in _members(archive).items():
            photo = _Photo(member_path, path.name, member)
            listing.by_name[_fold(PurePosixPath(member_path).name)].append(photo)


def _files(root: Path) -> Iterator[Path]:
    """Yield the files in a folder and in folders below it; those that a link takes from elsewhere are left out."""
    for path, below, names in os.walk(root):
        folder = Path(path)
        if len(folder.relative_to(root).parts) >= DEEPEST_FOLDER:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(names):
            file = folder / name
            with suppress(OSError, ValueError):
                if file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(root)):
                    yield file


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the pictures in an archive by their paths; of members with the same path the last one counts."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = _member_name(member)
        if name.lower().endswith(PICTURE_ENDINGS) and not name.startswith("__MACOSX/"):
            members[name] = member
    return members


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name. macOS writes UTF-8 without saying so, which zipfile reads as the code page of DOS."""
    if not member.flag_bits & _UTF8_NAME and not member.filename.isascii():
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _with_endings(parts: list[str]) -> list[list[str]]:
    """Return the parts of a name, and with each ending of photos if it has none."""
    if parts[-1].endswith(PICTURE_ENDINGS):
        return [parts]
    return [[*parts[:-1], parts[-1] + ending] for ending in PHOTO_ENDINGS]


def _parts(name: str) -> list[str]:
    """Return the folders and the file of a name, as they are compared."""
    path = _fold(name.strip().replace("\\", "/"))
    return [part for part in path.split("/") if part not in ("", ".")]


def _ends_with(path: str, names: Sequence[str]) -> bool:
    return _parts(path)[-len(names) :] == list(names)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _within(file.read(limit + 1), limit, path.name)
    except OSError as error:
        raise RowError("missing photo", f"{path.name}: {error.strerror}") from error


def _within(content: bytes, limit: int, name: str) -> bytes:
    if len(content) > limit:
        raise RowError("photo too large", f"{name!r} has more than {limit} bytes.")
    return content
