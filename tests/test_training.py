"""K adapters trained together equal each trained alone, and a plain PEFT loop."""

import numpy as np
import peft
import pytest
import torch
from helpers import LORA, Failing, dataset, new_bank, weights_hash
from transformers import AutoModelForCausalLM

from seal_env.engine.lora import AdapterBank, LoraConfig
from seal_env.engine.trainable import layer_of
from seal_env.engine.training import (
    STEP,
    Dataset,
    Example,
    FinetuneConfig,
    data_order,
    finetune,
    split,
)
from seal_env.errors import UserError

CONFIG = FinetuneConfig(learning_rate=5e-3, epochs=2)
LENGTHS = ([9, 30], [5], [40, 3, 17, 22], [16, 16, 16], [2, 64], [33])
DATA = [dataset(list(lengths), i) for i, lengths in enumerate(LENGTHS)]


def train(learner, chosen, data=DATA, config=CONFIG, lora=LORA, poisoned=()):
    """Trains the chosen adapters in one pass; returns the bank and the records."""
    bank = new_bank(learner, [100 + i for i in chosen], lora)
    for place, i in enumerate(chosen):
        if i in poisoned:
            bank.weights[place, :50] = torch.nan
    records = finetune(learner, bank, [Dataset(data[i], config, 7 + i) for i in chosen])
    return bank, records


def assert_each_equals_alone(learner, data=DATA, config=CONFIG, lora=LORA):
    bank, records = train(learner, range(len(data)), data, config, lora)
    for i in range(len(data)):
        alone, (record,) = train(learner, [i], data, config, lora)
        assert torch.equal(bank.weights[i], alone.weights[0]), i
        assert repr(records[i]) == repr(record), i


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    kept = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(kept)


def test_together_equals_alone_to_the_bit(learner):
    assert_each_equals_alone(learner)


@pytest.mark.slow
def test_together_equals_alone_on_any_number_of_threads(llama, threads):
    # So many weights that the shares of 3 threads end within the vectors of adapters 13 and 26.
    lora, data = LoraConfig(8, 16.0), [dataset([9 + i, 30 - i % 20], 50 + i) for i in range(40)]
    bank, _ = train(llama, range(40), data, lora=lora)
    for i in (0, 13, 26, 39):
        alone, _ = train(llama, [i], data, lora=lora)
        assert torch.equal(bank.weights[i], alone.weights[0]), i


@pytest.mark.parametrize(
    "lora",
    [LoraConfig(1, 4.0), LoraConfig(5, 3.0, ("all-linear",)), LoraConfig(8, 16.0, ("o_proj",))],
)
def test_together_equals_alone_for_other_shapes(llama, lora):
    assert_each_equals_alone(llama, lora=lora)


def test_together_equals_alone_in_batches_with_weight_decay(llama):
    config = FinetuneConfig(5e-3, epochs=3, batch_size=2, weight_decay=0.1, max_grad_norm=0.5)
    assert_each_equals_alone(llama, config=config)


MIXED = [
    Dataset(DATA[0], FinetuneConfig(5e-3, epochs=2), 1),
    Dataset(DATA[1], FinetuneConfig(1e-3, epochs=7), 2),
    Dataset(DATA[2], FinetuneConfig(2e-2, epochs=1, batch_size=3, max_grad_norm=0.1), 3),
    Dataset(DATA[3], FinetuneConfig(5e-3, epochs=3, weight_decay=0.2), 4, layers=(1,)),
    Dataset(DATA[5], FinetuneConfig(5e-3, epochs=2), 5, layers=()),
    Dataset((), FinetuneConfig(), 6),
]


def test_everyone_is_trained_by_settings_of_its_own(learner):
    bank = new_bank(learner, list(range(len(MIXED))))
    records = finetune(learner, bank, MIXED)
    assert [record.steps for record in records] == [4, 7, 2, 9, 2, 0]
    for i, data in enumerate(MIXED):
        alone = new_bank(learner, [i])
        (record,) = finetune(learner, alone, [data])
        assert torch.equal(bank.weights[i], alone.weights[0]), i
        assert repr(record) == repr(records[i])


def test_only_the_chosen_layers_learn(learner):
    start = new_bank(learner, [3, 4])
    bank = new_bank(learner, [3, 4])
    finetune(learner, bank, [MIXED[3], MIXED[4]])
    assert torch.equal(bank.weights[1], start.weights[1])
    changed = {
        target.name
        for target in bank.targets
        if not torch.equal(bank.matrices[target.name][1][0], start.matrices[target.name][1][0])
    }
    assert changed == {target.name for target in bank.targets if layer_of(target.name) == 1}
    assert 0 < len(changed) < len(bank.targets)


def test_one_dataset_much_longer_and_one_empty(llama):
    data = [dataset([8, 6], 0), dataset([400], 1), [], dataset([5], 2)]
    assert_each_equals_alone(llama, data)
    bank, records = train(llama, range(4), data)
    assert torch.equal(bank.weights[2], new_bank(llama, [102]).weights[0])
    assert records[2].steps == records[2].tokens == 0
    assert not records[2].failed
    assert [r.steps for r in records] == [4, 2, 0, 2]
    assert [r.tokens for r in records] == [28, 800, 0, 10]


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_threads_get_even_shares_and_few_take_many_steps(parts):
    counts = [110] * 5 + [40] * 20 + [10] * 30 + [0] * 3
    data = [Dataset(dataset([15] * n, n), CONFIG, 0) for n in counts]
    shares = split(data, parts)
    assert [k for share in shares for k in share] == list(range(len(data)))
    assert len(shares) == parts
    costs = [sum(data[k].tokens for k in s) + STEP * data[s.start].steps for s in shares]
    assert max(costs) < 1.35 * sum(costs) / parts
    if parts > 1:
        assert data[shares[-1].start].steps <= 80


def test_no_data_at_all(llama):
    _, records = train(llama, [0, 1], [[], []])
    assert [r.steps for r in records] == [0, 0]


def test_nan_in_one_adapter_leaves_the_others_untouched(learner):
    healthy, _ = train(learner, range(6))
    bank, records = train(learner, range(6), poisoned=[2])
    assert [r.failed for r in records] == [False, False, True, False, False, False]
    for i in (0, 1, 3, 4, 5):
        assert torch.equal(bank.weights[i], healthy.weights[i])


def test_divergence_is_noticed(llama):
    config = FinetuneConfig(learning_rate=3e38, epochs=3)
    _, records = train(llama, range(3), config=config)
    assert all(r.failed for r in records)


def peft_loop(learner, data, bank, place, config, order, targets=None):
    """The same training, written plainly: PEFT, torch's AdamW, one sequence after the other."""
    base = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32)
    wanted = peft.LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, wanted).eval()
    state = dict(model.named_parameters())
    pairs = {}
    with torch.no_grad():
        for name, matrices in bank.matrices.items():
            for letter, matrix in zip("AB", matrices, strict=True):
                parameter = state[f"base_model.model.{name}.lora_{letter}.default.weight"]
                parameter.copy_(matrix[place])
                pairs[name, letter] = parameter
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in pairs.values()}
    optimizer = torch.optim.AdamW(
        trained, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / len(order))
    for batch in order:
        optimizer.zero_grad()
        total = sum(len(data[i].ids) - max(1, data[i].unscored) for i in batch)
        for i in batch:
            ids = torch.tensor([data[i].ids])
            labels = ids.clone()
            labels[:, : data[i].unscored] = -100
            count = ids.shape[1] - max(1, data[i].unscored)
            (model(input_ids=ids, labels=labels).loss * count / total).backward()
        torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        decay.step()
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_equals_a_plain_peft_loop(learner, batch_size):
    # Adam divides by the gradient's size: where it is next to nothing, rounding moves a weight by
    # a share of the learning rate. So that is kept small.
    config = FinetuneConfig(3e-4, epochs=2, batch_size=batch_size, weight_decay=0.01)
    data = [*DATA[:3], [Example(tuple(e.ids), unscored=6) for e in dataset([20, 9, 31], 9)]]
    bank, _ = train(learner, range(len(data)), data, config)
    start = new_bank(learner, [100 + i for i in range(len(data))])
    for i in (0, 2, 3):
        order = data_order(7 + i, len(data[i]), config)
        pairs = peft_loop(learner, data[i], start, i, config, order)
        moved = 0.0
        for name, matrices in bank.matrices.items():
            for letter, matrix, first in zip("AB", matrices, start.matrices[name], strict=True):
                torch.testing.assert_close(
                    matrix[i], pairs[name, letter].detach(), rtol=0, atol=1e-5
                )
                moved = max(moved, float((matrix[i] - first[i]).abs().max()))
        assert moved > 3e-4


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_mixed_rates_and_lengths_equal_plain_peft_loops(learner):
    configs = [
        FinetuneConfig(5e-4, epochs=2),
        FinetuneConfig(1e-4, epochs=5, max_grad_norm=0.3),
        FinetuneConfig(3e-4, epochs=3, batch_size=3, weight_decay=0.1),
    ]
    data = [Dataset(DATA[i], config, 40 + i) for i, config in enumerate(configs)]
    bank, start = new_bank(learner, [0, 1, 2]), new_bank(learner, [0, 1, 2])
    finetune(learner, bank, data)
    for i, one in enumerate(data):
        order = data_order(one.seed, len(one.examples), one.config)
        pairs = peft_loop(learner, one.examples, start, i, one.config, order)
        for (name, letter), expected in pairs.items():
            found = bank.matrices[name]["AB".index(letter)][i]
            torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)


def test_the_loss_goes_down_and_is_the_one_that_is_reported(llama):
    example = dataset([24], 3)
    bank = new_bank(llama, [1])
    ids = list(example[0].ids)
    before = -llama.score([[]], [ids], [0], bank)[0]
    (first,) = finetune(llama, bank, [Dataset(example, FinetuneConfig(1e-2, epochs=1), 0)])
    assert first.loss == pytest.approx(before, abs=1e-5)
    (last,) = finetune(llama, bank, [Dataset(example, FinetuneConfig(1e-2, epochs=30), 0)])
    assert last.loss < before - 1


def test_base_weights_and_global_randomness_stay(llama):
    before, state, numbers = weights_hash(llama.model), torch.get_rng_state(), np.random.get_state()
    train(llama, range(3))
    assert weights_hash(llama.model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers[1]).all()


def test_an_exception_leaves_no_trace_on_the_model(llama):
    class StopHere(Exception):
        pass

    def stop(done, total):
        raise StopHere

    before = weights_hash(llama.model)
    bank = new_bank(llama, [1, 2])
    untrained = bank.weights[0].clone()
    with pytest.raises(StopHere):
        finetune(llama, bank, [Dataset([], CONFIG, 0), Dataset(DATA[0], CONFIG, 0)], stop)
    assert bank.grads is None
    assert torch.equal(bank.weights[0], untrained)
    assert not torch.equal(bank.weights[1], new_bank(llama, [2]).weights[0])
    assert weights_hash(llama.model) == before


def test_an_exception_in_the_middle_of_a_pass_leaves_no_trace(learner, monkeypatch):
    before, failing = weights_hash(learner.model), Failing(learner, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        finetune(learner, new_bank(learner, [1]), [Dataset(DATA[0], CONFIG, 0)])
    monkeypatch.undo()
    failing.check()
    assert weights_hash(learner.model) == before


def test_without_memory_for_gradients_adapters_stay_in_place(llama, monkeypatch):
    def fail(bank):
        raise MemoryError

    bank = new_bank(llama, [1, 2, 3])
    before = bank.weights.clone()
    monkeypatch.setattr(AdapterBank, "require_grads", fail)
    with pytest.raises(MemoryError):
        finetune(llama, bank, [Dataset(DATA[i], CONFIG, 0) for i in (1, 0, 2)])
    assert torch.equal(bank.weights, before)


def test_data_order_is_a_fresh_permutation_every_epoch():
    order = data_order(5, 20, FinetuneConfig(epochs=3, batch_size=8))
    assert [len(batch) for batch in order] == [8, 8, 4] * 3
    epochs = [np.concatenate(order[i : i + 3]) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert list(epochs[0]) != list(epochs[1]) != list(epochs[2])
    other = data_order(6, 20, FinetuneConfig(epochs=3, batch_size=8))
    assert any((a != b).any() for a, b in zip(order, other, strict=True))
    again = data_order(5, 20, FinetuneConfig(epochs=3, batch_size=8))
    assert all((a == b).all() for a, b in zip(order, again, strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": -1.0},
        {"max_grad_norm": 0.0},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        FinetuneConfig(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [40, 90])
def test_a_step_in_several_passes_is_the_step_in_one(learner, limit):
    config = FinetuneConfig(1e-3, epochs=2, batch_size=3)
    lengths = [30, 8, 25, 40], [12], [33, 33, 33, 33, 5]
    data = [Dataset(dataset(some, i + 1), config, i) for i, some in enumerate(lengths)]
    weights = []
    for bound in (None, limit):
        bank = new_bank(learner, [0, 1, 2])
        finetune(learner, bank, data, tokens_per_pass=bound)
        weights.append(bank.weights)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-5)
    # How an adapter's batch is cut depends on that batch alone.
    alone = new_bank(learner, [2])
    finetune(learner, alone, data[2:], tokens_per_pass=limit)
    assert torch.equal(alone.weights[0], weights[1][2])
