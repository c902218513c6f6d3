"""A configuration that other users of the machine could change is refused."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.config import load_config
from differnet_runtime.config.loading import refuse_changeable
from differnet_runtime.errors import ConfigError

SMALL = '[model]\nbackend = "fake"\n[camera.top]\nsource = "0"\n'
PARTS = ("line3.toml", "line3.d", "line3.d/10 k.toml")
STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "line3.toml"
    path.write_text(SMALL)
    path.with_suffix(".d").mkdir()
    (path.with_suffix(".d") / "10 k.toml").write_text("[decision]\nn = 3\n")
    for part in PARTS:
        (tmp_path / part).chmod(0o750 if part.endswith(".d") else 0o640)
    load_config(path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("mode", [0o002, 0o022])
def test_what_everybody_can_write_to_is_refused_until_the_command_is_run(
    part: str, mode: int, config: Path
) -> None:
    path = config.parent / part
    os.chown(path, -1, other_group())
    path.chmod(path.stat().st_mode | mode)
    message = refused(config)
    assert message.startswith(f"{path}: every user of this machine can write to it")
    subprocess.run(shlex.split(message.rpartition("then run: ")[2]), check=True)
    assert load_config(config).config.decision.n == 3


@pytest.mark.parametrize("part", PARTS)
def test_what_a_group_can_write_to_is_refused_until_the_command_is_run(
    part: str, config: Path
) -> None:
    path = config.parent / part
    os.chown(path, -1, other_group())
    path.chmod(path.stat().st_mode | 0o020)
    message = refused(config)
    assert message.startswith(f"{path}: group ")
    subprocess.run(shlex.split(message.rpartition("then run: ")[2]), check=True)
    assert load_config(config).config.decision.n == 3


@as_root
@pytest.mark.parametrize("part", PARTS)
def test_what_belongs_to_somebody_else_is_refused_until_the_command_is_run(
    part: str, config: Path
) -> None:
    path = config.parent / part
    os.chown(path, STRANGER, -1)
    message = refused(config)
    assert message.startswith(f"{path}: belongs to user {STRANGER}")
    subprocess.run(shlex.split(message.rpartition("then run: ")[2]), check=True)
    assert load_config(config).config.decision.n == 3


@as_root
def test_a_link_counts_as_what_it_names(config: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.toml"
    theirs.write_text("[decision]\nn = 9\n")
    os.chown(theirs, STRANGER, -1)
    config.with_suffix(".d").joinpath("20.toml").symlink_to(theirs)
    assert "belongs to user" in refused(config)


def test_an_owner_s_own_group_may_write(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Ubuntu, where the umask of users is 002."""
    owner, group = config.stat().st_uid, config.stat().st_gid
    name = pwd.getpwuid(owner).pw_name

    def members(*names: str) -> None:
        entry = grp.struct_group((name, "x", group, list(names)))
        monkeypatch.setattr(grp, "getgrgid", lambda _: entry)

    config.chmod(0o660)
    members()
    load_config(config)
    members(name)
    load_config(config)
    members("mallory")
    assert "can write to it" in refused(config)


def test_the_station_s_user_and_root_may_own_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.stat_result((0o100640, 0, 0, 1, STRANGER, 0, 0, 0, 0, 0))
    with pytest.raises(ConfigError):
        refuse_changeable(config, found)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    refuse_changeable(config, found)
    refuse_changeable(config, os.stat_result((0o100640, 0, 0, 1, 0, 0, 0, 0, 0, 0)))


def test_check_and_run_say_it_in_a_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_suffix(".d").chmod(0o777)
    assert main(["check", str(config)]) == 2
    assert "every user of this machine can write to it" in capsys.readouterr().out
    assert main(["run", "--config", str(config)]) == 2
    assert re.search(rf"chmod g?o-w {config.with_suffix('.d')}$", capsys.readouterr().err, re.M)


def other_group() -> int:
    """A group that this process may give files to, which is no user's own."""
    if os.geteuid() == 0:
        return STRANGER
    own = {entry.pw_gid for entry in pwd.getpwall()}
    for group in os.getgroups():
        if group not in own:
            return group
    pytest.skip("this user is in no group but its own")
