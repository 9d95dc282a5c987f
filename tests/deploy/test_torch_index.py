"""`make install TORCH_INDEX=...` takes PyTorch from that index, and later installations keep it."""

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from django.conf import settings

PINNED = "2.14.1"
# A build backend without requirements: the test must reach no index but its own.
BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "shop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        requires = "".join(f"Requires-Dist: {each}\\n" for each in ("torch>=2.9,<3", "torchvision>=0.24,<1"))
        wheel.writestr("shop-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\\nName: shop\\nVersion: 1.0\\n{requires}")
        wheel.writestr("shop-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("shop-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "shop"
version = "1.0"
[project.optional-dependencies]
dev = []
"""


def write_index(folder: Path, versions: dict[str, str]) -> str:
    """Write an index of empty wheels; return its address."""
    for name, version in versions.items():
        package = folder / name
        package.mkdir(parents=True)
        file = f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        members = {
            f"{name}/__init__.py": b"",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in members.items())
        with zipfile.ZipFile(package / file, "w") as wheel:
            for path, content in members.items():
                wheel.writestr(path, content)
            wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
        (package / "index.html").write_text(f'<a href="{file}">{file}</a>')
    return folder.as_uri()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project under Aisle's own Makefile, with the default index in a folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(settings.BASE_DIR / "Makefile", folder)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "constraints.txt").write_text(f"torch=={PINNED}\ntorchvision==0.29.1\n")
    write_index(tmp_path / "default", {"torch": PINNED, "torchvision": "0.29.1"})
    return folder


def make(project: Path, *arguments: str) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIP_CONFIG_FILE": "/dev/null",  # a machine's own configuration may name further indexes
        "PIP_INDEX_URL": (project.parent / "default").as_uri(),
    }
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def installed(project: Path) -> dict[str, str]:
    """Return the versions of the packages in the project's virtual environment."""
    code = (
        "from importlib.metadata import distributions as d; print(*(f'{p.name} {p.version}' for p in d()), sep='\\n')"
    )
    output = subprocess.check_output([project / ".venv/bin/python", "-c", code], text=True)
    versions = dict(line.split() for line in output.splitlines())
    return {name: versions[name] for name in ("torch", "torchvision")}


def test_torch_comes_from_the_given_index_and_stays(project: Path, tmp_path: Path) -> None:
    address = write_index(tmp_path / "cpu", {"torch": f"{PINNED}+cpu", "torchvision": "0.29.1+cpu"})
    make(project, "install", f"TORCH_INDEX={address}")
    assert installed(project) == {"torch": f"{PINNED}+cpu", "torchvision": "0.29.1+cpu"}
    make(project, "install-dev")
    (project / "constraints.txt").touch()
    make(project, "install")
    assert installed(project) == {"torch": f"{PINNED}+cpu", "torchvision": "0.29.1+cpu"}


def test_without_an_index_of_its_own_torch_comes_with_the_others(project: Path) -> None:
    make(project, "install")
    assert installed(project) == {"torch": PINNED, "torchvision": "0.29.1"}
