"""Lists the verbs and adjectives of the sample world and the nouns and places that suit each.

Sentences made by these tables make sense. Dedicated to the public domain (CC0 1.0). Each English
word has one Korean translation in its context (a cold day is 춥다, cold water is 차갑다).
"""

from typing import NamedTuple

from .grammar import Stem


class Verb(NamedTuple):
    """Holds the English forms of a verb and its Korean stem."""

    eng: str
    past: str
    ing: str
    stem: Stem


class Frame(NamedTuple):
    """Lists the objects, places and tools that suit a verb, separated by spaces; "" for none.

    objects: noun classes (or "person", "room"); places: keys of PLACES; tools: keys of TOOLS;
    flags: h may be a habit, n objects are not counted, g adults only, l fits "let's" and a
    companion, p fits "please", c is a skill ("can"), o past tense only, s plural objects, t the
    object takes "the", x no adjective of taste (nobody washes a sweet apple).
    """

    verb: str
    objects: str
    places: str
    tools: str = ""
    flags: str = ""


class Adjective(NamedTuple):
    """Holds an adjective. fits: noun classes; attribute: whether it may stand before a noun."""

    eng: str
    stem: Stem
    fits: str
    opposite: str = ""
    attribute: bool = True


VERBS = {
    verb.eng: verb
    for verb in (
        Verb("eat", "ate", "eating", Stem("먹")), Verb("drink", "drank", "drinking", Stem("마시")),
        Verb("read", "read", "reading", Stem("읽")), Verb("write", "wrote", "writing", Stem("쓰")),
        Verb("buy", "bought", "buying", Stem("사")), Verb("sell", "sold", "selling", Stem("팔")),
        Verb("see", "saw", "seeing", Stem("보")), Verb("wash", "washed", "washing", Stem("씻")),
        Verb("bake", "baked", "baking", Stem("굽", "ㅂ")),
        Verb("boil", "boiled", "boiling", Stem("삶")),
        Verb("cut", "cut", "cutting", Stem("자르", "르")),
        Verb("make", "made", "making", Stem("만들")),
        Verb("draw", "drew", "drawing", Stem("그리")),
        Verb("move", "moved", "moving", Stem("옮기")),
        Verb("clean", "cleaned", "cleaning", Stem("청소하")),
        Verb("study", "studied", "studying", Stem("공부하")),
        Verb("teach", "taught", "teaching", Stem("가르치")),
        Verb("sing", "sang", "singing", Stem("부르", "르")),
        Verb("listen to", "listened to", "listening to", Stem("듣", "ㄷ")),
        Verb("watch", "watched", "watching", Stem("보")),
        Verb("fix", "fixed", "fixing", Stem("고치")),
        Verb("borrow", "borrowed", "borrowing", Stem("빌리")),
        Verb("lose", "lost", "losing", Stem("잃어버리")),
        Verb("find", "found", "finding", Stem("찾")),
        Verb("open", "opened", "opening", Stem("열")),
        Verb("close", "closed", "closing", Stem("닫")),
        Verb("meet", "met", "meeting", Stem("만나")),
        Verb("help", "helped", "helping", Stem("돕", "오")),
        Verb("wait for", "waited for", "waiting for", Stem("기다리")),
        Verb("ride", "rode", "riding", Stem("타")),
        Verb("plant", "planted", "planting", Stem("심")),
        Verb("play", "played", "playing", Stem("연주하")),
        Verb("choose", "chose", "choosing", Stem("고르", "르")),
        Verb("take", "took", "taking", Stem("찍")), Verb("sleep", "slept", "sleeping", Stem("자")),
        Verb("rest", "rested", "resting", Stem("쉬")),
        Verb("work", "worked", "working", Stem("일하")),
        Verb("swim", "swam", "swimming", Stem("수영하")),
        Verb("dance", "danced", "dancing", Stem("춤을 추")),
        Verb("run", "ran", "running", Stem("달리")),
        Verb("take a walk", "took a walk", "taking a walk", Stem("산책하")),
        Verb("have fun", "had fun", "having fun", Stem("놀")),
        Verb("laugh", "laughed", "laughing", Stem("웃")),
        Verb("cry", "cried", "crying", Stem("울")),
        Verb("go", "went", "going", Stem("가")), Verb("come", "came", "coming", Stem("오")),
        Verb("return", "returned", "returning", Stem("돌아오")),
        Verb("walk", "walked", "walking", Stem("걸어가")),
        Verb("give", "gave", "giving", Stem("주")),
        Verb("show", "showed", "showing", Stem("보여 주")),
        Verb("send", "sent", "sending", Stem("보내")),
        Verb("lend", "lent", "lending", Stem("빌려주")),
        Verb("like", "liked", "liking", Stem("좋아하")),
    )
}  # fmt: skip

WHERE_TO = ("plant",)  # the place of these verbs takes 에, of all others 에서
FRAMES = (
    Frame("eat", "fruit baked", "kitchen park home garden classroom", flags="hl"),
    Frame("eat", "dish fish boiled", "restaurant kitchen home", flags="hl"),
    Frame("eat", "rice", "restaurant kitchen home", "spoon", "hl"),
    Frame("drink", "water drink", "kitchen cafe restaurant home classroom", flags="hl"),
    Frame("drink", "brew", "cafe office home kitchen", flags="hlg"),
    Frame("read", "book novel letter news", "library room park cafe home", flags="hl"),
    Frame("write", "letter novel", "room library cafe home", "pencil pen", "hc"),
    Frame("buy", "fruit", "market store", flags="l"),
    Frame("buy", "clothes thing", "market store", flags="l"),
    Frame("buy", "baked", "bakery market", flags="l"),
    Frame("buy", "book pencil", "bookstore store"),
    Frame("buy", "machine furniture bike car", "store"),
    Frame("buy", "toy flower", "store market"),
    Frame("sell", "fruit flower", "market store", flags="ghs"),
    Frame("sell", "clothes toy thing", "market store", flags="gs"),
    Frame("see", "pet", "park garden village"),
    Frame("see", "farm horse", "farm village"),
    Frame("see", "wild", "zoo forest"),
    Frame("see", "flower", "park garden"),
    Frame("see", "picture", "museum school"),
    Frame("wash", "fruit", "kitchen home", flags="lpx"),
    Frame("bake", "baked", "kitchen bakery home", flags="hlpc"),
    Frame("boil", "boiled", "kitchen restaurant", flags="lpx"),
    Frame("cut", "fruit baked", "kitchen home", "knife", "px"),
    Frame("make", "dish", "kitchen restaurant home", flags="hlpc"),
    Frame("make", "toy furniture", "room school garden", flags="lpc"),
    Frame("draw", "pet horse farm wild flower tree", "classroom park room", "pencil brush", "hlpc"),
    Frame("draw", "picture", "classroom park room", "pencil pen brush", "hc"),
    Frame("move", "furniture", "classroom office library room", flags="np"),
    Frame("clean", "room", "", flags="hlpn"),
    Frame("study", "lesson", "library school home room", flags="hln"),
    Frame("teach", "lesson", "school classroom", flags="hgn"),
    Frame("sing", "song", "classroom park room", flags="hlcn"),
    Frame("listen to", "sound", "room cafe home office", flags="hln"),
    Frame("watch", "movie", "theater home", flags="l"),
    Frame("fix", "machine furniture bike car", "garden office store home", flags="npcg"),
    Frame("borrow", "book", "library"),
    Frame("borrow", "thing", "office school", flags="n"),
    Frame("lose", "thing clothes", "park station market", flags="no"),
    Frame("find", "thing clothes toy", "park station room classroom", flags="no"),
    Frame("open", "door", "room classroom office kitchen", flags="pn"),
    Frame("close", "door", "room classroom office kitchen", flags="pn"),
    Frame("meet", "person", "park station cafe library market school", flags="n"),
    Frame("help", "person", "kitchen farm office school", flags="n"),
    Frame("wait for", "person", "station cafe park", flags="n"),
    Frame("wait for", "traffic", "station", flags="nh"),
    Frame("ride", "bike", "park village beach", flags="hlcn"),
    Frame("ride", "horse", "farm beach", flags="hlcn"),
    Frame("plant", "flower tree", "garden park farm", flags="l"),
    Frame("play", "instrument", "room home classroom", flags="hcn"),
    Frame("choose", "clothes book thing toy", "store market"),
    Frame("take", "photo", "park beach zoo museum", "camera", "h"),
)
ALONE = (
    Frame("sleep", "", "room home"),
    Frame("rest", "", "home park room garden", flags="hl"),
    Frame("work", "", "office hospital farm restaurant", flags="gh"),
    Frame("swim", "", "beach", flags="hlc"),
    Frame("dance", "", "room park classroom", flags="hl"),
    Frame("run", "", "park beach", flags="hl"),
    Frame("laugh", "", "classroom room park", flags="o"),
    Frame("take a walk", "", "park beach forest garden", flags="hl"),
    Frame("have fun", "", "park beach zoo village", flags="l"),
    Frame("cry", "", "room classroom", flags="o"),
)
GIFTS = (
    Frame("give", "fruit flower toy book pencil clothes", ""),
    Frame("show", "picture photo pet", ""),
    Frame("send", "letter book photo clothes", ""),
    Frame("lend", "thing pencil book", "", flags="n"),
)
SCENES = (  # "there is": the nouns and their places
    Frame("be", "pet", "park garden village"),
    Frame("be", "farm horse", "farm village"),
    Frame("be", "wild", "zoo forest"),
    Frame("be", "crowd", "classroom park library station school"),
    Frame("be", "flower", "garden park"),
    Frame("be", "tree", "garden park forest"),
    Frame("be", "furniture", "classroom office room library"),
)

ADJECTIVES = (
    Adjective("big", Stem("크"), "fruit pet horse farm wild toy furniture thing tree", "small"),
    Adjective("small", Stem("작"), "fruit pet horse farm wild toy furniture thing tree", "big"),
    Adjective("red", Stem("빨갛", "ㅎ"), "clothes toy thing bike car flower"),
    Adjective("blue", Stem("파랗", "ㅎ"), "clothes toy thing bike car"),
    Adjective("yellow", Stem("노랗", "ㅎ"), "clothes toy thing bike car flower"),
    Adjective("white", Stem("하얗", "ㅎ"), "clothes toy thing pet horse bike car flower", "black"),
    Adjective("black", Stem("까맣", "ㅎ"), "clothes thing pet horse bike car", "white"),
    Adjective("pretty", Stem("예쁘"), "clothes toy flower thing picture"),
    Adjective("long", Stem("길"), "letter novel movie", "short"),
    Adjective("short", Stem("짧"), "letter novel movie", "long"),
    Adjective("heavy", Stem("무겁", "ㅂ"), "furniture machine", "light"),
    Adjective("light", Stem("가볍", "ㅂ"), "furniture machine", "heavy"),
    Adjective("expensive", Stem("비싸"), "clothes machine bike car thing", "cheap"),
    Adjective("cheap", Stem("싸"), "clothes machine bike car thing", "expensive"),
    Adjective("delicious", Stem("맛있", "있"), "fruit baked rice dish fish boiled drink brew"),
    Adjective("sweet", Stem("달"), "fruit baked"),
    Adjective("fresh", Stem("신선하"), "fruit"),
    Adjective("hot", Stem("뜨겁", "ㅂ"), "brew", "cold"),
    Adjective("cold", Stem("차갑", "ㅂ"), "water drink", "hot"),
    Adjective("clean", Stem("깨끗하"), "clothes thing bike car", "dirty", False),
    Adjective("dirty", Stem("더럽", "ㅂ"), "clothes thing bike car", "clean", False),
    Adjective("interesting", Stem("재미있", "있"), "book novel movie letter", "boring"),
    Adjective("boring", Stem("지루하"), "book novel movie", "interesting", False),
)  # fmt: skip
MOODS = (
    Adjective("happy", Stem("행복하"), "person", "sad"),
    Adjective("sad", Stem("슬프"), "person", "happy"),
    Adjective("busy", Stem("바쁘"), "person"), Adjective("kind", Stem("친절하"), "person"),
    Adjective("tired", Stem("피곤하"), "person"), Adjective("sick", Stem("아프"), "person"),
    Adjective("bored", Stem("심심하"), "person"), Adjective("hungry", Stem("배가 고프"), "person"),
    Adjective("thirsty", Stem("목이 마르", "르"), "person"),
)  # fmt: skip
AIRS = (
    Adjective("quiet", Stem("조용하"), "place", "noisy"),
    Adjective("noisy", Stem("시끄럽", "ㅂ"), "place", "quiet"),
    Adjective("clean", Stem("깨끗하"), "place", "dirty"),
    Adjective("dirty", Stem("더럽", "ㅂ"), "place", "clean"),
)  # fmt: skip

WEATHER = {
    "it was raining": Stem("비가 오"), "it was snowing": Stem("눈이 오"),
    "it was cold": Stem("날씨가 춥", "ㅂ"), "it was hot": Stem("날씨가 덥", "ㅂ"),
    "it was warm": Stem("날씨가 따뜻하"),
}  # fmt: skip
# What a mood or the weather leads to: tense, verbs, and the places or noun classes that fit.
REASONS = (
    ("hungry", "past", "eat", ""), ("thirsty", "past", "drink", "water drink"),
    ("tired", "past", "sleep rest", ""), ("bored", "past", "watch read draw play listen_to", ""),
    ("happy", "past", "sing dance laugh", ""), ("sad", "past", "cry", ""),
    ("sick", "past", "sleep rest", "home room"), ("busy", "could_not", "watch rest meet read", ""),
    ("sick", "could_not", "work swim run study", ""),
    ("tired", "could_not", "study take_a_walk dance clean", ""),
    ("it was raining", "past", "rest read watch sleep", "home room library"),
    ("it was raining", "could_not", "swim take_a_walk run", ""),
    ("it was snowing", "past", "take have_fun take_a_walk", "park"),
    ("it was snowing", "could_not", "work ride", ""),
    ("it was cold", "past", "drink", "brew"), ("it was cold", "past", "close", ""),
    ("it was hot", "past", "swim open", ""), ("it was hot", "past", "drink", "water drink"),
    ("it was warm", "past", "take_a_walk have_fun run", "park beach garden"),
)  # fmt: skip
