"""A control plane of Baseten Loops on loopback, whose lifecycles and faults the caller chooses.

It shares no code with the client: a mistake that both ends made would pass every test.
"""

from ._background import BackgroundEmulator
from ._fault_text import parse_fault, parse_faults
from ._faults import Fault
from ._lifecycle import COURSES, DEFAULT_LIFECYCLE, Stage
from ._lifecycle_text import parse_lifecycles
from ._models import CatalogModel
from ._received import ReceivedRequest
from ._records import SamplerView
from ._server import Emulator

__all__ = [
    "COURSES",
    "DEFAULT_LIFECYCLE",
    "BackgroundEmulator",
    "CatalogModel",
    "Emulator",
    "Fault",
    "ReceivedRequest",
    "SamplerView",
    "Stage",
    "parse_fault",
    "parse_faults",
    "parse_lifecycles",
]
