"""`talks.html`: what the talks of a mixture are like, and some of them whole, beside what they speak of."""

from collections.abc import Sequence

from pipeline.audit.report import GalleryItem, environment
from pipeline.audit.report_charts import histogram
from pipeline.audit.talk_figures import TalkFigures
from pipeline.storage.files import write_text
from pipeline.storage.places import Place
from schemas.ledger import Ledger
from schemas.llm import TokenPrices

TALKS = "talks.html"
"""The page's name in the mixture's folder."""


def write_talk_page(
    path: Place, ledger: Ledger, figures: TalkFigures, talks: Sequence[GalleryItem], prices: TokenPrices
) -> None:
    """Writes the page to `path`, whole or not at all; a function of its inputs alone, as the report is."""
    write_text(path, render_talk_page(ledger, figures, talks, prices))


def render_talk_page(
    ledger: Ledger, figures: TalkFigures, talks: Sequence[GalleryItem], prices: TokenPrices
) -> str:
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
            usd=float(prices.cost_usd(written.prompt_tokens, written.output_tokens)) if written else 0.0,
            question_words=histogram(figures.question_words),
            answer_words=histogram(figures.answer_words),
            counted={},
        )
    )
