"""The operations of the serverless queue: requests for samples that were accepted, and wait for somebody to ask."""

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ._completions import Completions

# What is remembered of operations, in tokens of their prompts: some 40 MB.
_TOKENS_KEPT: Final = 4_000_000


@define(eq=False)
class Operation:
    """An accepted request. Its result is worked out when it is asked for, and is the same each time."""

    id: str
    completions: Completions
    started: bool = False
    """Somebody asked for the result, so that it cannot be cancelled any more."""
    cancelled: bool = False


@define(eq=False)
class Operations:
    """The operations that are remembered: the last ones."""

    _by_id: OrderedDict[str, Operation] = field(init=False, factory=OrderedDict)
    _by_key: dict[tuple[str, str], str] = field(init=False, factory=dict)
    _keys: dict[str, tuple[str, str]] = field(init=False, factory=dict)
    _tokens: int = field(init=False, default=0)

    def get(self, operation_id: str) -> Operation | None:
        """Return an operation; None if there never was one with that id, or it is forgotten."""
        return self._by_id.get(operation_id)

    def submitted(self, credentials: str, idempotency_key: str) -> Operation | None:
        """Return the operation that the same caller has submitted with a key before."""
        return self._by_id.get(self._by_key.get((credentials, idempotency_key), ""))

    def add(self, operation: Operation, credentials: str, idempotency_key: str) -> None:
        """Remember an operation, and forget the oldest ones if there are too many."""
        self._by_id[operation.id] = operation
        self._by_key[credentials, idempotency_key] = operation.id
        self._keys[operation.id] = credentials, idempotency_key
        self._tokens += len(operation.completions.wanted.prompt)
        while self._tokens > _TOKENS_KEPT and len(self._by_id) > 1:
            old, forgotten = self._by_id.popitem(last=False)
            self._tokens -= len(forgotten.completions.wanted.prompt)
            del self._by_key[self._keys.pop(old)]
