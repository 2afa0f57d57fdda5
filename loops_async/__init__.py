"""An asyncio client for Baseten Loops: launch many samplers, await them, and leave no GPU behind.

What is public is loaded when it is first asked for: pytest imports this package at every start, for the sake of its
plugin, and aiohttp would take longer than all of pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._client import LoopsClient
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

    __version__: str

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
    "InstanceType",
    "LaunchError",
    "LoRAConfig",
    "LoopsClient",
    "LoopsError",
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
    "wait_until_active",
    "watch",
]

# In the order in which they import each other, since the first that has a name is asked for it.
_MODULES = ("errors", "models", "_policy", "_retry", "_client", "_waiter")


# A type checker that sees this takes every name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import version

            return version("loops-async")
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            for home in _MODULES:
                module = import_module(f"{__name__}.{home}")
                if hasattr(module, name):
                    globals()[name] = value = getattr(module, name)
                    return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
