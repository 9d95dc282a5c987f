"""Find the photos of a product file: in its folder, in folders below it, and in zip archives.

Neither names nor archives are trusted: names may lead out of the folder, archives may inflate.
"""

import lzma
import os
import stat
import zipfile
import zlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock

from common.tables.errors import RowError

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
DEEPEST_FOLDER = 3

# What zipfile raises for a member; RuntimeError if it is encrypted or compressed by an unknown method.
_UNREADABLE = (
    OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError, MemoryError,
)  # fmt: skip


class PhotoFolder:
    """The photos beside a table: in its folder, in folders below it, and in zip archives."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._folders = _folders(self._root)
        self._likeliest = self._root  # photos of neighbouring rows are often in the same folder
        self._lock = Lock()
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._members: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] | None = None
        self._shards = sorted(path for path in self._root.glob("*.zip") if path.is_file() and not path.is_symlink())

    @cached_property
    def has_photos(self) -> bool:
        """Whether there is any photo or archive."""
        if self._shards:
            return True
        for folder in self._folders:
            if any(entry.name.lower().endswith(PHOTO_ENDINGS) for entry in os.scandir(folder)):
                return True
        return False

    def close(self) -> None:
        """Close the archives that were opened."""
        for archive in self._archives.values():
            archive.close()

    def read(self, name: str, shard: str, limit: int) -> bytes:
        """Return a photo file of at most `limit` bytes. Raises RowError."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in name or ":" in name:
            raise RowError("missing photo", f"{name!r} is no name of a photo beside the table.")
        names = [str(path)] if path.suffix.lower() in PHOTO_ENDINGS else [f"{path}{end}" for end in PHOTO_ENDINGS]
        with self._lock:
            member = self._in_shard(shard, names)
        if member:
            return self._from_archive(*member, limit)
        for candidate in names:
            if found := self._file(candidate):
                return _read_file(found, limit)
        with self._lock:
            member = self._in_any_archive(names)
        if member:
            return self._from_archive(*member, limit)
        raise RowError("missing photo", f"There is no photo {names[0]!r}{f' in {shard}' if shard else ''}.")

    def _file(self, name: str) -> Path | None:
        for folder in (self._likeliest, *self._folders):
            with suppress(OSError, ValueError):  # a name that no file can have
                found = folder / name
                if stat.S_ISREG(found.stat().st_mode) and found.resolve().is_relative_to(self._root):
                    self._likeliest = folder
                    return found
        return None

    def _in_shard(self, shard: str, names: list[str]) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
        """Return the photo's place in the archive that its row names, or None if there is no such archive."""
        if not shard or not any(shard == path.name for path in self._shards):
            return None
        archive = self._archive(self._root / shard)
        for name in names:
            with suppress(KeyError):
                return archive, archive.getinfo(name)
        return None

    def _in_any_archive(self, names: list[str]) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
        if self._members is None:
            self._members = {}
            for shard in self._shards:
                archive = self._archive(shard)
                for info in archive.infolist():
                    for known in (info.filename, PurePosixPath(info.filename).name):
                        self._members.setdefault(known, (archive, info))
        return next((self._members[name] for name in names if name in self._members), None)

    def _archive(self, path: Path) -> zipfile.ZipFile:
        if path.name not in self._archives:
            try:
                self._archives[path.name] = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise RowError("unreadable archive", f"{path.name}: {error}") from error
        return self._archives[path.name]

    def _from_archive(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.file_size > limit:
            raise RowError("photo too large", f"{info.filename!r} has {info.file_size} bytes; the limit is {limit}.")
        try:
            with archive.open(info) as file:  # read one byte more: the archive's directory may state a wrong size
                return _within(file.read(limit + 1), limit, info.filename)
        except _UNREADABLE as error:
            raise RowError("broken photo", f"{info.filename!r} in its archive: {error}") from error


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


def _folders(root: Path) -> list[Path]:
    found = []
    for path, below, _files in os.walk(root):
        found.append(Path(path))
        if len(Path(path).relative_to(root).parts) >= DEEPEST_FOLDER:
            below.clear()
        below.sort()
    return found
