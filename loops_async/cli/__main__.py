"""`python -m loops_async.cli`."""

from . import main

main()
