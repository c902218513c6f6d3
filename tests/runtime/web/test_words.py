"""The page's texts: the same in every language, complete, and nowhere but in their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from differnet_runtime.capture.messages import CameraState
from differnet_runtime.inference.messages import EngineState
from differnet_runtime.records import WORDS
from differnet_runtime.sentences import ALSO, AND, BECAUSE, SENTENCES
from differnet_runtime.web.pages import LANGUAGES, language_of, login_page
from tests.runtime.test_sentences import names_of

STATIC = Path(str(files("differnet_runtime.web") / "static"))
SCRIPTS = sorted(path for path in STATIC.glob("*.js") if not path.name.startswith("words_"))
PAGES = sorted(STATIC.glob("*.html"))
LINE = re.compile(r'  ("[a-z_]+\.\w+(?:\.\w+)*"): ("(?:[^"\\]|\\.)*"),?')
DAEMON = Path(__file__).parents[3] / "docs" / "daemon.md"


def words(code: str) -> dict[str, str]:
    """Reads a file of texts; each line holds one, as JSON would."""
    lines = (STATIC / f"words_{code}.js").read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("export default {", "};")
    found: dict[str, str] = {}
    for line in filter(str.strip, lines[1:-1]):
        match = LINE.fullmatch(line)
        assert match, line
        key, text = json.loads(match[1]), json.loads(match[2])
        assert key not in found, key
        found[key] = text
    return found


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_every_language_has_the_same_keys_and_names(code: str) -> None:
    english, other = words("en"), words(code)
    assert list(other) == list(english)
    named = {key: set(re.findall(r"\{\w+\}", text)) for key, text in english.items()}
    assert {key: set(re.findall(r"\{\w+\}", text)) for key, text in other.items()} == named


def literals(source: str, at: int = 0, *, inner: bool = False) -> Iterator[tuple[str, str]]:
    """Yields the strings of a script, each with the code before it; of templates their fixed parts.

    Args:
        source: The script.
        at: Where to begin.
        inner: Whether it is the code within a template: it ends with its brace.
    """
    depth = 0
    while at < len(source):
        char, before = source[at], source[max(0, at - 60) : at]
        if source.startswith("//", at):
            at = source.find("\n", at)
        elif source.startswith("/*", at):
            at = source.index("*/", at) + 2
        elif char == "/" and before.rstrip()[-1:] in "(,=:[!&|?{};\n":
            at = re.compile(r"/(?:\\.|\[[^\]]*\]|[^/\\])+/").match(source, at).end()  # type: ignore[union-attr]
        elif char in "\"'":
            end = re.compile(rf"{char}(?:\\.|[^\\{char}])*{char}").match(source, at).end()  # type: ignore[union-attr]
            yield before, source[at + 1 : end - 1]
            at = end
        elif char == "`":
            end, text = template(source, at + 1)
            yield before, text
            for begin in expressions(source, at + 1):
                yield from literals(source, begin, inner=True)
            at = end
        else:
            depth += (char == "{") - (char == "}")
            if inner and depth < 0:
                return
            at += 1
        if at <= 0:
            return


def pieces(source: str, at: int) -> Iterator[tuple[str, int, int]]:
    """Yields the parts of a template, `text` or `code`, with where each begins and ends."""
    begin = at
    while source[at] != "`":
        if source[at] == "\\":
            at += 2
        elif source.startswith("${", at):
            yield "text", begin, at
            begin = at = at + 2
            depth = 1
            while depth:
                if source[at] == "`":
                    at = template(source, at + 1)[0]
                    continue
                depth += (source[at] == "{") - (source[at] == "}")
                at += 1
            yield "code", begin, at - 1
            begin = at
        else:
            at += 1
    yield "text", begin, at


def template(source: str, at: int) -> tuple[int, str]:
    """Returns where a template ends, and its fixed parts, put together."""
    found = list(pieces(source, at))
    text = " ".join(source[begin:end] for kind, begin, end in found if kind == "text")
    return found[-1][2] + 1, text


def expressions(source: str, at: int) -> list[int]:
    return [begin for kind, begin, _ in pieces(source, at) if kind == "code"]


NO_TEXT = re.compile(
    r"(className: |\.font = |from |import\(|"
    r"(querySelector(All)?|closest|matches(\?\.)?|matchMedia)\()$"
)
PROSE = re.compile(r"[^\W\d_]{2,}[,.:;!?]? +[^\W\d_]{2,}|^[A-Z][a-z]{2,}[^-]*$|[\u3000-\uffff]")
NAMES = re.compile(r"[A-Z]\w+Error|Arrow\w+|Backspace|Delete|differnet .*")
"""Of errors, keys and commands."""
CLASSES = {
    name
    for path in STATIC.glob("*.css")
    for name in re.findall(r"\.([a-z][\w-]*)", path.read_text(encoding="utf-8"))
}
SHOWN = re.compile(
    r"""(textContent|alt|title|placeholder)(: | = )["'`](?!differnet-edge)[^"'`$]*[^\W\d_]{2,}"""
)


def prose(source: str) -> list[str]:
    """Returns strings of a script that a person would read."""
    found = [
        text
        for before, text in literals(source)
        if PROSE.search(text)
        and not NAMES.fullmatch(text)
        and not NO_TEXT.search(before)
        and not set(text.split()) <= CLASSES
    ]
    return [*found, *(match[0] for match in SHOWN.finditer(source))]


def test_the_rule_finds_texts() -> None:
    assert prose('a.textContent = "lost";')
    assert prose("b(`${n} frames are ${x ? 'late' : 1} there`);")
    assert prose('c(say("a.b") + `${d} ${"not here"}`);')
    assert prose('e = { word: "Details" };')
    assert prose('f("检测");')
    code = 'make("b", { className: "small quiet" }); // some words\nask(/it`s a word/, `a.${b}`);'
    assert prose(code) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_holds_a_text(path: Path) -> None:
    assert prose(path.read_text(encoding="utf-8")) == []


class Texts(HTMLParser):
    """Collects texts and attributes of a page that a person reads, and the keys of its texts.

    The product's name may stand there, and text where `lang` says in which language it is; what
    has a key may stand there as in the English file, until the script puts it in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.keys: set[str] = set()
        self._english = words("en")
        self._open: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        self.keys |= {value for name, value in names.items() if name.startswith("data-say")}
        keys = {"aria-label": "data-say-label", "placeholder": "data-say-hint"}
        for name in ("title", "alt", "aria-label", "placeholder"):
            if (text := names.get(name)) and text != self._text(names, keys.get(name, "")):
                self.found.append(text)
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append({} if tag == "html" else names)

    def _text(self, names: dict[str, str], attribute: str) -> str | None:
        return self._english.get(names.get(attribute, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        text = data.strip()
        known = ("", "differnet-edge", self._text(self._open[-1], "data-say") if self._open else "")
        if text not in known and not any("lang" in names for names in self._open):
            self.found.append(text)


def parsed(path: Path) -> Texts:
    texts = Texts()
    texts.feed(path.read_text(encoding="utf-8"))
    return texts


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_holds_a_text(path: Path) -> None:
    assert parsed(path).found == []


def test_every_text_is_there_and_is_said() -> None:
    english = words("en")
    said = {key for path in PAGES for key in parsed(path).keys}
    beginnings = set()
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        said |= set(re.findall(r'(?:say|sayOr)\([^`"]*"([a-z_]+(?:\.\w+)+)"', source))
        said |= set(re.findall(r'[?:,] "([a-z_]+\.\w+)"', source))
        beginnings |= set(re.findall(r"`([a-z_]+\.[\w.]*)\$\{", source))
    assert sorted(key for key in said if key not in english) == []
    unsaid = [key for key in english if key not in said and not key.startswith("login.")]
    assert [key for key in unsaid if not any(map(key.startswith, beginnings))] == []
    assert [one for one in beginnings if not any(key.startswith(one) for key in english)] == []


def codes_of(heading: str) -> set[str]:
    """Returns the codes in the first column of the handbook's table after some words."""
    table = DAEMON.read_text(encoding="utf-8").partition(heading)[2].partition("\n| ")[2]
    rows = re.findall(r"^\| ([^|]+) \|", table.partition("\n\n")[0], re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def test_all_that_a_station_can_say_by_code_has_a_text() -> None:
    english = words("en")
    codes = codes_of("NO_DECISION has a `code`:")
    assert {"stale", "camera_lost", "no_model", "engine_crashed"} <= codes
    alarms = {"all_rejected", "too_many_rejects", "no_part"}
    assert alarms <= codes_of("`state` and `values`")
    wanted = {f"code.{code}" for code in codes}
    wanted |= {f"problem.parts.{alarm}" for alarm in alarms}
    wanted |= {f"alarm.{alarm}" for alarm in alarms}
    normal = (CameraState.LIVE, CameraState.ENDED)
    wanted |= {f"problem.camera.{state.value}" for state in CameraState if state not in normal}
    wanted |= {f"veil.{state.value}" for state in CameraState if state is not CameraState.LIVE}
    wanted |= {f"engine.{state.value}" for state in EngineState}
    others = [state.value for state in EngineState if state is not EngineState.READY]
    wanted |= {f"problem.engine.{state}" for state in (*others, "fallback")}
    wanted |= {f"head.{head}" for head in WORDS}
    assert sorted(wanted - set(english)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_of_the_station_has_a_text(language: str) -> None:
    texts, wanted = words(language), {code: names_of(code) for code in SENTENCES}
    wanted |= {code: {"first", "second"} for code in (ALSO, BECAUSE, AND)}
    there = {
        key.removeprefix("said."): set(re.findall(r"\{(\w+)\}", text))
        for key, text in texts.items()
        if key.startswith("said.")
    }
    assert there == wanted


@pytest.mark.parametrize(
    ("header", "code"),
    [("de-AT,de;q=0.9,en;q=0.8", "de"), ("fr, zh-CN;q=0.5", "zh"), ("fr", "en"), ("", "en")],
)
def test_the_form_is_in_the_browsers_language(header: str, code: str) -> None:
    assert language_of(header) == code
    page = bytes(login_page(401, "login.wrong", header).body).decode()
    assert f'<html lang="{LANGUAGES[code]}">' in page
    assert words(code)["login.wrong"] in page
    assert words(code)["login.button"] in page
