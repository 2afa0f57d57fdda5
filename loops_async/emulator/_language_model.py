"""A tiny language model, and drawing from it. No I/O.

The probabilities of the next token are a hash of the two tokens before it, of roughly
how many there are, and of the model's name. They are a real distribution: they sum to
one, and a token is scored later by the same distribution that it was drawn from.

A text ends with the end token of the model. Its id is that of the real tokenizer, since
real renderers search for that id. If a request names stop ids and the end token is not
among them, the text ends with one of those instead, whose log-probability is that of
any rare token.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Generator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from math import exp, log
from random import Random
from typing import Final

from attrs import frozen

DEFAULT_END: Final = 0
"""The id of the token that ends a text, for a model whose tokenizer is not known."""

PIECES: Final = ("", "\n", *map(chr, range(32, 127)))
"""The text of each token that can be drawn, by its number; number 0, whose text is empty, is the end token.

The number of a token is its id, except for the end token. If the end token has the id of another token, the two
exchange their ids.
"""

VOCABULARY_SIZE: Final = 262_144
"""The number of token ids; those of real tokenizers are below it, so that their prompts can be scored."""

RARE: Final = 1e-6
"""The probability of all ids without a piece together; they are never drawn, and unlikely in every context."""

# The number of positions that share their probabilities; without the position, a greedy text could repeat for ever.
_BLOCK = 16

# The weight of the end token: small in most contexts and large in some, so that greedy texts end too.
_MAY_END, _WILL_END = 1 / 64, 3.0
_WILL_END_BELOW = 16

_WEIGHTS: Final = tuple(exp(byte / 32) for byte in range(256))


@frozen
class Distribution:
    """The probabilities of the next token."""

    probabilities: tuple[float, ...]
    """The probability of each token that has a piece, in the order of `PIECES`."""
    end: int = DEFAULT_END
    """The id of the end token."""

    def logprob(self, token: int) -> float:
        """Return the natural logarithm of the probability of a token id."""
        number = _number(token, self.end)
        if number is not None:
            return log(self.probabilities[number])
        return log(RARE / (VOCABULARY_SIZE - len(self.probabilities)))

    def rank(self, token: int) -> int:
        """Return the rank of a token; the likeliest has rank 1."""
        number = _number(token, self.end)
        if number is None:
            return len(self.probabilities) + 1
        own = self.probabilities[number]
        return 1 + sum(each > own for each in self.probabilities)

    def top(self, count: int) -> list[int]:
        """Return the likeliest tokens, likeliest first; equally likely ones are in the order of `PIECES`."""
        return [_id(number, self.end) for number in self.numbers_by_rank[:count]]

    @cached_property
    def numbers_by_rank(self) -> list[int]:
        """The numbers of the tokens that have a piece, likeliest first."""
        return sorted(range(len(self.probabilities)), key=self.probabilities.__getitem__, reverse=True)


@frozen(kw_only=True)
class Sampling:
    """How tokens are drawn, with the names of OpenAI and vLLM."""

    temperature: float = 1.0
    """The temperature; with 0, the likeliest token is drawn."""
    top_p: float = 1.0
    top_k: int = 0
    """The number of likeliest tokens to draw from; 0: all."""

    def draw(self, distribution: Distribution, random: Random) -> int:
        """Draw one token, after `temperature`, `top_k` and `top_p` were applied in this order."""
        if self.temperature == 0:
            return distribution.top(1)[0]
        return _id(self._number(distribution, random), distribution.end)

    def _number(self, distribution: Distribution, random: Random) -> int:
        weights: Sequence[float] = distribution.probabilities
        if self.temperature != 1:
            # Relative to the largest, since a low temperature would otherwise round all weights to zero.
            largest, power = max(weights), 1 / self.temperature
            weights = [(each / largest) ** power for each in weights]
        numbers: Sequence[int] = range(len(weights))
        if self.top_k or self.top_p < 1:
            numbers = distribution.numbers_by_rank[: self.top_k or len(weights)]
            weights = [weights[number] for number in numbers]
        sums = list(accumulate(weights))
        if self.top_p < 1:
            kept = bisect_left(sums, sums[-1] * self.top_p) + 1
            numbers, sums = numbers[:kept], sums[:kept]
        return random.choices(numbers, cum_weights=sums)[0]


@frozen(kw_only=True)
class Stops:
    """What ends a text, apart from the end token."""

    max_tokens: int
    strings: tuple[str, ...] = ()
    tokens: Sequence[int] = ()
    """The stop ids, in the order in which the request names them."""
    ignore_end: bool = False
    """Whether the text goes on after the end token."""

    def found(self, text: str, new: int) -> tuple[int, str] | None:
        """Return the stop string that the last *new* characters of *text* complete, and where it begins.

        If they complete several, the first in the order of `strings` counts, wherever it begins. So does vLLM's
        `check_stop_strings()`: https://github.com/vllm-project/vllm/blob/main/vllm/v1/engine/detokenizer.py
        """
        if new:
            for each in self.strings:
                at = text.find(each, max(0, len(text) - new - len(each) + 1))
                if at >= 0:
                    return at, each
        return None

    def ends(self, end: int) -> tuple[int, ...]:
        """Return the ids that take the place of the end token *end*; empty if the text ends with *end* itself."""
        if end in self.tokens:
            return ()
        return tuple(token for token in self.tokens if _number(token, end) is None)


@frozen(kw_only=True)
class Ending:
    """A complete text, and why it ends."""

    text: str
    """The text without what ended it."""
    finish_reason: str
    """The reason for the end: `"stop"` or `"length"`."""
    stop_reason: str | int | None = None
    """The string or the token of `Stops` that ended the text; `None` for the end token."""


@frozen
class LanguageModel:
    """The model of one name; another name gives another model."""

    name: str
    end: int = DEFAULT_END
    """The id of the token that ends a text."""

    def piece(self, token: int) -> str:
        """Return the text of a token id."""
        number = _number(token, self.end)
        return f"<{token}>" if number is None else PIECES[number]

    def after(self, tokens: Sequence[int], length: int) -> Distribution:
        """Return the distribution of the token at index *length*, given those before it."""
        return _distribution(self.name, self.end, length // _BLOCK, *tokens[max(0, length - 2) : length])

    def steps(
        self, prompt: Sequence[int], sampling: Sampling, stops: Stops, random: Random
    ) -> Generator[tuple[int, Distribution], None, Ending]:
        """Continue *prompt*, and yield each token with its distribution before temperature, `top_k` and `top_p`."""
        tokens = list(prompt)
        pieces: list[str] = []
        # Only the last characters can complete a stop string; a search of the whole text would take longer each time.
        kept = max(map(len, stops.strings), default=0)
        tail = ""
        stopping, ends = frozenset(stops.tokens), stops.ends(self.end)
        for _ in range(stops.max_tokens):
            distribution = self.after(tokens, len(tokens))
            token = sampling.draw(distribution, random)
            if ends and token == self.end:
                token = random.choice(ends)
            tokens.append(token)
            yield token, distribution
            if token == self.end and not stops.ignore_end:
                return Ending(text="".join(pieces), finish_reason="stop")
            if token in stopping:
                return Ending(text="".join(pieces), finish_reason="stop", stop_reason=token)
            new = self.piece(token)
            pieces.append(new)
            tail = (tail + new)[-kept - len(new) :]
            if (found := stops.found(tail, len(new))) is not None:
                text = "".join(pieces)
                return Ending(text=text[: len(text) - len(tail) + found[0]], finish_reason="stop", stop_reason=found[1])
        return Ending(text="".join(pieces), finish_reason="length")


def _number(token: int, end: int) -> int | None:
    """Return the number of a token in `PIECES`, or None if it has no piece."""
    if token == end:
        return 0
    number = end if token == 0 else token
    return number if number < len(PIECES) else None


def _id(number: int, end: int) -> int:
    """Return the id of the token with a number in `PIECES`."""
    if number == 0:
        return end
    return 0 if number == end else number


@lru_cache(maxsize=2048)
def _distribution(name: str, end_id: int, block: int, *last: int) -> Distribution:
    # A name from Python may hold lone surrogates.
    key = f"{block} {last} {name}".encode(errors="surrogatepass")
    first, *others = hashlib.shake_128(key).digest(len(PIECES))
    weights = [_WEIGHTS[byte] for byte in others]
    sum_of_others = sum(weights)
    end = sum_of_others * (_WILL_END if first < _WILL_END_BELOW else _MAY_END)
    scale = (1 - RARE) / (end + sum_of_others)
    return Distribution((end * scale, *(weight * scale for weight in weights)), end_id)
