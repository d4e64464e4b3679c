"""Laws of the gates: what a recipe shuts out stays out, read alike by the plan and by the audit."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.audit.gates import barred_annotator, barred_generator, barred_licence
from schemas.gates import Gate, Gates, LicenceGate
from schemas.sample import Generator

WORDS = ["MIT", "mit", "CC-BY-4.0", "CC-BY-NC-4.0", "AND", "OR", "and", "WITH", "(", ")", "Straße", "x", "İ", " "]
expressions = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)
patterns = st.text("aAbB-*", min_size=1, max_size=7)
names = st.text("aAbB-", max_size=9)


@pytest.mark.parametrize(
    ("licence", "barred"),
    [
        ("CC-BY-4.0", False),
        ("CC-BY-NC-4.0", True),
        ("cc-by-nc-sa-3.0", True),
        ("MIT AND CC-BY-NC-4.0", True),
        ("MIT AND CC-BY-4.0", False),
        ("MIT OR CC-BY-NC-4.0", True),
        ("(MIT AND (Apache-2.0 and CC-BY-NC-4.0))", True),
        ("CC-BY-NC-4.0 WITH some-exception", True),
        ("GPL-2.0-only", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("academic use only", True),
        ("not CC-BY-NC", False),
        ("MANDATE", False),
    ],
)
def test_every_part_of_a_licence_must_be_let_in(licence, barred):
    gate = LicenceGate(deny=["CC-BY-NC*", "gpl-2.0-only", "*academic*"])
    assert gate.bars(licence) == bool(barred_licence(gate, licence)) == barred


@pytest.mark.parametrize(
    ("licence", "barred"),
    [
        ("MIT", False),
        ("mit AND cc-by-4.0", False),
        ("MIT AND Apache-2.0", True),
        ("CC-BY-NC-4.0", True),
        ("MIT WITH some-exception", False),
        ("the authors' own terms", True),
        ("", True),
        ("AND", True),
    ],
)
def test_an_allowing_gate_lets_in_nothing_else_and_denial_wins(licence, barred):
    gate = LicenceGate(allow=["MIT", "CC-BY-*"], deny=["CC-BY-NC*"])
    assert gate.bars(licence) == bool(barred_licence(gate, licence)) == barred


@given(expressions, names)
def test_an_empty_gate_lets_everything_in(licence, name):
    assert Gates().is_open
    assert Gates().bar(licence, Generator(name=name or "x")) is None
    assert not barred_licence(LicenceGate(), licence)


@given(patterns, names)
@example("ab*b", "ab")
@example("a*b*a", "aba")
@example("*a*b", "bab")
@example("a*ab*", "ab")
def test_a_pattern_is_a_shell_pattern_whose_only_sign_is_the_star(pattern, name):
    expected = fnmatchcase(name.casefold(), pattern.casefold())
    gate = Gate(deny=[pattern])
    assert gate.bars(name) == bool(barred_generator(gate, Generator(name=name or "-"))) == expected or not name


@pytest.mark.parametrize("name", ["gpt-4?", "gpt-4[v]"])
def test_other_signs_of_a_shell_stand_for_themselves(name):
    gate = Gate(deny=[name])
    assert gate.bars(name)
    assert not gate.bars("gpt-4v")
    assert not barred_generator(gate, Generator(name="gpt-4v"))


@given(
    expressions,
    st.lists(st.sampled_from(["MIT", "C*", "*-NC-*", "x", "strasse", "*"]), max_size=3),
    st.lists(st.sampled_from(["M*T", "CC-BY-NC*", "*x", "STRASSE", "i*"]), max_size=3),
)
def test_plan_and_audit_read_a_licence_alike(licence, allow, deny):
    gate = LicenceGate(allow=allow, deny=deny)
    assert gate.bars(licence) == bool(barred_licence(gate, licence))


writers = st.builds(
    Generator, name=st.sampled_from(["human", "gpt-4o", "vllm"]), model=st.sampled_from(["", "GPT-4o"])
)
some = st.lists(st.sampled_from(["human", "*gpt-4*", "vllm", "*"]), max_size=2)


@given(writers, some, some)
def test_plan_and_audit_read_an_annotator_alike(writer, allow, deny):
    gate = Gate(allow=allow, deny=deny)
    barred = Gates(annotators=gate).bar("MIT", writer) is not None
    assert barred == bool(barred_annotator(gate, writer))


def test_the_model_behind_a_name_counts_too():
    served = Generator(name="vllm", model="openai/GPT-4o")
    assert Gates(annotators=Gate(deny=["*gpt-4*"])).bar("MIT", served) == ("annotator", "vllm openai/GPT-4o")
    assert Gates(annotators=Gate(allow=["vllm"])).bar("MIT", served) is None


@pytest.mark.parametrize("pattern", ["MIT AND Apache-2.0", "GPL-2.0-only WITH x", "AND", "a or b"])
def test_a_pattern_that_no_licence_can_match_is_refused(pattern):
    with pytest.raises(ValidationError, match="matches no licence"):
        LicenceGate(deny=[pattern])


@pytest.mark.timeout(10)
def test_a_strangers_pattern_takes_no_time():
    gate, licence = LicenceGate(allow=["*a" * 90 + "b"]), "a" * 50_000
    assert gate.bars(licence)
    assert barred_licence(gate, licence)
    assert not barred_licence(LicenceGate(deny=["x*"]), "( AND" + " " * 200_000)
