"""A station's configuration: TOML read into checked models."""

from .models import (
    CameraConfig,
    Config,
    DecisionConfig,
    EventsConfig,
    EvidenceConfig,
    IntegrityConfig,
    JsonLinesConfig,
    ModelConfig,
    MqttConfig,
    StationConfig,
    TlsConfig,
    WebConfig,
    WebhookConfig,
)

__all__ = [
    "CameraConfig",
    "Config",
    "DecisionConfig",
    "EventsConfig",
    "EvidenceConfig",
    "IntegrityConfig",
    "JsonLinesConfig",
    "ModelConfig",
    "MqttConfig",
    "StationConfig",
    "TlsConfig",
    "WebConfig",
    "WebhookConfig",
]
