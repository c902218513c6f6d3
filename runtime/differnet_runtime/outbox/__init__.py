"""Events that outlive everything: written down before they are sent, kept until they are taken."""

from ..sinks import Stored
from .delivery import Delivery
from .outbox import Outbox
from .picture_log import PictureLog
from .records import DeliveryStatus, Entry, JudgedPicture, OutboxStatus

__all__ = [
    "Delivery",
    "DeliveryStatus",
    "Entry",
    "JudgedPicture",
    "Outbox",
    "OutboxStatus",
    "PictureLog",
    "Stored",
]
