"""The model in a process of its own, and the change from one model to another under load."""

from .budget import RestartBudget
from .process import EngineProcess
from .records import Answer, EngineState, EngineStatus
from .switch import ModelSwitch, Probation, check_model
from .turns import Callers

__all__ = [
    "Answer",
    "Callers",
    "EngineProcess",
    "EngineState",
    "EngineStatus",
    "ModelSwitch",
    "Probation",
    "RestartBudget",
    "check_model",
]
