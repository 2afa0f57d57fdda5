"""An asyncio client for Baseten Loops: launch many samplers, await them, and leave no GPU behind."""

from __future__ import annotations

from ._client import LoopsClient
from ._fleet import Fleet
from ._launch import launch
from ._member import Member
from ._policy import PollPolicy
from ._retry import RetryPolicy
from ._waiter import wait_until_active, watch
from .errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    CreateOutcomeUnknown,
    DecodeError,
    LaunchError,
    LoopsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SamplerFailed,
    ServerError,
    TeardownError,
    TransportError,
    WaitTimeout,
)
from .models import (
    Checkpoint,
    CheckpointPath,
    DeploymentStatus,
    EnablementDetails,
    InstanceType,
    LoRAConfig,
    Sampler,
    SamplerSpec,
    Session,
    StatusChange,
    SupportedModel,
)

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "Checkpoint",
    "CheckpointPath",
    "ConflictError",
    "CreateOutcomeUnknown",
    "DecodeError",
    "DeploymentStatus",
    "EnablementDetails",
    "Fleet",
    "InstanceType",
    "LaunchError",
    "LoRAConfig",
    "LoopsClient",
    "LoopsError",
    "Member",
    "NotFoundError",
    "PermissionDeniedError",
    "PollPolicy",
    "RateLimitError",
    "RetryPolicy",
    "Sampler",
    "SamplerFailed",
    "SamplerSpec",
    "ServerError",
    "Session",
    "StatusChange",
    "SupportedModel",
    "TeardownError",
    "TransportError",
    "WaitTimeout",
    "launch",
    "wait_until_active",
    "watch",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("loops-async")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
