"""Draws instruction rows of the sample world, in English or Korean, whose answers are computed.

Dedicated to the public domain (CC0 1.0). English rows hold no Korean; Korean rows hold English
only where the task is to translate it. `KINDS` lists the kinds of task.
"""

from collections.abc import Callable, Iterable
import random
from typing import NamedTuple, TypeVar

from . import grammar as g
from . import lexicon as x
from . import patterns as pt
from . import phrases as ph
from . import stories
from . import usage as u
from .phrases import Pair, chance, pick

T = TypeVar("T")
Random = random.Random
Text = tuple[str, str]  # English, Korean
NOTHING = ("", "")
GROUPS = {  # the nouns of tasks that list and classify
    "fruit": ph.nouns_of("fruit"),
    "animal": ph.nouns_of("pet horse farm wild"),
    "drink": ph.nouns_of("water drink brew"),
    "toy": ph.nouns_of("toy"),
    "subject": ph.nouns_of("lesson"),
    "instrument": ph.nouns_of("instrument"),
    "job": x.JOBS,
}

OWNED = [a for a in u.ADJECTIVES if a.opposite and {"clothes", "toy"} & set(a.fits.split())]


class Task(NamedTuple):
    """Holds a row in both languages; `corpora` accepts or rejects it by its combinations."""

    instruction: Text
    input: Text
    output: Text
    combinations: tuple[str, ...] = ()


def text(pair: Pair) -> Text:
    """Returns a pair without its combinations."""
    return pair.eng, pair.kor


def sample(rng: Random, items: Iterable[T], count: int) -> list[T]:
    """Draws different items, in random order."""
    rest = list(items)
    return [rest.pop(int(rng.random() * len(rest))) for _ in range(count)]


def question(rng: Random) -> Task:
    """Asks where, what, when or who about a short passage."""
    who = pick(rng, x.NAMES)
    friend = ph.other(rng, who)
    place, when = pick(rng, ("market", "store", "cafe", "park", "zoo")), pick(rng, x.TIMES["past"])
    does = {"cafe": "drink", "park": "eat", "zoo": "see"}
    first = stories.do(rng, who, does.get(place, "buy"), place)
    second = stories.do(rng, friend, "study read draw clean", "home")
    passage = stories.passage(
        [
            ph.tell(who, ph.journey(rng, True, place), "past", when, front=True),
            stories.go_on(who, first, lead=stories.THERE),
            stories.starts(friend, second, lead=stories.BUT),
        ]
    )
    asked, answer = pick(rng, _asked(who, friend, x.PLACES[place], when, first, second))
    return Task(
        ("Read the passage and answer the question.", "다음 글을 읽고 질문에 답하세요."),
        (f"{passage.eng}\nQuestion: {asked[0]}", f"{passage.kor}\n질문: {asked[1]}"),
        answer,
        passage.combinations,
    )


def _asked(
    who: x.Person, friend: x.Person, at: x.Place, when: Text, first: ph.Deed, second: ph.Deed
) -> list[tuple[Text, Text]]:
    """Returns the questions that the passage answers, each with its answer."""
    did, topic = ph.eng_verb(first, "past", False), ph.topic(who)
    root, deed = g.past_root(first.verb.stem), g.past_root(second.verb.stem)
    subject = g.particle(friend.kor, "subject")
    late = f"{who.eng} went {at.to} {when[0]}."
    return [
        (
            (f"Where did {who.eng} go?", f"{topic} 어디에 갔나요?"),
            (f"{who.eng} went {at.to}.", f"{topic} {at.kor}에 갔다."),
        ),
        (
            (f"What did {who.eng} {first.verb.eng}?", f"{topic} 무엇을 {root}나요?"),
            (f"{who.eng} {did}.", f"{topic} {ph.kor_verb(first, 'past')}."),
        ),
        (
            (f"When did {who.eng} go {at.to}?", f"{topic} 언제 {at.kor}에 갔나요?"),
            (late, f"{topic} {when[1]} {at.kor}에 갔다."),
        ),
        (
            (f"Who {second.verb.past}{second.eng}?", f"누가 {second.kor}{deed}나요?"),
            (
                f"{friend.eng} {second.verb.past}{second.eng}.",
                f"{subject} {ph.kor_verb(second, 'past')}.",
            ),
        ),
    ]


def count(rng: Random) -> Task:
    """Asks how many animals there are, given two kinds of them."""
    frame = pick(rng, [f for f in u.SCENES if f.objects in ("pet", "farm horse", "wild")])
    one, two = sample(rng, ph.nouns_of(frame.objects), 2)
    key = pick(rng, frame.places.split())
    place = x.PLACES[key]
    n, m = 2 + int(rng.random() * 5), 2 + int(rng.random() * 5)
    many, more, total = ph.counted_as(one, n), ph.counted_as(two, m), x.NUMBERS[n + m - 1]
    return Task(
        ("How many animals are there?", "동물은 모두 몇 마리인가요?"),
        (
            f"There are {many.eng} {place.at}. There are {more.eng} too.",
            f"{place.kor}에 {g.particle(many.kor, 'subject')} 있다. {more.kor}도 있다.",
        ),
        (f"There are {total[0]} animals.", f"동물은 모두 {total[1]} 마리다."),
        (f"there+{one.eng}+{key}+{n}",),
    )


def total(rng: Random) -> Task:
    """Asks how many pieces of fruit someone bought, given two kinds of them."""
    who = pick(rng, x.NAMES)
    one, two = sample(rng, GROUPS["fruit"], 2)
    n, m = 2 + int(rng.random() * 5), 2 + int(rng.random() * 5)
    many, more, both = ph.counted_as(one, n), ph.counted_as(two, m), x.NUMBERS[n + m - 1]
    asked = (
        f"How many pieces of fruit did {who.pronoun} buy?",
        f"{ph.topic(who)} 과일을 모두 몇 개 샀나요?",
    )
    sentences = (
        f"{who.eng} bought {many.eng} and {more.eng}.",
        f"{ph.topic(who)} {g.particle(many.kor, 'with')} {g.particle(more.kor, 'object')} 샀다.",
    )
    return Task(
        ("Solve the problem.", "문제를 푸세요."),
        (f"{sentences[0]} {asked[0]}", f"{sentences[1]} {asked[1]}"),
        (
            f"{who.eng} bought {both[0]} pieces of fruit.",
            f"{ph.topic(who)} 과일 {both[1]} 개를 샀다.",
        ),
        tuple(f"{who.eng}+buy+{noun.eng}" for noun in (one, two)),
    )


def go_on(rng: Random) -> Task:
    """Asks for the end of a story, given its beginning."""
    beats = stories.draw(rng)
    head = max(1, len(beats) - 2)
    return Task(
        ("Continue the story.", "이야기를 이어서 쓰세요."),
        text(stories.passage(beats[:head])),
        text(stories.passage(beats[head:])),
        stories.passage(beats).combinations,
    )


def opposite(rng: Random) -> Task:
    """Asks for the opposite sentence: Minsu's bag is big, Minsu's bag is small."""
    owner = pick(rng, x.NAMES)
    word = pick(rng, OWNED)
    turned = next(a for a in u.ADJECTIVES if a.eng == word.opposite)
    fits = [n for n in ph.nouns_of("clothes toy thing pet") if {word, turned} <= set(ph.fitting(n))]
    noun = pick(rng, fits)
    be = "are" if ph.is_plural(noun) else "is"
    topic = g.particle(f"{owner.kor}의 {noun.kor}", "topic")
    return Task(
        ("Rewrite the sentence with the opposite word.", "반대말을 써서 문장을 다시 쓰세요."),
        (f"{owner.eng}'s {noun.eng} {be} {word.eng}.", f"{topic} {word.stem.text}다."),
        (f"{owner.eng}'s {noun.eng} {be} {turned.eng}.", f"{topic} {turned.stem.text}다."),
        tuple(f"{owner.eng}+{noun.eng}+{a.eng}" for a in (word, turned)),
    )


def opposite_word(rng: Random) -> Task:
    """Asks for the opposite of a word: big, small."""
    words = [a for a in (*u.ADJECTIVES, *u.AIRS, *u.MOODS) if a.opposite]
    word = pick(rng, words)
    turned = next(a for a in words if a.eng == word.opposite)
    return Task(
        ("What is the opposite of this word?", "이 낱말의 반대말은 무엇인가요?"),
        (word.eng, word.stem.text + "다"),
        (turned.eng, turned.stem.text + "다"),
    )


def odd(rng: Random) -> Task:
    """Asks which word differs from the others: the cat of apple, peach, cat, melon."""
    kind, other = sample(rng, [k for k in GROUPS if k != "job"], 2)
    words, stranger = sample(rng, GROUPS[kind], 3), pick(rng, GROUPS[other])
    words.insert(int(rng.random() * 4), stranger)
    return Task(
        ("Which word does not belong with the others?", "나머지와 다른 낱말은 무엇인가요?"),
        (", ".join(n.eng for n in words), ", ".join(n.kor for n in words)),
        (stranger.eng, stranger.kor),
    )


def name_three(rng: Random) -> Task:
    """Asks for three names of a kind: name three animals."""
    kind = pick(rng, tuple(GROUPS))
    words = sample(rng, GROUPS[kind], 3)
    eng, kor = x.KINDS[kind]
    return Task(
        (f"Name three {eng}.", f"{kor} 이름을 세 가지 쓰세요."),
        NOTHING,
        (", ".join(n.eng for n in words), ", ".join(n.kor for n in words)),
    )


def classify(rng: Random) -> Task:
    """Asks for the kind of a noun: is a cat an animal or a fruit?"""
    kind, other = sample(rng, [k for k in GROUPS if k not in ("job", "instrument")], 2)
    noun = pick(rng, GROUPS[kind])
    choice = [kind, other] if chance(rng, 0.5) else [other, kind]
    eng, kor = ph.plain(noun).eng, g.particle(noun.kor, "topic")
    names = [x.KINDS[k][1] for k in choice]
    return Task(
        ("Answer the question.", "질문에 답하세요."),
        (
            f"Is {eng} {g.article(choice[0])} or {g.article(choice[1])}?",
            f"{kor} {names[0]}인가요, {names[1]}인가요?",
        ),
        (
            g.capital(f"{eng} is {g.article(kind)}."),
            f"{kor} {g.particle(x.KINDS[kind][1], 'is')}.",
        ),
    )


def _retold(rng: Random, old: str, new: str, ask: Text) -> Task:
    """Asks for a sentence in another tense."""
    who = ph.subject(rng)
    d = ph.deed(rng, pick(rng, ph.frames_for(who, "h")), who, extra=False, simple=True)
    first, second = ph.tell(who, d, old), ph.tell(who, d, new)
    return Task(ask, text(first), text(second), first.combinations)


def past(rng: Random) -> Task:
    """Asks for a future sentence in the past."""
    ask = ("Rewrite the sentence in the past tense.", "문장을 과거형으로 바꾸세요.")
    return _retold(rng, "future", "past", ask)


def deny(rng: Random) -> Task:
    """Asks for the negative of a sentence."""
    old = pick(rng, ("past", "future"))
    return _retold(
        rng, old, f"not_{old}", ("Make the sentence negative.", "문장을 부정문으로 바꾸세요.")
    )


def to_question(rng: Random) -> Task:
    """Asks for a sentence as a question: Minsu bought a hat, did Minsu buy a hat?"""
    who = ph.subject(rng)
    d = ph.deed(rng, pick(rng, ph.frames_for(who, "h")), who, extra=False, simple=True)
    sentence = ph.tell(who, d, "past")
    return Task(
        ("Turn the sentence into a question.", "문장을 의문문으로 바꾸세요."),
        text(sentence),
        (
            f"Did {who.eng} {d.verb.eng}{d.eng}?",
            f"{ph.topic(who)} {d.kor}{g.past_root(d.verb.stem)}나요?",
        ),
        sentence.combinations,
    )


def compose(rng: Random) -> Task:
    """Asks for a sentence with three given words."""
    who = pick(rng, x.NAMES)
    frame = pick(rng, [f for f in u.FRAMES if f.objects not in ("person", "room") and f.places])
    place = x.PLACES[pick(rng, frame.places.split())]
    d = ph.deed(rng, frame, who, place="", simple=True, extra=False)
    noun = stories.noun_of(d)
    assert noun, "the frame has a thing for its object"
    there = d._replace(eng=f"{d.eng} {place.at}", kor=f"{ph.at(d.verb, place.kor)} {d.kor}")
    sentence = ph.tell(who, there, "past")
    where = place.bare.removeprefix("the ")
    return Task(
        ("Write a sentence with these words.", "다음 낱말을 넣어 문장을 쓰세요."),
        (f"{who.eng}, {noun.eng}, {where}", f"{who.kor}, {noun.kor}, {place.kor}"),
        text(sentence),
        sentence.combinations,
    )


def translate(rng: Random) -> Task:
    """Asks for a translation from English; for Korean rows only."""
    sentence = pt.draw(rng)
    ask = ("", "다음 영어 문장을 한국어로 옮기세요.")
    return Task(ask, ("", sentence.eng), ("", sentence.kor), sentence.combinations)


KINDS: tuple[Callable[[Random], Task], ...] = (
    question, question, count, total, go_on, opposite, opposite_word, odd, name_three, classify,
    past, deny, to_question, compose,
)  # fmt: skip


def draw(rng: Random, tongue: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Draws a row in a language ("eng" or "kor") and returns it with its combinations."""
    kinds = (*KINDS, translate, translate) if tongue == "kor" else KINDS
    task = pick(rng, kinds)(rng)
    at = ("eng", "kor").index(tongue)
    row = {"instruction": task.instruction[at], "input": task.input[at], "output": task.output[at]}
    return row, task.combinations
