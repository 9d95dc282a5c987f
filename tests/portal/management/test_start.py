"""What `make run` says and does before its processes start; tests/system/test_start.py starts them."""

import os
import shlex
import socket
from pathlib import Path

import pytest
from django.core.management.base import CommandError

from portal.management.commands import start


def test_a_folder_with_a_space_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "BIN", Path("/home/my shop/.venv/bin"))
    for command in start._processes("127.0.0.1", 8000, predict=2).values():
        assert any(word.startswith("/home/my shop/.venv/bin/") for word in shlex.split(command))


def test_other_devices_reach_it_by_the_hosts_names_and_addresses() -> None:
    assert start._names("127.0.0.1") == start._names("localhost") == []
    assert start._names("192.168.1.5") == ["192.168.1.5"]
    everywhere = start._names(start.EVERYWHERE)
    assert socket.gethostname() in everywhere
    assert not [name for name in everywhere if name.startswith("127.")]


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_foreign_address_is_one_clear_sentence(host: str) -> None:
    with pytest.raises(CommandError, match=f"^This machine has no address {host}.$"):
        start._check_port(host, 8000)


def test_a_port_that_is_none_is_one_clear_sentence() -> None:
    with pytest.raises(CommandError, match="There is no port 70000"):
        start._check_port("127.0.0.1", 70_000)


def test_a_port_for_root_is_one_clear_sentence() -> None:
    with pytest.raises(CommandError, match="Port 80 requires more permissions"):
        raise CommandError(start._why_not(PermissionError(13, os.strerror(13)), "127.0.0.1", 80))
