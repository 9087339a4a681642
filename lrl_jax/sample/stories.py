"""Short paragraphs of the sample world: one protagonist, in the order of time, in both languages.

Dedicated to the public domain (CC0 1.0). A plot gives its sentences; Korean leaves out the subject
that English repeats as a pronoun.
"""

from collections.abc import Callable, Sequence
import random

from lrl_jax.sample import grammar as g
from lrl_jax.sample import lexicon as x
from lrl_jax.sample import patterns as pt
from lrl_jax.sample import phrases as ph
from lrl_jax.sample import usage as u
from lrl_jax.sample.phrases import Deed, Pair, chance, pick

Random = random.Random
THERE = ("There,", "그곳에서")
THEN = (("Then", "그리고"), ("After that,", "그 후에"), ("Later,", "나중에"))
SO, BUT, NONE = ("So", "그래서"), ("But", "하지만"), ("", "")
MARKETS = {  # where a day is spent: places with at least two kinds of things to do
    "park": "see", "library": "read", "market": "buy", "zoo": "see", "cafe": "drink",
    "beach": "take a walk", "farm": "see", "bookstore": "buy", "store": "choose",
}  # fmt: skip


def passage(beats: Sequence[Pair]) -> Pair:
    """Several sentences as one text."""
    return Pair(
        " ".join(b.eng for b in beats),
        " ".join(b.kor for b in beats),
        tuple(c for b in beats for c in b.combinations),
    )


def go_on(who: x.Person, d: Deed, tense: str = "past", lead: tuple[str, str] = NONE) -> Pair:
    """The protagonist goes on: "Then he bought bread.", "그리고 빵을 샀다."."""
    verb = ph.eng_verb(d, tense, who.pronoun == "they")
    eng = f"{lead[0]} {who.pronoun} {verb}.".strip()
    return Pair(g.capital(eng), f"{lead[1]} {ph.kor_verb(d, tense)}.".strip(), ph.keys(who, d))


def feel(who: x.Person, mood: str, lead: tuple[str, str] = NONE, name: bool = False) -> Pair:
    """Minsu was happy; so she was sad."""
    stem = next(a.stem for a in u.MOODS if a.eng == mood)
    be = "were" if who.pronoun == "they" else "was"
    eng = f"{lead[0]} {who.eng if name else who.pronoun} {be} {mood}.".strip()
    subject = f"{ph.topic(who)} " if name or not lead[1] else ""
    kor = f"{lead[1]} {subject}{g.past(stem)}.".strip()
    return Pair(g.capital(eng), kor, tuple(f"{n}+be+{mood}" for n in ph.lemmas(who)))


def remark(rng: Random, d: Deed) -> list[Pair]:
    """The soup was delicious: what was just bought or made, if anything can be said of it."""
    noun = ph.NOUN.get(d.key.partition("+")[2])
    adjectives = ph.fitting(noun) if noun else []
    if not noun or not adjectives or ph.eng_verb(d, "past", False).endswith("s") or "," in d.eng:
        return []
    a = pick(rng, adjectives)
    be = "were" if ph.is_plural(noun) else "was"
    eng, kor = f"The {noun.eng} {be} {a.eng}.", f"{g.particle(noun.kor, 'topic')} {g.past(a.stem)}."
    return [Pair(eng, kor, (f"the+{noun.eng}+{a.eng}",))]


def do(rng: Random, who: x.Person, verb: str, place: str | None = "", **options) -> Deed:
    """A deed with one verb, at one place if the verb knows it."""
    frames = [f for f in ph.ALL_DEEDS if f.verb == verb]
    frames = [f for f in frames if who.grown or "g" not in f.flags] or frames
    known = [f for f in frames if place in f.places.split()]
    options = {"extra": False, "simple": True} | options
    return ph.deed(rng, pick(rng, known or frames), who, place="" if known else place, **options)


def hero(rng: Random) -> x.Person:
    return pick(rng, x.NAMES) if chance(rng, 0.75) else pick(rng, x.ROLES)


def outing(rng: Random) -> list[Pair]:
    """Someone goes somewhere, does things there, and comes home."""
    who, place = hero(rng), pick(rng, tuple(MARKETS))
    when = pick(rng, x.TIMES["past"])
    trip = ph.journey(rng, True, place)
    beats = [ph.tell(who, trip, "past", when, front=chance(rng, 0.6))]
    first = do(rng, who, MARKETS[place], place, simple=False)
    beats.append(go_on(who, first, "past", THERE))
    if chance(rng, 0.5) and place in ("park", "library", "market", "cafe"):
        friend = do(rng, who, "meet", place)
        beats.append(go_on(who, friend, "past", THEN[0]))
        beats.append(_meeting(rng, who))
    else:
        beats += remark(rng, first) if "simple" in first.kor else []
        second = pick(rng, ("take a walk", "rest")) if place in ("park", "beach") else ""
        if second:
            beats.append(go_on(who, do(rng, who, second), "past", THEN[0]))
    home = Deed(u.VERBS["return"], " home", "집으로 ", "return+home")
    if chance(rng, 0.5):
        beats.append(go_on(who, home, "past", pick(rng, THEN[1:])))
    beats.append(feel(who, pick(rng, ("happy", "tired", "hungry")), name=chance(rng, 0.5)))
    return beats


def _meeting(rng: Random, who: x.Person) -> Pair:
    """They talked together is beyond this world; they laughed or drank tea."""
    d = do(rng, who._replace(grown=True), pick(rng, ("laugh", "drink", "rest")))
    verb = ph.eng_verb(d, "past", True)
    return Pair(f"They {verb} together.", f"둘은 함께 {ph.kor_verb(d, 'past')}.", ph.keys(who, d))


def reason(rng: Random) -> list[Pair]:
    """A mood, what follows from it, and how it turned out."""
    who = hero(rng)
    rows = [r for r in u.REASONS if r[0] not in u.WEATHER]
    mood, tense, verbs, limit = pick(rng, rows)
    first = pt.follow(rng, who, verbs, limit)
    beats = [feel(who, mood, pick(rng, x.TIMES["past"]), name=True)]
    beats = [_with_time(who, mood, pick(rng, x.TIMES["past"]))]
    beats.append(go_on(who, first, tense, SO))
    if tense == "past":
        beats += remark(rng, first) if " a " in first.eng or first.eng.count(" ") == 1 else []
        if mood != "happy":
            beats.append(go_on(who, do(rng, who, pick(rng, ("rest", "read", "sleep"))), lead=THEN[1]))
        ending = {"hungry": "happy", "thirsty": "happy", "bored": "happy"}.get(mood, "")
        beats += [feel(who, ending)] if ending else []
    else:
        beats.append(go_on(who, do(rng, who, pick(rng, ("work", "study")) if mood == "busy" else "rest")))
        beats.append(feel(who, "sad", SO))
    return beats if len(beats) > 2 else [*beats, feel(who, "happy", name=True)]


def _with_time(who: x.Person, mood: str, when: tuple[str, str]) -> Pair:
    stem = next(a.stem for a in u.MOODS if a.eng == mood)
    be = "were" if who.pronoun == "they" else "was"
    eng = g.capital(f"{who.eng} {be} {mood} {when[0]}.")
    combos = tuple(f"{n}+be+{mood}" for n in ph.lemmas(who))
    return Pair(eng, f"{ph.topic(who)} {when[1]} {g.past(stem)}.", combos)


def lost(rng: Random) -> list[Pair]:
    """Someone loses a thing; a friend finds it and gives it back."""
    who = pick(rng, x.NAMES)
    friend = ph.other(rng, who)
    first = do(rng, who, "lose", pick(rng, ("park", "station", "market")), place="")
    return _lost(rng, who, friend, first)


