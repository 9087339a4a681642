"""Draws the phrases of the sample world's sentences, in English and Korean at once.

Dedicated to the public domain (CC0 1.0). Each pair lists the content words it combines, such as
"Minsu+eat+apple"; `corpora` chooses held-out sentences by them.
"""

from collections.abc import Callable, Sequence
import functools
import random
from typing import NamedTuple, TypeVar

from . import grammar as g
from . import lexicon as x
from . import usage as u
from .lexicon import Noun, Person
from .usage import Adjective, Frame, Verb

T = TypeVar("T")
Random = random.Random


class Pair(NamedTuple):
    """Holds a text in both languages. combinations: its content words, "subject+verb+object"."""

    eng: str
    kor: str
    combinations: tuple[str, ...]


class Phrase(NamedTuple):
    """Holds a noun phrase in both languages; key: its noun, for combinations."""

    eng: str
    kor: str
    key: str


class Deed(NamedTuple):
    """Holds a verb and the words around it but its subject: " bread at home", "집에서 빵을 "."""

    verb: Verb
    eng: str
    kor: str
    key: str


class Tense(NamedTuple):
    """Holds how a verb is inflected in each language."""

    eng: Callable[[Verb, bool], str]  # the verb and whether its subject is plural
    kor: Callable[[g.Stem], str]


def _does(verb: Verb, plural: bool) -> str:
    return verb.eng if plural else g.third(verb.eng)


TENSES = {
    "past": Tense(lambda v, _: v.past, g.past),
    "future": Tense(lambda v, _: f"will {v.eng}", g.future),
    "habit": Tense(_does, g.present),
    "not_past": Tense(lambda v, _: f"did not {v.eng}", lambda s: s.text + "지 않았다"),
    "not_future": Tense(lambda v, _: f"will not {v.eng}", lambda s: s.text + "지 않을 것이다"),
    "not_habit": Tense(
        lambda v, plural: f"{'do' if plural else 'does'} not {v.eng}",
        lambda s: s.text + "지 않는다",
    ),
    "could_not": Tense(lambda v, _: f"could not {v.eng}", lambda s: s.text + "지 못했다"),
    "can": Tense(lambda v, _: f"can {v.eng}", lambda s: g.coming(s) + " 수 있다"),
    "want": Tense(
        lambda v, plural: f"{'want' if plural else 'wants'} to {v.eng}",
        lambda s: s.text + "고 싶어 한다",
    ),
    "wanted": Tense(lambda v, _: f"wanted to {v.eng}", lambda s: s.text + "고 싶어 했다"),
    "must": Tense(
        lambda v, plural: f"{'have' if plural else 'has'} to {v.eng}",
        lambda s: g.infinitive(s) + "야 한다",
    ),
}


def pick(rng: Random, items: Sequence[T]) -> T:
    """Draws one item. Of the generator's methods only `random()` is the same in every Python."""
    return items[int(rng.random() * len(items))]


def chance(rng: Random, share: float) -> bool:
    """Draws True in this share of cases."""
    return rng.random() < share


@functools.cache
def nouns_of(classes: str) -> tuple[Noun, ...]:
    """Returns the nouns of some classes, whose names are separated by spaces."""
    return tuple(noun for name in classes.split() for noun in x.NOUNS[name])


NOUN = {noun.eng: noun for nouns in x.NOUNS.values() for noun in nouns}
CLASS_OF = {noun.eng: name for name, nouns in x.NOUNS.items() for noun in nouns}
ALL_DEEDS = u.FRAMES + u.ALONE


def many(noun: Noun) -> str:
    """Returns the English plural."""
    return noun.plural or g.plural(noun.eng)


def is_plural(noun: Noun) -> bool:
    """Says whether a noun is always plural: shoes and noodles are, sheep is not."""
    return noun.plural == noun.eng and not noun.det


# ---------------------------------------------------------------------------- people and things
def lemmas(who: Person) -> tuple[str, ...]:
    """Returns the English names that combinations use for a person or a group."""
    return who.lemmas or (who.eng.removeprefix("the "),)


def couple(one: Person, two: Person) -> Person:
    """Joins two people into a subject: Minsu and Jiyoung, 민수와 지영."""
    both = lemmas(one) + lemmas(two)
    kor = f"{g.particle(one.kor, 'with')} {two.kor}"
    return Person(f"{one.eng} and {two.eng}", kor, "they", lemmas=both)


def relative_of(rng: Random) -> Person:
    """Draws a relative of a named person: Minsu's mother, 민수의 어머니."""
    owner, who = pick(rng, x.NAMES), pick(rng, x.FAMILY)
    return who._replace(
        eng=f"{owner.eng}'s {who.eng}", kor=f"{owner.kor}의 {who.kor}", lemmas=(who.eng,)
    )


def subject(rng: Random, grown: bool = False) -> Person:
    """Draws a subject: a name, two names, a role or a relative; grown: an adult."""
    draw = rng.random()
    if draw < 0.6:
        return pick(rng, x.NAMES)
    if draw < 0.7:
        one, two = pick(rng, x.NAMES), pick(rng, x.NAMES)
        return couple(one, two) if one != two else one
    who = pick(rng, x.ROLES) if draw < 0.9 else relative_of(rng)
    return who if who.grown or not grown else pick(rng, x.NAMES)


def other(rng: Random, who: Person, people: Sequence[Person] = x.NAMES) -> Person:
    """Draws someone who is not the subject."""
    while True:
        person = pick(rng, people)
        if person.eng not in who.eng:
            return person


@functools.cache
def fitting(noun: Noun, attribute: bool = False, taste: bool = True) -> tuple[Adjective, ...]:
    """Returns the adjectives that suit a noun."""
    return tuple(
        a
        for a in u.ADJECTIVES
        if CLASS_OF[noun.eng] in a.fits.split()
        and (a.attribute or not attribute)
        and (taste or a.eng not in ("delicious", "sweet"))
    )


def with_article(det: str, phrase: str) -> str:
    """Puts the article of a noun before a phrase."""
    if det == "a":
        return g.article(phrase)
    return f"{det} {phrase}" if det else phrase


def plain(noun: Noun, several: bool = False) -> Phrase:
    """Returns a noun alone: an apple, or apples."""
    eng = many(noun) if several and noun.det == "a" else with_article(noun.det, noun.eng)
    return Phrase(eng, noun.kor, noun.eng)


def described(noun: Noun, adjective: Adjective, several: bool = False) -> Phrase:
    """Returns a noun with an adjective: a red hat, 빨간 모자."""
    several = several and noun.det == "a"
    bare = f"{adjective.eng} {many(noun) if several else noun.eng}"
    eng = bare if several else with_article(noun.det, bare)
    return Phrase(eng, f"{g.done(adjective.stem)} {noun.kor}", noun.eng)


def counted(rng: Random, noun: Noun, least: int = 1, most: int = 10) -> Phrase:
    """Draws a number for a noun: three apples, 사과 세 개; two cups of tea, 차 두 잔."""
    limit, unit = x.COUNTERS[noun.counter]
    n = least + int(rng.random() * (min(limit, most) - least + 1))
    return counted_as(noun, n, unit)


def counted_as(noun: Noun, n: int, unit: tuple[str, ...] | None = None) -> Phrase:
    """Returns a noun with the number n; unit: "cup of" and its plural, by default the counter's."""
    unit = x.COUNTERS[noun.counter][1] if unit is None else unit
    eng, kor = x.NUMBERS[n - 1]
    words = [eng, unit[n > 1]] if unit else [eng]
    words.append(many(noun) if is_plural(noun) or (n > 1 and noun.det) else noun.eng)
    return Phrase(" ".join(words), f"{noun.kor} {kor} {noun.counter}", noun.eng)


def object_of(rng: Random, frame: Frame, who: Person, simple: bool = False) -> Phrase:
    """Draws the object of a verb: alone, with an adjective or with a number."""
    if frame.objects == "person":
        whom = other(rng, who, x.NAMES if chance(rng, 0.7) else x.ROLES)
        return Phrase(whom.eng, whom.kor, lemmas(whom)[0])
    if frame.objects == "room":
        room = pick(rng, x.ROOMS)
        return Phrase(x.PLACES[room].bare, x.PLACES[room].kor, room)
    noun = pick(rng, nouns_of(frame.objects))
    draw = 0.0 if simple else rng.random()
    if draw > 0.72 and noun.counter and "n" not in frame.flags:
        most = 3 if frame.verb in ("eat", "drink") else 10
        return counted(rng, noun, 2 if "s" in frame.flags else 1, most)
    adjectives = fitting(noun, attribute=True, taste="x" not in frame.flags)
    if 0.45 < draw <= 0.72 and adjectives and noun.det != "the":
        return described(noun, pick(rng, adjectives), "s" in frame.flags)
    if "t" in frame.flags:
        return Phrase(f"the {noun.eng}", noun.kor, noun.eng)
    return plain(noun, "s" in frame.flags)


def spot(rng: Random) -> tuple[Noun, str, str, str]:
    """Draws a thing and its position: the noun, "on the desk", 책상 위, and a key."""
    anchor, words, classes = pick(rng, x.ANCHORS)
    noun, word = pick(rng, nouns_of(classes)), pick(rng, words)
    return noun, f"{word} the {anchor.eng}", f"{anchor.kor} {x.SPOTS[word]}", f"{word} {anchor.eng}"


# ---------------------------------------------------------------------------- deeds
def at(verb: Verb, place: str) -> str:
    """Returns the place with its particle: 공원에 for what is put there, else 공원에서."""
    return place + ("에" if verb.eng in u.WHERE_TO else "에서")


def deed(
    rng: Random,
    frame: Frame,
    who: Person,
    place: str | None = None,
    simple: bool = False,
    extra: bool = True,
) -> Deed:
    """Draws a deed of a frame.

    Args:
      place: a key of PLACES, "" for no place, None to draw one.
      simple: the object has no adjective and no number.
      extra: a tool or a companion may be added.
    """
    verb = u.VERBS[frame.verb]
    eng, kor, key = "", "", verb.eng
    if frame.objects:
        what = object_of(rng, frame, who, simple)
        eng, kor = f" {what.eng}", g.particle(what.kor, "object") + " "
        key = f"{verb.eng}+{what.key}"
    if extra and frame.tools and chance(rng, 0.4):
        with_eng, with_kor = x.TOOLS[pick(rng, frame.tools.split())]
        eng, kor = f"{eng} {with_eng}", g.particle(with_kor, "by") + " " + kor
    elif extra and "l" in frame.flags and who.pronoun != "they" and chance(rng, 0.12):
        friend = other(rng, who)
        eng, kor = f"{eng} with {friend.eng}", g.particle(friend.kor, "with") + " 함께 " + kor
    if place is None:
        some = frame.places and chance(rng, 0.6)
        place = pick(rng, frame.places.split()) if some else ""
    if place:
        eng, kor = f"{eng} {x.PLACES[place].at}", f"{at(verb, x.PLACES[place].kor)} {kor}"
    if not frame.objects:
        key += f"+{place or 'anywhere'}"
    return Deed(verb, eng, kor, key)


def follow(rng: Random, who: Person, verbs: str, limit: str) -> Deed:
    """Draws a deed that follows from a reason; limit: the places or noun classes that fit it."""
    verb = pick(rng, verbs.split()).replace("_", " ")
    frames = [f for f in ALL_DEEDS if f.verb == verb]
    frames = [f for f in frames if who.grown or "g" not in f.flags] or frames
    frames = [f for f in frames if f.objects == limit] or frames
    frame = pick(rng, frames)
    places = [p for p in limit.split() if p in frame.places.split()]
    return deed(rng, frame, who, place=pick(rng, places) if places else None, extra=False)


def journey(rng: Random, habit: bool = False, place: str | None = None) -> Deed:
    """Draws a way to a place: the verbs go and come take 에, return and walk take (으)로."""
    verb = u.VERBS[pick(rng, ("go", "go") if habit else ("go", "go", "come", "return", "walk"))]
    place = place or pick(rng, x.NEAR if chance(rng, 0.3) else x.FAR)
    if verb.eng == "walk" and place in x.CITIES:
        place = "station"
    where = x.PLACES[place]
    to = where.kor + "에" if verb.eng in ("go", "come") else g.particle(where.kor, "by")
    eng, kor = f" {where.to}", f"{to} "
    if verb.eng in ("go", "come") and place in x.FAR and chance(rng, 0.45):
        by_eng, by_kor = pick(rng, x.VEHICLES[:4] if place in x.CITIES else x.VEHICLES)
        eng, kor = f"{eng} {by_eng}", f"{g.particle(by_kor, 'by')} {kor}"
    return Deed(verb, eng, kor, f"{verb.eng}+{place}")


def gift(rng: Random, who: Person, simple: bool = False) -> Deed:
    """Draws a deed with a receiver: giving, showing, sending or lending something (지영에게)."""
    frame = pick(rng, u.GIFTS)
    what = object_of(rng, frame, who, simple)
    young = [p for p in x.ROLES if not p.grown]
    whom = other(rng, who, x.NAMES if chance(rng, 0.75) else young)
    kor = f"{whom.kor}에게 {g.particle(what.kor, 'object')} "
    verb = u.VERBS[frame.verb]
    return Deed(verb, f" {what.eng} to {whom.eng}", kor, f"{verb.eng}+{what.key}")


def keys(who: Person, *deeds: Deed) -> tuple[str, ...]:
    """Returns the combinations of someone and what they do."""
    return tuple(f"{lemma}+{d.key}" for d in deeds for lemma in lemmas(who))


def eng_verb(d: Deed, tense: str, plural: bool) -> str:
    """Returns an English deed in a tense."""
    return TENSES[tense].eng(d.verb, plural) + d.eng


def kor_verb(d: Deed, tense: str) -> str:
    """Returns a Korean deed in a tense."""
    return d.kor + TENSES[tense].kor(d.verb.stem)


def topic(who: Person) -> str:
    """Returns a Korean person with the topic particle."""
    return g.particle(who.kor, "topic")


def tell(who: Person, d: Deed, tense: str, when: tuple[str, str] = ("", ""), front=False) -> Pair:
    """Makes a sentence of a subject, a deed and a time; front puts the time first."""
    verb = eng_verb(d, tense, who.pronoun == "they")
    eng_when, kor_when = when
    if front and eng_when:
        eng = f"{g.capital(eng_when)}, {who.eng} {verb}."
        kor = f"{kor_when} {topic(who)} {kor_verb(d, tense)}."
    else:
        eng = f"{who.eng} {verb}{' ' if eng_when else ''}{eng_when}."
        kor = f"{topic(who)} {kor_when}{' ' if kor_when else ''}{kor_verb(d, tense)}."
    return Pair(g.capital(eng), kor, keys(who, d))


def says(who: Person, whom: Person, words: tuple[str, str], key: str = "") -> Pair:
    """Makes a quotation: Minsu said to Jiyoung, "Hello.": "안녕"이라고 말했다."""
    quoted = g.particle(f'"{words[1]}"', "quote")
    return Pair(
        f'{who.eng} said to {whom.eng}, "{words[0]}"',
        f"{topic(who)} {whom.kor}에게 {quoted} 말했다.",
        (f"{who.eng}+{key or f'say+{words[0]}+{whom.eng}'}",),
    )


def frames_for(who: Person, has: str = "", lacks: str = "") -> tuple[Frame, ...]:
    """Returns the frames that suit a subject: with the flag `has`, without the flags `lacks`."""
    return _flagged(has, lacks if who.grown else lacks + "g")


@functools.cache
def _flagged(has: str, lacks: str) -> tuple[Frame, ...]:
    return tuple(f for f in ALL_DEEDS if has in f.flags and not set(lacks) & set(f.flags))


def several(frame: Frame) -> Frame:
    """Makes the object plural, as in a habit (eats apples), but for riding (rides a bicycle)."""
    return frame if frame.verb == "ride" else frame._replace(flags=frame.flags + "s")


def definite(frame: Frame) -> Frame:
    """Gives the object "the" where a request is about a thing that is there: fix the desk."""
    there = frame.verb in ("wash", "cut", "fix", "move")
    return frame._replace(flags=frame.flags + "t") if there else frame
