"""A station's configuration: TOML read into checked models."""

from .loading import Loaded, load_config
from .models import (
    CameraConfig,
    CameraModelConfig,
    Config,
    DecisionConfig,
    EventsConfig,
    EvidenceConfig,
    IntegrityConfig,
    ModelConfig,
    StationConfig,
    TeachConfig,
    WebConfig,
)
from .planning import PlannedModel, differences, planned_models
from .problems import schema
from .sinks import JsonLinesConfig, MqttConfig, TlsConfig, WebhookConfig

__all__ = [
    "CameraConfig",
    "CameraModelConfig",
    "Config",
    "DecisionConfig",
    "EventsConfig",
    "EvidenceConfig",
    "IntegrityConfig",
    "JsonLinesConfig",
    "Loaded",
    "ModelConfig",
    "MqttConfig",
    "PlannedModel",
    "StationConfig",
    "TeachConfig",
    "TlsConfig",
    "WebConfig",
    "WebhookConfig",
    "differences",
    "load_config",
    "planned_models",
    "schema",
]
