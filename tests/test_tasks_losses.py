"""Losses and metrics of the workload families, held against their definitions written out, on numbers small enough to check."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from timetrial.suite.algorithm import Batch
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import read_record
from timetrial.suite.trial import run_trial
from timetrial.tasks import (
    _contrastive,
    _ctc,
    _noise,
    _unet,
    bsd_denoise,
    cifar10_clip,
    cifar10_vit,
    crammed_lm,
    ctr_dlrm,
    emoji_clip,
    molhiv_gnn,
    mri_unet,
    multi30k_transformer,
    news_gpt,
    nuclei_unet,
)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch_geometric's import


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def batch(**fields):
    return Batch(torch.arange(len(next(iter(fields.values())))), fields)


def nats(logits, right):
    """-log softmax, by hand."""
    exponentials = [math.exp(x) for x in torch.as_tensor(logits).tolist()]
    return -math.log(exponentials[right] / sum(exponentials))


def quality(task, outputs, given, facts=None):
    metric = task.metric(facts or {})
    task.update(metric, outputs, given)
    return metric.compute()


# --- image and text ---------------------------------------------------------------------------------------------------------------------


def test_contrastive_loss_is_the_mean_of_two_searches_without_others_of_the_same_group():
    pictures, texts = normalize(torch.randn(5, 3), dim=1), normalize(torch.randn(5, 3), dim=1)
    groups, scale = [0, 1, 0, 2, 1], 3.0
    found = _contrastive.contrastive_losses(pictures, texts, torch.tensor(scale), torch.tensor(groups))
    for i in range(5):
        rivals = [j for j in range(5) if j == i or groups[j] != groups[i]]
        by_picture = nats([scale * float(pictures[i] @ texts[j]) for j in rivals], rivals.index(i))
        by_text = nats([scale * float(pictures[j] @ texts[i]) for j in rivals], rivals.index(i))
        assert float(found[i]) == pytest.approx((by_picture + by_text) / 2, rel=1e-5)


def test_padding_leaves_a_text_as_it_is():
    tower = _contrastive.TextTower(9, 8, 4, "relu")
    torch.testing.assert_close(tower(torch.tensor([[3, 5, 0, 0]])), tower(torch.tensor([[3, 5]])))


def test_cifar10_clip_zero_shot_is_the_nearest_class_name_and_recall_the_nearest_term():
    axes = torch.eye(4)
    terms = torch.stack([torch.zeros(4), axes[0], axes[1], axes[2]])  # term 0 is none
    pictures = torch.stack([axes[0], axes[1] + 0.1 * axes[2], axes[2]])
    given = batch(image=pictures, term=torch.tensor([1, 2, 2]), label=torch.tensor([0, 1, 1]))
    found = quality(cifar10_clip, (pictures, None, None, terms, terms[[1, 3]]), given, {"classes": 2, "terms": ["", "a", "b", "c"]})
    assert float(found["zero_shot_accuracy"]) == 1.0
    assert float(found["recall_at_1"]) == pytest.approx(2 / 3)


def test_emoji_clip_recall_is_the_share_of_pictures_whose_caption_is_nearest():
    texts = torch.eye(3)
    pictures = torch.stack([texts[0], texts[2], texts[2]])  # the second one finds the caption of the third
    given = batch(image=pictures, tokens=pictures, category=torch.tensor([0, 1, 1]), emoji=torch.tensor([7, 8, 9]))
    found = quality(emoji_clip, (pictures, texts, None, texts[:2]), given, {"categories": ["x", "y"]})
    assert float(found["recall_at_1"]) == pytest.approx(2 / 3)
    assert float(found["zero_shot_accuracy"]) == pytest.approx(1 / 3)


# --- speech -----------------------------------------------------------------------------------------------------------------------------


def collapsed(path):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != _ctc.BLANK]


@pytest.mark.parametrize("spoken", [[1], [1, 2], [1, 1]])
def test_ctc_loss_is_the_share_of_all_paths_that_read_as_the_string(spoken):
    logits = torch.randn(1, 4, 3)
    shares = logits.double().softmax(dim=-1)[0]
    total = sum(
        math.prod(float(shares[t, s]) for t, s in enumerate(path))
        for path in itertools.product(range(3), repeat=4)
        if collapsed(path) == spoken
    )
    padded = torch.zeros(1, 5, dtype=torch.uint8)
    padded[0, : len(spoken)] = torch.tensor(spoken)
    found = _ctc.losses((logits, torch.tensor([4])), batch(digits=padded), {})
    assert float(found[0]) == pytest.approx(-math.log(total), rel=1e-5)


def test_word_error_rate_counts_wrong_digits_among_all_spoken():
    best = torch.tensor([[1, 1, 0, 2, 2, 9], [3, 0, 3, 0, 0, 0]])  # reads 1 2 (the last step is not heard) and 3 3
    logits = torch.nn.functional.one_hot(best, 11).float()
    given = batch(digits=torch.tensor([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]], dtype=torch.uint8))
    metric = _ctc.metric({})
    _ctc.update(metric, (logits, torch.tensor([5, 6])), given)
    assert _ctc.greedy(logits, torch.tensor([5, 6])) == [[1, 2], [3, 3]]
    assert float(metric.compute()) == pytest.approx(2 / 5)


def test_a_recording_is_heard_up_to_its_last_sound():
    spectrogram = torch.zeros(2, 160, 40, dtype=torch.uint8)
    spectrogram[0, 30, 7] = 9
    assert _ctc.heard_frames(spectrogram).tolist() == [31, 0]


# --- pictures out of pictures -----------------------------------------------------------------------------------------------------------


def test_nuclei_loss_is_cross_entropy_plus_one_minus_dice_of_each_picture():
    logits, numbers = torch.randn(2, 4, 4), torch.randint(0, 3, (2, 4, 4))
    found = nuclei_unet.losses(logits, batch(mask=numbers), {"dice": 1.0})
    for i in range(2):
        entropy = overlap = sizes = 0.0
        for x, number in zip(logits[i].flatten().tolist(), numbers[i].flatten().tolist(), strict=True):
            p, y = 1 / (1 + math.exp(-x)), float(number > 0)
            entropy -= (y * math.log(p) + (1 - y) * math.log(1 - p)) / 16
            overlap, sizes = overlap + p * y, sizes + p + y
        assert float(found[i]) == pytest.approx(entropy + 1 - (2 * overlap + 1) / (sizes + 1), rel=1e-5)


def test_nuclei_quality_is_common_pixels_over_pixels_of_either():
    found, true = torch.tensor([[[1.0, 1.0, -1.0, -1.0]]]), torch.tensor([[[4, 0, 2, 0]]])
    assert float(quality(nuclei_unet, found, batch(mask=true))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("fold", [1, 2])
def test_a_unet_gives_pictures_of_the_size_that_it_sees(fold):
    assert _unet.UNet(3, 2, width=8, depth=2, fold=fold)(torch.randn(2, 3, 24, 16)).shape == (2, 2, 24, 16)


def test_mri_loss_is_the_mean_absolute_error_and_ssim_of_the_picture_itself_is_one():
    image = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    given = batch(image=image, measured=image)
    whole = image[:, None] / 255
    assert mri_unet.losses(whole + 0.125, given, {}).tolist() == pytest.approx([0.125, 0.125])
    assert float(quality(mri_unet, whole, given)["ssim"]) == pytest.approx(1.0)


def test_an_untrained_mri_model_gives_back_what_was_measured():
    model = mri_unet.build_model({"width": 4, "depth": 1, "fold": 2, "norm": "group", "activation": "relu"}, {"mean": 0.2, "std": 0.1})
    measured = torch.rand(2, 64, 64).half()
    torch.testing.assert_close(mri_unet.forward(model, batch(measured=measured)), measured[:, None].float())


def grey(height, width):
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[0, :height, :width] = 100
    return batch(image=image, height=torch.tensor([height]), width=torch.tensor([width]))


def test_denoising_is_measured_inside_the_picture_only():
    given = grey(6, 4)
    restored = torch.full((1, 1, 8, 8), 0.7)  # beside the picture: anything
    restored[..., :6, :4] = (100 + 5) / 255
    assert float(bsd_denoise.losses(restored, given, {"unit": 5})[0]) == pytest.approx(1.0, rel=1e-5)
    assert float(quality(bsd_denoise, restored, given)) == pytest.approx(20 * math.log10(255 / 5), rel=1e-5)


def test_a_restorer_that_has_learned_nothing_gives_back_what_it_sees():
    options = {"width": 8, "depth": 3, "sigma": 25, "norm": "batch", "activation": "relu"}
    denoiser = bsd_denoise.Restorer(upscale=1, **options)
    seen = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(denoiser(seen), seen)
    assert bsd_denoise.Restorer(upscale=2, **options)(torch.rand(1, 1, 4, 4)).shape == (1, 1, 8, 8)


def test_noise_of_a_held_out_example_does_not_depend_on_its_batch():
    together = _noise.normal_by_id(torch.tensor([3, 9]), (4,), "cpu")
    torch.testing.assert_close(together[1:], _noise.normal_by_id(torch.tensor([9]), (4,), "cpu"))
    assert not torch.equal(together[0], together[1])


# --- rows and molecules -----------------------------------------------------------------------------------------------------------------

DLRM = {"width": 4, "bottom": [6], "top": [8], "waves": 2, "wave_scale": 1.0, "activation": "relu", "dropout": 0.0}


def test_dlrm_multiplies_every_pair_of_vectors():
    model = ctr_dlrm.Dlrm([3, 5], [0.0], [1.0], **DLRM)
    seen = {}
    model.top.register_forward_hook(lambda module, args, output: seen.update(x=args[0]))
    categories, numbers = torch.tensor([[2, 4]]), torch.tensor([[0.5]])
    model(categories, numbers)
    vectors = [model.table.weight[2], model.table.weight[3 + 4], model.bottom(model.periodic(numbers))[0]]
    expected = [(a @ b).item() for a, b in itertools.combinations([v.detach() for v in vectors], 2)]
    assert seen["x"][0, :3].tolist() == pytest.approx(expected, rel=1e-5)


def test_dlrm_works_without_numbers():
    assert ctr_dlrm.Dlrm([3, 5], [], [], **DLRM)(torch.tensor([[2, 4], [0, 0]])).shape == (2,)


def test_log_loss_and_auc_are_those_of_scikit_learn():
    logits, label = torch.randn(40), torch.arange(40) % 3 // 2
    found = quality(ctr_dlrm, logits, batch(label=label))
    p = logits.sigmoid().numpy()
    y = label.numpy()
    assert float(found["log_loss"]) == pytest.approx(float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))), rel=1e-5)
    assert float(found["auc"]) == pytest.approx(roc_auc_score(y, p), rel=1e-5)


def test_average_precision_is_that_of_scikit_learn():
    logits, label = torch.randn(40), torch.arange(40) % 3 // 2
    found = quality(molhiv_gnn, logits, batch(label=label))
    assert float(found["average_precision"]) == pytest.approx(average_precision_score(label, logits.sigmoid()), rel=1e-5)
    assert float(found["roc_auc"]) == pytest.approx(roc_auc_score(label, logits), rel=1e-5)


@pytest.fixture
def molecules():
    """A chain of three atoms and a ring of four, with room for more."""
    atoms = torch.randint(0, 4, (2, 6, 2)).int()
    ends, bonds = torch.zeros(2, 5, 2).short(), torch.randint(0, 3, (2, 5, 1)).int()
    ends[0, :2], ends[1, :4] = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    return batch(atoms=atoms, ends=ends, bonds=bonds, atom_count=torch.tensor([3, 4]), bond_count=torch.tensor([2, 4]))


@pytest.fixture
def network():
    facts = {"atom_values": [4, 4], "bond_values": [3]}
    model = molhiv_gnn.build_model({"width": 8, "depth": 3, "dropout": 0.0, "activation": "relu", "virtual_node": True}, facts)
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model.eval()


def one(molecules, i):
    return batch(**{name: value[i : i + 1] for name, value in molecules.fields.items()})


def test_a_molecule_does_not_see_the_others_of_its_batch(molecules, network):
    together = molhiv_gnn.forward(network, molecules)
    alone = torch.cat([molhiv_gnn.forward(network, one(molecules, i)) for i in range(2)])
    torch.testing.assert_close(together, alone)
    assert together[0].item() != pytest.approx(together[1].item(), abs=1e-4)


def test_the_order_of_atoms_does_not_matter(molecules, network):
    ring = one(molecules, 1)
    order = torch.tensor([2, 0, 3, 1, 4, 5])  # new position -> old
    moved = batch(**(ring.fields | {"atoms": ring["atoms"][:, order], "ends": order.argsort()[ring["ends"].long()].short()}))
    torch.testing.assert_close(molhiv_gnn.forward(network, moved), molhiv_gnn.forward(network, ring))


# --- language ---------------------------------------------------------------------------------------------------------------------------

LAYERS = {"width": 16, "heads": 2, "expansion": 2, "activation": "gelu", "post_norm": False}


def test_perplexity_is_the_exponential_of_the_mean_loss():
    logits, tokens = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 6))
    given = batch(tokens=tokens)
    by_hand = [sum(nats(logits[i, t], int(tokens[i, t + 1])) for t in range(5)) / 5 for i in range(3)]
    assert news_gpt.losses(logits, given, {}).tolist() == pytest.approx(by_hand, rel=1e-5)
    assert float(quality(news_gpt, logits, given)) == pytest.approx(math.exp(sum(by_hand) / 3), rel=1e-4)


def test_a_gpt_does_not_see_what_follows():
    model = news_gpt.GPT(11, 8, depth=2, **LAYERS)
    one_text = torch.randint(0, 11, (1, 8))
    other = one_text.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 11
    before, after = model(one_text), model(other)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def masked_model():
    return crammed_lm.build_model({"block": 8, "hidden_share": 0.25, "depth": 1, **LAYERS}, {"vocabulary_size": 11})


def test_a_masked_model_is_asked_for_what_it_cannot_see():
    model = masked_model().eval()
    tokens, hidden = torch.randint(0, 11, (2, 8)), torch.zeros(2, 8, dtype=torch.bool)
    hidden[0, 3] = hidden[1, 6] = hidden[1, 7] = True
    changed = torch.where(hidden, (tokens + 1) % 11, tokens)
    torch.testing.assert_close(model(tokens, hidden), model(changed, hidden))
    logits = model(tokens, hidden)
    by_hand = [nats(logits[k], int(tokens[i, t])) for k, (i, t) in enumerate([(0, 3), (1, 6), (1, 7)])]
    given = batch(tokens=tokens)
    found = crammed_lm.losses((logits, hidden), given, {})
    assert found.tolist() == pytest.approx([by_hand[0], (by_hand[1] + by_hand[2]) / 2], rel=1e-5)
    assert float(quality(crammed_lm, (logits, hidden), given)) == pytest.approx(sum(by_hand) / 3, rel=1e-5)


def test_what_is_hidden_of_a_held_out_text_is_always_the_same_and_about_a_quarter():
    model, tokens = masked_model().eval(), torch.zeros(400, 8, dtype=torch.long)
    hidden = model.hide(tokens, torch.arange(400))
    assert torch.equal(hidden[[7]], model.hide(tokens[:1], torch.tensor([7])))
    assert hidden.any(dim=1).all()
    assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.04)
    assert not torch.equal(model.train().hide(tokens, torch.arange(400)), model.hide(tokens, torch.arange(400)))


TRANSLATOR = {"length": 8, "encoder_depth": 1, "decoder_depth": 1, "dropout": 0.0, **LAYERS}


def pairs(*lines):
    """Lines of tokens with their marks, as rows of 8."""
    rows = torch.zeros(len(lines), 8, dtype=torch.int16)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line) + 2] = torch.tensor([multi30k_transformer.BEGIN, *line, multi30k_transformer.END])
    return rows


def test_translation_loss_is_label_smoothed_and_a_mean_over_the_tokens_of_a_pair():
    given = batch(de=pairs([3], [4]), en=pairs([5, 6], [7]))
    logits = torch.randn(5, 9)  # 5 6 END, 7 END
    right, owner = [5, 6, 2, 7, 2], [0, 0, 0, 1, 1]
    each = [0.9 * nats(row, r) + 0.1 * sum(nats(row, k) for k in range(9)) / 9 for row, r in zip(logits, right, strict=True)]
    expected = [sum(e for e, o in zip(each, owner, strict=True) if o == i) / owner.count(i) for i in range(2)]
    assert multi30k_transformer.losses(logits, given, {"label_smoothing": 0.1}).tolist() == pytest.approx(expected, rel=1e-5)
    plain = sum(nats(row, r) for row, r in zip(logits, right, strict=True)) / 5
    assert float(quality(multi30k_transformer, logits, given)) == pytest.approx(plain, rel=1e-5)


def test_a_pair_does_not_see_the_padding_that_its_batch_brings():
    model = multi30k_transformer.Translator(9, **TRANSLATOR).eval()
    alone = multi30k_transformer.forward(model, batch(de=pairs([3]), en=pairs([5])))
    together = multi30k_transformer.forward(model, batch(de=pairs([3], [4, 4, 4, 4]), en=pairs([5], [7, 7, 7, 7, 7])))
    torch.testing.assert_close(together[:2], alone)


def test_greedy_translation_is_the_likeliest_continuation_step_by_step():
    model = multi30k_transformer.Translator(9, **TRANSLATOR).eval()
    source = pairs([3, 4], [5]).long()
    with torch.inference_mode():
        found = multi30k_transformer.translate(model, source)
        for row, given in zip(found, source, strict=True):
            text = [multi30k_transformer.BEGIN]
            while len(text) < source.shape[1] and text[-1] != multi30k_transformer.END:
                memory, visible = model.encode(given[None])
                text.append(int(model.predict(model.decode(torch.tensor([text]), memory, visible)[0, -1]).argmax()))
            assert row.tolist()[: len(text)] == text


def test_bleu_of_a_perfect_translation_is_100(monkeypatch):
    vocabulary = ["", "", "", "a ", "dog ", "runs ", "fast ", "home ", "now"]
    given = batch(de=pairs([3]), en=pairs([3, 4, 5, 6, 7, 8]))
    monkeypatch.setattr(multi30k_transformer, "translate", lambda model, source: given["en"])
    assert multi30k_transformer.bleu(None, [given], {"vocabulary": vocabulary}) == {"bleu": pytest.approx(100.0)}


# --- the vision transformer -------------------------------------------------------------------------------------------------------------


def test_vit_loss_is_label_smoothed_cross_entropy():
    logits, label = torch.randn(3, 4), torch.tensor([0, 3, 1])
    by_hand = [0.9 * nats(row, int(k)) + 0.1 * sum(nats(row, j) for j in range(4)) / 4 for row, k in zip(logits, label, strict=True)]
    assert cifar10_vit.losses(logits, batch(label=label), {"label_smoothing": 0.1}).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_what_a_task_reports_beside_its_quality_stands_in_the_record(tmp_path):
    plan = resolve(["workload=digits_mlp", "workload.budget.examples=8000", "workload.ladder.main=0.5", "loader=torch"])
    inputs = open_inputs(plan.workload, tmp_path)

    def slow(model, batches, facts):
        return {"examples": float(sum(map(len, batches))), "nothing": math.nan}

    record, folder = run_trial(plan, tmp_path, inputs=replace(inputs, task=replace(inputs.task, slow_measures=slow)))
    assert record.result.test_measures_at_hit == record.result.test_measures_at_end == {"examples": 360.0}
    assert read_record(folder)[0].result == record.result
