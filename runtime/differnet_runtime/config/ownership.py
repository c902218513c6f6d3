"""Refuses a configuration that other users of the machine could change."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path

from ..errors import ConfigError


def refuse_changeable(path: Path, found: os.stat_result) -> None:
    """Refuses a file or folder that others than root and this process's user can change.

    A group that is its owner's own, as many systems make one for each user, is no other.

    Args:
        path: For the message.
        found: What `stat` says of it.

    Raises:
        ConfigError: It belongs to somebody else, or its group or everybody can write to it; the
            message has the command that mends it.
    """
    quoted = shlex.quote(str(path))
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path}: belongs to {_user(found.st_uid)}, who could change what the station does; "
            f"only root and the station's user ({_user(os.geteuid())}) may own its configuration. "
            f"Check its content, then run: chown root {quoted}"
        )
    everybody = bool(found.st_mode & stat.S_IWOTH)
    group = bool(found.st_mode & stat.S_IWGRP) and not _of_owner_alone(found)
    if everybody or group:
        who = "every user of this machine" if everybody else f"group {_group(found.st_gid)}"
        which = "g" * group + "o" * everybody
        raise ConfigError(
            f"{path}: {who} can write to it, and so change what the station does. Check its "
            f"content, then run: chmod {which}-w {quoted}"
        )


def _of_owner_alone(found: os.stat_result) -> bool:
    """Whether the group is called as the owner, and has no other member."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
