"""An asyncio client for Baseten Loops: launch many samplers, await them, and leave no GPU behind.

What is public is loaded when it is first asked for: pytest imports this package at every start, for the sake of its
plugin, and aiohttp would take longer than all of pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._client import LoopsClient
    from ._http.retry import RetryPolicy
    from ._launch.each import Outcome
    from ._launch.fleet import Fleet
    from ._launch.launch import launch
    from ._launch.member import Member, MemberState
    from ._run import run
    from ._wait.policy import PollPolicy
    from ._wait.waiter import wait_until_active, wait_until_down, watch
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
        to_dict,
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
    "MemberState",
    "NotFoundError",
    "Outcome",
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
    "run",
    "to_dict",
    "wait_until_active",
    "wait_until_down",
    "watch",
]

_NAMES = {
    "_client": ("LoopsClient",),
    "_launch.fleet": ("Fleet",),
    "_launch.launch": ("launch",),
    "_launch.member": (
        "Member",
        "MemberState",
    ),
    "_launch.each": ("Outcome",),
    "_run": ("run",),
    "_wait.policy": ("PollPolicy",),
    "_http.retry": ("RetryPolicy",),
    "_wait.waiter": (
        "wait_until_active",
        "wait_until_down",
        "watch",
    ),
    "errors": (
        "APIError",
        "AuthenticationError",
        "BadRequestError",
        "ConflictError",
        "CreateOutcomeUnknown",
        "DecodeError",
        "LaunchError",
        "LoopsError",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "SamplerFailed",
        "ServerError",
        "TeardownError",
        "TransportError",
        "WaitTimeout",
    ),
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
        "to_dict",
    ),
}
"""Public names by the module that has them. They are imported when they are first used: the command line and the pytest
plugin, which are parts of this package, would take several times as long to start if the client came with them."""

if not TYPE_CHECKING:
    # With this in sight, type checkers would let any name pass.
    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            # Here, since it would take a tenth of the time of the package's import.
            from importlib.metadata import version

            return version("loops-async")
        if name in _NAMES or name == "journal":
            return import_module(f"{__name__}.{name}")
        for module, names in _NAMES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
