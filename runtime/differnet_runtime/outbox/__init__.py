"""Events that outlive everything: written down before they are sent, kept until they are taken."""

from ..sinks import Stored
from .delivery import Delivery
from .outbox import Outbox
from .records import DeliveryStatus, OutboxStatus

__all__ = ["Delivery", "DeliveryStatus", "Outbox", "OutboxStatus", "Stored"]
