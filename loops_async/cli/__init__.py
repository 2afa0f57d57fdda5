"""The `loops-async` command, which needs the extra `cli`."""

from __future__ import annotations

import sys
from typing import Final

EXTRA: Final = frozenset({"click", "rich"})
"""What the extra installs, which nothing here imports before `main()` runs."""


def main() -> None:
    """Run the command line and exit; the README lists the exit codes."""
    try:
        from ._main import exit_code

        code = exit_code()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        print(f'loops-async needs {package}: pip install "loops-async[cli]"', file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
