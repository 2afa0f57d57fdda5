"""The message for the routes of trainers. The emulator leaves them out, since this library launches only samplers."""

import re
from typing import Final

from ._state import ControlPlane

_MANAGEMENT: Final = re.compile(
    r"/v1/(?:teams/[^/]+/)?loops/"
    r"(?:(?:debug/)?trainers(?:/.*)?|deployments/[^/]+/(?:metrics|logs|debug_archive)(?:/.*)?|checkpoints/deploy)"
)
_DATA_PLANE: Final = re.compile(r"/models/([^/]+)/deployment/([^/]+)/.*")


def trainer_message(method: str, path: str, plane: ControlPlane) -> str | None:
    """Return the message that trainers are not emulated; None if the path is not one of a trainer."""
    address = _DATA_PLANE.fullmatch(path)
    if not (_MANAGEMENT.fullmatch(path) or (address is not None and plane.is_trainer(address[1], address[2]))):
        return None
    return (
        f"Trainers are not emulated, so there is no {method} {path}. The emulator serves what loops_async launches: "
        "samplers, and runs that a sampler can be paired to."
    )
