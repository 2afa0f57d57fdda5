"""Which samplers a command is about, by their status."""

from __future__ import annotations

from typing import Final

from loops_async import DeploymentStatus, Sampler

GONE: Final = frozenset(
    {
        DeploymentStatus.INACTIVE,
        DeploymentStatus.FAILED,
        DeploymentStatus.BUILD_FAILED,
        DeploymentStatus.DEPLOY_FAILED,
        DeploymentStatus.BUILD_STOPPED,
    }
)
"""Statuses of samplers that are shut down or never came up: nothing is to be released."""


def is_alive(sampler: Sampler) -> bool:
    """Tell whether a sampler holds a GPU or may come to hold one."""
    return sampler.status not in GONE and sampler.status != DeploymentStatus.DEACTIVATING
