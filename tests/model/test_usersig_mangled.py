"""What is said of a damaged sig, word by word: what was undone, how often, and nothing else."""

from __future__ import annotations

import base64
import json
import re
import zlib

import pytest

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig import decode, sign
from sigmgr.model.usersig.container import MAX_SIG_CHARS
from sigmgr.model.usersig.mangled import STEPS
from tests.model.usersig_kit import HMAC, NOW, P256, V1, V2, v2_members, wrap, wrap_stream

#: With one character of padding, and with the two others that are not letters or digits.
PADDED = next(
    sig
    for sig in (sign(V2._replace(issued_at=NOW + late), HMAC) for late in range(2000))
    if re.fullmatch(r"[^_]+\*[^_]+-[^_]+_", sig)
)


def refused(text: str) -> BadSig:
    with pytest.raises(BadSig) as caught:
        decode(text)
    return caught.value


@pytest.mark.parametrize("sig", [sign(V2, HMAC), sign(V1, P256)], ids=["v2", "v1"])
def test_no_character_that_sigs_have_is_called_one_that_no_sig_has(sig: str) -> None:
    """An underscore within could be padding, with a tail behind it."""
    named = 0
    for at in range(40, len(sig) - 40):
        answer = refused(f"{sig[:at]}_{sig[at + 1 :]}").text
        said = re.match(r"character ([0-9]+) of the sig is '(.)', which no sig has", answer)
        assert said is None or said.groups() == (str(at + 1), "_")
        named += said is not None
    assert named > 20


def times(times: int, text: str) -> str:
    for _ in range(times):
        text = base64.b64encode(text.encode()).decode()
    return text


def test_what_was_done_several_times_is_counted() -> None:
    sig = sign(V2, HMAC)
    assert refused(times(1, sig)).text == "the sig is base64-encoded once more"
    assert refused(times(2, sig)).text == "the sig is base64-encoded once more, 2 times"
    assert refused(f'"{times(2, sig)}"').text == (
        "the sig has marks around it, such as quotes, brackets or commas,"
        " and is base64-encoded once more, 2 times"
    )


@pytest.mark.parametrize(
    ("mangle", "sentence"),
    [
        (
            lambda s: s.translate(str.maketrans("*-_", "+/=")),
            "is in the standard base64 alphabet, with + / and =",
        ),
        (
            lambda s: s.translate(str.maketrans("*-_", " /=")),
            "is in the standard base64 alphabet, with + / and =",
        ),
        (lambda s: s.translate(str.maketrans("*-_", "-_=")), "is in the URL-safe base64 alphabet"),
        (
            lambda s: s.translate(str.maketrans("*-", "-_")).rstrip("_"),
            "is in the URL-safe base64 alphabet",
        ),
        (lambda s: s.rstrip("_"), "has lost the underscores at its end"),
        (lambda s: s.encode().hex(), "is in hex"),
        (lambda s: s.replace("*", "%2A"), "is URL-encoded"),
        (lambda s: f"{s}_", "is followed by 1 character that does not belong to it"),
        (lambda s: f"{s}ab", "is followed by 2 characters that do not belong to it"),
        (lambda s: f"{s}{s}", f"is followed by {len(PADDED)} characters that do not belong to it"),
        (lambda s: f"it is {s}, so", "stands inside a longer text"),
        (lambda s: f"**{s}**", "stands between marks of Markdown"),
        (lambda s: f"\ufeff{s}", "has line ends or blanks in it, as text that was wrapped"),
    ],
    ids=range(13),
)
def test_one_damage_is_told_as_one(mangle, sentence: str) -> None:
    assert refused(mangle(PADDED)).text == f"the sig {sentence}"


def test_a_cut_sig_has_no_tail() -> None:
    tails = [step for step in STEPS if step.reason is SigReason.HAS_TAIL]
    for size in range(90, 98):
        cut = PADDED[:size]
        assert {step.undo(cut) for step in tails} <= {None, cut}
        assert refused(cut).text == f"the sig is cut off: {size} characters are there and no end"


def test_what_begins_as_no_json_is_no_beginning_of_a_sig() -> None:
    text = wrap(b"This is a letter that somebody compressed, and then its end was lost.")
    assert refused(text.rstrip("_")[:-8]).reason is not SigReason.CUT_OFF


def test_a_long_text_that_inflates_to_nothing_is_no_beginning_of_a_sig() -> None:
    empty = b"\x00\x00\x00\xff\xff"  # a stored block without content
    stream = zlib.compress(b"", 1)[:2] + empty * 60
    assert refused(wrap_stream(stream[:30])).reason is SigReason.CUT_OFF
    assert refused(wrap_stream(stream)).reason is not SigReason.CUT_OFF


def test_a_text_as_long_as_a_sig_may_be_is_explained() -> None:
    longest = (sign(V2, HMAC) + "&" + "x" * MAX_SIG_CHARS)[:MAX_SIG_CHARS]
    assert refused(longest).reason is SigReason.HAS_TAIL


def test_what_follows_a_cut_sig_within_a_text_is_not_taken_for_the_rest_of_it() -> None:
    answer = refused(f"usersig={PADDED[:80]}|{'correlation-' * 4}")
    assert answer.reason is SigReason.CUT_OFF
    assert "80 characters are there" in answer.text


def test_a_sig_whose_stream_ends_is_not_cut_whatever_it_holds() -> None:
    whole = wrap(b'{"TLS.ver":"2.0","TLS.identifier":')
    assert refused(whole).reason is SigReason.NOT_JSON
    assert refused(f'"{whole}"').reason is not SigReason.CUT_OFF


def test_no_damage_is_undone_past_a_character_that_it_does_not_explain() -> None:
    twice = times(1, PADDED)
    assert refused(f"{twice[:40]}!{twice[40:]}").reason is not SigReason.ENCODED_TWICE
    assert "line ends of a mail" not in refused(f"{PADDED}=").text
    assert "line ends of a mail" not in refused(f"{PADDED[:-1]}=\n").text


def test_a_sig_has_at_most_4096_characters_and_16_kib_inside() -> None:
    assert refused("!" * 4097).text == "the sig has more than 4096 characters"
    assert refused("!" * 4096).reason is SigReason.NOT_BASE64
    document = json.dumps(v2_members()).encode()
    assert decode(wrap(document.ljust(16 * 1024))).userid == "alice"
    assert refused(wrap(document.ljust(16 * 1024 + 1))).text == (
        "the sig inflates to more than 16384 bytes"
    )
