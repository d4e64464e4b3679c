"""A cap on what replies may cost, in tokens and in money."""

from fractions import Fraction

from pipeline.conversations.cache import Usage
from pipeline.conversations.engine import Completion, Prompt
from pipeline.runtime.contract import BudgetError
from schemas.llm import TokenPrices

TEMPLATE_TOKENS = (64, 16)
"""Most that a chat template adds to a prompt, and to each of its messages."""


class AllowanceError(BudgetError):
    """The next request could cost more than is left. Raise the cap and run again: what was paid for is kept."""


class Allowance:
    """What may still be spent: `tokens` and `usd` cap all of it, `spent` before this run included.

    A request counts in full, as if it were to cost the most it can, from its beginning to its end. For one thread.
    """

    def __init__(
        self,
        tokens: int | None = None,
        usd: float | None = None,
        usd_per_million_input: float = 0.0,
        usd_per_million_output: float = 0.0,
        spent: Usage | None = None,
    ) -> None:
        self._tokens = tokens
        self._usd = None if usd is None else Fraction(str(usd))
        self._prices = TokenPrices(
            usd_per_million_input=usd_per_million_input, usd_per_million_output=usd_per_million_output
        )
        self.spent = spent or Usage()
        self._feared = [0, 0]
        """Most tokens, of prompts and replies, of what is in flight."""

    def admits(self, prompt: Prompt) -> bool:
        """Whether the request fits, at its most, beside what is in flight, at its most."""
        asked, answered = worst_tokens(prompt)
        asked += self.spent.prompt_tokens + self._feared[0]
        answered += self.spent.output_tokens + self._feared[1]
        in_tokens = self._tokens is None or asked + answered <= self._tokens
        return in_tokens and (self._usd is None or self._prices.cost_usd(asked, answered) <= self._usd)

    def begin(self, prompt: Prompt) -> None:
        """It is in flight."""
        self._fear(prompt, 1)

    def end(self, prompt: Prompt, completion: Completion | None = None) -> None:
        """It is no more, and cost what the completion says."""
        self._fear(prompt, -1)
        if completion:
            self.spent = Usage(
                requests=self.spent.requests + 1,
                prompt_tokens=self.spent.prompt_tokens + completion.prompt_tokens,
                cached_tokens=self.spent.cached_tokens + completion.cached_tokens,
                output_tokens=self.spent.output_tokens + completion.output_tokens,
            )

    def refusal(self, prompt: Prompt) -> AllowanceError:
        """Why it does not begin."""
        asked, answered = worst_tokens(prompt)
        used = self.spent.prompt_tokens + self.spent.output_tokens
        told = [f"{used:,} of {self._tokens:,} tokens" if self._tokens is not None else f"{used:,} tokens"]
        if self._usd is not None:
            cost = self._prices.cost_usd(self.spent.prompt_tokens, self.spent.output_tokens)
            told.append(f"{float(cost):,.4f} of {float(self._usd):,.4f} USD")
        return AllowanceError(
            f"spent {' and '.join(told)} on {self.spent.requests:,} replies, and the next request may take "
            f"{asked + answered:,} tokens: raise the cap and run the same command again; "
            "replies so far are kept and cost nothing then"
        )

    def _fear(self, prompt: Prompt, sign: int) -> None:
        asked, answered = worst_tokens(prompt)
        self._feared = [self._feared[0] + sign * asked, self._feared[1] + sign * answered]


def worst_tokens(prompt: Prompt) -> tuple[int, int]:
    """Most tokens of prompt and reply. No tokenizer is asked: a token stands for at least one byte."""
    whole, each = TEMPLATE_TOKENS
    size = sum(len(message.content.encode()) + each for message in prompt.messages)
    return whole + size, prompt.max_tokens
