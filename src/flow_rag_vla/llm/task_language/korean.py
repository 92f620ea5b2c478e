# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Korean commands to clauses.

Words are taken apart into noun and particle, or stem and ending; a verb ends its clause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from flow_rag_vla.llm.schemas import Refusal
from flow_rag_vla.llm.task_language.manner import KOREAN as MANNERS
from flow_rag_vla.llm.task_language.meaning import Clause, Pronoun, Refused, Relation, Turn, Verb, find_thing

_LOOSE_SHAPES = frozenset({"cube", "box", "cylinder"})


def _split(text: str) -> list[str]:
    return text.split()


_COLOURS = {
    **dict.fromkeys(("빨간", "빨강", "빨간색", "빨강색", "붉은", "붉은색"), "red"),
    **dict.fromkeys(("파란", "파랑", "파란색", "파랑색", "푸른"), "blue"),
    **dict.fromkeys(("노란", "노랑", "노란색", "노랑색"), "yellow"),
    **dict.fromkeys(("초록", "초록색", "녹색"), "green"),
    **dict.fromkeys(("회색",), "grey"),
    **dict.fromkeys(("검은", "검정", "검은색", "검정색"), "black"),
    **dict.fromkeys(("흰", "하얀", "흰색", "하얀색"), "white"),
    **dict.fromkeys(("주황", "주황색"), "orange"),
    **dict.fromkeys(("보라", "보라색"), "purple"),
}

_NOUNS = {
    **dict.fromkeys(("큐브", "정육면체"), frozenset({"cube"})),
    **dict.fromkeys(("블록", "블럭"), frozenset({"cube", "box"})),
    **dict.fromkeys(("상자", "박스"), frozenset({"box"})),
    **dict.fromkeys(("원기둥", "원통", "실린더"), frozenset({"cylinder"})),
    **dict.fromkeys(("것", "거", "물건", "물체"), _LOOSE_SHAPES),
    "서랍": frozenset({"drawer"}),
    **dict.fromkeys(("통", "바구니", "쓰레기통", "수거함", "용기"), frozenset({"bin"})),
    **dict.fromkeys(("구역", "영역", "지역", "존"), frozenset({"zone"})),
}


class Role(Enum):
    """What a particle makes of its noun."""

    BARE = auto()
    OBJECT = auto()
    AND = auto()
    IN = auto()
    TO = auto()
    ON = auto()


_PARTICLES = {
    "": Role.BARE,
    **dict.fromkeys(("을", "를", "은", "는", "도"), Role.OBJECT),
    **dict.fromkeys(("와", "과", "랑", "이랑", "하고"), Role.AND),
    **dict.fromkeys(("안에", "안으로", "속에", "속으로", "안에다", "안에다가", "에", "에다", "에다가"), Role.IN),
    **dict.fromkeys(("로", "으로", "까지", "쪽으로"), Role.TO),
    **dict.fromkeys(("위에", "위로", "위에다", "위에다가"), Role.ON),
}
_REFUSED_PARTICLES: dict[str, tuple[Refusal, str]] = {
    "만": ("ambiguous", "leaves open what else is meant"),
    "나": ("ambiguous", "leaves a choice"),
    "이나": ("ambiguous", "leaves a choice"),
    "이": ("question", "states or asks something instead of telling what to do"),
    "가": ("question", "states or asks something instead of telling what to do"),
    "에서": ("impossible", "asks to take something out of its place, which the robot cannot"),
    "말고": ("negated", "says what not to do"),
}
_PLACE_WORDS = {
    word: role for word, role in _PARTICLES.items() if role is Role.ON or word.startswith(("안", "속", "쪽"))
}
"""Particles that also stand as words of their own."""

_PRONOUNS = {
    **dict.fromkeys(("그것을", "그걸", "그것도", "이것을", "이걸"), Pronoun.IT),
    **dict.fromkeys(("그것들을", "이것들을", "둘을", "둘"), Pronoun.THEM),
}
_ALL = ("전부", "모두", "모든", "다")

_FILLERS = frozenset(
    _split(
        "좀 제발 부디 로봇 로봇아 로봇이여 지금 이제 바로 그 저 이 자 그리고 그다음 그다음에 그다음으로 "
        "다음에 다음으로 이어서 그후 그후에 그런다음 그런다음에 그런뒤 그런뒤에 "
        "부탁해 부탁합니다"
    )
)
_TURNS = {**dict.fromkeys(("먼저", "우선"), Turn.FIRST), "마지막으로": Turn.LAST}

_REFUSED_WORDS: dict[str, tuple[Refusal, str]] = {
    **dict.fromkeys(
        _split(
            "안 못 마 마라 마세요 말아 말아줘 말고 않고 않게 빼고 제외하고 "
            "대신 대신에 없이 절대 절대로 하지마 금지 취소 취소해 멈춰"
        ),
        ("negated", "says what not to do"),
    ),
    **dict.fromkeys(
        _split("또는 혹은 아니면 거기 거기에 여기 여기에 저기 저기에 아무거나 아무"),
        ("ambiguous", "leaves open what is meant"),
    ),
    **dict.fromkeys(_split("만약 만일 혹시"), ("conditional", "makes it depend on something")),
    **dict.fromkeys(
        _split("왜 어디 어디에 무엇 뭐 누가 언제 어떻게 있어 있니 있나요 있습니까 있나 할까 될까"),
        ("question", "asks instead of telling"),
    ),
}


@dataclass(frozen=True, slots=True)
class _Stem:
    """A verb: its infinitive(s), the base before 고 and 지, the adnominal past, and the honorific base."""

    verb: Verb
    infinitives: tuple[str, ...]
    base: str
    adnominal: str
    honorific: str


def _stem(word: str, can: str, infinitives: str, base: str, adnominal: str, honorific: str) -> _Stem:
    return _Stem(Verb(word, frozenset(can.split())), tuple(infinitives.split()), base, adnominal, honorific)


_STEMS = (
    _stem("put", "bin", "넣어", "넣", "넣은", "넣으"),
    _stem("put", "bin", "담아", "담", "담은", "담으"),
    _stem("throw", "bin", "버려", "버리", "버린", "버리"),
    _stem("move", "bin zone stack", "옮겨", "옮기", "옮긴", "옮기"),
    _stem("put", "bin stack", "놓아 놔", "놓", "놓은", "놓으"),
    _stem("put", "bin stack", "둬 두어", "두", "둔", "두"),
    _stem("put", "bin stack", "내려놓아 내려놔", "내려놓", "내려놓은", "내려놓으"),
    _stem("stack", "stack", "올려놓아 올려놔", "올려놓", "올려놓은", "올려놓으"),
    _stem("stack", "stack", "올려", "올리", "올린", "올리"),
    _stem("stack", "stack", "쌓아", "쌓", "쌓은", "쌓으"),
    _stem("stack", "stack", "얹어", "얹", "얹은", "얹으"),
    _stem("pick up", "grasp", "집어", "집", "집은", "집으"),
    _stem("pick up", "grasp", "집어올려", "집어올리", "집어올린", "집어올리"),
    _stem("pick up", "grasp", "들어", "들", "든", "드"),
    _stem("pick up", "grasp", "들어올려", "들어올리", "들어올린", "들어올리"),
    _stem("pick up", "grasp", "잡아", "잡", "잡은", "잡으"),
    _stem("push", "zone", "밀어", "밀", "민", "미"),
    _stem("push", "zone", "밀어넣어", "밀어넣", "밀어넣은", "밀어넣으"),
    _stem("open", "open", "열어", "열", "연", "여"),
    _stem("pull", "open", "당겨", "당기", "당긴", "당기"),
)


class Form(Enum):
    """How a verb stands in a command."""

    TELL = auto()
    LINK = auto()
    INFINITIVE = auto()
    """Tells at the end of a sentence, links before it."""
    ADNOMINAL = auto()


_REQUESTS = ("줘", "줘요", "주세요", "주십시오", "주라", "줄래", "줄래요", "주실래요", "주겠니", "주렴", "주시겠어요")
_TELLING = ("라", "요", "봐", *_REQUESTS)
_ASKED = re.compile(r"줄 ?수 ?있(?:어|어요|나|나요|니|을까|을까요|겠니)")
_AFTER = ("다음", "다음에", "뒤", "뒤에", "후", "후에")

_TOKEN = re.compile(r"[가-힣]+|[.,!?]|[a-z]+|\d+|\S")


def _verb_forms() -> tuple[dict[str, tuple[_Stem, Form]], dict[str, tuple[Refusal, str]]]:
    forms: dict[str, tuple[_Stem, Form]] = {}
    refused: dict[str, tuple[Refusal, str]] = {}
    for stem in _STEMS:
        for infinitive in stem.infinitives:
            forms[infinitive] = (stem, Form.INFINITIVE)
            forms[infinitive + "서"] = (stem, Form.LINK)
            for ending in _TELLING:
                forms[infinitive + ending] = (stem, Form.TELL)
            refused[infinitive + "도"] = ("conditional", "allows instead of telling")
            refused[infinitive + "야"] = ("question", "asks or states instead of telling")
        for ending in ("고", "고나서"):
            forms[stem.base + ending] = (stem, Form.LINK)
        forms[stem.base + "자"] = (stem, Form.TELL)
        forms[stem.adnominal] = (stem, Form.ADNOMINAL)
        for ending in ("세요", "십시오"):
            forms[stem.honorific + ending] = (stem, Form.TELL)
        for ending in ("지", "지마", "지마세요", "지마라", "지말고", "지않고"):
            refused[stem.base + ending] = ("negated", "says what not to do")
        for ending in ("면", "으면"):
            refused[stem.base + ending] = ("conditional", "makes it depend on something")
        refused[stem.base + "거나"] = ("ambiguous", "leaves a choice")
    return forms, refused


_FORMS, _REFUSED_FORMS = _verb_forms()


def read_korean(text: str) -> list[Clause]:
    """The clauses of a command, in the order in which they are to be done.

    ``text`` is normalised and in lower case.

    Raises:
        Refused: naming the word that has no place.
    """
    tokens = list(_joined(_TOKEN.findall(_ASKED.sub("줄래", text))))
    return _Reader(tokens).read()


def _joined(tokens: list[str]) -> Iterator[str]:
    """Put together what may be written apart: auxiliaries, '고 나서', '그 다음', '밀어 넣'."""
    at = 0
    while at < len(tokens):
        word = tokens[at]
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if word.endswith("밀어") and following.startswith("넣"):
            word, at = word + following, at + 1
            following = tokens[at + 1] if at + 1 < len(tokens) else ""
        infinitive = word in _FORMS and _FORMS[word][1] is Form.INFINITIVE
        if (
            (infinitive and following in (*_REQUESTS, "봐"))
            or (word in _FORMS and word.endswith("고") and following == "나서")
            or (word in ("그", "그런") and following in _AFTER)
        ):
            word, at = word + following, at + 1
        yield word
        at += 1


class _Reader:
    """Collects nouns until a verb ends the clause."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._clauses: list[Clause] = []
        self._told = True
        self._request = False
        self._speed = self._everywhere = 1.0
        """What words of manner ask for: for the clause under way, and for all of them."""
        self._turns: set[Turn] = set()
        """What is said of the place of the clause under way."""
        self._sentence_from = 0
        self._clear()

    def _clear(self) -> None:
        self._objects: list[str] = []
        self._pronoun: Pronoun | None = None
        self._everything = ""
        self._relation: Relation | None = None
        self._place = ""
        self._colour = ""
        self._open_list = False
        self._loose_word = ""
        self._bare: tuple[str, frozenset[str], str] | None = None

    def read(self) -> list[Clause]:
        """Every clause; the last of each sentence must tell what to do."""
        while self._at < len(self._tokens):
            word = self._tokens[self._at]
            self._at += 1
            self._word(word)
        self._sentence_ends()
        if not self._clauses:
            raise Refused("incomplete", "nothing is asked for")
        return [clause.slowed(self._everywhere) for clause in self._clauses]

    def _word(self, word: str) -> None:
        if word in ".!?":
            if word == "?" and not self._request:
                raise Refused("question", "that is a question; say what to do")
            self._sentence_ends()
        elif word == ",":
            if self._bare is not None:
                self._noun(*self._bare, Role.AND)
            elif not self._is_begun:
                # "천천히, ...": meant for all.
                self._everywhere, self._speed = min(self._everywhere, self._speed), 1.0
            self._bare = None
        elif word in _FORMS:
            self._verb(word, *_FORMS[word])
        elif word in _REFUSED_FORMS or word in _REFUSED_WORDS:
            kind, why = _REFUSED_FORMS.get(word) or _REFUSED_WORDS[word]
            raise Refused(kind, f"{word!r} {why}; say only what to do")
        elif word in _PLACE_WORDS and self._bare is not None:
            bare, self._bare = self._bare, None
            self._noun(*bare, _PLACE_WORDS[word])
        elif word in _PRONOUNS:
            self._settle()
            if self._objects or self._pronoun is not None:
                raise Refused("ambiguous", f"it is not clear what {word!r} adds; name what is meant")
            self._pronoun = _PRONOUNS[word]
        elif word in _ALL:
            self._settle()
            self._everything = word
        elif word in _FILLERS:
            self._settle()
        elif word in _TURNS:
            self._settle()
            self._turns.add(_TURNS[word])
        elif word in MANNERS:
            self._settle()
            self._speed = min(self._speed, MANNERS[word])
            if self._told and len(self._clauses) > self._sentence_from and not self._is_begun:
                # Between a verb that tells and more without a full stop: it may be meant for either.
                self._clauses[-1] = self._clauses[-1].slowed(self._speed)
        elif word in _COLOURS and not self._colour:
            self._settle()
            self._colour = word
        else:
            self._noun_word(word)

    def _noun_word(self, word: str) -> None:
        self._settle()
        colour = self._colour
        if not colour:
            colour = next((known for known in sorted(_COLOURS, key=len, reverse=True) if word.startswith(known)), "")
            word = word[len(colour) :]
        for noun in sorted(_NOUNS, key=len, reverse=True):
            if not word.startswith(noun):
                continue
            particle = word[len(noun) :]
            if particle == "들을":
                # "물건들을 모두": only together with a word for all.
                particle = "을" if self._everything or self._all_follows else particle
            if particle in _REFUSED_PARTICLES:
                kind, why = _REFUSED_PARTICLES[particle]
                raise Refused(kind, f"{word!r} {why}; say only what to do")
            if particle in _PARTICLES:
                self._colour = ""
                spoken = f"{colour} {noun}".strip()
                if _PARTICLES[particle] is Role.BARE:
                    self._bare = (_COLOURS.get(colour, ""), _NOUNS[noun], spoken)
                else:
                    self._noun(_COLOURS.get(colour, ""), _NOUNS[noun], spoken, _PARTICLES[particle])
                return
        raise Refused("unknown_object" if colour else "not_understood", f"the word {word!r} is not understood")

    @property
    def _all_follows(self) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] in _ALL

    def _settle(self) -> None:
        """A noun without particle stands for the object ("서랍 열어줘"); another word after it does not change that."""
        if self._bare is not None:
            bare, self._bare = self._bare, None
            self._noun(*bare, Role.OBJECT)

    def _noun(self, colour: str, shapes: frozenset[str], spoken: str, role: Role) -> None:
        if role in (Role.IN, Role.TO, Role.ON):
            if self._relation is not None:
                raise Refused("ambiguous", f"two places are named; the second is {spoken!r}")
            if self._open_list:
                raise Refused("not_understood", f"it is not clear what {spoken!r} belongs to")
            self._relation = {Role.IN: Relation.IN, Role.TO: Relation.TO, Role.ON: Relation.ON}[role]
            self._place = find_thing(colour, shapes, spoken)
            return
        if shapes == _LOOSE_SHAPES and not colour and (self._everything or self._all_follows):
            self._loose_word = spoken
            return
        if (self._objects or self._pronoun is not None) and not self._open_list:
            raise Refused("ambiguous", f"it is not clear how {spoken!r} belongs to what is named before it")
        self._objects.append(find_thing(colour, shapes, spoken))
        self._open_list = role is Role.AND

    def _verb(self, word: str, stem: _Stem, form: Form) -> None:
        self._settle()
        if self._colour:
            raise Refused("not_understood", f"the colour {self._colour!r} stands alone; say of what")
        if self._open_list:
            raise Refused("not_understood", f"the list before {word!r} is not finished")
        if form is Form.ADNOMINAL:
            if self._at >= len(self._tokens) or self._tokens[self._at] not in _AFTER:
                raise Refused("not_understood", f"{word!r} describes something instead of telling what to do")
            self._at += 1
        opens_next = self._at < len(self._tokens) and _FORMS.get(self._tokens[self._at], (None,))[0]
        if stem.verb.word == "pull" and form is not Form.TELL and opens_next and opens_next.verb.word == "open":
            # "당겨서 열어": one act.
            return
        self._clauses.append(self._clause(stem.verb).slowed(self._speed).at_turn(*self._turns))
        self._speed = 1.0
        self._turns.clear()
        last = self._at >= len(self._tokens) or self._tokens[self._at] in ".!?,"
        self._told = form is Form.TELL or (form is Form.INFINITIVE and last)
        self._request = word.endswith(("줄래", "줄래요", "주실래요", "주겠니", "주시겠어요"))
        if form is Form.INFINITIVE and not last and "grasp" not in stem.verb.can:
            raise Refused("not_understood", f"it is not clear how {word!r} goes on")
        if form is Form.TELL and not last and self._tokens[self._at] not in (*_FILLERS, *_TURNS, *MANNERS):
            raise Refused("not_understood", f"a sentence ends with {word!r}, but more follows; put a full stop there")
        self._clear()

    def _clause(self, verb: Verb) -> Clause:
        pronoun, objects = self._pronoun, tuple(self._objects)
        if self._everything:
            if not objects and pronoun is None:
                pronoun = Pronoun.ALL
            elif len(objects) == 1:
                raise Refused("ambiguous", f"{self._everything!r} says all, but one thing is named")
        elif self._loose_word:
            raise Refused("ambiguous", f"it is not clear which {self._loose_word!r} is meant")
        return Clause(verb, objects, pronoun, self._relation, self._place)

    @property
    def _is_begun(self) -> bool:
        """Whether something was named that no verb has taken up yet."""
        return bool(
            self._objects or self._pronoun or self._place or self._colour or self._everything or self._loose_word
        )

    def _sentence_ends(self) -> None:
        self._settle()
        if self._is_begun:
            raise Refused("incomplete", "it is not said what to do with what is named")
        if not self._told:
            raise Refused("incomplete", "the sentence does not end with what to do")
        # What is said behind the verb is meant for its sentence, a sentence of its own for all of them.
        said = self._clauses[self._sentence_from :]
        self._clauses[self._sentence_from :] = [clause.slowed(self._speed) for clause in said]
        if said:
            # "... 열어줘 먼저."
            self._clauses[-1] = self._clauses[-1].at_turn(*self._turns)
            self._turns.clear()
        else:
            self._everywhere = min(self._everywhere, self._speed)
        self._speed, self._sentence_from = 1.0, len(self._clauses)
