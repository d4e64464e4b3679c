"""`talks.html`: what the talks of a mixture are like, and some of them whole, beside what they speak of."""

from collections.abc import Sequence

from pipeline.audit.report import GalleryItem, environment
from pipeline.audit.report_charts import histogram
from pipeline.audit.talk_figures import TalkFigures
from pipeline.storage.files import write_text
from pipeline.storage.places import Place
from schemas.base import Record
from schemas.ledger import Ledger

TALKS = "talks.html"
"""The page's name in the mixture's folder."""


class Prices(Record):
    """US dollars a million tokens; 0 where none is known."""

    usd_per_million_input: float = 0.0
    usd_per_million_output: float = 0.0

    def of(self, prompt_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost, US dollars."""
        return (prompt_tokens * self.usd_per_million_input + output_tokens * self.usd_per_million_output) / 1e6


def write_talk_page(
    path: Place, ledger: Ledger, figures: TalkFigures, talks: Sequence[GalleryItem], prices: Prices
) -> None:
    """Writes the page to `path`, whole or not at all; a function of its inputs alone, as the report is."""
    write_text(path, render_talk_page(ledger, figures, talks, prices))


def render_talk_page(ledger: Ledger, figures: TalkFigures, talks: Sequence[GalleryItem], prices: Prices) -> str:
    """The page's HTML."""
    written = ledger.written
    return (
        environment()
        .get_template("talks.html.jinja")
        .render(
            ledger=ledger,
            figures=figures,
            talks=talks,
            written=written,
            usd=prices.of(written.prompt_tokens, written.output_tokens) if written else 0.0,
            question_words=histogram(figures.question_words),
            answer_words=histogram(figures.answer_words),
            counted={},
        )
    )
