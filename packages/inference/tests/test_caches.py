"""Prefill, then decode, equals the whole sequence at once: every family, every kind of cache.

One batch holds prompts of all kinds: a left-padded row, a right-padded one, and two packed into a
third. They are read in two chunks and then two ids one by one. Each family runs on contiguous and
paged caches; the other caches run where they make a difference.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import find, replace
from axlearn_core.kernels import causal, same_segment, window
from axlearn_core.module import functional
from axlearn_inference.caches import Int8Cache, PagedCache, SlidingCache, put_sliding
from axlearn_inference.prompts import from_rows, to_rows
from axlearn_layers import (
    Attention,
    ContiguousCache,
    GatedDeltaNet,
    KVCache,
    LatentAttention,
    families,
)

VOCAB, CHUNK, STEPS = 31, 4, 2
SEGMENTS = np.array([[0] * 4 + [1] * 8, [1] * 9 + [0] * 3, [1] * 5 + [2] * 7])
IDS = np.random.default_rng(0).integers(VOCAB, size=SEGMENTS.shape)
# What T5's prompts belong to: one row for each, of which the packed ones lie in one.
ENCODED = np.array([[1] * 6, [1] * 6, [1] * 3 + [2] * 3])
SIZES = {"vocab_size": VOCAB, "dim": 16, "num_layers": 2, "num_heads": 4, "hidden_dim": 24}
GROUPED = SIZES | {"num_kv_heads": 2}
WIDE = GROUPED | {"head_dim": 8}
GEMMA = WIDE | {"score_dim": 8, "window": 4}
DEEPSEEK = SIZES | {"num_dense_layers": 1, "query_rank": 8, "kv_rank": 8, "expert_hidden_dim": 8}


def delta_net():
    cfg = families.llama(**GROUPED)
    replace(cfg, Attention, GatedDeltaNet.default_config().set(num_heads=2, key_dim=4, value_dim=4))
    return cfg


def latent_window():
    cfg = FAMILIES["deepseek_v3"]()
    for _, attention in find(cfg, LatentAttention):
        attention.mask = causal() & window(4) & same_segment()
    return cfg


FAMILIES = {
    "llama": partial(families.llama, **GROUPED),
    "mistral": partial(families.llama, **GROUPED, window=4),
    "mixtral": partial(families.mixtral, **GROUPED, num_experts=4, window=4),
    "qwen2": partial(families.qwen2, **GROUPED),
    "qwen3": partial(families.qwen3, **WIDE),
    "qwen3_moe": partial(families.qwen3_moe, **WIDE, num_experts=4, top_k=2),
    "gemma2": partial(families.gemma2, **GEMMA),
    "gemma3": partial(families.gemma3, **GEMMA | {"num_layers": 3}, local_per_global=1),
    "olmo2": partial(families.olmo2, **GROUPED),
    "phi3": partial(families.phi3, **GROUPED),
    "deepseek_v3": partial(
        families.deepseek_v3,
        **DEEPSEEK,
        **{"num_experts": 4, "top_k": 2, "num_groups": 2, "top_groups": 1},
        **{"content_dim": 4, "rotary_dim": 4, "value_dim": 4},
    ),
    "gpt2": partial(families.gpt2, vocab_size=VOCAB, dim=16, num_layers=2, num_heads=4),
    "afm": partial(families.afm, **WIDE | {"num_layers": 4}, num_sharing_layers=2),
    "t5": partial(families.t5, **SIZES, head_dim=4),
    "mamba2": partial(
        families.mamba2, vocab_size=VOCAB, dim=16, num_layers=2, head_dim=4, state_dim=4
    ),
    "delta_net": delta_net,
    "latent_window": latent_window,
}
PAGED = PagedCache.default_config().set(page_size=4)
SLIDING = SlidingCache.default_config()


def int8(inner):
    return Int8Cache.default_config().set(inner=inner)


def on_contiguous(cfg):
    assert find(cfg, ContiguousCache)


def on_paged(cfg):
    replace(cfg, KVCache, PAGED)


def on_sliding(cfg):
    replace(cfg, KVCache, SLIDING)


def on_sliding_and_paged(cfg):
    replace(cfg, KVCache, PAGED)
    put_sliding(cfg)


def on_recurrent(cfg):
    assert not find(cfg, KVCache)


def on_int8(cfg):
    replace(cfg, KVCache, int8(ContiguousCache.default_config()))


def on_int8_paged(cfg):
    replace(cfg, KVCache, int8(PAGED))


def on_int8_sliding(cfg):
    replace(cfg, KVCache, int8(SLIDING))


RECURRENT = ("mamba2", "delta_net")
KEEP_KEYS = [name for name in FAMILIES if name not in (*RECURRENT, "latent_window")]
EXACT = [
    *[(name, on) for name in KEEP_KEYS for on in (on_contiguous, on_paged)],
    *[(name, on_recurrent) for name in RECURRENT],
    *[(name, on_sliding) for name in ("mistral", "gemma2", "afm", "latent_window")],
    *[(name, on_sliding_and_paged) for name in ("gemma3", "mixtral")],
]


@cache
def parameters(family):
    """Random numbers, biases too, drawn without compiling anything."""
    model, rng = FAMILIES[family]().instantiate(), np.random.default_rng(0)

    def draw(leaf):
        stddev = 0.3 if len(leaf.shape) > 1 else 0.1
        return jnp.asarray(rng.normal(scale=stddev, size=leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.initialize, jax.random.key(0)))


def call(model, state, method, *inputs):
    result, _ = functional(model, state=state, prng_key=None, inputs=inputs, method=method)
    return result


@cache
def whole(family):
    """All logits at once."""
    model = FAMILIES[family]().instantiate()
    prompts = from_rows(IDS, SEGMENTS)
    positions = to_rows(np.tile(np.arange(12), (len(prompts.lengths), 1)), prompts, *SEGMENTS.shape)
    batch = {"input_ids": IDS, "segment_ids": SEGMENTS, "positions": positions}
    if family == "t5":
        batch |= {"encoder_ids": IDS[:, :6], "encoder_segment_ids": ENCODED}
    run = jax.jit(lambda state: call(model, state, "logits", batch))
    return np.asarray(run(parameters(family)))


def piece_by_piece(family, on):
    """The logits of the same ids, of as many calls of `extend` as there are pieces."""
    cfg = FAMILIES[family]()
    on(cfg)
    model, prompts = cfg.instantiate(), from_rows(IDS, SEGMENTS)
    ids, lengths = np.pad(prompts.input_ids, [(0, 0), (0, CHUNK)]), prompts.lengths
    read = np.clip(lengths - STEPS - CHUNK * np.arange(2)[:, None], 0, CHUNK)  # [chunk, prompt]
    chunks = np.stack([ids[:, :CHUNK], ids[:, CHUNK : 2 * CHUNK]])
    last = np.take_along_axis(ids, lengths[:, None] - STEPS + np.arange(STEPS), 1).T[..., None]

    @jax.jit
    def run(state):
        cache = model.init_cache(len(lengths), 12, "float32")

        def chunk(cache, piece):
            return call(model, state, "extend", piece[0], cache, piece[1])[::-1]

        def step(cache, ids):
            return call(model, state, "extend", ids, cache)[::-1]

        pieces = chunks, read
        first = []
        if family == "t5":
            memory = memory_of(model, state)
            inputs = (chunks[0], cache, read[0], None, False, memory)
            logits, cache = call(model, state, "extend", *inputs)
            first, pieces = [logits[None]], (chunks[1:], read[1:])
        cache, prefilled = jax.lax.scan(chunk, cache, pieces)
        _, decoded = jax.lax.scan(step, cache, last)
        return jnp.concatenate([*first, prefilled]), decoded

    prefilled, decoded = map(np.asarray, run(parameters(family)))
    found = np.zeros((*ids.shape, VOCAB), np.float32)
    for row, length in enumerate(lengths):
        parts = [piece[row, :count] for piece, count in zip(prefilled, read[:, row], strict=True)]
        found[row, :length] = np.concatenate([*parts, decoded[:, row, 0]])
    return to_rows(found, prompts, *SEGMENTS.shape)


def memory_of(model, state):
    """What T5's encoder says of each prompt, the packed ones by themselves."""
    ids = np.concatenate([IDS[:2, :6], np.pad(IDS[2, :6].reshape(2, 3), [(0, 0), (0, 3)])])
    segments = np.concatenate([ENCODED[:2], [[1] * 3 + [0] * 3] * 2])
    return call(model, state, "encode", {"encoder_ids": ids, "encoder_segment_ids": segments})


def deviation(family, on):
    real = SEGMENTS != 0
    return np.abs(piece_by_piece(family, on) - whole(family))[real]


@pytest.mark.parametrize(("family", "on"), EXACT, ids=lambda case: getattr(case, "__name__", case))
def test_pieces_give_the_logits_of_the_whole(family, on):
    assert deviation(family, on).max() < 1e-5


# Each number of a key or value is off by a 254th of its row's largest at most. What becomes of that
# in the logits is measured here: at most 0.6% of the largest for Llama, 2.4% for Gemma 2, whose
# norms have gains far from 1 here and magnify it, and 0.15% on average.
@pytest.mark.parametrize(
    ("family", "on"),
    [("llama", on_int8), ("deepseek_v3", on_int8_paged), ("gemma2", on_int8_sliding)],
    ids=lambda case: getattr(case, "__name__", case),
)
def test_eight_bits_move_logits_by_little(family, on):
    largest = np.abs(whole(family)[SEGMENTS != 0]).max()
    moved = deviation(family, on) / largest
    assert 0 < moved.max() < 0.03
    assert moved.mean() < 0.002
