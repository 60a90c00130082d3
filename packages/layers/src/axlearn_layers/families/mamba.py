"""Mamba-2 (arXiv:2405.21060)."""

from __future__ import annotations

from axlearn_layers import CausalConv, CausalLM, Mamba2, Residual, RMSNorm
from axlearn_layers.families.decoder import decoder


def mamba2(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    state_dim: int = 128,
    head_dim: int = 64,
    expand: int = 2,
    num_groups: int = 1,
    conv_width: int = 4,
    chunk_size: int = 256,
    eps: float = 1e-5,
    tied: bool = True,
) -> CausalLM.Config:
    """State-space layers and nothing else (arXiv:2405.21060).

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: state-space layers.
        state_dim: width of a head's state (`state_size`).
        head_dim: width of a head; there are expand * dim / head_dim.
        expand: width inside a layer, in multiples of dim.
        num_groups: groups of heads that share what is called B and C.
        conv_width: tokens that the convolution sees.
        chunk_size: tokens that are computed at once; changes no result.
        eps: of the norms.
        tied: whether the output head is the embedding table.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    mamba = Mamba2.default_config().set(
        state_dim=state_dim,
        head_dim=head_dim,
        expand=expand,
        num_groups=num_groups,
        conv=CausalConv.default_config().set(width=conv_width),
        chunk_size=chunk_size,
        eps=eps,
    )
    layer = Residual.default_config().set(inner=mamba, norm=norm)
    return decoder(
        layer, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=tied
    )
