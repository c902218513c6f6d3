"""An RTSP camera: serves a pre-encoded H.264 or H.265 clip in a loop; run by the system's Python.

    /usr/bin/python3 rtsp_server.py PORT CLIP [--drop SHARE] [--garbage SHARE] [--seed N]

CLIP is a folder of `tests.fakes.clips`. Every client gets the clip from its start. Each access
unit that is dropped is told as a line `drop CLIENT NUMBER`, numbers going on from loop to loop.
SIGUSR1 closes all connections.
"""

import argparse
import json
import random
import signal
import sys
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

AUD = {"h264": b"\x00\x00\x01\x09", "h265": b"\x00\x00\x01\x46\x01"}
CAPS = "video/x-{codec},stream-format=byte-stream,alignment=au"
LAUNCH = f"( appsrc name=src format=time caps={CAPS} ! rtp{{codec}}pay name=pay0 pt=96 )"


class Clip:
    def __init__(self, folder):
        (path,) = folder.glob("clip.h26?")
        self.codec = path.suffix[1:]
        self.mark = AUD[self.codec]
        self.units = [self.mark + part for part in path.read_bytes().split(self.mark)[1:]]
        stamps = json.loads((folder / "stamps.json").read_text())
        self.pts_s, self.length_s = stamps["pts_s"], stamps["length_s"]
        if len(self.units) != len(self.pts_s):
            raise SystemExit(f"{len(self.units)} access units, {len(self.pts_s)} time stamps")


class Player:
    """What one client gets."""

    def __init__(self, number, clip, options):
        self.number, self.clip, self.options = number, clip, options
        self.chance = random.Random(options.seed + number)
        self.at = 0

    def need(self, source, _bytes):
        while True:
            at, self.at = self.at, self.at + 1
            if self.chance.random() >= self.options.drop:
                source.emit("push-buffer", self.unit(at))
                return
            sys.stdout.write(f"drop {self.number} {at}\n")
            sys.stdout.flush()

    def unit(self, at):
        loop, index = divmod(at, len(self.clip.units))
        data = self.clip.units[index]
        if self.chance.random() < self.options.garbage:
            data = self.clip.mark + b"\xf0" + self.chance.randbytes(len(data))
        buffer = Gst.Buffer.new_wrapped(data)
        seconds = loop * self.clip.length_s + self.clip.pts_s[index]
        buffer.pts = int(seconds * Gst.SECOND)
        return buffer


class Factory(GstRtspServer.RTSPMediaFactory):
    def __init__(self, clip, options):
        super().__init__()
        self.clip, self.options, self.clients = clip, options, 0
        self.players = []

    def do_create_element(self, _url):
        return Gst.parse_launch(LAUNCH.format(codec=self.clip.codec))

    def do_configure(self, media):
        player = Player(self.clients, self.clip, self.options)
        self.clients += 1
        source = media.get_element().get_by_name("src")
        source.connect("need-data", player.need)
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)


def hang_up(server):
    server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--drop", type=float, default=0.0)
    parser.add_argument("--garbage", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    server.get_mount_points().add_factory("/camera", Factory(Clip(options.clip), options))
    server.attach(None)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, hang_up, server)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
