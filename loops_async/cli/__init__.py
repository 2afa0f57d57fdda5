"""The `loops-async` command, which needs the extra `cli`."""

from __future__ import annotations

import os
import sys
from typing import Final

EXTRA: Final = frozenset({"click", "rich"})
"""What the extra installs, which nothing here imports before `main()` runs."""


def main() -> None:
    """Run the command line and exit; the README lists the exit codes."""
    # A shell may have closed them, and what is written or asked there is then for nobody.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 -- for as long as the process
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
