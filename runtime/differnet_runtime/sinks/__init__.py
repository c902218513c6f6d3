"""Where events go: a broker, an HTTP receiver, a file."""

from .base import BusyError, OnCommand, Sink, Stored
from .building import build_sinks, sink_tables

__all__ = ["BusyError", "OnCommand", "Sink", "Stored", "build_sinks", "sink_tables"]
