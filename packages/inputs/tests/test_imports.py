"""Training must not import tensorflow, and building inputs not even jax."""

import json
import subprocess
import sys

HEAVY = (
    *("jax", "grain", "tensorflow", "seqio", "tensorflow_datasets", "torch"),
    *("pyarrow", "datasets"),
)


def loaded_after(code: str) -> set[str]:
    program = (
        f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return set(json.loads(output.stdout))


def test_the_plugin_and_the_inputs_import_nothing_heavy():
    assert loaded_after("import axlearn_inputs._plugin; from axlearn_inputs import *") == set()


def test_streaming_lines_imports_nothing_heavy(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "one"}')
    code = f"""
from axlearn_inputs import ByteTokenizer, DocumentInput, JsonLines
documents = JsonLines.Config(files=({str(tmp_path / "x.jsonl")!r},))
cfg = DocumentInput.Config(documents=documents, seq_len=4, batch_size=2)
next(cfg.set(tokenizer=ByteTokenizer.default_config()).instantiate().batches())
"""
    assert loaded_after(code) == set()


def test_the_command_imports_nothing_heavy():
    assert loaded_after("import axlearn_inputs.cli") == set()


def test_reading_prepared_data_imports_neither_tensorflow_nor_seqio(letters):
    code = f"""
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.spec import PrepareSpec
source = PrepareSpec(task="letters", seq_len=16)
cfg = PackedInput.Config(source=source, directory={str(letters)!r}, batch_size=2)
next(cfg.instantiate().batches())
"""
    assert loaded_after(code) == {"jax", "grain"}
