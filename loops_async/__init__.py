"""An asyncio client for Baseten Loops: launch many samplers, await them, and leave no GPU behind.

What is public is loaded when it is first asked for: pytest imports this package at every start, for the sake of its
plugin, and aiohttp would take longer than all of pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "_client": ("LoopsClient",),
    "_fleet": ("Fleet",),
    "_launch": ("launch",),
    "_member": ("Member",),
    "_policy": ("PollPolicy",),
    "_retry": ("RetryPolicy",),
    "_waiter": ("wait_until_active", "watch"),
    "models": (
        "Checkpoint",
        "CheckpointPath",
        "DeploymentStatus",
        "EnablementDetails",
        "InstanceType",
        "LoRAConfig",
        "Sampler",
        "SamplerSpec",
        "Session",
        "StatusChange",
        "SupportedModel",
    ),
}
"""Where public names live; all others are errors."""


# A type checker that sees this takes every name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import version

            return version("loops-async")
        if name in {"errors", "journal", "models"}:
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = next((home for home, names in _HOMES.items() if name in names), "errors")
        globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
