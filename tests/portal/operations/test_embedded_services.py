"""The embedded servers, started in homes of their own by processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
USE = """
import os, sys, psycopg, redis
from portal.operations import embedded_services
embedded_services.ensure_running()
with psycopg.connect(os.environ["DATABASE_URL"]) as c:
    c.execute("CREATE TABLE IF NOT EXISTS seen (n int)"); c.execute("INSERT INTO seen VALUES (1)")
    seen = c.execute("SELECT count(*) FROM seen").fetchone()[0]
print(seen, redis.Redis.from_url(os.environ["REDIS_URL"]).ping())  # once it is committed
sys.stdout.flush(); sys.stdin.readline()
"""

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")


def use(home: Path) -> subprocess.Popen[str]:
    names = ("DATABASE_URL", "REDIS_URL")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"AISLE_HOME": str(home)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", USE], cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe
    )


def leave(process: subprocess.Popen[str]) -> None:
    _out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err


def servers_of(home: Path) -> list[str]:
    return [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] in ("postgres", "valkey-server")
        and str(home) in " ".join(process.info["cmdline"] or [])
    ]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_two_processes_starting_cold_share_servers_and_the_last_one_stops_them(tmp_path: Path) -> None:
    first, second = use(tmp_path), use(tmp_path)
    assert {said(first), said(second)} == {"1 True", "2 True"}
    leave(first)
    assert "postgres" in servers_of(tmp_path)
    leave(second)
    assert not servers_of(tmp_path)


def test_a_killed_user_holds_nothing_up_and_the_data_stays(tmp_path: Path) -> None:
    first = use(tmp_path)
    assert said(first) == "1 True"
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = use(tmp_path)
    assert said(second) == "2 True"
    leave(second)
    assert not servers_of(tmp_path)


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    home = tmp_path / ("long-" * 20)
    process = use(home)
    assert said(process) == "1 True"
    leave(process)


@pytest.mark.parametrize("length", [0, 20])
def test_other_users_may_not_enter_the_folders_of_valkey(tmp_path: Path, length: int) -> None:
    home = tmp_path / ("long-" * length or "home")
    (home / "valkey").mkdir(parents=True, mode=0o755)  # as earlier versions made it
    process = use(home)
    assert said(process) == "1 True"
    try:
        code = "from portal.operations import embedded_services; print(embedded_services.redis_url().removeprefix('unix://'))"
        environment = {**os.environ, "AISLE_HOME": str(home)}
        socket = Path(
            subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True).strip()
        )
        assert socket.is_socket()
        assert [folder.stat().st_mode & 0o777 for folder in (socket.parent, home / "valkey")] == [0o700, 0o700]
    finally:
        leave(process)


@pytest.mark.parametrize("trick", ["link", "file", pytest.param("owner", marks=AS_ROOT)])
def test_a_socket_folder_that_another_user_created_is_rejected(tmp_path: Path, trick: str) -> None:
    home, temporary = tmp_path / ("long-" * 20), tmp_path / "tmp"
    temporary.mkdir()
    with_trick = {"AISLE_HOME": str(home), "TMPDIR": str(temporary)}
    code = (
        "from portal.operations import embedded_services; print(embedded_services.redis_url().removeprefix('unix://'))"
    )
    address = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=os.environ | with_trick, text=True)
    folder = Path(address.strip()).parent
    assert folder.parent == temporary
    if trick == "link":
        folder.symlink_to(tmp_path)
    elif trick == "file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        os.chown(folder, 12345, 12345)
    code = "from portal.operations import embedded_services; embedded_services.start_valkey()"
    command = [sys.executable, "-c", code]
    home.mkdir()
    result = subprocess.run(command, cwd=ROOT, env=os.environ | with_trick, capture_output=True, text=True)
    assert result.returncode == 1
    assert "EmbeddedServerError" in result.stderr or "FileExistsError" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_home_is_one_clear_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    process = use(tmp_path / "home")
    _out, err = process.communicate("\n", timeout=60)
    assert "can't write to" in err


@pytest.mark.parametrize("name", ["file", "a folder"])
def test_a_home_that_is_a_file_or_has_a_space_is_one_clear_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, "manage.py", "migrate"]
    names = ("DATABASE_URL", "REDIS_URL")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"AISLE_HOME": str(tmp_path / name)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
