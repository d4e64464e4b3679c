"""Laws of the report: it says all the ledger says, escapes what strangers wrote, and loads nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from pydantic import ValidationError
from report_cases import EMPTY, Case, Finding, make_case, make_ledger, make_sample

from pipeline.audit.report import MOST_FINDINGS, REPORT, GalleryItem, ReportFigures, write_report
from pipeline.audit.report_view import APOLLO_VIDEO_CATEGORIES, split_shares
from pipeline.audit.talk_figures import TalkCounter
from pipeline.audit.talk_page import TALKS, render_talk_page
from schemas.ledger import Asked, Count, Written
from schemas.llm import TokenPrices
from schemas.plan import Barred
from schemas.sample import Category

VOID = {"meta", "img", "br", "link", "hr", "input"}
SVG_VOID = {"rect", "line"}
INLINE = {"a", "b", "code", "data", "span", "strong"}
HOSTILE = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }} ]]> https://example.org/x.png"


class Page(HTMLParser):
    """Checks that tags balance, and collects what the page says and points to."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag} {attrs}"
        if tag not in INLINE:
            self.texts.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


BESIDE = {REPORT, TALKS}
"""Pages that lie in the same folder."""


@pytest.mark.parametrize(
    "case",
    [make_case(), make_case(HOSTILE, "RANDOM seed=0"), Case(EMPTY, (), (), ReportFigures())],
    ids=["plain", "hostile", "empty"],
)
def test_the_page_is_balanced_names_every_image_and_loads_nothing(case):
    check_page(Page(case.html()))


def check_page(page):
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "action", "data", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target in BESIDE or target.startswith(("#", "data:image/jpeg;base64,"))
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]


WRITTEN = Written(
    model="writer", asked=1009, accepted=(907, 83), faults={"names_grounded": 211}, prompt_tokens=3_000_000,
    output_tokens=500_000, copies=7,
)  # fmt: skip


@pytest.mark.parametrize("content", ["A cat.", HOSTILE])
@pytest.mark.parametrize("written", [None, WRITTEN])
def test_the_page_of_talks_is_as_sound_and_tells_what_was_refused_and_what_it_cost(content, written):
    case, counter = make_case(content), TalkCounter()
    for item in case.gallery:
        counter.add(item.sample)
    ledger = case.ledger.model_copy(update={"written": written})
    page = Page(render_talk_page(ledger, counter.figures(), case.gallery, TokenPrices(usd_per_million_input=2.0)))
    check_page(page)
    assert page.text.count(content.split()[0]) >= 2
    told = (
        "1,009",
        "907",
        "83",
        "19",
        "names grounded",
        "211",
        "near-copies of others: 7.",
        "3,000,000",
        "500,000",
        "$6.00",
    )
    assert all((each in page.text) is bool(written) for each in told), page.text


def test_a_page_of_no_talks_is_sound():
    check_page(Page(render_talk_page(EMPTY, TalkCounter().figures(), (), TokenPrices())))


def test_anchors_lead_somewhere_and_no_id_is_given_twice():
    page = Page(make_case().html())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert targets <= {f"#{each}" for each in ids} | BESIDE
    assert len(targets) > 5


def test_without_strangers_words_the_page_holds_no_address_at_all():
    html = make_case().html()
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_what_strangers_wrote_is_shown_and_never_run():
    case = make_case(HOSTILE)
    page = Page(case.html())
    assert page.text.count(HOSTILE) >= 2  # the finding, and the turns
    assert "<script" not in case.html()
    assert "terms/of <their> own" in page.text


def numbers_of(value: Any) -> set[int]:
    if isinstance(value, dict):
        return set().union(*map(numbers_of, value.values()), set())
    if isinstance(value, list):
        return set().union(*map(numbers_of, value), set())
    return {value} if isinstance(value, int) else set()


def test_every_number_of_the_ledger_is_on_the_page():
    case = make_case()
    page = Page(case.html())
    shown = {int(each.replace(",", "")) for each in re.findall(r"-?\d[\d,]*", page.text)}
    shown |= {int(attributes["value"] or 0) for tag, attributes in page.tags if tag == "data"}
    wanted = numbers_of(case.ledger.model_dump(mode="json"))
    assert len(wanted) > 100
    assert wanted <= shown
    for share in ("12.5 %", "21.5 %", "9.75 %", "56.25 %", "7/3 a second"):
        assert share in page.text
    for text in ("text recognition", "CC0-1.0", "renderer", "so400m", "d" * 64, "a" * 64):
        assert text in page.text


def test_digests_of_weights_preprocessing_and_shards_are_shown_by_their_beginnings():
    case = make_case()
    text = Page(case.html()).text
    for digest in ("b" * 12, "c" * 12, *(shard.sha256[:12] for shard in case.ledger.shards)):
        assert digest in text


def test_the_text_share_is_exact_or_says_that_it_is_not():
    ledger = EMPTY.model_copy(
        update={
            "by_modality": {"train/text": Count(samples=3), "train/video": Count(samples=22)},
            "total": {"train": Count(samples=25)},
        }
    )
    assert "Text: 3 of 25 samples, exactly 12 %." in Page(Case(ledger, (), (), ReportFigures()).html()).text
    third = ledger.model_copy(
        update={"by_modality": {"train/text": Count(samples=1), "train/video": Count(samples=2)}}
    )
    text = Page(Case(third, (), (), ReportFigures()).html()).text
    assert "Text: 1 of 3 samples, ≈ 33.33 %." in text
    assert "exactly" not in text


def test_equal_input_gives_equal_bytes_and_nothing_of_this_machine(tmp_path):
    case = make_case()
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, case.ledger, case.findings, case.gallery, case.figures)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert str(tmp_path) not in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_random_weights_are_called_so_wherever_features_are_spoken_of():
    loud = Page(make_case(weights="RANDOM seed=5").html()).text
    assert "RANDOM weights. The features of siglip" in loud
    assert "RANDOM WEIGHTS" in loud
    assert "RANDOM seed=5" in loud
    quiet = Page(Case(make_ledger(), (), (), ReportFigures()).html()).text
    assert "RANDOM" not in quiet


def test_a_card_says_so_when_its_features_are_random_and_a_text_card_has_none():
    ledger = EMPTY.model_copy(update={"encoders": make_ledger("RANDOM seed=0").encoders})
    film, text = (Page(Case(ledger, (), (item,), ReportFigures()).html()).text for item in make_case().gallery)
    assert "RANDOM FEATURES" in film
    assert "RANDOM FEATURES" not in text


def test_the_verdict_counts_findings():
    passed = Page(Case(make_ledger(), (), (), ReportFigures()).html()).text
    assert "Audit passed" in passed
    assert "Audit failed" not in passed
    one = Page(make_case().html()).text
    assert "Audit failed: 1 finding." in one
    many = tuple(Finding("binding", "", f"key-{n}", "off") for n in range(MOST_FINDINGS + 50))
    text = Page(Case(make_ledger(), many, (), ReportFigures()).html()).text
    assert f"Audit failed: {MOST_FINDINGS + 50} findings." in text
    assert f"the first {MOST_FINDINGS} of {MOST_FINDINGS + 50}" in text
    assert f"key-{MOST_FINDINGS - 1} " in text
    assert f"key-{MOST_FINDINGS} " not in text


def test_a_stage_that_loses_records_is_marked():
    html = make_case().html()
    rows = re.findall(r"<tr[^>]*><th scope=\"row\">(?:ingest|leaky)</th>.*?</tr>", html, re.DOTALL)
    balanced, leaky = rows[0], rows[1]
    assert "0 ✓" in balanced
    assert 'class="off"' not in balanced
    assert "3 lost" in leaky
    assert 'class="off"' in leaky


def test_the_gallery_shows_turns_thumbnails_and_frame_times():
    case = make_case()
    page = Page(case.html())
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == [
        "Frames of sample key-video, sheet 1 of 2",
        "Frames of sample key-video, sheet 2 of 2",
    ]
    for said in case.gallery[0].sample.conversations:
        assert said.content in page.text
    assert "0.5 0.48 20" in page.text  # t, pts and t - pts of the second frame


def test_a_thumbnail_that_is_no_jpeg_is_refused():
    with pytest.raises(ValidationError, match="encode it as JPEG"):
        GalleryItem(sample=make_sample(), thumbnails=(b"\x89PNG",))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_figures_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        ReportFigures(pts_error_ms=(wrong,))


def test_shares_sum_strata_of_a_modality_and_list_what_nobody_asked_for():
    ledger = EMPTY.model_copy(
        update={
            "asked": tuple(
                Asked(stratum=stratum, asked=asked, candidates=9, replaced=0)
                for stratum, asked in (("train/video/a", 3), ("train/video/b", 4), ("heldout/video/a", 5))
            ),
            "by_modality": {"train/video": Count(samples=7), "train/image": Count(samples=1)},
        }
    )
    train, heldout = split_shares(ledger)
    assert {row.name: (row.asked, row.found) for row in train.rows} == {
        "text": (0, 0), "image": (0, 1), "multi_image": (0, 0), "video": (7, 7),
    }  # fmt: skip
    assert (heldout.name, heldout.asked, heldout.found) == ("heldout", 5, 0)


def test_apollos_categories_are_all_there_and_sum_as_printed():
    assert set(APOLLO_VIDEO_CATEGORIES) == set(Category)
    assert sum(APOLLO_VIDEO_CATEGORIES.values()) == pytest.approx(99.9)


def test_what_gates_bar_is_shown_with_its_reason_and_escaped():
    case = make_case()
    assert "Barred by the recipe" not in case.html()
    row = Barred(stratum="train/video/web", gate="licence", value="<b>CC-BY-NC-4.0", samples=71_717)
    page = replace(case, ledger=case.ledger.model_copy(update={"barred": (row,)})).html()
    assert "Barred by the recipe" in page
    assert "&lt;b&gt;CC-BY-NC-4.0" in page
    assert "71,717" in page
