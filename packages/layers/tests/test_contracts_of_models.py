"""Every registered model under its contract, each with the smallest example."""

import runpy
from pathlib import Path

import numpy as np

import axlearn_layers as layers
from axlearn_core.testing.contracts import ModelContract, check_coverage

BATCH, SEQ, DIM, HIDDEN, VOCAB = 4, 6, 8, 12, 10
HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}


def repeated_block():
    cfg = layers.TransformerBlock.default_config()
    cfg.attention.set(**HEADS)
    cfg.feed_forward.hidden_dim = HIDDEN
    return layers.Repeat.Config(layer=cfg, num_layers=2)


class OfBatches(ModelContract):
    def inputs(self, rng):
        ids, targets = rng.integers(0, VOCAB, (2, BATCH, SEQ), np.int32)
        weights = rng.uniform(size=(BATCH, SEQ)).astype(np.float32)
        return ({"input_ids": ids, "target_ids": targets, "target_weights": weights},)


def causal_lm():
    return layers.CausalLM.Config(vocab_size=VOCAB, dim=DIM, stack=repeated_block())


def encoder_stack():
    stack = layers.both_directions().set(num_layers=2)
    stack.layer.attention.set(**HEADS)
    stack.layer.feed_forward.hidden_dim = HIDDEN
    return stack


class TestCausalLM(OfBatches):
    def config(self):
        return causal_lm()


class TestMultiTokenLM(OfBatches):
    def config(self):
        cfg = layers.MultiTokenLM.Config(lm=causal_lm())
        cfg.depth.layer = repeated_block().layer
        return cfg


class TestMaskedLM(OfBatches):
    def config(self):
        return layers.MaskedLM.Config(vocab_size=VOCAB, dim=DIM, stack=encoder_stack())


class TestSequenceClassifier(ModelContract):
    def config(self):
        return layers.SequenceClassifier.Config(
            vocab_size=VOCAB, dim=DIM, stack=repeated_block(), num_classes=3
        )

    def inputs(self, rng):
        batch = {
            "input_ids": rng.integers(0, VOCAB, (BATCH, SEQ), np.int32),
            "targets": rng.integers(0, 3, BATCH, np.int32),
            "target_weights": rng.uniform(size=BATCH).astype(np.float32),
        }
        return (batch,)


class TestEncoderDecoder(OfBatches):
    def config(self):
        cfg = layers.EncoderDecoder.Config(vocab_size=VOCAB, dim=DIM)
        cfg.encoder.stack = encoder_stack()
        reads_itself, reads_memory = cfg.decoder.stack.set(num_layers=2).layer.layers
        reads_itself.inner.set(**HEADS)
        reads_memory.attention.set(**HEADS)
        reads_memory.feed_forward.hidden_dim = HIDDEN
        return cfg

    def inputs(self, rng):
        (batch,) = super().inputs(rng)
        return ({**batch, "encoder_ids": rng.integers(0, VOCAB, (BATCH, 4), np.int32)},)


def test_every_registered_layer_and_model_is_under_contract(capsys):
    of_layers = runpy.run_path(str(Path(__file__).with_name("test_contracts.py")))
    report = check_coverage("axlearn-layers", [*of_layers.values(), *globals().values()])
    with capsys.disabled():
        print(f"\n{report}")
