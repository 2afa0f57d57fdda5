"""Which samplers are billed or coming up, by their status."""

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
"""Statuses of samplers that are shut down or never came up: they cost nothing."""


def is_alive(sampler: Sampler) -> bool:
    """Return True if a sampler has a GPU or can still get one."""
    return sampler.status not in GONE and sampler.status != DeploymentStatus.DEACTIVATING
