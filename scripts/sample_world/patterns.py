"""Draws sentences of 18 patterns, each as an English-Korean pair.

Dedicated to the public domain (CC0 1.0). `PATTERNS` is the table: name, share, function.
"""

from collections.abc import Callable
import random

from . import grammar as g
from . import lexicon as x
from . import phrases as ph
from . import usage as u
from .phrases import Deed, Pair, chance, pick

Random = random.Random


def _deed(rng: Random, who: x.Person, tense: str, **options) -> Deed:
    """Draws a deed that suits a tense, or that has a flag of `usage.Frame`."""
    has, lacks = {"past": ("", ""), "future": ("", "o"), "habit": ("h", "")}.get(tense, (tense, ""))
    frame = pick(rng, ph.frames_for(who, has, lacks))
    if tense == "habit":
        frame = ph.several(frame)
    if tense == "p":
        frame = ph.definite(frame)
    return ph.deed(rng, frame, who, **options)


def _when(rng: Random, tense: str, share: float = 0.6) -> tuple[str, str]:
    return pick(rng, x.TIMES[tense]) if chance(rng, share) else ("", "")


def act(rng: Random) -> Pair:
    """Draws what someone does: Minsu ate an apple in the park yesterday."""
    who = ph.subject(rng)
    tense = pick(rng, ("past", "past", "past", "future", "habit"))
    d = _deed(rng, who, tense)
    when = _when(rng, tense, 1.0 if tense == "habit" else 0.6)
    return ph.tell(who, d, tense, when, front=chance(rng, 0.4))


def negate(rng: Random) -> Pair:
    """Draws what someone does not do: Minsu did not eat bread yesterday."""
    who = ph.subject(rng)
    tense = pick(rng, ("past", "past", "future", "habit"))
    d = _deed(rng, who, "habit" if tense == "habit" else "h", extra=False, simple=True)
    when = _when(rng, "not_habit", 0.8) if tense == "habit" else _when(rng, tense, 0.4)
    return ph.tell(who, d, "not_" + tense, when)


def travel(rng: Random) -> Pair:
    """Draws a trip: Minsu went to the park by bus on Monday."""
    who = ph.subject(rng)
    tense = pick(rng, ("past", "past", "past", "future", "habit"))
    d = ph.journey(rng, tense == "habit")
    when = _when(rng, tense, 1.0 if tense == "habit" else 0.55)
    return ph.tell(who, d, tense, when, front=chance(rng, 0.4))


def hand(rng: Random) -> Pair:
    """Draws a gift: Minsu gave a book to Jiyoung."""
    who, tense = ph.subject(rng), pick(rng, ("past", "past", "future"))
    return ph.tell(who, ph.gift(rng, who), tense, _when(rng, tense, 0.4), front=chance(rng, 0.4))


def wish(rng: Random) -> Pair:
    """Draws a skill, a wish or a duty: Minsu can play the piano, wants to buy a hat."""
    who = ph.subject(rng)
    tense = pick(rng, ("can", "want", "wanted", "must"))
    if tense == "can":
        return ph.tell(who, _deed(rng, who, "c", place="", extra=False, simple=True), "can")
    if tense == "must":
        d = _deed(rng, who, pick(rng, "pph"), extra=False, simple=True)
        return ph.tell(who, d, tense, _when(rng, "future", 0.3))
    d = ph.journey(rng, habit=True) if chance(rng, 0.2) else _deed(rng, who, "l")
    return ph.tell(who, d, tense)


def scene(rng: Random) -> Pair:
    """Draws what there is: three cats under the tree, 나무 아래에 고양이 세 마리가 있다."""
    past = chance(rng, 0.35)
    if chance(rng, 0.4):
        (noun, where_eng, where_kor, key), most = ph.spot(rng), 4
    else:
        most = 9
        frame = pick(rng, u.SCENES)
        noun = pick(rng, x.CROWD if frame.objects == "crowd" else ph.nouns_of(frame.objects))
        key = pick(rng, frame.places.split())
        where_eng, where_kor = x.PLACES[key].at, x.PLACES[key].kor
    single = chance(rng, 0.3)
    n = 1 if single else 2 + int(rng.random() * most)
    what = ph.plain(noun) if single else ph.counted_as(noun, min(n, x.COUNTERS[noun.counter][0]))
    be = _be(past, not single or ph.is_plural(noun))
    verb = "있었다" if past else "있다"
    return Pair(
        f"There {be} {what.eng} {where_eng}.",
        f"{where_kor}에 {g.particle(what.kor, 'subject')} {verb}.",
        (f"there+{noun.eng}+{key}+{n}",),
    )


def where(rng: Random) -> Pair:
    """Draws where a thing is: Minsu's bag is under the desk, 민수의 가방은 책상 아래에 있다."""
    owner = pick(rng, x.NAMES + x.ROLES)
    noun, where_eng, where_kor, key = ph.spot(rng)
    past = chance(rng, 0.35)
    eng, kor = _owned(owner, noun)
    return Pair(
        f"{eng} {_be(past, ph.is_plural(noun))} {where_eng}.",
        f"{kor} {where_kor}에 {'있었다' if past else '있다'}.",
        (f"{ph.lemmas(owner)[0]}+{noun.eng}+{key}",),
    )


def _owned(owner: x.Person, noun: x.Noun) -> tuple[str, str]:
    """Returns the opening of a sentence about a thing and its owner: Minsu's bag, 민수의 가방은."""
    apostrophe = "'" if owner.eng.endswith("s") else "'s"
    kor = g.particle(f"{owner.kor}의 {noun.kor}", "topic")
    return g.capital(f"{owner.eng}{apostrophe} {noun.eng}"), kor


def _be(past: bool, plural: bool) -> str:
    if past:
        return "were" if plural else "was"
    return "are" if plural else "is"


def _is(adjective: u.Adjective, past: bool) -> str:
    return g.past(adjective.stem) if past else adjective.stem.text + "다"


def quality(rng: Random) -> Pair:
    """Draws how a thing is: Minsu's bag is heavy, 민수의 가방은 무겁다."""
    owner = pick(rng, x.NAMES + x.ROLES)
    owned = "pet clothes thing toy machine bike car furniture letter picture book"
    noun = pick(rng, ph.nouns_of(owned))
    adjective = pick(rng, ph.fitting(noun))
    past = chance(rng, 0.35)
    eng, kor = _owned(owner, noun)
    return Pair(
        f"{eng} {_be(past, ph.is_plural(noun))} {adjective.eng}.",
        f"{kor} {_is(adjective, past)}.",
        (f"{ph.lemmas(owner)[0]}+{noun.eng}+{adjective.eng}",),
    )


def state(rng: Random) -> Pair:
    """Draws a mood, the air of a place or a job: Minsu was happy, Yuna's mother is a nurse."""
    draw = rng.random()
    if draw < 0.25:
        return _job(rng)
    past = chance(rng, 0.6)
    when_eng, when_kor = _when(rng, "past", 0.75) if past else ("", "")
    if draw < 0.7:
        who = ph.subject(rng)
        air, size = pick(rng, u.MOODS), who.pronoun == "they"
        if air.eng == "kind":
            past, when_eng, when_kor = False, "", ""
    else:
        place = x.PLACES[pick(rng, tuple(p for p in x.PLACES if p not in x.CITIES))]
        who, air, size = x.Person(place.bare, place.kor), pick(rng, u.AIRS), False
    eng = f"{who.eng} {_be(past, size)} {air.eng}{' ' if when_eng else ''}{when_eng}."
    kor = f"{ph.topic(who)} {when_kor}{' ' if when_kor else ''}{_is(air, past)}."
    when_key = f"+{when_eng}" if draw >= 0.7 else ""
    return Pair(g.capital(eng), kor, tuple(f"{n}+be+{air.eng}{when_key}" for n in ph.lemmas(who)))


def _job(rng: Random) -> Pair:
    who = ph.relative_of(rng) if chance(rng, 0.6) else pick(rng, x.NAMES)
    while who.kor.endswith("동생"):
        who = ph.relative_of(rng)
    job, past = pick(rng, x.JOBS), chance(rng, 0.3)
    kor = g.particle(job.kor, "was" if past else "is")
    owner = who.eng.partition("'")[0]
    return Pair(
        f"{who.eng} {_be(past, False)} {g.article(job.eng)}.",
        f"{ph.topic(who)} {kor}.",
        (f"{owner}+{ph.lemmas(who)[0]}+{job.eng}",),
    )


def speak(rng: Random) -> Pair:
    """Draws a quotation: Minsu said to Jiyoung, "Let's go to the park." """
    who = pick(rng, x.NAMES)
    whom = ph.other(rng, who)
    draw = rng.random()
    if draw < 0.3:
        return ph.says(who, whom, pick(rng, x.GREETINGS))
    if draw < 0.65:
        d = ph.journey(rng, True) if chance(rng, 0.3) else _deed(rng, who, "l", extra=False)
        eng = f"Let's {d.verb.eng}{d.eng}."
        kor, key = f"{d.kor}{d.verb.stem.text}자", d.key
    else:
        d = _deed(rng, who, "p", extra=False, simple=True)
        eng = f"Please {d.verb.eng}{d.eng}."
        kor, key = f"{d.kor}{g.infinitive(d.verb.stem)} 줘", d.key
    return ph.says(who, whom, (eng, kor), key)


def report(rng: Random) -> Pair:
    """Draws indirect speech: Minsu said that Jiyoung bought a hat, 모자를 샀다고 말했다."""
    teller = pick(rng, x.NAMES + x.ROLES[:6])
    who = ph.other(rng, teller, x.NAMES + x.ROLES)
    future = chance(rng, 0.35)
    if chance(rng, 0.2):
        d = ph.journey(rng)
    else:
        d = _deed(rng, who, "future" if future else "past", extra=False)
    if future:
        said = f"{d.kor}{g.coming(d.verb.stem)} {g.particle('것', 'quote')}"
    else:
        said = f"{d.kor}{g.past(d.verb.stem)}고"
    verb = ph.eng_verb(d, "future" if future else "past", who.pronoun == "they")
    return Pair(
        g.capital(f"{teller.eng} said that {who.eng} {verb}."),
        f"{ph.topic(teller)} {g.particle(who.kor, 'subject')} {said} 말했다.",
        ph.keys(who, d),
    )


def because(rng: Random) -> Pair:
    """Draws a reason: Minsu ate bread because he was hungry, 배가 고파서 빵을 먹었다."""
    mood, tense, verbs, limit = pick(rng, u.REASONS)
    who = ph.subject(rng)
    d = ph.follow(rng, who, verbs, limit)
    moods = {a.eng: a.stem for a in u.MOODS}
    verb = ph.eng_verb(d, tense, False)
    if mood in u.WEATHER:
        why = g.infinitive(u.WEATHER[mood]) + "서"
        eng = f"Because {mood}, {who.eng} {verb}."
        kor = f"{why} {ph.topic(who)} {ph.kor_verb(d, tense)}."
    else:
        why = g.infinitive(moods[mood]) + "서"
        be = _be(True, who.pronoun == "they")
        eng = g.capital(f"{who.eng} {verb} because {who.pronoun} {be} {mood}.")
        kor = f"{ph.topic(who)} {why} {ph.kor_verb(d, tense)}."
    return Pair(eng, kor, ph.keys(who, d))


def together(rng: Random) -> Pair:
    """Draws two deeds at a place: at home, Minsu read a book and wrote a letter."""
    who = ph.subject(rng)
    place = pick(rng, ("library", "home", "park", "kitchen", "cafe", "classroom", "room", "market"))
    first, second = two_deeds(rng, who, place)
    verbs = f"{ph.eng_verb(first, 'past', False)} and {ph.eng_verb(second, 'past', False)}"
    at = x.PLACES[place]
    return Pair(
        f"{g.capital(at.at)}, {who.eng} {verbs}.",
        f"{at.kor}에서 {ph.topic(who)} {first.kor}{first.verb.stem.text}고 "
        f"{ph.kor_verb(second, 'past')}.",
        ph.keys(who, first, second),
    )


def two_deeds(rng: Random, who: x.Person, place: str) -> tuple[Deed, Deed]:
    """Draws two different deeds that suit a place, which they do not name."""
    frames = [
        f
        for f in u.FRAMES
        if place in f.places.split() and "o" not in f.flags and (who.grown or "g" not in f.flags)
    ]
    frame = pick(rng, frames)
    other = pick(rng, [f for f in frames if f.verb != frame.verb])
    first = ph.deed(rng, frame, who, place="", simple=True, extra=False)
    second = ph.deed(rng, other, who, place="", simple=True, extra=False)
    return first, second


def order(rng: Random) -> Pair:
    """Draws before or after: after eating bread, Minsu read a book, 빵을 먹은 후에."""
    who = ph.subject(rng)
    place = pick(rng, ("library", "home", "kitchen", "cafe", "classroom", "room", "park"))
    first, second = two_deeds(rng, who, place)
    before = chance(rng, 0.5)
    link = f"{first.verb.stem.text}기 전에" if before else f"{g.done(first.verb.stem)} 후에"
    return Pair(
        f"{'Before' if before else 'After'} {first.verb.ing}{first.eng}, "
        f"{who.eng} {ph.eng_verb(second, 'past', False)}.",
        f"{first.kor}{link} {ph.topic(who)} {ph.kor_verb(second, 'past')}.",
        ph.keys(who, first, second),
    )


def contrast(rng: Random) -> Pair:
    """Draws a contrast: Minsu bought a hat, but Jiyoung bought a bag, 모자를 샀지만."""
    one = pick(rng, x.NAMES)
    two = ph.other(rng, one)
    frames = [f for f in u.FRAMES if f.objects not in ("person", "room") and "g" not in f.flags]
    several = [f for f in frames if len({"flower"} | {n.eng for n in ph.nouns_of(f.objects)}) > 2]
    frame = pick(rng, several)
    first = ph.deed(rng, frame, one, place="", simple=True, extra=False)
    second = first
    while second.eng == first.eng or second.eng in (" a flower", " flowers"):
        second = ph.deed(rng, frame, two, place="", simple=True, extra=False)
    return Pair(
        f"{one.eng} {ph.eng_verb(first, 'past', False)}, "
        f"but {two.eng} {ph.eng_verb(second, 'past', False)}.",
        f"{ph.topic(one)} {first.kor}{g.past_root(first.verb.stem)}지만 "
        f"{ph.topic(two)} {ph.kor_verb(second, 'past')}.",
        ph.keys(one, first) + ph.keys(two, second),
    )


def like(rng: Random) -> Pair:
    """Draws likes and dislikes: Minsu likes cats but does not like dogs."""
    who = ph.subject(rng)
    liked = "fruit drink brew fish dish pet horse farm lesson flower"
    noun = pick(rng, ph.nouns_of(liked))
    several = noun.det == "a" and noun.eng != "soup"
    stem, plural = u.VERBS["like"].stem, who.pronoun == "they"
    likes, not_likes = "like" if plural else "likes", "do not" if plural else "does not"
    one = ph.plain(noun, several)
    keys = tuple(f"{n}+like+{noun.eng}" for n in ph.lemmas(who))
    if noun in x.NOUNS["flower"] or chance(rng, 0.5):
        yes = chance(rng, 0.6)
        kor = g.present(stem) if yes else stem.text + "지 않는다"
        verb = likes if yes else f"{not_likes} like"
        return Pair(
            g.capital(f"{who.eng} {verb} {one.eng}."),
            f"{ph.topic(who)} {g.particle(one.kor, 'object')} {kor}.",
            keys,
        )
    rest = [n for n in x.NOUNS[ph.CLASS_OF[noun.eng]] if n != noun]
    second = pick(rng, rest or x.NOUNS["pet"])
    two = ph.plain(second, second.det == "a")
    return Pair(
        g.capital(f"{who.eng} {likes} {one.eng} but {not_likes} like {two.eng}."),
        f"{ph.topic(who)} {g.particle(one.kor, 'object')} 좋아하지만 "
        f"{g.particle(two.kor, 'topic')} 좋아하지 않는다.",
        keys + tuple(f"{n}+like+{second.eng}" for n in ph.lemmas(who)),
    )


def relative(rng: Random) -> Pair:
    """Draws a relative clause: the cake that Jiyoung baked was delicious, 지영이 구운 케이크는."""
    who = ph.subject(rng)
    makers = ("buy", "bake", "draw", "make", "borrow", "choose", "write", "read", "eat", "boil")
    frame = pick(rng, [f for f in u.FRAMES if f.verb in makers])
    noun = pick(rng, [n for n in ph.nouns_of(frame.objects) if ph.fitting(n)])
    verb, past = u.VERBS[frame.verb], chance(rng, 0.6)
    ready = [a for a in ph.fitting(noun) if frame.verb != "draw" or a.eng in ("big", "small")]
    adjective = pick(rng, ready or ph.fitting(noun))
    what = g.particle(f"{g.done(verb.stem)} {noun.kor}", "topic")
    be = _be(past, ph.is_plural(noun))
    return Pair(
        f"The {noun.eng} that {who.eng} {verb.past} {be} {adjective.eng}.",
        f"{g.particle(who.kor, 'subject')} {what} {_is(adjective, past)}.",
        tuple(f"{n}+{verb.eng}+{noun.eng}" for n in ph.lemmas(who)),
    )


def ask(rng: Random) -> Pair:
    """Draws a question: what did Minsu buy at the market? 민수는 시장에서 무엇을 샀나요?"""
    who = ph.subject(rng)
    draw = rng.random()
    frames = [f for f in u.FRAMES if f.objects not in ("person", "room") and f.places]
    frame = pick(rng, [f for f in frames if who.grown or "g" not in f.flags])
    verb, place = u.VERBS[frame.verb], x.PLACES[pick(rng, frame.places.split())]
    d = ph.deed(rng, frame, who, place="", simple=True, extra=False)
    root, keys = g.past_root(verb.stem) + "나요?", ph.keys(who, d)
    name, there = who.eng, ph.at(verb, place.kor)
    if draw < 0.25:
        keys = tuple(f"{n}+{verb.eng}+what+{place.bare}" for n in ph.lemmas(who))
        eng = f"What did {name} {verb.eng} {place.at}?"
        kor = f"{ph.topic(who)} {there} 무엇을 {root}"
    elif draw < 0.45:
        eng = f"Where did {name} {verb.eng}{d.eng}?"
        kor = f"{ph.topic(who)} {ph.at(verb, '어디')} {d.kor}{root}"
    elif draw < 0.6:
        eng = f"When did {name} {verb.eng}{d.eng}?"
        kor = f"{ph.topic(who)} 언제 {d.kor}{root}"
    elif draw < 0.75:
        eng = f"Who {verb.past}{d.eng} {place.at}?"
        kor = f"누가 {there} {d.kor}{root}"
        keys = (f"who+{d.key}+{place.bare}",)
    else:
        eng = f"Did {name} {verb.eng}{d.eng} {place.at}?"
        kor = f"{ph.topic(who)} {there} {d.kor}{root}"
    return Pair(eng, kor, keys)


PATTERNS: tuple[tuple[str, float, Callable[[Random], Pair]], ...] = (
    ("act", 0.20, act), ("negate", 0.05, negate), ("travel", 0.09, travel), ("hand", 0.06, hand),
    ("wish", 0.06, wish), ("scene", 0.05, scene), ("where", 0.05, where),
    ("quality", 0.05, quality), ("state", 0.04, state), ("speak", 0.05, speak),
    ("report", 0.05, report), ("because", 0.05, because), ("together", 0.03, together),
    ("order", 0.03, order), ("contrast", 0.04, contrast), ("like", 0.03, like),
    ("relative", 0.03, relative), ("ask", 0.04, ask),
)  # fmt: skip


def draw(rng: Random) -> Pair:
    """Draws a pair of a pattern, each pattern by its share."""
    at = rng.random()
    for _, share, pattern in PATTERNS:
        at -= share
        if at < 0:
            return pattern(rng)
    return act(rng)
