"""Knows languages by code and by English name: which there are, and how prompts spell them.

    resolve("ko")                   "kor_Hang"
    english_name("kor_Hang")        "Korean"

A code is FLORES-200's (arXiv 2207.04672): three letters for the language and four for the script.
The table has the languages of FLORES, with the names that prompts were trained with. `langcodes`
knows the others, and which ISO 639 codes and names mean the same language.
"""

from collections.abc import Collection, Iterator, Mapping
import difflib
import functools
import re

import langcodes
from langcodes import data_dicts
from language_data import names as language_names
from language_data.util import data_filename

from lrl_jax.recipe import scripts

CODE = r"^[a-z]{3}_[A-Z][a-z]{3}$"
# Codes of ISO 15924 that are no script.
UNWRITTEN = ("Zinh", "Zmth", "Zsye", "Zsym", "Zxxx", "Zyyy", "Zzzz")
# Scripts of what is left of a language, where CLDR's likely one is that of a few inscriptions.
USUAL = {"grc": "Grek"}
SHOWN = 8  # languages that an error lists at most
ADVICE = (
    "want a FLORES code such as kor_Hang, an ISO 639 code or an English name; any other code can "
    "be named in the recipe, as languages: {xyz_Latn: Its Name}"
)


def english_name(code: str) -> str:
    """Returns the English name of a language by its code; a ValueError where there is none.

    >>> english_name("kor_Hang"), english_name("uzs_Arab")
    ('Korean', 'Southern Uzbek')
    """
    if code in NAMES:
        return NAMES[code]
    if re.fullmatch(CODE, code) and not unknown(code):
        name = langcodes.Language.get(code[:3]).display_name()
        if not name.startswith("Unknown language"):
            return name
    raise ValueError(f"no English name for the language {code!r}{_hint(code)}; {ADVICE}")


def name_of(code: str) -> str:
    """Returns the English name of a language for people to read; '' where there is none.

    >>> name_of("amh_Ethi"), name_of("eng"), name_of("heldout")
    ('Amharic', 'English', '')
    """
    try:
        return english_name(code if re.fullmatch(CODE, code) else resolve(code))
    except ValueError:
        return ""


def iso_codes(code: str) -> tuple[str, ...]:
    """Returns the ISO 639 codes that data of a language is called by: the shortest, then others.

    >>> iso_codes("npi_Deva"), iso_codes("zho_Hans"), iso_codes("ace_Latn")
    (('ne', 'nep', 'npi'), ('zh', 'zho'), ('ace',))
    """
    own = code.partition("_")[0]
    try:
        short = langcodes.standardize_tag(own, macro=True)
        longs = [langcodes.Language.get(short).to_alpha3(), own]
    except (ValueError, LookupError):  # of no table
        return (own,)
    return tuple(dict.fromkeys([short, *longs]))


def labelled(code: str) -> str:
    """Returns a code with the name of its language behind it, for people to read.

    >>> labelled("amh_Ethi"), labelled("heldout")
    ('amh_Ethi Amharic', 'heldout')
    """
    name = name_of(code) if re.fullmatch(CODE, code) else ""
    return f"{code} {name}" if name else code


def named(record: dict[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Returns a record with the names that a recipe gives its languages, for templates.

    >>> named({"target_language": "xyz_Latn"}, {"xyz_Latn": "Xyzzy"})
    {'target_language': 'xyz_Latn', 'target_language_name': 'Xyzzy'}
    """
    keys = [key for key in ("language", "source_language", "target_language") if key in record]
    given = {f"{key}_name": names[record[key]] for key in keys if record[key] in names}
    return record | given


def name_in(record: Mapping[str, str], key: str) -> str:
    """Returns the English name of the language in a field of a record: the recipe's own, if any."""
    return record.get(f"{key}_name") or english_name(record[key])


def unknown(code: str) -> str:
    """Returns what is wrong with a code, such as xxx_Latn; '' where its language and script exist.

    >>> unknown("uzs_Arab"), unknown("kor_Hnag").partition("?")[0]
    ('', "unknown language 'kor_Hnag'; did you mean kor_Hang")
    """
    language, script = code.split("_")
    if script not in (*scripts.SCRIPTS, *scripts.UNIONS, *UNWRITTEN):
        return f"unknown language {code!r}{_hint(code)}; {scripts.unknown(script)}"
    if code in NAMES or langcodes.Language.get(language).is_valid():
        return ""
    return f"unknown language {code!r}{_hint(code)}; {ADVICE}"


def resolve(text: str) -> str:
    """Returns the code of the language that `text` means: a code, an ISO 639 code or a name.

    >>> [resolve(text) for text in ("kor_Hang", "am", "nob", "Yoruba", "sr-Latn", "taj")]
    ['kor_Hang', 'amh_Ethi', 'nob_Latn', 'yor_Latn', 'srp_Latn', 'taj_Deva']

    Raises:
      ValueError: there is no such language, or several have that name; the message lists them.
    """
    if not text.isprintable():
        raise ValueError(f"unknown language {text!r}; {ADVICE}")
    if re.fullmatch(CODE, text):
        if problem := unknown(text):
            raise ValueError(problem)
        return text
    spelled = re.fullmatch(r"([A-Za-z]{2,3})[-_]([A-Za-z]{4})", text)
    language, script = spelled.groups() if spelled else (text, "")
    codes = _candidates(language.strip())
    if script:
        wanted = [code for code in codes if code.endswith(script.title())]
        codes = wanted or [f"{code[:3]}_{script.title()}" for code in codes]
        codes = [code for code in dict.fromkeys(codes) if not unknown(code)]
    if len({code[:3] for code in codes}) == 1:  # one of its scripts may be the usual one
        codes = [code for code in codes if "(" not in NAMES.get(code, "")] or codes
    if len(codes) == 1:
        return codes[0]
    if codes:
        raise ValueError(f"{text!r} may be {_listed(codes)}; name one of them by its code")
    raise ValueError(f"unknown language {text!r}{_hint(text)}; {ADVICE}")


def _candidates(text: str) -> list[str]:
    """Returns the codes of the languages that an ISO 639 code or a name may mean."""
    if exact := [code for code, name in NAMES.items() if name.casefold() == text.casefold()]:
        return exact
    if re.fullmatch("[A-Za-z]{2,3}", text) and langcodes.Language.get(text).is_valid():
        return _of_code(text.lower())
    meant = _named(text)
    if meant and text.casefold() in (meant.display_name().casefold(), meant.autonym().casefold()):
        return _of_code(str(meant.language))
    if re.fullmatch("[A-Za-z]{0,3}", text):  # a code that is none is no word of a name
        return []
    word = re.compile(rf"\b{re.escape(text)}\b", re.IGNORECASE)
    codes = [code for code, name in NAMES.items() if word.search(name)]
    if len(codes) == 1 and codes == _of_name(text):  # another name of it, such as Panjabi
        return codes
    names = [name for name in _english_names() if word.search(name) and "language" not in name]
    names = names[: SHOWN + 1]
    codes = [*dict.fromkeys([*codes, *(code for name in names for code in _of_name(name))])]
    scriptless = {_macrolanguage(tag) or tag: name for tag, name in _without_script(names)}
    if scriptless and len({code[:3] for code in codes} | {*scriptless}) > 1:
        spelled = ", ".join([_listed(codes)] * bool(codes) + [*scriptless.values()])
        raise ValueError(f"{text!r} may be {spelled}; name one of them by its code")
    return codes


def _of_code(code: str) -> list[str]:
    """Returns the codes of FLORES that an ISO 639 code means; a code of its own if there is none.

    A code of several languages, such as `no`, means those of its members that bear its name.
    """
    own = data_dicts.LANGUAGE_ALPHA3.get(code, code)
    language = langcodes.Language.get(code)
    name = language.display_name()
    for same in (own, language.to_alpha3()):
        if scripted := [flores for flores in NAMES if flores[:3] == same]:
            return scripted
    if exact := [flores for flores, spelled in NAMES.items() if spelled == name]:
        return exact
    members = [flores for flores in NAMES if language.language == _macrolanguage(flores[:3])]
    if members:
        return [flores for flores in members if name in NAMES[flores]] or members
    if own in USUAL:
        return [f"{own}_{USUAL[own]}"]
    likely = data_dicts.LIKELY_SUBTAGS.get(language.language or "")
    if likely is None:
        macro = langcodes.Language.get(_macrolanguage(own) or "und").to_alpha3()
        usual = [flores[4:] for flores in NAMES if flores[:3] == macro] or ["Latn", "Arab"]
        such = " or ".join(f"{own}_{script}" for script in usual)
        raise ValueError(f"{code!r} is {name}; say its script too, such as {such}")
    return [f"{own}_{langcodes.Language.get(likely).script}"]


def _of_name(name: str) -> list[str]:
    meant = _named(name)
    try:
        return _of_code(str(meant.language)) if meant else []
    except ValueError:  # of no known script
        return []


def _without_script(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields (ISO 639 code, name) of those languages whose script is not known."""
    for name in names:
        if (language := _named(name)) and not _of_name(name):
            yield str(language.language), name


def _named(name: str) -> langcodes.Language | None:
    try:
        return langcodes.find(name)
    except LookupError:
        return None


def _macrolanguage(code: str) -> str | None:
    return data_dicts.MACROLANGUAGES.get(langcodes.standardize_tag(code), None)


@functools.cache
def _english_names() -> list[str]:
    """Returns the English names that langcodes knows, in lower case."""
    path = data_filename("trie/en/name_to_language.marisa")
    return sorted(language_names.load_trie(path).keys())


def _hint(text: str) -> str:
    """Returns a hint to append to an error: the codes that look like `text`; '' if none does."""
    spellings: dict[str, str] = {code.casefold(): code for code in NAMES}
    spellings |= {name.casefold(): code for code, name in NAMES.items()}
    near = difflib.get_close_matches(text.casefold(), spellings, n=3)
    if not near and re.fullmatch(CODE, text):
        near = difflib.get_close_matches(text.casefold(), spellings, n=1, cutoff=0)
    codes = dict.fromkeys(spellings[spelling] for spelling in near)
    return f"; did you mean {' or '.join(codes)}?" if codes else ""


def _listed(codes: Collection[str]) -> str:
    shown = [f"{code} ({english_name(code)})" for code in codes][:SHOWN]
    return ", ".join(shown) + ", ..." * (len(codes) > SHOWN)


_TABLE = """
ace_Arab Acehnese (Arabic script) | ace_Latn Acehnese | acm_Arab Mesopotamian Arabic
acq_Arab Ta'izzi-Adeni Arabic | aeb_Arab Tunisian Arabic | afr_Latn Afrikaans
ajp_Arab South Levantine Arabic | aka_Latn Akan | als_Latn Tosk Albanian | amh_Ethi Amharic
apc_Arab North Levantine Arabic | arb_Arab Arabic | arb_Latn Arabic (Romanized)
ars_Arab Najdi Arabic | ary_Arab Moroccan Arabic | arz_Arab Egyptian Arabic
asm_Beng Assamese | ast_Latn Asturian | awa_Deva Awadhi | ayr_Latn Central Aymara
azb_Arab South Azerbaijani | azj_Latn North Azerbaijani | bak_Cyrl Bashkir | bam_Latn Bambara
ban_Latn Balinese | bel_Cyrl Belarusian | bem_Latn Bemba | ben_Beng Bengali
bho_Deva Bhojpuri | bjn_Arab Banjar (Arabic script) | bjn_Latn Banjar
bod_Tibt Standard Tibetan | bos_Latn Bosnian | bug_Latn Buginese | bul_Cyrl Bulgarian
cat_Latn Catalan | ceb_Latn Cebuano | ces_Latn Czech | cjk_Latn Chokwe
ckb_Arab Central Kurdish | crh_Latn Crimean Tatar | cym_Latn Welsh | dan_Latn Danish
deu_Latn German | dik_Latn Southwestern Dinka | dyu_Latn Dyula | dzo_Tibt Dzongkha
ell_Grek Greek | eng_Latn English | epo_Latn Esperanto | est_Latn Estonian | eus_Latn Basque
ewe_Latn Ewe | fao_Latn Faroese | fij_Latn Fijian | fin_Latn Finnish | fon_Latn Fon
fra_Latn French | fur_Latn Friulian | fuv_Latn Nigerian Fulfulde | gaz_Latn West Central Oromo
gla_Latn Scottish Gaelic | gle_Latn Irish | glg_Latn Galician | grn_Latn Guarani
guj_Gujr Gujarati | hat_Latn Haitian Creole | hau_Latn Hausa | heb_Hebr Hebrew
hin_Deva Hindi | hne_Deva Chhattisgarhi | hrv_Latn Croatian | hun_Latn Hungarian
hye_Armn Armenian | ibo_Latn Igbo | ilo_Latn Ilocano | ind_Latn Indonesian
isl_Latn Icelandic | ita_Latn Italian | jav_Latn Javanese | jpn_Jpan Japanese
kab_Latn Kabyle | kac_Latn Jingpho | kam_Latn Kamba | kan_Knda Kannada
kas_Arab Kashmiri (Arabic script) | kas_Deva Kashmiri (Devanagari script) | kat_Geor Georgian
kaz_Cyrl Kazakh | kbp_Latn Kabiye | kea_Latn Kabuverdianu | khk_Cyrl Halh Mongolian
khm_Khmr Khmer | kik_Latn Kikuyu | kin_Latn Kinyarwanda | kir_Cyrl Kyrgyz | kmb_Latn Kimbundu
kmr_Latn Northern Kurdish | knc_Arab Central Kanuri (Arabic script) | knc_Latn Central Kanuri
kon_Latn Kikongo | kor_Hang Korean | lao_Laoo Lao | lij_Latn Ligurian | lim_Latn Limburgish
lin_Latn Lingala | lit_Latn Lithuanian | lmo_Latn Lombard | ltg_Latn Latgalian
ltz_Latn Luxembourgish | lua_Latn Luba-Kasai | lug_Latn Ganda | luo_Latn Luo | lus_Latn Mizo
lvs_Latn Standard Latvian | mag_Deva Magahi | mai_Deva Maithili | mal_Mlym Malayalam
mar_Deva Marathi | min_Arab Minangkabau (Arabic script) | min_Latn Minangkabau
mkd_Cyrl Macedonian | mlt_Latn Maltese | mni_Beng Meitei | mos_Latn Mossi | mri_Latn Maori
mya_Mymr Burmese | nld_Latn Dutch | nno_Latn Norwegian Nynorsk | nob_Latn Norwegian Bokmal
npi_Deva Nepali | nso_Latn Northern Sotho | nus_Latn Nuer | nya_Latn Nyanja
oci_Latn Occitan | ory_Orya Odia | pag_Latn Pangasinan | pan_Guru Eastern Panjabi
pap_Latn Papiamento | pbt_Arab Southern Pashto | pes_Arab Persian
plt_Latn Plateau Malagasy | pol_Latn Polish | por_Latn Portuguese | prs_Arab Dari
quy_Latn Ayacucho Quechua | ron_Latn Romanian | run_Latn Rundi | rus_Cyrl Russian
sag_Latn Sango | san_Deva Sanskrit | sat_Olck Santali | scn_Latn Sicilian | shn_Mymr Shan
sin_Sinh Sinhala | slk_Latn Slovak | slv_Latn Slovenian | smo_Latn Samoan | sna_Latn Shona
snd_Arab Sindhi | som_Latn Somali | sot_Latn Southern Sotho | spa_Latn Spanish
srd_Latn Sardinian | srp_Cyrl Serbian | ssw_Latn Swati | sun_Latn Sundanese
swe_Latn Swedish | swh_Latn Swahili | szl_Latn Silesian | tam_Taml Tamil
taq_Latn Tamasheq | taq_Tfng Tamasheq (Tifinagh script) | tat_Cyrl Tatar | tel_Telu Telugu
tgk_Cyrl Tajik | tgl_Latn Tagalog | tha_Thai Thai | tir_Ethi Tigrinya | tpi_Latn Tok Pisin
tsn_Latn Tswana | tso_Latn Tsonga | tuk_Latn Turkmen | tum_Latn Tumbuka | tur_Latn Turkish
twi_Latn Twi | tzm_Tfng Central Atlas Tamazight | uig_Arab Uyghur | ukr_Cyrl Ukrainian
umb_Latn Umbundu | urd_Arab Urdu | uzn_Latn Northern Uzbek | vec_Latn Venetian
vie_Latn Vietnamese | war_Latn Waray | wol_Latn Wolof | xho_Latn Xhosa
ydd_Hebr Eastern Yiddish | yor_Latn Yoruba | yue_Hant Yue Chinese
zho_Hans Chinese (Simplified) | zho_Hant Chinese (Traditional) | zsm_Latn Standard Malay
zul_Latn Zulu
"""

NAMES: dict[str, str] = {
    code: name
    for line in _TABLE.strip().splitlines()
    for code, _, name in (entry.strip().partition(" ") for entry in line.split("|"))
}
