"""Trains the small models of tests/data/langid, which name languages as GlotLID and lid.176 do.

    pip install fasttext-community "numpy<2"     # trains; the package only predicts
    python tests/make_langid.py shared/data/udhr tests/data/langid

The text is that of the Universal Declaration of Human Rights, which is free to reproduce.
"""

from pathlib import Path
import sys
import tempfile

FILES = {"npi_Deva": "udhr_nep", "hin_Deva": "udhr_hin", "eng_Latn": "udhr_eng",
         "kor_Hang": "udhr_kor", "swh_Latn": "udhr_swh"}  # fmt: skip
SHORT = {"npi_Deva": "ne", "hin_Deva": "hi", "eng_Latn": "en", "kor_Hang": "ko", "swh_Latn": "sw"}
SMALL = {"dim": 6, "minn": 1, "maxn": 4, "bucket": 1200, "epoch": 100, "lr": 0.3, "minCount": 9}


def main(texts: Path, out: Path) -> None:
    import fasttext

    out.mkdir(parents=True, exist_ok=True)
    lines = [
        (code, line)
        for code, name in FILES.items()
        for line in (texts / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    for name, spelled in (("flores.bin", dict(zip(FILES, FILES, strict=True))), ("iso.ftz", SHORT)):
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.writelines(f"__label__{spelled[code]} {line}\n" for code, line in lines)
            file.flush()
            model = fasttext.train_supervised(file.name, thread=1, seed=1, verbose=0, **SMALL)
            if name.endswith(".ftz"):
                model.quantize(file.name, retrain=False, qnorm=True, dsub=2)
        model.save_model(str(out / name))
    vectors = out / "vectors.bin"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for _, line in lines[:40])
        file.flush()
        fasttext.train_unsupervised(
            file.name, thread=1, dim=2, minn=0, maxn=0, bucket=0, minCount=9
        ).save_model(str(vectors))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
