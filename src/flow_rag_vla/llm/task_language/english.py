# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""English commands to clauses: a lexicon, then recursive descent over its words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from flow_rag_vla.llm.schemas import Refusal
from flow_rag_vla.llm.task_language.manner import ENGLISH as MANNERS
from flow_rag_vla.llm.task_language.meaning import Clause, Pronoun, Refused, Relation, Turn, Verb, find_thing


@dataclass(frozen=True, slots=True)
class Word:
    """One entry of the lexicon as it stands in a command."""

    kind: str
    text: str
    value: object = None


@dataclass(frozen=True, slots=True)
class Manner:
    """How carefully: a share of the speed, and the place of the word that it stands before."""

    place: int
    speed: float


def _split(text: str) -> list[str]:
    return text.split()


def _verb(word: str, *can: str) -> Verb:
    return Verb(word, frozenset(can))


_LOOSE_SHAPES = frozenset({"cube", "box", "cylinder"})

_LEXICON: dict[str, tuple[str, object]] = {}


def _enter(kind: str, entries: Iterable[str], value: object = None) -> None:
    for entry in entries:
        _LEXICON[entry] = (kind, value)


for _text, _can in (
    ("put place set lay", ("bin", "stack")),
    ("drop release deposit dump throw toss stow insert load store", ("bin",)),
    ("move bring shift", ("bin", "zone", "stack")),
    ("transfer carry deliver relocate", ("bin",)),
    ("take get", ("grasp", "bin")),
    ("pick grab grasp lift fetch", ("grasp",)),
    ("push shove nudge", ("zone",)),
    ("stack balance", ("stack",)),
):
    for _one in _text.split():
        _enter("verb", [_one], _verb(_one, *_can))
_enter("verb", ["pick up", "lift up"], _verb("pick up", "grasp"))
_enter("verb", ["pick and place"], _verb("pick and place", "bin"))
_enter("slide", ["slide"], _verb("slide", "zone"))
_enter("pull", ["pull", "yank"], _verb("pull", "open"))
_enter("open", ["open", "open up"], _verb("open", "open"))
_enter("opened", ["pull open", "pull out", "slide open", "slide out", "yank open"], _verb("open", "open"))
for _text, _base in (
    ("putting", "put"), ("placing", "place"), ("dropping", "drop"), ("moving", "move"), ("pushing", "push"),
    ("stacking", "stack"), ("opening", "open"), ("sliding", "slide"), ("pulling", "pull"),
):  # fmt: skip
    _enter("gerund", [_text], _LEXICON[_base])

_enter("determiner", ["the", "a", "an", "that", "this", "my", "our"])
for _text in ["red", "blue", "yellow", "green", "grey", "orange", "black", "white", "purple", "pink", "brown"]:
    _enter("colour", [_text], _text)
_enter("colour", ["gray"], "grey")
_enter("noun", ["cube"], frozenset({"cube"}))
_enter("noun", ["block"], frozenset({"cube", "box"}))
_enter("noun", ["box"], frozenset({"box"}))
_enter("noun", ["cylinder"], frozenset({"cylinder"}))
_enter("noun", ["one", "thing", "object", "item"], _LOOSE_SHAPES)
_enter("noun", ["drawer"], frozenset({"drawer"}))
_enter("noun", ["bin", "container", "basket", "trash bin", "storage bin", "waste bin"], frozenset({"bin"}))
_enter("noun", ["zone", "area", "region", "target zone", "goal zone"], frozenset({"zone"}))
_enter("pronoun", ["it"], Pronoun.IT)
_enter("pronoun", ["them", "both of them", "them both"], Pronoun.THEM)
_enter(
    "pronoun",
    [
        "everything", "all objects", "all the objects", "all of the objects", "all things", "all the things",
        "all items", "all the items", "every object", "every item", "all three objects",
    ],
    Pronoun.ALL,
)  # fmt: skip
_enter("both", ["both"])
_enter("relation", ["in", "into", "inside", "inside of", "over into"], Relation.IN)
_enter("relation", ["to", "towards", "toward", "over to", "all the way to"], Relation.TO)
_enter("relation", ["on", "onto", "on to", "on top of", "upon", "atop", "over onto"], Relation.ON)
_enter("from", ["from the table", "off the table", "off of the table"])
_enter("up", ["up"])
_enter("out", ["out"])
_enter("too", ["too", "as well", "also"])
_enter("comma", [","])
_enter("stop", [".", ";", "!"])
_enter("ask", ["?"])
_enter("and", ["and"])
_enter("then", ["then", "next", "after that", "afterwards", "afterward"])
_enter("then", ["first", "firstly"], Turn.FIRST)
_enter("then", ["finally", "lastly"], Turn.LAST)
_enter("before", ["before"])
_enter("after", ["after"])
_enter("filler", _split("please now just kindly simply hey hello hi ok okay thanks"))
# Nothing makes anything faster: whoever is in a hurry is answered with more care, by what reads urgency.
_enter("filler", ["quickly", "fast"])
_enter("vocative", ["robot"])
_enter("filler", ["for me", "right now", "thank you", "go ahead and"])
for _text, _speed in MANNERS.items():
    _enter("manner", [_text], _speed)
_enter("request", ["can you", "could you", "would you", "will you"], True)
_enter(
    "request", ["i want you to", "i would like you to", "i'd like you to", "i need you to", "your task is to"], False
)
for _kind, _text in (
    ("negated", "not don't never no none nothing without except but avoid cannot can't won't neither nor instead stop "
                "cancel rather shouldn't mustn't wouldn't dont refrain undo"),
    ("conditional", "if unless when whenever until while once"),
    ("ambiguous", "or either there here somewhere anything something maybe perhaps"),
    ("question", "is are was were did does do has have why what where how which who should"),
):  # fmt: skip
    _enter("refuse", _text.split(), _kind)

_LONGEST = max(len(entry.split()) for entry in _LEXICON)
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+|\S")

_WHY = {
    "negated": "says what not to do",
    "conditional": "makes it depend on something",
    "ambiguous": "leaves open what is meant",
    "question": "asks instead of telling",
}


def read_english(text: str) -> list[Clause]:
    """The clauses of a command, in the order in which they are to be done.

    ``text`` is normalised and in lower case.

    Raises:
        Refused: naming the word that has no place.
    """
    return _Reader(*_words(text)).read()


def _words(text: str) -> tuple[list[Word], list[Manner]]:
    """The words that build the command, and those that say how, which may stand anywhere between them."""
    tokens = _TOKEN.findall(text)
    words: list[Word] = []
    manners: list[Manner] = []
    unknown = ""
    at = 0
    while at < len(tokens):
        for length in range(min(_LONGEST, len(tokens) - at), 0, -1):
            entry = " ".join(tokens[at : at + length])
            if entry in _LEXICON:
                kind, value = _LEXICON[entry]
                if kind == "refuse":
                    _refuse(str(value), entry)
                if kind == "vocative" and not _stands_alone(words, tokens[at + length :]):
                    raise Refused("not_understood", f"it is not clear what {entry!r} means where it stands")
                if kind == "manner":
                    assert isinstance(value, float)
                    manners.append(Manner(len(words), value))
                elif kind not in ("filler", "vocative"):
                    words.append(Word(kind, entry, value))
                at += length
                break
        else:
            unknown = unknown or tokens[at]
            at += 1
    if unknown:
        near = difflib.get_close_matches(unknown, _LEXICON, n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Refused("not_understood", f"the word {unknown!r} is not understood{hint}")
    # "..., please!": the comma before a filler that is gone.
    ends = ("stop", "ask")
    kept = [
        word.kind != "comma" or (place + 1 < len(words) and words[place + 1].kind not in ends)
        for place, word in enumerate(words)
    ]
    return (
        [word for word, keep in zip(words, kept, strict=True) if keep],
        [Manner(sum(kept[: manner.place]), manner.speed) for manner in manners],
    )


def _stands_alone(before: list[Word], after: list[str]) -> bool:
    """Whether a word addresses somebody: at the start, at the end, or beside a comma or full stop."""
    ends = ("comma", "stop", "ask")
    return not before or before[-1].kind in ends or not after or after[0] in (*",.;!?", "please", "thanks", "now")


def _refuse(kind: str, word: str) -> None:
    kinds: dict[str, Refusal] = {
        "negated": "negated", "conditional": "conditional", "ambiguous": "ambiguous", "question": "question",
    }  # fmt: skip
    raise Refused(kinds[kind], f"{word!r} {_WHY[kind]}; say only what to do")


class _Reader:
    """Reads words from left to right."""

    def __init__(self, words: list[Word], manners: list[Manner]) -> None:
        self._words = words
        self._manners = manners
        self._at = 0
        self._asked = False

    def read(self) -> list[Clause]:
        """Every sentence's clauses."""
        clauses: list[Clause] = []
        while self._take("stop", "comma"):
            pass
        while not self._done:
            clauses += self._sentence()
        if not clauses:
            raise Refused("incomplete", "nothing is asked for")
        # "Slowly, ...", "... . Carefully, please.": what stands beside no clause is meant for all of them.
        alone = min((manner.speed for manner in self._manners), default=1.0)
        return [clause.slowed(alone) for clause in clauses]

    def _sentence(self) -> list[Clause]:
        self._asked = False
        clauses: list[Clause] = []
        time_word = self._take("before", "after")
        if time_word:
            side = self._clause(gerund=True)
            self._expect("comma")
            main = self._clause()
            clauses = [side, main] if time_word.kind == "after" else [main, side]
        else:
            clauses.append(self._clause())
            while not self._done and not self._peek("stop", "ask"):
                time_word = self._take("before", "after")
                if time_word:
                    if len(clauses) > 1:
                        raise Refused("ambiguous", f"{time_word.text!r} after several steps leaves their order open")
                    side = self._clause(gerund=True)
                    clauses = [side, clauses[0]] if time_word.kind == "after" else [clauses[0], side]
                    break
                clauses.append(self._next_clause(clauses))
        self._end()
        return clauses

    def _end(self) -> None:
        if self._done:
            return
        if self._take("ask"):
            if not self._asked:
                raise Refused("question", "that is a question; say what to do")
        elif not self._take("stop"):
            self._stuck()
        while self._take("stop"):
            pass

    def _next_clause(self, clauses: list[Clause]) -> Clause:
        links: list[Word] = []
        while (word := self._take("comma", "and", "then")) is not None:
            links.append(word)
        # "Open the drawer first, then ...": it belongs to what stands before it, behind a link to what follows.
        if len(links) > 1 and links[0].value is Turn.FIRST:
            clauses[-1] = clauses[-1].at_turn(Turn.FIRST)
            del links[0]
        if not links:
            self._stuck()
        turns = [link.value for link in links if isinstance(link.value, Turn)]
        if self._peek("determiner", "colour", "noun"):
            return self._ellipsis(clauses[-1], any(link.kind == "then" for link in links)).at_turn(*turns)
        return self._clause().at_turn(*turns)

    def _ellipsis(self, before: Clause, ordered: bool) -> Clause:
        """As in "and the blue box too": with verb, speed, and the place if none is said, of the clause before."""
        begin = self._at
        objects = self._objects()
        if before.relation is None:
            self._stuck()
        relation, place = self._destination()
        if relation is None:
            if not (self._take("too") or ordered):
                self._stuck()
            relation, place = before.relation, before.place
        else:
            self._take("too")
        return Clause(before.verb, objects, None, relation, place, before.speed).slowed(self._speed(begin))

    def _clause(self, gerund: bool = False) -> Clause:
        begin = self._at
        turns: list[Turn] = []
        while (word := self._take("then")) is not None:
            turns += [word.value] if isinstance(word.value, Turn) else []
            self._take("comma")
        clause = self._said(gerund)
        return clause.at_turn(*turns).slowed(self._speed(begin))

    def _speed(self, begin: int) -> float:
        """What the words from a place up to here say about how, each of which counts once."""
        here = [manner for manner in self._manners if begin <= manner.place <= self._at]
        self._manners = [manner for manner in self._manners if manner not in here]
        return min((manner.speed for manner in here), default=1.0)

    def _said(self, gerund: bool) -> Clause:
        while True:
            asked = self._take("request")
            if asked is None:
                break
            self._asked |= bool(asked.value)
        word = self._take("gerund") if gerund else self._take("verb", "slide", "pull", "open", "opened")
        if word is None:
            self._stuck("expected what to do")
        kind, verb = word.kind, word.value
        if kind == "gerund":
            assert isinstance(verb, tuple)
            kind, verb = verb
        assert isinstance(verb, Verb)
        pronoun, objects = self._what()
        if kind == "pull":
            self._take("open", "out")
        elif kind in ("slide", "verb") and self._peek("open") and (kind == "slide" or verb.word == "get"):
            self._take("open")
            return Clause(Verb("open", frozenset({"open"})), objects, pronoun)
        if "grasp" in verb.can:
            self._take("up")
        if objects or pronoun:
            self._take("from")
        relation, place = self._destination()
        self._take("too")
        return Clause(verb, objects, pronoun, relation, place)

    def _what(self) -> tuple[Pronoun | None, tuple[str, ...]]:
        word = self._take("pronoun")
        if word is not None:
            assert isinstance(word.value, Pronoun)
            return word.value, ()
        both = self._take("both")
        objects = self._objects() if self._peek("determiner", "colour", "noun") else ()
        if both and len(objects) != 2:
            raise Refused("ambiguous", "'both' needs two things that are named")
        return None, objects

    def _objects(self) -> tuple[str, ...]:
        found = [self._noun_phrase()]
        while True:
            start = self._at
            linked = self._take("comma")
            linked = self._take("and") or linked
            if linked is None or not self._peek("determiner", "colour", "noun"):
                self._at = start
                return tuple(found)
            found.append(self._noun_phrase())

    def _noun_phrase(self) -> str:
        self._take("determiner")
        colour = self._take("colour")
        noun = self._take("noun")
        if noun is None:
            self._stuck("expected a thing")
        assert isinstance(noun.value, frozenset)
        spoken = f"{colour.text} {noun.text}" if colour else noun.text
        return find_thing(str(colour.value) if colour else "", noun.value, spoken)

    def _destination(self) -> tuple[Relation | None, str]:
        word = self._take("relation")
        if word is None:
            return None, ""
        assert isinstance(word.value, Relation)
        return word.value, self._noun_phrase()

    @property
    def _done(self) -> bool:
        return self._at >= len(self._words)

    def _peek(self, *kinds: str) -> bool:
        return not self._done and self._words[self._at].kind in kinds

    def _take(self, *kinds: str) -> Word | None:
        if not self._peek(*kinds):
            return None
        self._at += 1
        return self._words[self._at - 1]

    def _expect(self, kind: str) -> None:
        if self._take(kind) is None:
            self._stuck()

    def _stuck(self, what: str = "") -> NoReturn:
        place = f"at {self._words[self._at].text!r}" if not self._done else "at the end"
        raise Refused("incomplete" if self._done else "not_understood", f"{what or 'not understood'} {place}")
