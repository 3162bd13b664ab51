"""A sig that was mangled on its way: the damage by its name, what to do, and never valid."""

from __future__ import annotations

import base64
import json
import quopri
import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sigmgr.keys.keychain import generate
from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.ticket import Tickets
from sigmgr.model.usersig import decode, diagnosis, sign, verify
from sigmgr.model.usersig.container import MAX_SIG_CHARS
from sigmgr.model.usersig.mangled import STEPS
from tests.growth import MOST, TIMES, growth, repeated
from tests.model.usersig_kit import (
    HMAC,
    K1,
    NOW,
    P256,
    SECRET,
    V1,
    V1_ROOM,
    V2,
    V2_ROOM,
    dump,
    facts,
    v1_members,
    v2_members,
    wrap,
)

TO_STANDARD = str.maketrans("*-_", "+/=")
TO_URL_SAFE = str.maketrans("*-_", "-_=")


def standard(sig: str) -> str:
    return sig.translate(TO_STANDARD)


def wrapped(sig: str, width: int = 76, end: str = "\r\n") -> str:
    return end.join(sig[at : at + width] for at in range(0, len(sig), width)) + end


def url_safe(sig: str) -> str:
    return sig.translate(TO_URL_SAFE)


def form(sig: str) -> str:
    return standard(sig).replace("+", " ")


def html(sig: str) -> str:
    return "".join(char if char.isalnum() else f"&#{ord(char)};" for char in sig)


#: What may happen to a sig, and the name it is to get. Where a sig has none of the characters
#: that a damage changes, it comes out whole.
DAMAGES = {
    "a tail as in a URL": (lambda s: f"{s}&contenttype=json&apn=1", "has-tail"),
    "a tail of its own letters": (lambda s: f"{s}abc", "has-tail"),
    "a tail of padding": (lambda s: f"{s}_", "has-tail"),
    "pasted twice": (lambda s: s + s, "has-tail"),
    "pasted twice in two lines": (lambda s: f"{s}\n{s}", "has-tail"),
    "a word behind": (lambda s: f"{s} # alice", "has-tail"),
    "in a URL": (
        lambda s: f"https://x.example/v4/y?sdkappid=1&usersig={s}&random=9",
        "inside-text",
    ),
    "in JSON": (lambda s: json.dumps({"usersig": s, "expire": 1}), "inside-text"),
    "an assignment": (lambda s: f"usersig={s}", "inside-text"),
    "quotes": (lambda s: f'"{s}"', "quoted"),
    "single quotes": (lambda s: f"'{s}'", "quoted"),
    "escaped quotes": (lambda s: f'\\"{s}\\"', "quoted"),
    "printers' quotes and a comma": (lambda s: f"\u201c{s}\u201d,", "quoted"),
    "a quote lost": (lambda s: f'"{s}', "quoted"),
    "wrapped at 76": (wrapped, "wrapped"),
    "wrapped at 64 by LF": (lambda s: wrapped(s, 64, "\n"), "wrapped"),
    "line ends as text": (lambda s: wrapped(s, 76, "\\n"), "wrapped"),
    "a blank": (lambda s: f"{s[:20]} {s[20:]}", "wrapped"),
    "a blank of no width": (lambda s: f"{s[:20]}\u200b{s[20:]}", "wrapped"),
    "URL-encoded": (lambda s: quote(s, safe=""), "url-encoded"),
    "URL-encoded in small letters": (lambda s: s.replace("*", "%2a"), "url-encoded"),
    "URL-encoded twice": (lambda s: quote(quote(s)), "url-encoded"),
    "URL-encoded, the standard alphabet": (lambda s: quote(standard(s), safe=""), "url-encoded"),
    "standard alphabet": (standard, "other-alphabet"),
    "standard alphabet, slashes escaped": (
        lambda s: standard(s).replace("/", "\\/"),
        "other-alphabet",
    ),
    "standard alphabet out of a form": (form, "other-alphabet"),
    "URL-safe alphabet": (url_safe, "other-alphabet"),
    "base64 twice": (lambda s: base64.b64encode(s.encode()).decode(), "encoded-twice"),
    "base64 twice, unpadded": (
        lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
        "encoded-twice",
    ),
    "base64 three times": (
        lambda s: base64.b64encode(base64.b64encode(s.encode())).decode(),
        "encoded-twice",
    ),
    "in Markdown": (lambda s: re.sub(r"([*_-])", r"\\\1", s), "quoted"),
    "in HTML": (html, "quoted"),
    "in HTML by name": (
        lambda s: s.replace("*", "&ast;").replace("_", "&lowbar;").replace("-", "&hyphen;"),
        "quoted",
    ),
    "in HTML in hex": (lambda s: s.replace("*", "&#x2A;").replace("-", "&#X2d;"), "quoted"),
    "escaped as in JSON": (lambda s: s.replace("*", "\\u002a").replace("-", "\\u002D"), "quoted"),
    "long dashes": (lambda s: s.replace("-", "\u2013"), "other-alphabet"),
    "typeset": (lambda s: s.replace("-", "\u2010").replace("*", "\u2217"), "other-alphabet"),
    "a semicolon behind": (lambda s: f"{s};", "quoted"),
    "a full stop behind": (lambda s: f"{s}.", "quoted"),
    "in bold": (lambda s: f"**{s}**", "quoted"),
    "in hex": (lambda s: s.encode().hex(), "encoded-twice"),
    "in hex in capitals": (lambda s: s.encode().hex().upper(), "encoded-twice"),
    "quoted-printable": (lambda s: quopri.encodestring(s.encode()).decode(), "wrapped"),
    "without its padding": (lambda s: s.rstrip("_"), "cut-off"),
    "cut in the middle": (lambda s: s[: len(s) // 2], "cut-off"),
    "cut by a column of 128": (lambda s: s[:128], "cut-off"),
}
sigs = st.one_of(
    st.tuples(facts("v1"), st.sampled_from([P256, K1])),
    st.tuples(facts("v2"), st.just(HMAC)),
).map(lambda pair: sign(*pair))
#: And those that others lay out in other ways.
foreign = st.builds(
    dump,
    st.sampled_from([v1_members(), v2_members(), v2_members(identifier="用户一")]),
    st.integers(0, 9),
    indent=st.sampled_from([None, 3]),
)


def refused(text: str) -> BadSig:
    with pytest.raises(BadSig) as caught:
        decode(text)
    with pytest.raises(BadSig):
        verify(text, [P256, HMAC], now=NOW)
    return caught.value


@given(sigs)
def test_a_sig_is_found_in_a_path_and_in_a_sentence(sig):
    assert refused(f"/v4/sigs/{sig}/raw").reason is SigReason.INSIDE_TEXT
    assert "stands inside a longer text" in refused(f"it is {standard(sig)} now").text


@pytest.mark.parametrize("damage", DAMAGES)
@given(sig=st.one_of(sigs, foreign))
def test_every_damage_gets_its_name(damage: str, sig: str) -> None:
    mangle, reason = DAMAGES[damage]
    text = mangle(sig)
    assume(text.strip() != sig)
    answer = refused(text)
    assert answer.reason == reason, answer.text
    assert answer.advice != BadSig.advice
    assert sig[10:40] not in answer.text + answer.advice


# Without its last character, a star, it reads as if an underscore were lost and then mapped twice.
@given(sig=st.one_of(sigs, foreign), data=st.data())
def test_a_sig_cut_anywhere_is_called_that(sig: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(4, len(sig) - 1))
    answer = refused(sig[:size])
    assert answer.reason is SigReason.CUT_OFF
    lost = answer.text.startswith("the sig has lost the underscores at its end")
    assert lost or str(size) in answer.text


#: After which of a first damage a second one leaves too little to tell.
LOST = {
    "in JSON": {"a blank of no width", "printers' quotes and a comma"},
    "a tail of its own letters": {
        "in hex",
        "in hex in capitals",
        "base64 twice",
        "base64 twice, unpadded",
        "base64 three times",
        "cut in the middle",
        "without its padding",
    },
    "pasted twice": {
        "base64 twice, unpadded",
        "cut by a column of 128",
        "cut in the middle",
        "without its padding",
    },
    "cut in the middle": {"base64 twice", "base64 twice, unpadded", "base64 three times"},
    "standard alphabet out of a form": {"an assignment", "in a URL"},
    "an assignment": {"standard alphabet out of a form"},
    "in a URL": {"standard alphabet out of a form"},
}


@pytest.mark.parametrize("second", DAMAGES)
def test_two_damages_are_named_too(second: str) -> None:
    known = {step.reason for step in STEPS}
    for fact in (V2, V2._replace(issued_at=NOW + 1), V2_ROOM):
        sig = sign(fact, HMAC)
        for first, (mangle, _) in DAMAGES.items():
            text = DAMAGES[second][0](mangle(sig))
            if text.strip() == sig:
                continue
            answer = refused(text)
            assert answer.reason in known or first in LOST.get(second, ()), (first, answer.text)


def test_two_damages_are_both_reported() -> None:
    answer = refused(f'"{quote(standard(sign(V1_ROOM, P256)), safe="")}"')
    assert answer.reason is SigReason.QUOTED
    for word in ("quotes", "URL-encoded", "standard base64 alphabet"):
        assert word in answer.text
    assert "%2A" in answer.advice
    cut = refused('"' + sign(V2, HMAC)[:70])
    assert cut.reason is SigReason.CUT_OFF
    assert "70 characters" in cut.text
    assert "quotes" in cut.text


def test_what_is_wrong_besides_is_reported() -> None:
    answer = refused(f'"{dump(v2_members() | {"TLS.ver": 2})}"')
    assert answer.reason is SigReason.QUOTED
    assert "TLS.ver is a number" in answer.text


def test_how_much_does_not_belong_to_it_is_reported() -> None:
    assert "by 5 characters" in refused(sign(V2, HMAC) + "&x=yz").text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smt_" + "A" * 43, "an API token"),
        (Tickets(b"k" * 32).issue(1, "alice", 1, 2), "a ticket"),
        (generate("v1").decode(), "a PEM"),
        (SECRET, "a secret"),
        (f' "{SECRET}" ', "a secret"),
        (json.dumps(v2_members()), "what a sig holds"),
    ],
)
def test_another_thing_is_named_and_not_repeated(text: str, words: str) -> None:
    answer = refused(text)
    assert answer.reason is SigReason.NO_SIG
    assert words in answer.text
    assert text.strip(' "')[4:24] not in answer.text + answer.advice


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", "not-zlib", "empty"),
        (" \n", "not-zlib", "empty"),
        ("rubbish!", "not-base64", "'!'"),
        ("\u00e9", "not-base64", "'\\xe9'"),
        ("alice", "not-base64", "base64"),
        (sign(V2, HMAC)[:50] + sign(V2, HMAC)[51:], "not-base64", "changed or lost"),
    ],
)
def test_what_no_damage_explains_keeps_its_reason(text: str, reason: str, words: str) -> None:
    answer = refused(text)
    assert answer.reason == reason
    assert words in answer.text
    assert "150 to 600" in answer.advice or words == "empty"


def test_a_changed_character_is_no_cut() -> None:
    sig, whole = sign(V1, P256), 0
    for at in range(8, len(sig) - 3, 7):
        changed = sig[:at] + ("A" if sig[at] != "A" else "B") + sig[at + 1 :]
        try:
            found = decode(changed)
        except BadSig as answer:
            # What was changed may still look like the beginning of something.
            assert answer.reason in {SigReason.NOT_ZLIB, SigReason.NOT_JSON, SigReason.CUT_OFF}
            whole += answer.reason is not SigReason.CUT_OFF
        else:
            # Some bits of a stream carry nothing: its checksum says that nothing was changed.
            assert found == decode(sig)
            whole += 1
    assert whole > 20


# --- what must never happen ---------------------------------------------------------------

rubbish = st.one_of(
    st.text(max_size=300),
    st.text("eJAxyz019*-_+/=%2 \n\"'&\\", max_size=300),
    st.binary(max_size=200).map(lambda data: "eJ" + base64.b64encode(data).decode()),
    st.binary(max_size=200).map(wrap),
)


@given(text=rubbish)
@example(text="%25" * 1300)
@example(text=('"' + " %2525252A" * 400)[:MAX_SIG_CHARS])
@example(text="eJ_" * 1300)
@example(text="e " * 2000)
def test_any_text_is_refused_with_bounded_work(text: str) -> None:
    tried: list[str] = []
    read = diagnosis.read

    def counted(one: str):
        tried.append(one)
        return read(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosis, "read", counted)
        answer = refused(text)
    assert answer.text
    assert answer.advice
    # Looked at by decode and by verify.
    assert len(tried) <= 2 * diagnosis.MOST_TEXTS
    assert all(len(one) <= len(text) + 3 for one in tried)


@pytest.mark.parametrize(
    ("start", "piece", "end"),
    [
        ('{"a":', " ", "x y"), ('{"a":', " ", '"b" c'), ("{", " ", "x"), ('{"a"', " ", "x"),
        ('{"a":b', " ", "c"), ("{", '"a":b,', "x"), ("{", '"a" : "b" ,  ', "x y"),
        ('{"a":"', '\\"', '" x'), ('{"a":', "}", " x"), ("", " ", "x"), ("{}", " ", "x"),
    ],
)  # fmt: skip
def test_what_a_cut_sig_says_is_read_in_work_that_grows_with_its_length(start, piece, end):
    def cut(length: int) -> str:
        document = start + piece * (length // len(piece)) + end
        return wrap(document.encode()).rstrip("_")[:-4]

    assert growth(refused, cut, 1800) < MOST


@pytest.mark.parametrize("piece", ["\\", '\\"', "&#42", "=", "*~", "% ", "eJ ", "= \t"])
def test_damages_are_undone_in_work_that_grows_with_the_length(piece):
    assert growth(refused, repeated(piece, "x"), MAX_SIG_CHARS // TIMES - 1) < MOST


def test_a_text_longer_than_any_sig_is_not_worked_on() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosis, "STEPS", None)
        assert refused('"' * (MAX_SIG_CHARS + 1)).reason is SigReason.TOO_LONG


#: With each of the characters that sigs have besides letters and digits.
MARKED = next(
    sig
    for sig in (sign(V2._replace(issued_at=NOW + late), HMAC) for late in range(2000))
    if {"*", "-", "_"} <= set(sig[:-2]) or ("*" in sig and "-" in sig)
)


@pytest.mark.parametrize(
    ("mangle", "words"),
    [
        (DAMAGES["in Markdown"][0], "backslashes"),
        (html, "HTML"),
        (DAMAGES["escaped as in JSON"][0], "\\u002a"),
        (DAMAGES["long dashes"][0], "dashes"),
        (DAMAGES["in hex"][0], "is in hex"),
        (DAMAGES["quoted-printable"][0], "line ends"),
        (lambda s: f"{s};", "marks around it, such as quotes"),
        (lambda s: f"{s}.", "marks around it, such as quotes"),
        (lambda s: f"{s}!", "is followed by 1 character that does not belong to it"),
        (lambda s: f"{s}&x=y", "is followed by 4 characters that do not belong to it"),
    ],
    ids=list("abcdefghij"),
)
def test_what_was_done_to_a_sig_with_marks_in_it_is_reported(mangle, words) -> None:
    answer = refused(mangle(MARKED))
    assert words in answer.text + answer.advice
    assert "cut off" not in answer.text


@given(sig=st.one_of(sigs, foreign), data=st.data())
def test_nothing_is_called_cut_where_only_a_character_was_replaced(sig, data) -> None:
    at = data.draw(st.integers(10, len(sig) - 40))
    char = data.draw(st.sampled_from("\u00d7\u2022\u00a7\u00e9\u7528~^$@!|"))
    answer = refused(sig[:at] + char + sig[at + 1 :])
    assert answer.reason is SigReason.NOT_BASE64
    assert ascii(char) in answer.text
    assert f"character {at + 1}" in answer.text
    assert "cut off" not in answer.text
