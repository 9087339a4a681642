"""Lists the nouns of the sample world: people, things, places, times, numbers, vehicles, tools.

Dedicated to the public domain (CC0 1.0). Each English word has one Korean translation.
"""

from typing import NamedTuple


class Noun(NamedTuple):
    """Holds a noun and how it is counted.

    det: the article of the singular: "a" (a or an), "the", or "" for a mass noun or a plural.
    """

    eng: str
    kor: str
    counter: str = ""  # the Korean counting word; "" for what is not counted
    plural: str = ""  # "" if it is regular
    det: str = "a"


class Person(NamedTuple):
    """Holds a person or a group; `eng` has its article. pronoun: he, she or they (a plural)."""

    eng: str
    kor: str
    pronoun: str = "he"
    grown: bool = True
    lemmas: tuple[str, ...] = ()  # the members of a group; () for one person


class Place(NamedTuple):
    """Holds the phrases of a place: in the park, to the park, the park, and the Korean noun."""

    at: str
    to: str
    bare: str
    kor: str


NAMES = (
    Person("Minsu", "민수"), Person("Jiyoung", "지영", "she"), Person("Junho", "준호"),
    Person("Yuna", "유나", "she"), Person("Taemin", "태민"), Person("Sujin", "수진", "she"),
    Person("Dohyun", "도현"), Person("Boram", "보람", "she"), Person("Woojin", "우진"),
    Person("Seoyeon", "서연", "she"), Person("Gunwoo", "건우"), Person("Eunbi", "은비", "she"),
)  # fmt: skip
ROLES = (
    Person("the teacher", "선생님", "she"), Person("the doctor", "의사", "she"),
    Person("the farmer", "농부"), Person("the nurse", "간호사", "she"),
    Person("the chef", "요리사"), Person("the painter", "화가", "she"),
    Person("the student", "학생", grown=False), Person("the boy", "소년", grown=False),
    Person("the girl", "소녀", "she", False), Person("the children", "아이들", "they", False),
    Person("the students", "학생들", "they", False),
)  # fmt: skip
FAMILY = (
    Person("mother", "어머니", "she"), Person("father", "아버지"), Person("friend", "친구"),
    Person("grandmother", "할머니", "she"), Person("grandfather", "할아버지"),
    Person("younger sister", "여동생", "she", False),
    Person("younger brother", "남동생", grown=False),
)  # fmt: skip
JOBS = (
    Noun("teacher", "선생님"), Noun("doctor", "의사"), Noun("farmer", "농부"),
    Noun("nurse", "간호사"), Noun("chef", "요리사"), Noun("painter", "화가"),
    Noun("singer", "가수"), Noun("police officer", "경찰관"), Noun("writer", "작가"),
)  # fmt: skip
CROWD = (
    Noun("student", "학생", "명"), Noun("child", "아이", "명", "children"),
    Noun("doctor", "의사", "명"), Noun("boy", "소년", "명"), Noun("girl", "소녀", "명"),
)  # fmt: skip

NOUNS = {
    "fruit": (
        Noun("apple", "사과", "개"), Noun("banana", "바나나", "개"), Noun("peach", "복숭아", "개"),
        Noun("orange", "오렌지", "개"), Noun("tomato", "토마토", "개", "tomatoes"),
        Noun("strawberry", "딸기", "개"), Noun("melon", "멜론", "개"), Noun("lemon", "레몬", "개"),
    ),
    "baked": (
        Noun("bread", "빵", det=""), Noun("cake", "케이크", "개"), Noun("cookie", "쿠키", "개"),
    ),
    "rice": (Noun("rice", "밥", "그릇", det=""),),
    "dish": (Noun("soup", "국", "그릇", det=""), Noun("sandwich", "샌드위치", "개")),
    "fish": (Noun("fish", "생선", det=""),),
    "boiled": (
        Noun("egg", "달걀", "개"), Noun("potato", "감자", "개", "potatoes"),
        Noun("noodles", "국수", "그릇", "noodles", ""),
    ),
    "water": (Noun("water", "물", "잔", det=""),),
    "drink": (Noun("juice", "주스", "잔", det=""), Noun("milk", "우유", "잔", det="")),
    "brew": (Noun("tea", "차", "잔", det=""), Noun("coffee", "커피", "잔", det="")),
    "pet": (
        Noun("cat", "고양이", "마리"), Noun("dog", "개", "마리"), Noun("bird", "새", "마리"),
        Noun("rabbit", "토끼", "마리"),
    ),
    "horse": (Noun("horse", "말", "마리"),),
    "farm": (
        Noun("cow", "소", "마리"), Noun("pig", "돼지", "마리"), Noun("chicken", "닭", "마리"),
        Noun("sheep", "양", "마리", "sheep"), Noun("duck", "오리", "마리"),
    ),
    "wild": (
        Noun("bear", "곰", "마리"), Noun("tiger", "호랑이", "마리"), Noun("fox", "여우", "마리"),
        Noun("monkey", "원숭이", "마리"), Noun("deer", "사슴", "마리", "deer"),
    ),
    "book": (Noun("book", "책", "권"), Noun("magazine", "잡지", "권")),
    "novel": (Noun("story", "이야기"), Noun("poem", "시", "편")),
    "letter": (Noun("letter", "편지", "통"),),
    "news": (Noun("newspaper", "신문"),),
    "pencil": (
        Noun("pencil", "연필", "자루"), Noun("pen", "펜", "자루"), Noun("notebook", "공책", "권"),
    ),
    "clothes": (
        Noun("hat", "모자", "개"), Noun("coat", "외투", "벌"),
        Noun("scarf", "목도리", "개", "scarves"),
        Noun("shoes", "신발", "켤레", "shoes", ""), Noun("gloves", "장갑", "켤레", "gloves", ""),
    ),
    "thing": (
        Noun("umbrella", "우산", "개"), Noun("bag", "가방", "개"), Noun("cup", "컵", "개"),
        Noun("mirror", "거울", "개"), Noun("key", "열쇠", "개"),
    ),
    "toy": (Noun("ball", "공", "개"), Noun("doll", "인형", "개"), Noun("kite", "연", "개")),
    "machine": (
        Noun("clock", "시계", "개"), Noun("computer", "컴퓨터", "대"),
        Noun("camera", "카메라", "대"),
    ),
    "bike": (Noun("bicycle", "자전거", "대"),),
    "car": (Noun("car", "자동차", "대"),),
    "furniture": (
        Noun("chair", "의자", "개"), Noun("desk", "책상", "개"), Noun("box", "상자", "개"),
    ),
    "flower": (Noun("flower", "꽃", "송이"), Noun("rose", "장미", "송이")),
    "tree": (Noun("tree", "나무", "그루"),),
    "picture": (Noun("picture", "그림", "장"),),
    "photo": (Noun("photo", "사진", "장"),),
    "lesson": (
        Noun("math", "수학", det=""), Noun("history", "역사", det=""),
        Noun("English", "영어", det=""), Noun("science", "과학", det=""),
    ),
    "instrument": (
        Noun("piano", "피아노", det="the"), Noun("guitar", "기타", det="the"),
        Noun("violin", "바이올린", det="the"),
    ),
    "song": (Noun("song", "노래"),),
    "sound": (Noun("music", "음악", det=""), Noun("radio", "라디오", det="the")),
    "movie": (Noun("movie", "영화", "편"),),
    "door": (Noun("door", "문", det="the"), Noun("window", "창문", det="the")),
    "traffic": (
        Noun("bus", "버스", det="the"), Noun("train", "기차", det="the"),
        Noun("taxi", "택시", det="the"),
    ),
}  # fmt: skip
KINDS = {  # what a group of nouns is called: English plural, Korean
    "fruit": ("fruits", "과일"), "animal": ("animals", "동물"), "drink": ("drinks", "음료"),
    "toy": ("toys", "장난감"), "subject": ("subjects", "과목"),
    "instrument": ("instruments", "악기"),
    "job": ("jobs", "직업"),
}  # fmt: skip
COUNTERS = {  # the highest number used, and the English unit (one, several) where one is needed
    "개": (10, ()), "마리": (10, ()), "명": (10, ()), "권": (10, ()), "그루": (10, ()),
    "송이": (10, ()), "자루": (10, ()), "장": (10, ()), "통": (5, ()), "편": (4, ()),
    "벌": (4, ()), "대": (4, ()), "잔": (4, ("cup of", "cups of")),
    "그릇": (4, ("bowl of", "bowls of")), "켤레": (5, ("pair of", "pairs of")),
}  # fmt: skip
NUMBERS = (
    ("one", "한"), ("two", "두"), ("three", "세"), ("four", "네"), ("five", "다섯"),
    ("six", "여섯"), ("seven", "일곱"), ("eight", "여덟"), ("nine", "아홉"), ("ten", "열"),
    ("eleven", "열한"), ("twelve", "열두"),
)  # fmt: skip


def _in(name: str, kor: str, prep: str = "in") -> Place:
    return Place(f"{prep} the {name}", f"to the {name}", f"the {name}", kor)


PLACES = {
    "park": _in("park", "공원"), "library": _in("library", "도서관"),
    "market": _in("market", "시장", "at"), "store": _in("store", "가게", "at"),
    "station": _in("station", "역", "at"), "hospital": _in("hospital", "병원", "at"),
    "restaurant": _in("restaurant", "식당", "at"), "cafe": _in("cafe", "카페", "at"),
    "bakery": _in("bakery", "빵집", "at"), "bookstore": _in("bookstore", "서점", "at"),
    "museum": _in("museum", "박물관", "at"), "zoo": _in("zoo", "동물원", "at"),
    "theater": _in("theater", "극장", "at"), "beach": _in("beach", "바닷가", "at"),
    "kitchen": _in("kitchen", "부엌"), "classroom": _in("classroom", "교실"),
    "garden": _in("garden", "정원"), "room": _in("room", "방"),
    "forest": _in("forest", "숲"), "farm": _in("farm", "농장", "on"),
    "office": _in("office", "사무실"), "village": _in("village", "마을"),
    "school": Place("at school", "to school", "the school", "학교"),
    "home": Place("at home", "home", "the house", "집"),
    "seoul": Place("in Seoul", "to Seoul", "Seoul", "서울"),
    "busan": Place("in Busan", "to Busan", "Busan", "부산"),
}  # fmt: skip
ROOMS = ("kitchen", "classroom", "room", "office", "library", "garden")
FAR = ("park", "library", "market", "station", "hospital", "museum", "zoo", "beach", "school",
       "village", "office", "theater", "farm", "seoul", "busan")  # fmt: skip
NEAR = ("store", "cafe", "bakery", "bookstore", "restaurant", "home", "garden", "forest")
CITIES = ("seoul", "busan")
VEHICLES = (
    ("by bus", "버스"), ("by train", "기차"), ("by car", "자동차"), ("by truck", "트럭"),
    ("by subway", "지하철"), ("by taxi", "택시"), ("by bicycle", "자전거"),
)  # the first four go from city to city # fmt: skip
TOOLS = {
    "pencil": ("with a pencil", "연필"), "pen": ("with a pen", "펜"),
    "brush": ("with a brush", "붓"), "knife": ("with a knife", "칼"),
    "spoon": ("with a spoon", "숟가락"), "camera": ("with a camera", "카메라"),
}  # fmt: skip
SPOTS = {
    "on": "위", "under": "아래", "next to": "옆", "behind": "뒤", "in front of": "앞", "in": "안",
}  # fmt: skip
ANCHORS = (  # a landmark, the positions around it, the classes of nouns that may be there
    (Noun("desk", "책상"), ("on", "under", "next to"), "thing toy book pencil clothes"),
    (Noun("table", "식탁"), ("on", "under", "next to"), "thing toy book pet"),
    (Noun("chair", "의자"), ("on", "under", "behind"), "thing toy book clothes pet"),
    (Noun("box", "상자"), ("in", "on", "next to", "behind"), "thing toy book pencil clothes"),
    (Noun("door", "문"), ("next to", "behind", "in front of"), "toy pet bike machine"),
    (Noun("tree", "나무"), ("under", "next to", "behind", "in front of"), "toy pet bike farm"),
    (Noun("car", "자동차"), ("next to", "behind", "in front of", "under"), "toy pet"),
)


DAYS = (
    ("Monday", "월요일"), ("Tuesday", "화요일"), ("Wednesday", "수요일"), ("Thursday", "목요일"),
    ("Friday", "금요일"), ("Saturday", "토요일"), ("Sunday", "일요일"),
)  # fmt: skip
HOURS = tuple((f"at {eng} o'clock", f"{kor} 시에") for eng, kor in NUMBERS)
ON_DAYS = tuple((f"on {eng}", f"{kor}에") for eng, kor in DAYS)
TIMES = {
    "past": (
        ("yesterday", "어제"), ("last week", "지난주에"), ("last night", "어젯밤에"),
        ("this morning", "오늘 아침에"), ("in the afternoon", "오후에"),
        ("in the evening", "저녁에"),
        *ON_DAYS, *HOURS,
    ),
    "future": (
        ("tomorrow", "내일"), ("next week", "다음 주에"), ("tonight", "오늘 밤에"),
        ("this afternoon", "오늘 오후에"), ("in the evening", "저녁에"),
        *ON_DAYS, *HOURS,
    ),
    "not_habit": (
        ("in the morning", "아침에"), ("in the afternoon", "오후에"), ("in the evening", "저녁에"),
        ("at night", "밤에"),
        *ON_DAYS,
    ),
    "habit": (
        ("every day", "매일"), ("every morning", "매일 아침"), ("every evening", "매일 저녁"),
        ("every weekend", "주말마다"),
        *((f"every {eng}", f"{kor}마다") for eng, kor in DAYS),
    ),
}  # fmt: skip
GREETINGS = (
    ("Hello.", "안녕"), ("Good morning.", "좋은 아침"), ("Thank you.", "고마워"),
    ("I am sorry.", "미안해"), ("Good night.", "잘 자"), ("Happy birthday.", "생일 축하해"),
    ("See you tomorrow.", "내일 보자"), ("I am hungry.", "배고파"), ("I am busy.", "바빠"),
    ("I am tired.", "피곤해"), ("Help me.", "도와줘"), ("Wait a minute.", "잠깐"),
    ("Of course.", "물론"), ("I love you.", "사랑해"), ("No problem.", "문제없어"),
)  # fmt: skip
