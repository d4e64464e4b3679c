import pytest
import torch
from torch.nn import functional

from pipeline.train.connector import Connector, ConnectorSpec, WeightedNorm, common_grid, to_grid

TINY = ConnectorSpec(widths=(6, 10), grid=(4, 5, 5), hidden=32, tokens=8, heads=4, kv_heads=2, head_dim=8)


@pytest.mark.parametrize(
    ("hidden", "count", "printed"),  # printed: millions in Apollo, Table 7 (3B reads 63.6 there: truncated)
    [(1536, 38_358_528, "38.4"), (2048, 63_727_616, "63.7"), (3584, 177_583_616, "177.6")],
)
def test_the_connector_has_as_many_parameters_as_apollos(hidden, count, printed):
    with torch.device("meta"):
        connector = Connector(ConnectorSpec(widths=(1152, 1408), grid=(4, 27, 27), hidden=hidden, tokens=128))
    found = sum(p.numel() for p in connector.parameters())
    # Linear 2560h + h, latents 128h, four norms of 3h, q and o 1536h each, k and v 384h each, MLP 3 * 4h^2
    assert found == 2560 * hidden + hidden + 128 * hidden + 12 * hidden + 3840 * hidden + 12 * hidden**2 == count
    assert f"{found / 1e6:.1f}" == printed


def test_apollos_pair_meets_on_the_larger_grid():
    assert common_grid([(4, 27, 27), (4, 16, 16)]) == (4, 27, 27)


def test_a_grid_is_resized_as_torch_resizes_channels_first_in_fp32():
    features = torch.randn(2, 4, 3, 3, 6, dtype=torch.float16)
    expected = functional.interpolate(
        features.float().permute(0, 4, 1, 2, 3), size=(4, 5, 5), mode="trilinear", align_corners=False
    )
    found = to_grid(features, (4, 5, 5))
    assert found.dtype == torch.float16
    assert torch.equal(found, expected.permute(0, 2, 3, 4, 1).half())


def test_the_one_time_step_of_an_image_is_repeated():
    features = torch.randn(2, 1, 5, 5, 6)
    assert torch.equal(to_grid(features, (4, 5, 5)), features.expand(-1, 4, -1, -1, -1))


def test_a_weighted_norm_is_a_layer_norm_times_a_vector_near_one():
    norm, x = WeightedNorm(512), torch.randn(3, 512) * 7 + 2
    assert torch.allclose(norm(x), functional.layer_norm(x, (512,)) * norm.weight)
    assert abs(norm.weight.mean().item() - 1) < 0.01
    assert abs(norm.weight.std().item() - 0.02) < 0.005


def test_clips_become_as_many_tokens_as_there_are_latents():
    connector = Connector(TINY)
    out = connector([torch.randn(3, 4, 5, 5, 6), torch.randn(3, 4, 2, 2, 10)])
    assert out.shape == (3, 8, 32)


def test_attention_is_grouped_query_attention_over_context_and_latents():
    attention = Connector(TINY).layers[0].attention
    latents, context = torch.randn(2, 8, 32), torch.randn(2, 11, 32)
    seen = torch.cat([context, latents], dim=1)
    heads = []
    for head in range(4):
        own, shared = slice(head * 8, head * 8 + 8), slice(head // 2 * 8, head // 2 * 8 + 8)
        scores = attention.q_proj(latents)[..., own] @ attention.k_proj(seen)[..., shared].transpose(1, 2) / 8**0.5
        heads.append(scores.softmax(-1) @ attention.v_proj(seen)[..., shared])
    expected = attention.o_proj(torch.cat(heads, dim=-1))
    assert torch.allclose(attention(latents, context), expected, atol=1e-5)


def test_clips_do_not_look_at_one_another():
    connector = Connector(TINY)
    arrays = [torch.randn(3, 4, 5, 5, 6), torch.randn(3, 4, 2, 2, 10)]
    alone = connector([array[1:2] for array in arrays])
    assert torch.allclose(connector(arrays)[1:2], alone, atol=1e-5)


def test_weights_start_as_apollos_do():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        connector = Connector(TINY.model_copy(update={"hidden": 256}))
    layer = connector.layers[0]
    for linear, variance in [
        (connector.projector, 2 / 16),  # He: 2 / fan_in
        (layer.attention.q_proj, 2 / 256),
        (layer.attention.o_proj, 2 / 32),
        (layer.mlp.up_proj, 0.4 / 256),
        (layer.mlp.down_proj, 0.4 / 1024 / 2),
    ]:
        assert linear.weight.var().item() == pytest.approx(variance, rel=0.1)
    assert not connector.projector.bias.any()


def test_fresh_latents_look_at_different_cells():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = Connector(TINY).layers[0].attention
    context, latents = torch.randn(1, 100, 32), functional.layer_norm(torch.randn(1, 8, 32), (32,))
    queries, keys = attention.q_proj(latents)[0, :, :8], attention.k_proj(context)[0, :, :8]
    weights = (queries @ keys.T / 8**0.5).softmax(-1)
    assert weights.max(dim=1).values.mean() > 0.1  # ten times the even share


def test_features_of_other_encoders_are_refused_with_both_widths():
    with pytest.raises(ValueError, match=r"\(6, 10\), got \(10, 6\)"):
        Connector(TINY)([torch.randn(1, 4, 5, 5, 10), torch.randn(1, 4, 5, 5, 6)])


def test_key_value_heads_that_do_not_divide_the_heads_are_refused():
    with pytest.raises(ValueError, match="kv_heads must divide"):
        ConnectorSpec(widths=(6,), grid=(1, 1, 1), hidden=32, tokens=1, heads=4, kv_heads=3)
