"""How many tokens a second each input gives, beside plain pipelines and what training consumes.

Seconds are those of all threads on the processor, so that other programs make no difference.

The text is Moby Dick, several times over. Rows have 1024 targets, batches 8 rows. The baselines do
less: rows without segments, positions and weights; no checksums; no place to go on from.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from axlearn_core.training.input import Batch, Input
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import quickstart
from axlearn_inputs import (
    ConcatenatingPacker,
    DocumentInput,
    JsonLines,
    LengthFilter,
    MixtureInput,
    PackedInput,
    PrepareSpec,
    RepetitionFilter,
    SentencePieceTokenizer,
    SyntheticInput,
    Tokenizer,
    prepare,
)
from axlearn_inputs.corpora import moby_dick

SEQ_LEN, BATCH, STEPS = 1024, 8, 20
SECONDS, ROUNDS = 1.0, 3  # of each in turn; the best counts
COPIES = 8  # of the text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trained = train_tokens_per_second(Path(folder))
        racers = dict(pipelines(Path(folder)))
        for batches in racers.values():
            next(batches)  # opens and checks files
        rounds = [{name: rate(b) for name, b in racers.items()} for _ in range(ROUNDS)]
        rates = {name: max(turn[name] for turn in rounds) for name in racers}
    prepared = rates["prepared"]
    result: dict[str, Any] = {f"{name}, tokens/s": round(r) for name, r in rates.items()}
    result["prepared / grain alone"] = prepared / rates["grain alone"]
    result["mixture of prepared / prepared"] = rates["mixture of prepared"] / prepared
    result["streamed / plain Python"] = rates["streamed"] / rates["plain Python"]
    result["trained, tokens/s"] = trained
    result["streamed / trained"] = rates["streamed"] / trained
    result["ratio"] = prepared / trained
    print(json.dumps(result))


def pipelines(folder: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yields each pipeline's batches; all of them read the same text with the same tokenizer."""
    text = folder / "train.jsonl"
    text.write_text(
        "\n".join(json.dumps({"text": t}) for t in moby_dick.documents("train") * COPIES)
    )
    documents = JsonLines.Config(files=(str(text),))
    tokenizer = SentencePieceTokenizer.Config(path=str(folder / "data" / "tokenizer.model"))
    spec = PrepareSpec(task=documents, splits=("train",), tokenizer=tokenizer, seq_len=SEQ_LEN)
    prepare(spec, folder / "long", report=lambda line: None)
    packed = PackedInput.Config(source=spec, directory=str(folder / "long"), batch_size=BATCH)
    streamed = DocumentInput.Config(
        documents=documents, tokenizer=tokenizer, seq_len=SEQ_LEN, batch_size=BATCH
    )
    filters = {"length": LengthFilter.default_config(), "repetition": RepetitionFilter.Config()}
    weights = {"0": {"a": 0.7, "b": 0.3}}
    mixture = MixtureInput.Config(
        inputs={"a": packed, "b": packed.clone(seed=1)}, weights=weights, batch_size=BATCH
    )
    mixed_streams = mixture.clone(inputs={"a": streamed, "b": streamed.clone(seed=1)})
    chain = SyntheticInput.Config(vocab_size=4096, seq_len=SEQ_LEN, batch_size=BATCH)
    inputs = {
        "prepared": packed,
        "mixture of prepared": mixture,
        "streamed": streamed,
        "streamed, concatenated": streamed.clone(packer=ConcatenatingPacker.default_config()),
        "streamed, filtered": streamed.clone(filters=filters),
        "mixture of streams": mixed_streams,
        "synthetic": chain,
    }
    for name, cfg in inputs.items():
        source: Input = cfg.instantiate()
        yield name, source.batches()
    (shard,) = (folder / "long").glob("train-*")
    yield "grain alone", grain_alone(shard)
    yield "plain Python", plain_python(text, tokenizer.instantiate())


def grain_alone(shard: Path) -> Iterator[Any]:
    """Records of one size as ids, shuffled and put into batches by grain."""
    rows = grain.MapDataset.source(grain.sources.ArrayRecordDataSource([str(shard)])).seed(0)

    def ids(record: bytes) -> np.ndarray:
        return np.resize(np.frombuffer(record, np.uint16), SEQ_LEN).astype(np.int32)

    return iter(rows.shuffle().repeat().map(ids).batch(BATCH).to_iter_dataset())


def plain_python(text: Path, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Reads lines, tokenizes, joins and cuts: what one writes in a notebook."""
    ids = np.empty(0, np.int32)
    while True:
        with text.open() as lines:
            for line in lines:
                document = tokenizer.encode(json.loads(line)["text"])
                ids = np.concatenate([ids, document])
                while len(ids) >= SEQ_LEN * BATCH:
                    yield ids[: SEQ_LEN * BATCH].reshape(BATCH, SEQ_LEN)
                    ids = ids[SEQ_LEN * BATCH :]


def rate(batches: Iterator[Any]) -> float:
    """Returns places of rows per second of processor time."""
    start, done = time.process_time(), 0
    while (spent := time.process_time() - start) < SECONDS:
        done += sum(1 for _ in itertools.islice(batches, 4))
    return done * SEQ_LEN * BATCH / spent


def train_tokens_per_second(folder: Path) -> float:
    """Returns what the quickstart's training step consumes; prepares its data in folder/data."""
    cfg = quickstart().set(compile_cache=None)
    assert isinstance(cfg.input, PackedInput.Config)
    prepare(cfg.input.source, folder / "data", report=lambda line: None)
    cfg.input.directory = str(folder / "data")
    cfg.evaluations = {}
    trainer = cfg.instantiate()
    program = trainer.program(trainer.placement())
    compiled = program.compile_train_step(trainer.input.batch_shape()).result()
    batch: Batch = next(trainer.input.batches())
    state, placed = program.initial_state(), place_batch(batch, program.placement)
    state, _ = jax.block_until_ready(compiled.run(state, placed))
    start = time.process_time()
    for _ in range(STEPS):
        state, _ = jax.block_until_ready(compiled.run(state, placed))
    return STEPS * batch["input_ids"].size / (time.process_time() - start)


if __name__ == "__main__":
    main()
