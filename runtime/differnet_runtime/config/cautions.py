"""What is allowed in a configuration, but should be looked at."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from .models import Config

_PASSWORD = re.compile(r"://[^/@:]*:.+@")


def warnings_of(config: Config, files: tuple[Path, ...]) -> tuple[str, ...]:
    """Returns a sentence for each thing that works, but should be looked at."""
    found: list[str] = []
    state = config.station.state
    if _mode(state) & stat.S_IRWXO:
        found.append(
            f"station.state: every user of this machine can read {state}: `chmod -R o-rwx {state}`"
        )
    urls = [(f"camera.{name}.source", camera.source) for name, camera in config.camera.items()]
    urls += [(f"webhook.{name}.url", hook.url) for name, hook in config.webhook.items()]
    readers = [file for file in files if _mode(file) & stat.S_IROTH]
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
    found += [
        f"camera.{name}: any certificate is accepted (tls.verify = false), so another machine can "
        "take its place"
        for name, camera in config.camera.items()
        if camera.tls is not None and not camera.tls.verify
    ]
    return tuple(found)


def _mode(file: Path) -> int:
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:  # gone since it was read
        return 0
