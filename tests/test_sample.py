"""The sample world: grammatical pairs, held-out combinations, and the same bytes for ever."""

import hashlib
import json
import lzma
import re
import tomllib
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from lrl_jax.data.sample import world
from scripts.sample_world import corpora, make, patterns, usage
from scripts.sample_world import grammar as g
from scripts.sample_world import lexicon as x
from scripts.sample_world.grammar import Stem

FINGERPRINTS = {
    "train.eng": "29744b12486e77a487f94fb46cbd020cbf1a0e82447e6eaa8f535cedd8de71b3",
    "train.kor": "425831139878582dcc2b4e0ce6f5ec1ab88394e7353c4410e91d95cc23aa92d8",
    "dev.eng": "8affb682d40bd1154512f20289f0b5c672795549699c110b1045bc4b2af76b85",
    "dev.kor": "4558e53675c83ca8fb8db8bf609f04689b597f3fad7383b51330b06fdecc2108",
    "test.eng": "42f1983b8f018987b92f2a24da9f0d43cf35716995ac9b1f433844a772f31b23",
    "test.kor": "693c9b6fec4536525b7bcc7254359be7e548e63982751ed5eed2fd5c8ee10dfa",
    "mono.eng": "065ab3ca49567cea88cf5c58606b1b761d64dc2d32fc1186611b5ac5a68436a9",
    "mono.kor": "6157d96bcf8fca6baecca5a104a20987e83a7f05fad653babb7527b8c407e790",
    "instruct.eng.jsonl": "20e8c44cafc7da89b9f2e581f10db2f0b62f40e52c1a007b86a679a6f4682e71",
    "instruct.kor.jsonl": "cf83886c580836cf8785ecb3641df4387d17addc01dcba9924c05bb298d8c6d1",
}  # fmt: skip

# Read by eye, word for word; every pair is served under one of the three splits.
PAIRS = {
    "Jiyoung and Minsu will eat two bowls of noodles at home.":
        "지영과 민수는 집에서 국수 두 그릇을 먹을 것이다.",
    "Gunwoo drank two cups of milk in the kitchen because he was thirsty.":
        "건우는 목이 말라서 부엌에서 우유 두 잔을 마셨다.",
    "There were three pairs of shoes on the box.": "상자 위에 신발 세 켤레가 있었다.",
    "Woojin went to the beach by subway at ten o'clock.": "우진은 열 시에 지하철로 바닷가에 갔다.",
    "Every day, Sujin goes to the village by truck.": "매일 수진은 트럭으로 마을에 간다.",
    "Jiyoung lent a pencil to Gunwoo this morning.":
        "지영은 오늘 아침에 건우에게 연필을 빌려주었다.",
    "Minsu draws five pictures with a brush every Tuesday.":
        "민수는 화요일마다 붓으로 그림 다섯 장을 그린다.",
    "The boy cut bread with a knife at home.": "소년은 집에서 칼로 빵을 잘랐다.",
    "Junho has to rest in the room on Sunday.": "준호는 일요일에 방에서 쉬어야 한다.",
    "The boy could not study math because he was tired.":
        "소년은 피곤해서 수학을 공부하지 못했다.",
    "Because it was raining, Junho could not swim.": "비가 와서 준호는 수영하지 못했다.",
    'Jiyoung said to Gunwoo, "Good morning."': '지영은 건우에게 "좋은 아침"이라고 말했다.',
    'Boram said to Taemin, "Let\'s listen to music at home."':
        '보람은 태민에게 "집에서 음악을 듣자"라고 말했다.',
    'Yuna said to Taemin, "Please bake a cookie at the bakery."':
        '유나는 태민에게 "빵집에서 쿠키를 구워 줘"라고 말했다.',
    "Gunwoo said that the student will boil an egg.": "건우는 학생이 달걀을 삶을 것이라고 말했다.",
    "Dohyun said that the chef helped Boram.": "도현은 요리사가 보람을 도왔다고 말했다.",
    "After listening to music, Eunbi opened the door.": "음악을 들은 후에 은비는 문을 열었다.",
    "Before writing a letter, Minsu met Yuna.": "편지를 쓰기 전에 민수는 유나를 만났다.",
    "Jiyoung saw a bear, but Eunbi saw a deer.": "지영은 곰을 보았지만 은비는 사슴을 보았다.",
    "Dohyun likes math but does not like science.":
        "도현은 수학을 좋아하지만 과학은 좋아하지 않는다.",
    "The bread that Junho baked was sweet.": "준호가 구운 빵은 달았다.",
    "The mirror that Minsu's father chose was yellow.": "민수의 아버지가 고른 거울은 노랬다.",
    "What did Seoyeon eat at the restaurant?": "서연은 식당에서 무엇을 먹었나요?",
    "Where did the girl plant a flower?": "소녀는 어디에 꽃을 심었나요?",
    "Who drew a picture in the room?": "누가 방에서 그림을 그렸나요?",
    "There were eight deer in the forest.": "숲에 사슴 여덟 마리가 있었다.",
    "The children's ball is under the table.": "아이들의 공은 식탁 아래에 있다.",
    "Seoyeon's grandfather is a farmer.": "서연의 할아버지는 농부다.",
    "There is a doctor in the classroom.": "교실에 의사가 있다.",
    "Junho can play the piano.": "준호는 피아노를 연주할 수 있다.",
    "Yuna does not take a walk at night.": "유나는 밤에 산책하지 않는다.",
}  # fmt: skip

# stem, kind: infinitive, past, present, -(으)ㄴ, -(으)ㄹ
VERBS = [
    ("먹", "", "먹어", "먹었다", "먹는다", "먹은", "먹을"),
    ("가", "", "가", "갔다", "간다", "간", "갈"),
    ("오", "", "와", "왔다", "온다", "온", "올"),
    ("보", "", "보아", "보았다", "본다", "본", "볼"),
    ("마시", "", "마셔", "마셨다", "마신다", "마신", "마실"),
    ("쓰", "", "써", "썼다", "쓴다", "쓴", "쓸"),
    ("만들", "", "만들어", "만들었다", "만든다", "만든", "만들"),
    ("팔", "", "팔아", "팔았다", "판다", "판", "팔"),
    ("듣", "ㄷ", "들어", "들었다", "듣는다", "들은", "들을"),
    ("굽", "ㅂ", "구워", "구웠다", "굽는다", "구운", "구울"),
    ("돕", "오", "도와", "도왔다", "돕는다", "도운", "도울"),
    ("부르", "르", "불러", "불렀다", "부른다", "부른", "부를"),
    ("고르", "르", "골라", "골랐다", "고른다", "고른", "고를"),
    ("삶", "", "삶아", "삶았다", "삶는다", "삶은", "삶을"),
    ("청소하", "", "청소해", "청소했다", "청소한다", "청소한", "청소할"),
    ("쉬", "", "쉬어", "쉬었다", "쉰다", "쉰", "쉴"),
    ("보내", "", "보내", "보냈다", "보낸다", "보낸", "보낼"),
    ("춤을 추", "", "춤을 추어", "춤을 추었다", "춤을 춘다", "춤을 춘", "춤을 출"),
]
ADJECTIVES = [  # past, attribute
    ("크", "", "컸다", "큰"), ("빨갛", "ㅎ", "빨갰다", "빨간"), ("하얗", "ㅎ", "하얬다", "하얀"),
    ("길", "", "길었다", "긴"), ("무겁", "ㅂ", "무거웠다", "무거운"), ("달", "", "달았다", "단"),
    ("맛있", "있", "맛있었다", "맛있는"), ("바쁘", "", "바빴다", "바쁜"),
    ("예쁘", "", "예뻤다", "예쁜"),
    ("배가 고프", "", "배가 고팠다", "배가 고픈"), ("목이 마르", "르", "목이 말랐다", "목이 마른"),
]  # fmt: skip


def batchim(word: str) -> str:
    """The final consonant of a word by Unicode's own decomposition; "" for an open syllable."""
    jamo = unicodedata.normalize("NFD", word[-1])
    return jamo[2] if len(jamo) == 3 else ""


def want_particle(word: str, closed: str, opened: str) -> str:
    ends = batchim(word)
    is_by = opened == "로"
    return word + (closed if ends and not (is_by and ends == "\u11af") else opened)


def korean_nouns() -> set[str]:
    people = {p.kor for p in (*x.NAMES, *x.ROLES, *x.FAMILY)}
    things = {n.kor for nouns in x.NOUNS.values() for n in nouns} | {n.kor for n in x.JOBS}
    return people | things | {p.kor for p in x.PLACES.values()} | set(x.COUNTERS)


# ---------------------------------------------------------------------------- grammar
@given(
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), st.sampled_from(sorted(g.PARTICLES))
)
@example("철", "by")
def test_a_particle_follows_the_last_sound_of_any_syllable(syllable, name):
    assert g.particle(syllable, name) == want_particle(syllable, *g.PARTICLES[name])


@pytest.mark.parametrize("row", VERBS, ids=lambda row: row[0])
def test_verbs_are_conjugated(row):
    stem = Stem(*row[:2])
    got = (g.infinitive(stem), g.past(stem), g.present(stem), g.done(stem), g.coming(stem))
    assert got == row[2:]


@pytest.mark.parametrize("row", ADJECTIVES, ids=lambda row: row[0])
def test_adjectives_are_conjugated(row):
    stem = Stem(*row[:2])
    assert (g.past(stem), g.done(stem)) == row[2:]


def test_a_particle_refuses_what_is_not_hangul():
    with pytest.raises(ValueError, match="'n', which is not a Hangul syllable"):
        g.particle("Jiyoun", "topic")


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (g.third("watch"), "watches"), (g.third("study"), "studies"), (g.third("play"), "plays"),
        (g.third("listen to"), "listens to"), (g.third("go"), "goes"), (g.plural("fox"), "foxes"),
        (g.plural("strawberry"), "strawberries"), (g.plural("toy"), "toys"),
        (g.article("umbrella"), "an umbrella"), (g.article("red apple"), "a red apple"),
    ],
)  # fmt: skip
def test_english_is_inflected(got, want):
    assert got == want


# ---------------------------------------------------------------------------- pairs
@pytest.mark.parametrize("name", world.NAMES)
def test_every_corpus_is_the_same_for_ever(name):
    text = "".join(line + "\n" for line in world.lines(name))
    assert hashlib.sha256(text.encode()).hexdigest() == FINGERPRINTS[name]


def test_the_generator_makes_the_archive_that_ships():
    assert lzma.decompress(make.ARCHIVE.read_bytes()) == make.tar_bytes()


def test_the_archive_is_written_compressed(tmp_path):
    path = tmp_path / "sample.tar.xz"
    assert make.write(path) == path.stat().st_size < 600_000
    assert lzma.decompress(path.read_bytes()) == make.tar_bytes()


def test_the_package_ships_the_archive():
    settings = tomllib.loads((make.ARCHIVE.parents[3] / "pyproject.toml").read_text())
    data = settings["tool"]["setuptools"]["package-data"]["lrl_jax.data.sample"]
    assert data == [make.ARCHIVE.name]


@pytest.mark.parametrize("lines", [world.lines, corpora.lines], ids=["shipped", "made"])
def test_an_unknown_corpus_is_refused_with_the_known_ones(lines):
    with pytest.raises(ValueError, match=r"train\.fra, which is not one of train\.eng"):
        lines("train.fra")


def test_pairs_are_aligned_and_of_the_promised_size():
    got = {split: (len(pairs), len(list(world.lines(f"{split}.kor")))) for split, pairs in
           corpora.pairs().items()}  # fmt: skip
    assert got == {"train": (24_000, 24_000), "dev": (300, 300), "test": (500, 500)}
    assert list(zip(world.lines("test.eng"), world.lines("test.kor"), strict=True)) == [
        (pair.eng, pair.kor) for pair in corpora.pairs()["test"]
    ]


def test_no_sentence_occurs_twice_in_any_split():
    every = [pair for split in corpora.pairs().values() for pair in split]
    assert len({pair.eng for pair in every}) == len(every)
    assert len({pair.kor for pair in every}) == len(every)


def test_held_out_combinations_never_occur_in_train():
    shown = {
        split: {c for pair in pairs for c in pair.combinations}
        for split, pairs in corpora.pairs().items()
    }
    held_out = {split: {c for c in shown[split] if corpora.split_of(c) == split} for split in shown}
    assert held_out["train"] == shown["train"]
    assert not shown["train"] & (held_out["dev"] | held_out["test"])
    assert not held_out["dev"] & held_out["test"]
    for split in ("dev", "test"):  # every pair tells something held out
        assert all(held_out[split] & set(pair.combinations) for pair in corpora.pairs()[split])
    assert not shown["dev"] & held_out["test"]
    assert not shown["test"] & held_out["dev"]


@pytest.mark.parametrize("tongue", ["eng", "kor"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_word_of_held_out_text_occurs_in_train(split, tongue):
    def words(name):
        return {w for line in world.lines(name) for w in re.findall(r"[\w']+", line)}

    assert words(f"{split}.{tongue}") <= words(f"train.{tongue}")


def test_the_shares_of_the_patterns_make_a_whole():
    names = [name for name, _, _ in patterns.PATTERNS]
    assert len(set(names)) == len(names) == 18
    assert sum(share for _, share, _ in patterns.PATTERNS) == pytest.approx(1.0)


def test_english_sentences_have_four_to_fourteen_words():
    lengths = {len(line.split()) for line in world.lines("train.eng")}
    assert (min(lengths), max(lengths)) == (4, 14)


@pytest.mark.parametrize("name", ["train.kor", "dev.kor", "test.kor", "mono.kor"])
def test_every_noun_takes_the_particle_of_its_last_sound(name):
    nouns, wrong, seen = korean_nouns(), set(), 0
    for token in {t.strip('.?"') for line in world.lines(name) for t in line.split()}:
        for closed, opened in g.PARTICLES.values():
            for end in (closed, opened):
                noun = token.removesuffix(end)
                if noun != token and noun in nouns:
                    seen += 1
                    if token != want_particle(noun, closed, opened):
                        wrong.add(token)
    assert seen > 150
    assert not wrong


def test_a_quotation_takes_the_particle_of_its_last_sound():
    quoted = {
        tuple(match)
        for line in world.lines("train.kor")
        for match in re.findall(r'(\S)"(이?라고) ', line)
    }
    assert len(quoted) > 8
    assert {(a, b) for a, b in quoted if a + b != want_particle(a, "이라고", "라고")} == set()


@pytest.mark.parametrize("name", ["train.eng", "mono.eng"])
def test_articles_agree_with_the_next_letter(name):
    text = "\n".join(world.lines(name))
    assert not re.findall(r"\ba [aeiou]\w*|\bA [aeiou]\w*", text)
    assert not re.findall(r"\b[Aa]n [^aeiou]\w*", text)


def test_numbers_and_nouns_agree():
    for line in world.lines("train.eng"):
        match = re.search(r"\bone (\w+)", line)
        assert not match or not match[1].endswith("s"), line
        match = re.search(r"\b(?:two|three|four|five|six|seven|eight|nine|ten) (\w+)", line)
        regular = not match or match[1] in ("sheep", "deer", "children", "o") or match[1][-1] == "s"
        assert regular, line


def test_pairs_read_by_eye_are_served():
    every = {pair.eng: pair.kor for split in corpora.pairs().values() for pair in split}
    assert len(PAIRS) >= 20
    assert {eng: every.get(eng) for eng in PAIRS} == PAIRS


def test_every_verb_and_adjective_occurs_in_train():
    text = " ".join(world.lines("train.eng")).lower()
    for word in [v.past for v in usage.VERBS.values() if v.eng != "like"] + [
        a.eng for a in usage.ADJECTIVES
    ]:
        assert re.search(rf"\b{word}\b", text), word


# ---------------------------------------------------------------------------- paragraphs and tasks
@pytest.mark.parametrize("name", ["mono.eng", "mono.kor"])
def test_a_paragraph_has_three_to_six_sentences(name):
    lines = list(world.lines(name))
    counts = {len(re.findall(r'[.?]"?(?= |$)', line)) for line in lines}
    assert len(lines) == len(set(lines)) > 5_500
    assert counts <= {3, 4, 5, 6}


def test_both_languages_have_as_many_bytes_of_paragraphs():
    eng, kor = (sum(len(line.encode()) + 1 for line in world.lines(f"mono.{t}")) for t in
                ("eng", "kor"))  # fmt: skip
    assert abs(eng - kor) < 1_000


def test_paragraphs_are_not_translations_of_each_other():
    first_names = [
        [next((p.kor for p in x.NAMES if p.kor in line or p.eng in line), "") for line in lines]
        for lines in (list(world.lines("mono.eng"))[:200], list(world.lines("mono.kor"))[:200])
    ]
    same = sum(a == b for a, b in zip(*first_names, strict=True))
    assert same < 60


@pytest.mark.parametrize("tongue", ["eng", "kor"])
def test_no_held_out_sentence_stands_in_a_paragraph_or_a_task(tongue):
    rows = [json.loads(line) for line in world.lines(f"instruct.{tongue}.jsonl")]
    texts = [*world.lines(f"mono.{tongue}"), *(t for row in rows for t in row.values())]
    shown = {part for text in texts for part in re.split(r"(?<=[.?])\s", text)}
    held_out = {line for split in ("dev", "test") for line in world.lines(f"{split}.{tongue}")}
    assert len(shown) > 8_000
    assert not shown & held_out


@pytest.mark.parametrize("tongue", ["eng", "kor"])
def test_tasks_are_alpaca_rows_in_one_language(tongue):
    rows = [json.loads(line) for line in world.lines(f"instruct.{tongue}.jsonl")]
    assert len(rows) == 480
    for row in rows:
        assert list(row) == ["instruction", "input", "output"]
        assert row["instruction"]
        assert row["output"]
        hangul = re.search("[가-힣]", row["instruction"] + row["input"] + row["output"])
        latin = re.search("[A-Za-z]", row["instruction"] + row["output"])
        assert not (hangul if tongue == "eng" else latin), row


def test_tasks_have_right_answers():
    rows = [json.loads(line) for line in world.lines("instruct.eng.jsonl")]
    numbers = {eng: i for i, (eng, _) in enumerate(x.NUMBERS, start=1)}
    checked = 0
    for row in rows:
        if row["instruction"] not in ("How many animals are there?", "Solve the problem."):
            continue
        given_, got = re.findall(r"\w+", row["input"]), re.findall(r"\w+", row["output"])
        assert sum(numbers.get(w, 0) for w in given_) == sum(numbers.get(w, 0) for w in got), row
        checked += 1
    assert checked > 20
