"""Runs llama.cpp's own converter on several folders in one process.

python gguf_converter.py LLAMA_CPP '[[folder, file, type, pre], ...]'

It finds how a byte-level vocabulary cuts text by a checksum of ids that no vocabulary made by hand
gives; `pre` is what it should have found, "" where it is to look by itself.
"""

import json
import sys


def main(llama_cpp: str, jobs: list[list[str]]) -> None:
    sys.path[:0] = [llama_cpp, f"{llama_cpp}/gguf-py"]
    from conversion.base import TextModel
    import convert_hf_to_gguf

    look = TextModel.get_vocab_base_pre
    for folder, file, kind, pre in jobs:
        TextModel.get_vocab_base_pre = (lambda self, tokenizer, pre=pre: pre) if pre else look
        name = folder.rstrip("/").rpartition("/")[2]
        sys.argv[1:] = [folder, "--outfile", file, "--outtype", kind, "--model-name", name]
        convert_hf_to_gguf.main()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
