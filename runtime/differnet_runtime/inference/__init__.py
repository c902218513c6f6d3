"""The model in a process of its own, and the change from one model to another under load."""

from .absent import AbsentEngine
from .budget import RestartBudget
from .process import EngineProcess
from .records import Answer, EngineState, EngineStatus
from .switch import ModelSwitch, Probation, check_model
from .turns import Callers

__all__ = [
    "AbsentEngine",
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
