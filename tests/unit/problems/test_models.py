"""Networks have the published numbers of parameters, shapes and initial weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.problems.cifar_networks import _network
from thalweg.problems.completion import Factors
from thalweg.problems.measures import EXPLAINED_VARIANCE, PIXEL_ERROR
from thalweg.problems.moby import moby_gru, moby_transformer
from thalweg.problems.networks import autoencoder, image_cnn
from thalweg.problems.pixels import CropAndFlip, Pixels
from thalweg.problems.recurrent import RecurrentText
from thalweg.problems.residual import resnet18, resnet20, resnet32
from thalweg.problems.transformer import Transformer


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# He et al. 2016, table 6, give 0.27M and 0.46M; the exact numbers are those of the common
# implementations (option A; for the wide 18-layer network, a 3x3 stem and option B).
@pytest.mark.parametrize(
    ("build", "classes", "count"),
    [
        (resnet20, 10, 269_722),
        (resnet32, 10, 464_154),
        (resnet32, 100, 464_154 + 90 * 65),
        (resnet18, 10, 11_173_962),
    ],
)
def test_residual_networks_have_the_published_size(build, classes, count):
    model = build(classes)
    assert size(model) == count
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, classes)


@pytest.mark.parametrize(("build", "layers"), [(resnet20, 20), (resnet32, 32), (resnet18, 18)])
def test_residual_networks_have_as_many_layers_as_their_name(build, layers):
    weighted = [m for m in build().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    projections = [m for m in weighted if getattr(m, "kernel_size", None) == (1, 1)]
    assert len(weighted) - len(projections) == layers


def test_features_halve_and_double():
    shapes = []
    model = resnet20()
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_the_shortcut_of_option_a_subsamples_and_pads():
    block = resnet20().blocks[3].eval()
    nn.init.zeros_(block.second_norm.weight)  # only the shortcut is left
    images = torch.rand(2, 16, 8, 8)
    out = block(images)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2])
    assert out[:, :8].abs().max() == out[:, 24:].abs().max() == 0


def test_convolutions_start_as_he_et_al():
    torch.manual_seed(0)
    convolution = resnet18().blocks[2].first  # from 64 channels to 128
    expected = (2 / (9 * 128)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.01)
    assert convolution.bias is None


def test_pixels_are_standardised_by_channel():
    images = torch.randint(256, (4, 3, 5, 6), dtype=torch.uint8)
    means, stds = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    out = Pixels(means, stds)(images)
    for channel in range(3):
        expected = (images[:, channel].float() / 255 - means[channel]) / stds[channel]
        torch.testing.assert_close(out[:, channel], expected)
    assert Pixels(means, stds).double()(images).dtype == torch.float64


def test_crops_and_flips_are_windows_of_the_padded_image():
    torch.manual_seed(0)
    images = torch.arange(1.0, 1 + 40 * 3 * 8 * 8).reshape(40, 3, 8, 8)
    out = CropAndFlip(padding=2)(images)
    padded = F.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, whole in zip(out, padded, strict=True):
        windows = {
            (i, j, flipped): (w.flip(-1) if flipped else w)
            for i in range(5)
            for j in range(5)
            for w in [whole[:, i : i + 8, j : j + 8]]
            for flipped in (False, True)
        }
        (match,) = [key for key, window in windows.items() if torch.equal(window, image)]
        seen.add(match)
    assert len(seen) > 20
    assert {flipped for *_, flipped in seen} == {False, True}
    assert {i for i, _, _ in seen} == {j for _, j, _ in seen} == set(range(5))


def test_augmentation_is_off_in_evaluation_and_follows_the_seed_in_training():
    model = _network(resnet20, 10)
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    model.eval()
    assert torch.equal(model(images), model(images))
    augment = CropAndFlip()
    floats = images.float()
    torch.manual_seed(5)
    first = augment(floats)
    assert not torch.equal(augment(floats), first)
    torch.manual_seed(5)
    assert torch.equal(augment(floats), first)


# Worked by hand: embeddings, two layers of 49,984, the last normalisation and the scores.
def test_text_models_have_the_size_of_their_layers():
    layer = 2 * 2 * 64 + (64 * 192 + 192) + (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64)
    assert layer == 49_984
    assert size(Transformer(83)) == 83 * 64 + 64 * 64 + 2 * layer + 128 + 64 * 83 + 83
    gate = 3 * (96 * 96 + 96 * 96 + 96 + 96)
    assert size(RecurrentText(83)) == 83 * 96 + gate + 96 * 83 + 83


@pytest.mark.parametrize("build", [Transformer, RecurrentText])
def test_text_models_do_not_look_ahead(build):
    torch.manual_seed(0)
    model = build(20).eval()
    text = torch.randint(20, (3, 64))
    changed = text.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % 20
    with torch.no_grad():
        before, after = model(text), model(changed)
    assert before.shape == (3, 20, 64)
    torch.testing.assert_close(before[:, :, :40], after[:, :, :40])
    assert not torch.allclose(before[:, :, 40:], after[:, :, 40:])


def test_the_transformer_is_the_one_of_torch():
    torch.manual_seed(0)
    width, heads = 16, 4
    ours = Transformer(11, context=9, width=width, layers=1, heads=heads)
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True
    )
    norm, attention = ours.layers[0].attention
    second, inwards, _, outwards = ours.layers[0].perceptron
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(attention.inwards.weight)
        layer.self_attn.in_proj_bias.copy_(attention.inwards.bias)
        layer.self_attn.out_proj.load_state_dict(attention.outwards.state_dict())
        layer.norm1.load_state_dict(norm.state_dict())
        layer.norm2.load_state_dict(second.state_dict())
        layer.linear1.load_state_dict(inwards.state_dict())
        layer.linear2.load_state_dict(outwards.state_dict())
    x = torch.randn(2, 9, width)
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    torch.testing.assert_close(ours.layers[0](x), layer(x, src_mask=mask))


@pytest.mark.parametrize("make", [moby_transformer, moby_gru])
def test_text_starts_near_the_uniform_distribution(make):
    problem = make()
    scores = problem.evaluate(problem.build(0))
    assert scores["loss"] == pytest.approx(torch.tensor(83.0).log().item(), abs=0.3)
    assert scores["metric"] < 0.1


def test_the_autoencoder_mirrors_and_starts_as_glorot():
    model = autoencoder(784, 256, 128, 64, 16)
    widths = [layer.out_features for layer in model if isinstance(layer, nn.Linear)]
    assert widths == [256, 128, 64, 16, 64, 128, 256, 784]
    assert not isinstance(model[-1], nn.Tanh)
    first = model[0]
    assert first.weight.abs().max().item() == pytest.approx((6 / (784 + 256)) ** 0.5, rel=1e-3)
    assert first.bias.abs().max() == 0


def test_the_small_cnn_takes_colours_too():
    assert image_cnn((3, 32, 32), 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_factors_are_the_entries_of_their_product():
    model = Factors((4, 3), rank=2)
    product = model.rows @ model.columns.T
    places = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    torch.testing.assert_close(model(places).reshape(4, 3), product)


def test_explained_variance_and_pixel_error():
    from sklearn.metrics import r2_score

    draws = torch.Generator().manual_seed(0)
    targets = torch.randn(50, 1, generator=draws)
    outputs = targets + 0.3 * torch.randn(50, 1, generator=draws)
    expected = r2_score(targets.numpy(), outputs.numpy())
    assert EXPLAINED_VARIANCE.fn(outputs, targets).item() == pytest.approx(expected)
    pixels = torch.rand(5, 784, generator=draws)
    assert PIXEL_ERROR.fn(torch.logit(pixels), pixels).item() == pytest.approx(0, abs=1e-6)
    grey = PIXEL_ERROR.fn(torch.zeros(5, 784), torch.ones(5, 784))
    assert grey.item() == pytest.approx(784 / 4)
