"""What is left out on purpose: trainers. The emulator serves what this library launches, which is samplers."""

import re
from typing import Final

from ._state import ControlPlane

_MANAGEMENT: Final = re.compile(
    r"/v1/(?:teams/[^/]+/)?loops/"
    r"(?:(?:debug/)?trainers(?:/.*)?|deployments/[^/]+/(?:metrics|logs|debug_archive)(?:/.*)?|checkpoints/deploy)"
)
_DATA_PLANE: Final = re.compile(r"/models/([^/]+)/deployment/([^/]+)/.*")


def trainer_message(method: str, path: str, plane: ControlPlane) -> str | None:
    """Say that a path is one of a trainer, which is not emulated; None for any other path."""
    address = _DATA_PLANE.fullmatch(path)
    if not (_MANAGEMENT.fullmatch(path) or (address is not None and plane.is_trainer(address[1], address[2]))):
        return None
    return (
        f"Trainers are not emulated, so there is no {method} {path}. The emulator serves what loops_async launches: "
        "samplers, and runs that a sampler can be paired to."
    )
