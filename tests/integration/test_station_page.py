"""The commands of docs/daemon.md lead from a trained model to a running page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2

from tests.drawn import draw_part
from tests.servers import free_port, require

PAGE = Path(__file__).parents[2] / "docs" / "daemon.md"
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def write_belt(path: Path) -> None:
    """Writes a video of parts as they come along the belt."""

    height, width = draw_part(300).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))
    for number in range(40):
        writer.write(draw_part(300 + number))
    writer.release()


def test_the_pages_commands_work_as_they_stand(tmp_path: Path, exported: Path) -> None:
    require("curl")
    (tmp_path / "part.onnx").write_bytes(exported.read_bytes())
    write_belt(tmp_path / "belt.mp4")
    port = str(free_port())
    (tmp_path / "line.d").mkdir()
    (tmp_path / "line.d" / "0-port.toml").write_text(f"[web]\nport = {port}\n")
    script = ["set -e"]
    for language, text in BLOCK.findall(PAGE.read_text()):
        if language == "toml":
            name = re.match(r"# (\S+)\n", text)
            assert name is not None, f"a TOML block names its file first:\n{text}"
            script.append(f"cat > {name[1]} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif not text.startswith("pip install"):
            script.append(text.replace("8787", port))
    assert len(script) > 6, "the page has lost its commands"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert '"ready":true' in done.stdout.replace(" ", "")
    assert "differnet_camera_up" in done.stdout
    lines = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert any(event["type"] == "inspection" and event["score"] is not None for event in events)
