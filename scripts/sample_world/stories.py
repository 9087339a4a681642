"""Tells short stories of the sample world: paragraphs about one person, in both languages.

Dedicated to the public domain (CC0 1.0). Each plot draws the sentences of one story, in the order
of time. Where English repeats the subject as a pronoun, Korean leaves it out.
"""

from collections.abc import Callable, Sequence
import random

from . import grammar as g
from . import lexicon as x
from . import phrases as ph
from . import usage as u
from .phrases import Deed, Pair, chance, pick

Random = random.Random
Lead = tuple[str, str]
NONE, SO, BUT = ("", ""), ("So", "그래서"), ("But", "하지만")
THERE, THEN, AFTER, LATER = (
    ("There,", "그곳에서"), ("Then", "그리고"), ("After that,", "그 후에"), ("Later,", "나중에"),
)  # fmt: skip
FINALLY = ("Later,", "나중에는")
HOME = Deed(u.VERBS["return"], " home", "집으로 ", "return+home")
COMPLAINTS = ("boring", "dirty", "heavy")  # a story does not praise a thing with these
TRIPS = {  # a day out: where, the first thing done there, and the second
    "park": ("see ride draw run", "rest take_a_walk read"), "zoo": ("see", "take"),
    "library": ("read study borrow", "write read"), "market": ("buy choose", "buy"),
    "store": ("buy choose", "buy"), "cafe": ("drink", "read listen_to write"),
    "beach": ("swim run", "take rest take_a_walk"), "farm": ("see ride", "plant"),
    "bookstore": ("buy", "buy"), "museum": ("see", "take"), "restaurant": ("eat", "drink eat"),
}  # fmt: skip
WORK = {  # what people of each job do every day: verb, place
    "teacher": ("teach", "school"), "doctor": ("work", "hospital"), "farmer": ("work", "farm"),
    "nurse": ("work", "hospital"), "chef": ("make", "restaurant"), "painter": ("draw", "park"),
    "singer": ("sing", "park"), "writer": ("write", "library"),
}  # fmt: skip


def passage(beats: Sequence[Pair]) -> Pair:
    """Joins sentences into one text."""
    combinations = tuple(c for b in beats for c in b.combinations)
    return Pair(" ".join(b.eng for b in beats), " ".join(b.kor for b in beats), combinations)


def go_on(who: x.Person, d: Deed, tense: str = "past", lead: Lead = NONE) -> Pair:
    """Makes a sentence with a pronoun: "Then he bought bread.", "그리고 빵을 샀다."."""
    verb = ph.eng_verb(d, tense, who.pronoun == "they")
    eng = f"{lead[0]} {who.pronoun} {verb}.".strip()
    return Pair(g.capital(eng), f"{lead[1]} {ph.kor_verb(d, tense)}.".strip(), ph.keys(who, d))


def starts(who: x.Person, d: Deed, tense: str = "past", lead: Lead = NONE) -> Pair:
    """Makes a sentence that names its subject: "But Jiyoung read.", "하지만 지영은 읽었다."."""
    verb = ph.eng_verb(d, tense, who.pronoun == "they")
    eng = f"{lead[0]} {who.eng} {verb}.".strip()
    kor = f"{lead[1]} {ph.topic(who)} {ph.kor_verb(d, tense)}.".strip()
    return Pair(g.capital(eng), kor, ph.keys(who, d))


def feels(who: x.Person, mood: str, lead: Lead = NONE, when: Lead = NONE) -> Pair:
    """Makes a sentence about a mood; after a lead such as "So" the subject is a pronoun."""
    stem = next(a.stem for a in u.MOODS if a.eng == mood)
    be = "were" if who.pronoun == "they" else "was"
    subject = (who.pronoun, "") if lead[0] else (who.eng, ph.topic(who))
    eng = " ".join(filter(None, (lead[0], subject[0], be, mood, when[0])))
    kor = " ".join(filter(None, (lead[1], subject[1], when[1], g.past(stem))))
    return Pair(g.capital(eng) + ".", kor + ".", tuple(f"{n}+be+{mood}" for n in ph.lemmas(who)))


def noun_of(d: Deed) -> x.Noun | None:
    """Returns the object of a deed if it is a noun of the lexicon."""
    return ph.NOUN.get(d.key.partition("+")[2])


def remark(rng: Random, d: Deed) -> list[Pair]:
    """Makes a sentence about the object just named (the soup was delicious), or none."""
    noun = noun_of(d)
    adjectives = [a for a in ph.fitting(noun) if a.eng not in COMPLAINTS] if noun else []
    if not noun or not adjectives:
        return []
    a = pick(rng, adjectives)
    be = "were" if ph.is_plural(noun) else "was"
    kor = f"{g.particle(noun.kor, 'topic')} {g.past(a.stem)}."
    return [Pair(f"The {noun.eng} {be} {a.eng}.", kor, (f"the+{noun.eng}+{a.eng}",))]


def the(verb: str, noun: x.Noun, eng: str = "", kor: str = "") -> Deed:
    """Returns a deed whose object the story has named before: found the umbrella."""
    what = g.particle(noun.kor, "object")
    return Deed(u.VERBS[verb], f" the {noun.eng}{eng}", f"{kor}{what} ", f"{verb}+{noun.eng}")


def do(
    rng: Random, who: x.Person, verbs: str, place: str = "", said: bool = False, simple: bool = True
) -> Deed:
    """Draws a deed of one of the verbs that suits a place; said: the sentence names the place."""
    verb = pick(rng, verbs.split()).replace("_", " ")
    frames = [f for f in ph.ALL_DEEDS if f.verb == verb]
    frames = [f for f in frames if who.grown or "g" not in f.flags] or frames
    frames = [f for f in frames if not place or place in f.places.split()] or frames
    frame = pick(rng, frames)
    named = place if said and place in frame.places.split() else ""
    return ph.deed(rng, frame, who, place=named, simple=simple, extra=False)


def hero(rng: Random) -> x.Person:
    """Draws the person of a story."""
    draw = rng.random()
    return pick(rng, x.NAMES) if draw < 0.75 else pick(rng, x.ROLES)


# ---------------------------------------------------------------------------- plots
def outing(rng: Random) -> list[Pair]:
    """Tells of a trip: someone goes to a place, does two things there and comes home."""
    who, place = hero(rng), pick(rng, tuple(TRIPS))
    trip = ph.journey(rng, True, place)
    one, two = TRIPS[place]
    first = do(rng, who, one, place, simple=chance(rng, 0.5))
    second = first
    while second.key == first.key:
        second = do(rng, who, two, place)
    when = pick(rng, x.TIMES["past"])
    beats = [ph.tell(who, trip, "past", when, chance(rng, 0.6)), go_on(who, first, lead=THERE)]
    beats.append(go_on(who, second, lead=THEN))
    if chance(rng, 0.5):
        beats += remark(rng, second)
    if chance(rng, 0.6):
        beats.append(go_on(who, HOME, lead=pick(rng, (AFTER, LATER))))
    return [*beats, feels(who, pick(rng, ("happy", "tired", "hungry", "thirsty")))]


def meeting(rng: Random) -> list[Pair]:
    """Tells of two friends who meet and do something together."""
    who = pick(rng, x.NAMES)
    friend = ph.other(rng, who)
    place = pick(rng, ("park", "cafe", "library"))
    meet = Deed(u.VERBS["meet"], f" {friend.eng}", g.particle(friend.kor, "object") + " ",
                f"meet+{friend.eng}")  # fmt: skip
    both = ph.couple(who, friend)
    verbs = {"park": "run take_a_walk eat", "cafe": "drink", "library": "study read"}[place]
    first = do(rng, both, verbs, place)
    eng = f"They {ph.eng_verb(first, 'past', True)} together."
    beats = [
        ph.tell(who, ph.journey(rng, True, place), "past", pick(rng, x.TIMES["past"]), True),
        go_on(who, meet, lead=THERE),
        Pair(eng, f"둘은 함께 {ph.kor_verb(first, 'past')}.", ph.keys(both, first)),
    ]
    if chance(rng, 0.6):
        beats.append(ph.says(who, friend, ("See you tomorrow.", "내일 보자")))
    home = Pair("Later, they returned home.", "나중에 집으로 돌아왔다.", ph.keys(both, HOME))
    return [*beats, home] if chance(rng, 0.6) else [*beats, feels(who, "happy")]


def mood(rng: Random) -> list[Pair]:
    """Tells of a mood, what follows from it, and how it ends."""
    who = hero(rng)
    name, tense, verbs, limit = pick(rng, [r for r in u.REASONS if r[0] not in u.WEATHER])
    beats = [feels(who, name, when=pick(rng, x.TIMES["past"]))]
    if tense == "could_not":
        beats.append(go_on(who, ph.follow(rng, who, verbs, limit), tense, SO))
        verb, where = ("clean", "") if name == "busy" else ("rest sleep", "home")
        rest = do(rng, who, verb, where, said=True)
        return [*beats, go_on(who, rest), feels(who, "sad")]
    first = ph.follow(rng, who, verbs, limit) if limit else do(rng, who, verbs, "home")
    beats.append(go_on(who, first, lead=SO))
    beats += remark(rng, first)
    later = {"hungry": "drink", "thirsty": "rest", "tired": "drink", "sick": "drink"}
    beats.append(go_on(who, do(rng, who, later.get(name, "rest sleep")), lead=AFTER))
    return beats if name == "happy" else [*beats, feels(who, "happy", FINALLY)]


def lost(rng: Random) -> list[Pair]:
    """Tells of a lost thing that a friend finds and gives back."""
    who = pick(rng, x.NAMES)
    friend = ph.other(rng, who)
    first = do(rng, who, "lose", pick(rng, ("park", "station", "market")), said=True)
    noun = noun_of(first)
    assert noun, "only things are lost"
    finding = the("find", noun)
    kor = f"하지만 {g.particle(friend.kor, 'subject')} {ph.kor_verb(finding, 'past')}."
    return [
        ph.tell(who, first, "past", pick(rng, x.TIMES["past"]), chance(rng, 0.4)),
        feels(who, "sad", SO),
        Pair(f"But {friend.eng} found the {noun.eng}.", kor, ph.keys(friend, finding)),
        starts(friend, the("give", noun, f" to {who.eng}", f"{who.kor}에게 ")),
        ph.says(who, friend, ("Thank you.", "고마워")),
        *([feels(who, "happy")] if chance(rng, 0.4) else []),
    ]


def birthday(rng: Random) -> list[Pair]:
    """Tells of a gift for a friend's birthday."""
    who = pick(rng, x.NAMES)
    friend = ph.other(rng, who)
    first = do(rng, who, "buy choose", "store", said=True)
    noun = noun_of(first)
    while not noun or ph.CLASS_OF[noun.eng] not in ("clothes", "toy", "flower", "thing", "book"):
        first = do(rng, who, "buy choose", "store", said=True)
        noun = noun_of(first)
    when = pick(rng, (("Yesterday", "어제"), *x.DAYS))
    kor = f"{g.particle(when[1], 'topic')} {friend.kor}의 생일이었다."
    give = the("give", noun, f" to {friend.eng}", f"{friend.kor}에게 ")
    beats = [
        Pair(f"{when[0]} was {friend.eng}'s birthday.", kor, ()),
        starts(who, first),
        go_on(who, give, lead=THEN),
        *(remark(rng, first) if chance(rng, 0.5) else []),
    ]
    if chance(rng, 0.5):
        beats.append(ph.says(who, friend, ("Happy birthday.", "생일 축하해")))
    return [*beats, feels(friend, "happy")]


def portrait(rng: Random) -> list[Pair]:
    """Describes someone: work, habits, likes, wishes."""
    who, job = pick(rng, x.NAMES), pick(rng, [j for j in x.JOBS if j.eng in WORK])
    verb, place = WORK[job.eng]
    when = pick(rng, x.TIMES["habit"])
    d = do(rng, who, verb, place, said=True, simple=True)
    daily = ph.eng_verb(d, "habit", False)
    beats = [
        Pair(
            f"{who.eng} is {g.article(job.eng)}.",
            f"{ph.topic(who)} {g.particle(job.kor, 'is')}.",
            (f"{who.eng}+{who.eng}+{job.eng}",),
        ),
        Pair(
            g.capital(f"{when[0]}, {who.pronoun} {daily}."),
            f"{when[1]} {ph.kor_verb(d, 'habit')}.",
            ph.keys(who, d),
        ),
        *_tastes(rng, who),
    ]
    if chance(rng, 0.5):
        skill = pick(rng, ph.frames_for(who, "c"))
        beats.append(go_on(who, ph.deed(rng, skill, who, "", True, False), "can"))
    if chance(rng, 0.5):
        dream = ph.deed(rng, pick(rng, ph.frames_for(who, "l")), who, None, False, False)
        beats.append(go_on(who, dream, "want", NONE))
    return beats


def _tastes(rng: Random, who: x.Person) -> list[Pair]:
    classes = pick(rng, ("fruit", "brew", "pet", "farm", "lesson", "drink"))
    yes, no = pick(rng, x.NOUNS[classes]), pick(rng, x.NOUNS[classes])
    like = u.VERBS["like"]
    one, two = ph.plain(yes, True), ph.plain(no, True)
    d = Deed(like, f" {one.eng}", g.particle(one.kor, "object") + " ", f"like+{yes.eng}")
    beats = [go_on(who, d, "habit")]
    if yes != no:
        d = Deed(like, f" {two.eng}", g.particle(two.kor, "topic") + " ", f"like+{no.eng}")
        beats.append(go_on(who, d, "not_habit", BUT))
    return beats


def view(rng: Random) -> list[Pair]:
    """Describes a place with animals, and what someone does there."""
    who = hero(rng)
    frame = pick(rng, [f for f in u.SCENES if f.objects in ("pet", "farm horse", "wild")])
    place = pick(rng, frame.places.split())
    nouns = ph.nouns_of(frame.objects)
    one = two = pick(rng, nouns)
    while two == one:
        two = pick(rng, nouns)
    air = pick(rng, u.AIRS[:2])
    at, bare, kor = x.PLACES[place].at, x.PLACES[place].bare, x.PLACES[place].kor
    many, few = 2 + int(rng.random() * 9), 2 + int(rng.random() * 4)
    first, second = ph.counted_as(one, many), ph.counted_as(two, few)
    drawn = Deed(u.VERBS["draw"], f" {g.article(one.eng)}", g.particle(one.kor, "object") + " ",
                 f"draw+{one.eng}")  # fmt: skip
    after = drawn if chance(rng, 0.5) else do(rng, who, "take take_a_walk rest")
    return [
        Pair(
            f"There were {first.eng} {at}.",
            f"{kor}에 {g.particle(first.kor, 'subject')} 있었다.",
            (f"there+{one.eng}+{place}+{many}",),
        ),
        Pair(
            f"There were {second.eng} too.",
            f"{second.kor}도 있었다.",
            (f"there+{two.eng}+{place}+{few}",),
        ),
        Pair(
            g.capital(f"{bare} was {air.eng}."),
            f"{g.particle(kor, 'topic')} {g.past(air.stem)}.",
            (f"{bare.removeprefix('the ')}+be+{air.eng}",),
        ),
        starts(who, after),
        *([go_on(who, HOME, lead=LATER)] if chance(rng, 0.6) else [feels(who, "happy")]),
    ]


def weather(rng: Random) -> list[Pair]:
    """Tells of the weather and of what someone does, or cannot do, because of it."""
    who = hero(rng)
    sky, tense, verbs, limit = pick(rng, [r for r in u.REASONS if r[0] in u.WEATHER])
    when = pick(rng, x.TIMES["past"])
    first = ph.follow(rng, who, verbs, limit)
    beats = [
        Pair(g.capital(f"{sky} {when[0]}."), f"{when[1]} {g.past(u.WEATHER[sky])}.", ()),
        starts(who, first, tense, SO),
    ]
    stay = do(rng, who, "read sleep watch", "home", said=True)
    if tense == "could_not":
        beats += [go_on(who, stay), *remark(rng, stay)]
    still = first if tense == "past" else stay
    later = "drink" if still.verb.eng in ("read", "sleep", "rest", "watch", "close") else "rest"
    beats.append(go_on(who, do(rng, who, later), lead=AFTER))
    return [*beats, feels(who, pick(rng, ("happy", "tired")))]


def friends(rng: Random) -> list[Pair]:
    """Tells of two friends who go to a place and do different things there."""
    one = pick(rng, x.NAMES)
    two = ph.other(rng, one)
    both = ph.couple(one, two)
    place = pick(rng, ("park", "beach", "library", "market", "zoo", "farm"))
    first = second = do(rng, one, TRIPS[place][0], place)
    while second.key == first.key:
        second = do(rng, two, " ".join(TRIPS[place]), place)
    trip = ph.journey(rng, True, place)
    return [
        ph.tell(both, trip, "past", pick(rng, x.TIMES["past"]), chance(rng, 0.6)),
        starts(one, first),
        starts(two, second, lead=BUT),
        Pair("Later, they returned home.", "나중에 둘은 집으로 돌아왔다.", ph.keys(both, HOME)),
        Pair("They were happy.", "둘은 행복했다.", tuple(f"{n}+be+happy" for n in both.lemmas)),
    ][: 4 if chance(rng, 0.5) else 5]


def plan(rng: Random) -> list[Pair]:
    """Tells what someone plans to do."""
    who, place = hero(rng), pick(rng, tuple(TRIPS))
    one, two = TRIPS[place]
    first = second = do(rng, who, one, place, simple=False)
    while second.key == first.key:
        second = do(rng, who, two, place)
    when = pick(rng, x.TIMES["future"])
    tense, lead = ("want", NONE) if chance(rng, 0.4) else ("future", THEN)
    beats = [
        ph.tell(who, ph.journey(rng, True, place), "future", when, True),
        go_on(who, first, "future", THERE),
        go_on(who, second, tense, lead),
        go_on(who, do(rng, who, "swim work study draw", "", True), "not_future", BUT),
    ]
    return beats[: 3 if chance(rng, 0.5) else 4]


def routine(rng: Random) -> list[Pair]:
    """Tells what someone does every day."""
    who = hero(rng)
    when = pick(rng, [t for t in x.TIMES["habit"] if "evening" not in t[0]])
    verbs = ["drink eat", "read write listen_to", "clean bake play draw", "study sing"]
    first, second, third = (do(rng, who, v) for v in (verbs[0], verbs[1], pick(rng, verbs[2:])))
    school = ph.journey(rng, True, pick(rng, ("school", "library", "park", "market")))
    return [
        ph.tell(who, first, "habit", when, chance(rng, 0.6)),
        go_on(who, second, "habit", THEN),
        go_on(who, school, "habit", AFTER),
        *([go_on(who, third, "habit", ("In the evening,", "저녁에"))] if chance(rng, 0.6) else []),
    ]


PLOTS: tuple[Callable[[Random], list[Pair]], ...] = (
    outing, outing, meeting, mood, mood, lost, birthday, portrait, view, weather, friends, plan,
    routine,
)  # fmt: skip


def draw(rng: Random) -> list[Pair]:
    """Draws the sentences of one paragraph."""
    return pick(rng, PLOTS)(rng)
