"""The operations of the serverless queue: accepted requests for samples, whose results clients ask for."""

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ._completions import Completions

# The most prompt tokens of all remembered operations together; they take some 40 MB.
_TOKENS_KEPT: Final = 4_000_000


@define(eq=False)
class Operation:
    """An accepted request. Each request for its result computes it, and gets the same one."""

    id: str
    completions: Completions
    started: bool = False
    """Whether a client has asked for the result; the operation cannot be cancelled after that."""
    cancelled: bool = False


@define(eq=False)
class Operations:
    """The latest operations; older ones are forgotten."""

    _by_id: OrderedDict[str, Operation] = field(init=False, factory=OrderedDict)
    _by_key: dict[tuple[str, str], str] = field(init=False, factory=dict)
    _keys: dict[str, tuple[str, str]] = field(init=False, factory=dict)
    _tokens: int = field(init=False, default=0)

    def get(self, operation_id: str) -> Operation | None:
        """Return an operation; None if none had this id, or if it was forgotten."""
        return self._by_id.get(operation_id)

    def submitted(self, credentials: str, idempotency_key: str) -> Operation | None:
        """Return the operation that the same caller submitted earlier with the same key, or None."""
        return self._by_id.get(self._by_key.get((credentials, idempotency_key), ""))

    def add(self, operation: Operation, credentials: str, idempotency_key: str) -> None:
        """Add an operation, and forget the oldest ones if there are too many."""
        self._by_id[operation.id] = operation
        self._by_key[credentials, idempotency_key] = operation.id
        self._keys[operation.id] = credentials, idempotency_key
        self._tokens += len(operation.completions.wanted.prompt)
        while self._tokens > _TOKENS_KEPT and len(self._by_id) > 1:
            old, forgotten = self._by_id.popitem(last=False)
            self._tokens -= len(forgotten.completions.wanted.prompt)
            del self._by_key[self._keys.pop(old)]
