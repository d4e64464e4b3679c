"""Laws of `s3://` URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.stores import S3Url

PARTS = st.text("abcXYZ019-_=+@ ,().é", min_size=1, max_size=8).filter(lambda part: part not in {".", ".."})


@given(st.lists(PARTS, max_size=4), st.booleans())
def test_a_url_is_what_it_was_parsed_from(parts, is_folder):
    text = "s3://bucket.name-1/" + "/".join(parts) + ("/" if is_folder and parts else "")
    url = S3Url.parse(text)
    assert url is not None
    assert str(url) == text
    assert url.is_folder == (is_folder or not parts)
    assert url.name == ("" if url.is_folder else parts[-1])


@pytest.mark.parametrize("text", ["random", "weights/s3/file.pt", "/abs/file.pt", "hf:owner/name", "s3/file.pt"])
def test_other_forms_of_weights_are_no_url(text):
    assert S3Url.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket", "s3:bucket/file.pt", "S3://bucket/file.pt", "s3a://bucket/file.pt", "s3:///file.pt",
        "https://bucket.s3.amazonaws.com/file.pt", "gs://bucket/file.pt", "s3://Bucket/file.pt", "s3://bu/file.pt",
        "s3://bu..cket/file.pt", "s3://bucket//file.pt", "s3://bucket/a//b.pt", "s3://bucket/../file.pt",
        "s3://bucket/a/./b.pt", "s3://bucket/..", "s3://bucket/a%20b.pt", "s3://bucket/file.pt#part",
        "s3://bucket/a\nb.pt", "s3://bucket/a\x00b.pt", "s3://bucket/a\\b.pt", "s3://bucket:9000/file.pt",
        "s3://bucket/*.pt", "s3://bucket/" + "a" * 1025,
    ],
)  # fmt: skip
def test_an_odd_form_is_refused_with_the_value_and_the_mend(text):
    with pytest.raises(ValueError, match="expected s3://BUCKET/PATH/FILE") as told:
        S3Url.parse(text)
    assert repr(text)[:40] in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA1:Secret@bucket/file.pt", "s3://Secret@bucket/file.pt", "https://me:Secret@host/file.pt",
        "s3://bucket/file.pt?X-Amz-Signature=Secret", "s3://me:Sec/Secret@bucket/f.pt?a=Secret#Secret",
        "s3:AKIA:Secret@bucket/file.pt", "s3://me:Secret?Secret@bucket/file.pt",
    ],
)  # fmt: skip
def test_what_may_be_a_secret_is_refused_and_not_shown(text):
    with pytest.raises(ValueError, match="without credentials") as told:
        S3Url.parse(text)
    assert "Secret" not in str(told.value)
    assert "***" in str(told.value)
