"""Every registered layer under its contract, each with the smallest example."""

import jax
import jax.numpy as jnp
import numpy as np

import axlearn_layers as layers
from axlearn_core.kernels import attention, causal, quantized_matmul
from axlearn_core.testing.contracts import ConfigContract, LayerContract
from axlearn_layers.testing import SequenceContract

BATCH, SEQ, DIM, HIDDEN, VOCAB = 4, 6, 8, 12, 10
HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
EXPERTS = {"num_experts": 4, "top_k": 2}


def floats(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def block(kind):
    cfg = kind.default_config().set(input_dim=DIM)
    cfg.attention.set(**HEADS)
    cfg.feed_forward.hidden_dim = HIDDEN
    return cfg


class OfVectors(LayerContract):
    def inputs(self, rng):
        return (floats(rng, BATCH, SEQ, DIM),)


class OfTokens(LayerContract):
    def inputs(self, rng):
        return (rng.integers(0, VOCAB, (BATCH, SEQ), np.int32),)


class OfVectorsAndPositions(LayerContract):
    def inputs(self, rng):
        return floats(rng, BATCH, SEQ, DIM), rng.integers(0, 9, (BATCH, SEQ), np.int32)


# Projections, embeddings, norms.


class TestLinear(OfVectors):
    def config(self):
        return layers.Linear.Config(
            input_dim=DIM, output_dim=(2, 4), output_axes=("heads", "head_dim"), bias=True
        )


class TestQuantizedLinear(OfVectors):
    def config(self):
        return layers.QuantizedLinear.Config(input_dim=DIM, output_dim=4, format="int8", bias=True)


ADAPTED = {"input_dim": DIM, "output_dim": 4, "rank": 2, "inner": layers.Linear.Config(bias=True)}


class TestLoRA(OfVectors):
    def config(self):
        return layers.LoRA.Config(**ADAPTED)


class TestDoRA(OfVectors):
    def config(self):
        return layers.DoRA.Config(**ADAPTED)


class TestMultiLoRA(LayerContract):
    def config(self):
        return layers.MultiLoRA.Config(num_adapters=2, **ADAPTED)

    def inputs(self, rng):
        return floats(rng, BATCH, SEQ, DIM), np.int32([1, 0, -1, 1])

    def call(self, layer, x, ids):
        with layer.parent.provide("adapter_ids", ids):
            return layer.forward(x)


class TestEmbedding(OfTokens):
    def config(self):
        return layers.Embedding.Config(vocab_size=VOCAB, dim=DIM, scale=2.0)


class TestEmbeddingAsHead(OfVectors):
    method = "attend"
    output_dtype = "float32"

    def config(self):
        return layers.Embedding.Config(vocab_size=VOCAB, dim=DIM)


class TestRMSNorm(OfVectors):
    def config(self):
        return layers.RMSNorm.Config(input_dim=DIM)


class TestZeroCentredRMSNorm(OfVectors):
    def config(self):
        return layers.RMSNorm.Config(input_dim=DIM, zero_centred=True)


class TestLayerNorm(OfVectors):
    def config(self):
        return layers.LayerNorm.Config(input_dim=DIM)


class TestGroupNorm(OfVectors):
    def config(self):
        return layers.GroupNorm.Config(input_dim=DIM, num_groups=2)


# Queries, keys and values, and positions.


class TestFusedQKV(OfVectorsAndPositions):
    def config(self):
        return layers.FusedQKV.Config(input_dim=DIM, **HEADS)


class TestSeparateQKV(OfVectorsAndPositions):
    def config(self):
        return layers.SeparateQKV.Config(input_dim=DIM, **HEADS)


class TestQueryOnly(OfVectorsAndPositions):
    def config(self):
        return layers.QueryOnly.Config(input_dim=DIM, **HEADS)


class TestQKNorm(OfVectorsAndPositions):
    def config(self):
        return layers.QKNorm.Config(input_dim=DIM, **HEADS)


class TestRotary(OfVectorsAndPositions):
    def config(self):
        return layers.Rotary.Config(input_dim=DIM, **HEADS)


class TestRotaryFrequencies(ConfigContract):
    def config(self):
        return layers.RotaryFrequencies.default_config()


class TestLinearFrequencies(ConfigContract):
    def config(self):
        return layers.LinearFrequencies.Config(factor=2.0)


class TestDynamicNTKFrequencies(ConfigContract):
    def config(self):
        return layers.DynamicNTKFrequencies.Config(factor=2.0, original_length=4)


class TestLlama3Frequencies(ConfigContract):
    def config(self):
        return layers.Llama3Frequencies.Config(original_length=4)


class TestYarnFrequencies(ConfigContract):
    def config(self):
        return layers.YarnFrequencies.Config(factor=2.0, original_length=4)


class TestLearnedPositions(OfTokens):
    def config(self):
        return layers.LearnedPositions.Config(dim=DIM, max_length=VOCAB)


class TestSinusoidalPositions(OfTokens):
    output_dtype = "float32"  # no parameter and no float comes in

    def config(self):
        return layers.SinusoidalPositions.Config(dim=DIM)


class OfScores(LayerContract):
    """Biases are symbols; what attention makes of them are numbers."""

    def inputs(self, rng):
        return tuple(floats(rng, BATCH, SEQ, 4, 2) for _ in range(3))

    def call(self, layer, query, key, value):
        bias, parameters = layer.forward()
        return attention(query, key, value, mask=causal(), bias=bias, bias_parameters=parameters)


class TestAlibi(OfScores):
    def config(self):
        return layers.Alibi.Config(num_heads=4)


class TestT5Bias(OfScores):
    def config(self):
        return layers.T5Bias.Config(num_heads=4, num_buckets=4, max_distance=5)


# layers.Attention and recurrent layers.


class TestAttention(SequenceContract):
    def config(self):
        return layers.Attention.Config(input_dim=DIM, qkv=layers.Rotary.default_config(), **HEADS)


class TestAttentionWithOptions(SequenceContract):
    def config(self):
        return layers.Attention.Config(
            input_dim=DIM,
            qkv=layers.QKNorm.default_config(),
            logit_cap=2.0,
            bias=layers.T5Bias.Config(num_buckets=4, max_distance=4),
            sinks=True,
            gate=layers.Linear.default_config(),
            **HEADS,
        )


class TestLatentAttention(SequenceContract):
    def config(self):
        ranks = {"query_rank": 6, "kv_rank": 4}
        dims = {"content_dim": 4, "rotary_dim": 2, "value_dim": 6}
        return layers.LatentAttention.Config(input_dim=DIM, num_heads=4, **ranks, **dims)


class TestCrossAttention(LayerContract):
    # A cache that is filled once, and two packings: its own tests hold these.
    def config(self):
        return layers.CrossAttention.Config(input_dim=DIM, memory_dim=10, **HEADS)

    def inputs(self, rng):
        segments, read = (np.tile(np.int32(row), (BATCH, 1)) for row in ([1, 1, 2], [1, 2, 2, 0]))
        memory = layers.Memory(floats(rng, BATCH, 4, 10), read)
        return floats(rng, BATCH, 3, DIM), layers.SequenceInfo(segment_ids=segments, memory=memory)


class TestContiguousCache(LayerContract):
    method = "update"

    def config(self):
        return layers.ContiguousCache.Config(num_kv_heads=2, head_dim=4)

    def inputs(self, rng):
        state = {name: floats(rng, BATCH, 2, SEQ, 4) for name in ("key", "value")}
        key, value = floats(rng, 2, BATCH, 2, 2, 4)
        return state, key, value, np.tile(np.int32([3, 4]), (BATCH, 1))


class TestMamba2(SequenceContract):
    def config(self):
        sizes = {"head_dim": 4, "state_dim": 4, "num_groups": 2, "chunk_size": 2}
        return layers.Mamba2.Config(input_dim=DIM, **sizes)


class TestGatedDeltaNet(SequenceContract):
    def config(self):
        sizes = {"num_heads": 2, "num_value_heads": 4, "key_dim": 4, "value_dim": 4}
        return layers.GatedDeltaNet.Config(input_dim=DIM, chunk_size=2, **sizes)


class TestCausalConv(LayerContract):
    def config(self):
        return layers.CausalConv.Config(dims=(DIM,), axes=("embed",), width=3)

    def inputs(self, rng):
        document = np.repeat(np.int32([[0, 1]]), 3, axis=1).repeat(BATCH, axis=0)
        x, cache = floats(rng, BATCH, SEQ, DIM), floats(rng, BATCH, 2, DIM)
        return x, cache, document, np.ones((BATCH, SEQ), bool)


# Feed-forward layers, dense and sparse.


class TestGatedFeedForward(OfVectors):
    def config(self):
        return layers.GatedFeedForward.Config(input_dim=DIM, hidden_dim=HIDDEN)


class TestDenseFeedForward(OfVectors):
    def config(self):
        return layers.DenseFeedForward.Config(input_dim=DIM, hidden_dim=HIDDEN)


class TestScaledDim(ConfigContract):
    def config(self):
        return layers.ScaledDim.Config(factor=8 / 3)


class TestMixtureOfExperts(OfVectors):
    def config(self):
        return layers.MixtureOfExperts.Config(input_dim=DIM, hidden_dim=HIDDEN, **EXPERTS)


class TestMixtureOfExpertsWithCapacity(OfVectors):
    def config(self):
        dispatch, shared = (
            layers.CapacityDispatch.default_config(),
            layers.GatedFeedForward.default_config(),
        )
        return layers.MixtureOfExperts.Config(
            input_dim=DIM,
            hidden_dim=HIDDEN,
            dispatch=dispatch,
            shared=shared.set(hidden_dim=4),
            **EXPERTS,
        )


class TestGatedExperts(LayerContract):
    def config(self):
        return layers.GatedExperts.Config(input_dim=DIM, hidden_dim=HIDDEN, num_experts=4)

    def inputs(self, rng):
        return (floats(rng, 4, BATCH, 2, DIM),)

    def call(self, layer, rows):
        return layer.forward(rows, lambda rows, weights: rows @ weights[:, None])


class TestQuantizedGatedExperts(TestGatedExperts):
    def config(self):
        return layers.QuantizedGatedExperts.Config(
            input_dim=DIM, hidden_dim=HIDDEN, num_experts=4, format="int8"
        )

    def call(self, layer, rows):
        def multiply(rows, weights, format):
            return jax.vmap(lambda x, w: quantized_matmul(x, w, format))(rows, weights)

        return layer.forward(rows, multiply)


class OfRouting(OfVectors):
    output_dtype = "float32"


class TestSoftmaxRouter(OfRouting):
    def config(self):
        return layers.SoftmaxRouter.Config(
            input_dim=DIM, balance_loss_scale=0.1, z_loss_scale=0.1, **EXPERTS
        )


class TestSigmoidRouter(OfRouting):
    def config(self):
        return layers.SigmoidRouter.Config(input_dim=DIM, bias_rate=0.1, **EXPERTS)


class TestExpertChoiceRouter(OfRouting):
    def config(self):
        return layers.ExpertChoiceRouter.Config(input_dim=DIM, **EXPERTS)


class OfDispatched(LayerContract):
    """Here each expert takes the tanh of its rows."""

    def inputs(self, rng):
        experts = rng.integers(0, 4, (BATCH, SEQ, 2), np.int32)
        weights = rng.uniform(size=(BATCH, SEQ, 2)).astype(np.float32)
        return floats(rng, BATCH, SEQ, DIM), layers.Routing(experts, weights)

    def call(self, layer, x, routing):
        tanh = layers.ExpertFunction(lambda parameters, rows, multiply: jnp.tanh(rows), {}, {})
        return layer.forward(x, routing, tanh)


class TestDropless(OfDispatched):
    def config(self):
        return layers.Dropless.Config(**EXPERTS)


class TestCapacityDispatch(OfDispatched):
    def config(self):
        return layers.CapacityDispatch.Config(**EXPERTS)


# Blocks and stacks.


class TestTransformerBlock(SequenceContract):
    def config(self):
        return block(layers.TransformerBlock)


class TestPostNormBlock(SequenceContract):
    def config(self):
        return block(layers.PostNormBlock)


class TestBranchNormBlock(SequenceContract):
    def config(self):
        return block(layers.BranchNormBlock)


class TestSandwichBlock(SequenceContract):
    def config(self):
        return block(layers.SandwichBlock)


class TestParallelBlock(SequenceContract):
    def config(self):
        return block(layers.ParallelBlock)


class TestDropout(OfVectors):
    def config(self):
        return layers.Dropout.Config(rate=0.5)


class TestLayerDrop(SequenceContract):
    def config(self):
        return layers.LayerDrop.Config(
            input_dim=DIM, inner=block(layers.TransformerBlock), rate=0.1
        )


class TestResidual(SequenceContract):
    def config(self):
        return layers.Residual.Config(input_dim=DIM, inner=layers.Attention.Config(**HEADS))


class TestRepeat(SequenceContract):
    def config(self):
        remat = layers.Remat.Config(save="block_hidden")
        return layers.Repeat.Config(
            input_dim=DIM, layer=block(layers.TransformerBlock), num_layers=2, remat=remat
        )


class TestPipeline(SequenceContract):
    def config(self):
        layer = layers.Attention.Config(**HEADS)
        return layers.Pipeline.Config(
            input_dim=DIM, layer=layer, num_layers=2, num_stages=2, num_microbatches=2
        )

    def inputs(self, rng):
        rows = super().inputs(rng)  # as many as each microbatch has, for a mesh to split
        return jax.tree.map(lambda x: np.concatenate([x, x]), rows)


class TestCircular(ConfigContract):
    def config(self):
        return layers.Circular.Config(num_repeats=2)


class TestOneForwardOneBackward(ConfigContract):
    def config(self):
        return layers.OneForwardOneBackward.default_config()


class TestLayerList(SequenceContract):
    def config(self):
        return layers.LayerList.Config(
            input_dim=DIM, layers=[layers.Attention.Config(**HEADS), block(layers.TransformerBlock)]
        )


class TestSharedKeys(SequenceContract):
    def config(self):
        first = layers.Attention.Config(
            offers_keys=True, qkv=layers.Rotary.default_config(), **HEADS
        )
        later = layers.Attention.Config(
            qkv=layers.Rotary.Config(inner=layers.QueryOnly.default_config()), **HEADS
        )
        rest = layers.Repeat.Config(layer=later, num_layers=2)
        return layers.SharedKeys.Config(input_dim=DIM, first=first, rest=rest)


class TestSharedBias(SequenceContract):
    def config(self):
        bias = layers.T5Bias.Config(num_heads=4, num_buckets=4, max_distance=4)
        return layers.SharedBias.Config(
            input_dim=DIM, inner=layers.Attention.Config(**HEADS), bias=bias
        )


class TestRemat(ConfigContract):
    def config(self):
        return layers.Remat.Config(save="block_.*")


# Heads, pooling, losses.


class TestHeadTransform(OfVectors):
    def config(self):
        return layers.HeadTransform.Config(dim=DIM)


class OfMembers(OfVectors):
    def inputs(self, rng):
        member = np.repeat(np.eye(2, dtype=bool), SEQ // 2, axis=1)
        return *super().inputs(rng), np.tile(member, (BATCH, 1, 1))


class TestFirstToken(OfMembers):
    def config(self):
        return layers.FirstToken.default_config()


class TestLastToken(OfMembers):
    def config(self):
        return layers.LastToken.default_config()


class TestMeanPooling(OfMembers):
    def config(self):
        return layers.MeanPooling.default_config()


class TestLinearCrossEntropy(LayerContract):
    output_dtype = "float32"

    def config(self):
        return layers.LinearCrossEntropy.Config(chunk_size=4, z_loss_scale=0.1, label_smoothing=0.1)

    def inputs(self, rng):
        targets = rng.integers(0, VOCAB, (BATCH, SEQ), np.int32)
        weights = rng.uniform(size=(BATCH, SEQ)).astype(np.float32)
        return floats(rng, BATCH, SEQ, DIM), floats(rng, VOCAB, DIM), targets, weights


class OfSequenceScores(LayerContract):
    output_dtype = "float32"
    narrow_inputs = False

    def scored(self, rng, targets, *shape):
        return floats(rng, BATCH, *shape), targets, rng.uniform(size=BATCH).astype(np.float32)


class TestClassCrossEntropy(OfSequenceScores):
    def config(self):
        return layers.ClassCrossEntropy.Config(num_classes=3)

    def inputs(self, rng):
        return self.scored(rng, rng.integers(0, 3, BATCH, np.int32), 3)


class TestSquaredError(OfSequenceScores):
    def config(self):
        return layers.SquaredError.Config(num_classes=2)

    def inputs(self, rng):
        return self.scored(rng, floats(rng, BATCH, 2), 2)


class TestPreference(OfSequenceScores):
    def config(self):
        return layers.Preference.Config(num_classes=1, packed=2)

    def inputs(self, rng):
        return self.scored(rng, rng.integers(0, 2, BATCH, np.int32), 2, 1)
