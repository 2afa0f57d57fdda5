"""The `loops-async` command, which needs the extra `cli`."""

from __future__ import annotations

import sys
from typing import Final

EXTRA: Final = frozenset({"click", "rich"})
"""What the extra installs, and this package imports nowhere before `main()` runs."""


def main() -> None:
    """Run the command line and exit: 0 for done, 1 for failed, 2 for a wrong use, 130 for interrupted."""
    try:
        from ._main import exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        print(f'loops-async needs {package}: pip install "loops-async[cli]"', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(exit_code())
