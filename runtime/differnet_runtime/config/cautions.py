"""What is allowed in a configuration, but should be looked at."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from .models import Config

_PASSWORD = re.compile(r"://[^/@:]*:.+@")


def warnings_of(config: Config, files: tuple[Path, ...]) -> tuple[str, ...]:
    """Returns a sentence for each thing that works, but should be looked at."""
    found = [f"{file}: may be changed by every user of this machine" for file in _open(files, 2)]
    urls = [(f"camera.{name}.source", camera.source) for name, camera in config.camera.items()]
    urls += [(f"webhook.{name}.url", hook.url) for name, hook in config.webhook.items()]
    readers = _open(files, 4)
    for key, url in urls:
        if _PASSWORD.search(url):
            files_say = f"; {readers[0]} may be read by every user: chmod 640" if readers else ""
            found.append(f"{key}: holds a password{files_say}")
    mqtt = config.mqtt
    if mqtt and mqtt.password_file and not mqtt.tls:
        found.append("mqtt: the password travels unencrypted; [mqtt.tls] encrypts")
    found += [
        f"webhook.{name}: the token travels unencrypted; use https://"
        for name, hook in config.webhook.items()
        if hook.token_file and hook.url.startswith("http://")
    ]
    return tuple(found)


def _open(files: tuple[Path, ...], bit: int) -> list[Path]:
    """Those of the files that all users may read (4) or write (2)."""
    return [file for file in files if _mode(file) & bit]


def _mode(file: Path) -> int:
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:  # gone since it was read
        return 0
