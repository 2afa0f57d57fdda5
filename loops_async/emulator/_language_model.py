"""A language model small enough to compute by hand, and drawing from it. No I/O.

The probabilities of the next token are a hash of the two tokens before it, of roughly
how many there are, and of the model's name. They are a real distribution: they sum to
one, and the one that a token is drawn from is the one that it is scored by later.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import accumulate
from math import exp, log
from random import Random
from typing import Final

from attrs import field, frozen

END: Final = 0
"""The id of the token that ends a text."""

PIECES: Final = ("", "\n", *map(chr, range(32, 127)))
"""The text of each token that is ever drawn, by id."""

VOCABULARY_SIZE: Final = 262_144
"""Ids of real tokenizers are below, so that prompts of theirs can be scored."""

RARE: Final = 1e-6
"""The probability of all ids together that have no piece: no context makes them likely, and no draw takes them."""

# Without the position, a greedy text could run in circles for ever.
_BLOCK = 16

# Most contexts end a text rarely and some probably, so that greedy texts end as well.
_MAY_END, _WILL_END = 1 / 64, 3.0
_WILL_END_BELOW = 16

_WEIGHTS: Final = tuple(exp(byte / 32) for byte in range(256))


@frozen
class Distribution:
    """The probabilities of the next token."""

    probabilities: tuple[float, ...]
    """Of the ids that have a piece."""

    def logprob(self, token: int) -> float:
        """Return the natural logarithm of the probability of any id of the vocabulary."""
        if token < len(self.probabilities):
            return log(self.probabilities[token])
        return log(RARE / (VOCABULARY_SIZE - len(self.probabilities)))

    def rank(self, token: int) -> int:
        """Count the tokens that are likelier, beginning with 1."""
        if token >= len(self.probabilities):
            return len(self.probabilities) + 1
        own = self.probabilities[token]
        return 1 + sum(each > own for each in self.probabilities)

    def top(self, count: int) -> list[int]:
        """Return the likeliest tokens, likeliest first and of equal ones the smaller id first."""
        by_rank = sorted(range(len(self.probabilities)), key=self.probabilities.__getitem__, reverse=True)
        return by_rank[:count]


@frozen(kw_only=True)
class Sampling:
    """How tokens are drawn, as OpenAI and vLLM name it."""

    temperature: float = 1.0
    """0 takes the likeliest."""
    top_p: float = 1.0
    top_k: int = 0
    """0 for all."""

    def draw(self, distribution: Distribution, random: Random) -> int:
        """Draw one token: by temperature, among the `top_k`, of those among the first that make up `top_p`."""
        if self.temperature == 0:
            return distribution.top(1)[0]
        weights: Sequence[float] = distribution.probabilities
        if self.temperature != 1:
            # Relative to the largest, or a low temperature makes zeros of them all.
            largest, power = max(weights), 1 / self.temperature
            weights = [(each / largest) ** power for each in weights]
        tokens: Sequence[int] = range(len(weights))
        if self.top_k or self.top_p < 1:
            tokens = distribution.top(self.top_k or len(weights))
            weights = [weights[token] for token in tokens]
        sums = list(accumulate(weights))
        if self.top_p < 1:
            kept = bisect_left(sums, sums[-1] * self.top_p) + 1
            tokens, sums = tokens[:kept], sums[:kept]
        return random.choices(tokens, cum_weights=sums)[0]


@frozen(kw_only=True)
class Stops:
    """What ends a text, apart from its own end."""

    max_tokens: int
    strings: tuple[str, ...] = ()
    tokens: Collection[int] = ()
    ignore_end: bool = False

    def found(self, text: str) -> tuple[int, str] | None:
        """Return where in *text* the first of the strings begins, and which it is."""
        # The longest of those that begin at one place.
        found = [(at, -len(each), each) for each in self.strings if (at := text.find(each)) >= 0]
        if not found:
            return None
        at, _, string = min(found)
        return at, string


@frozen(kw_only=True)
class Completion:
    """One text and how it came about."""

    tokens: tuple[int, ...]
    """What was drawn, with the token that ended it."""
    distributions: tuple[Distribution, ...] = field(repr=False)
    """What each token was drawn from, before temperature and the like."""
    text: str
    """Without what ended it."""
    finish_reason: str
    """`"stop"` or `"length"`."""
    stop_reason: str | int | None = None
    """The string or the token of `Stops` that ended it; `None` for its own end."""


@frozen
class LanguageModel:
    """The model of one name: another name is another model."""

    name: str

    def after(self, tokens: Sequence[int], length: int) -> Distribution:
        """Return the distribution of the token at index *length*, given those before it."""
        return _distribution(self.name, length // _BLOCK, *tokens[max(0, length - 2) : length])

    def complete(self, prompt: Sequence[int], sampling: Sampling, stops: Stops, random: Random) -> Completion:
        """Go on from *prompt*."""
        tokens = list(prompt)
        distributions: list[Distribution] = []
        text = ""

        def completion(finish_reason: str, stop_reason: str | int | None = None) -> Completion:
            return Completion(
                tokens=tuple(tokens[len(prompt) :]),
                distributions=tuple(distributions),
                text=text,
                finish_reason=finish_reason,
                stop_reason=stop_reason,
            )

        while len(distributions) < stops.max_tokens:
            distribution = self.after(tokens, len(tokens))
            token = sampling.draw(distribution, random)
            tokens.append(token)
            distributions.append(distribution)
            if token == END and not stops.ignore_end:
                return completion("stop")
            if token in stops.tokens:
                return completion("stop", token)
            text += PIECES[token]
            if (found := stops.found(text)) is not None:
                text = text[: found[0]]
                return completion("stop", found[1])
        return completion("length")


def piece(token: int) -> str:
    """Return the text of any id of the vocabulary."""
    return PIECES[token] if token < len(PIECES) else f"<{token}>"


@lru_cache(maxsize=2048)
def _distribution(name: str, block: int, *last: int) -> Distribution:
    key = f"{block} {last} {name}".encode()
    first, *others = hashlib.shake_128(key).digest(len(PIECES))
    weights = [_WEIGHTS[byte] for byte in others]
    sum_of_others = sum(weights)
    end = sum_of_others * (_WILL_END if first < _WILL_END_BELOW else _MAY_END)
    scale = (1 - RARE) / (end + sum_of_others)
    return Distribution((end * scale, *(weight * scale for weight in weights)))
