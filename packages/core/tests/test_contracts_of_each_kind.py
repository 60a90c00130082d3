"""What the contract of each kind finds wrong, one mistake at a time."""

import json
import re

import click
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import REQUIRED
from axlearn_core.hardware import CPU, EnvironmentSetting, MeshRule
from axlearn_core.kernels import attention, causal
from axlearn_core.kernels.reference import ReferenceAttention
from axlearn_core.observe.writers import Writer
from axlearn_core.plugins import (
    CommandRecord,
    ExperimentRecord,
    HardwareRecord,
    KernelRecord,
    LauncherRecord,
    MeshRuleRecord,
    get_registry,
)
from axlearn_core.testing import contracts, tiny
from axlearn_core.testing.contracts.kernel import Case
from axlearn_core.training.learner import Learner, LearnerUpdate
from axlearn_core.training.schedule import Schedule

HERE = __name__


def target(kind):
    return f"{HERE}:{kind.__name__}"


def fails(match, test, *arguments):
    with pytest.raises(AssertionError, match=match):
        test(*arguments)


# Data sources.


class OfCounting(contracts.DataSourceContract):
    kind = tiny.Counting

    def config(self):
        return self.kind.Config(batch_size=4)


class Forgetful(tiny.Counting):
    """Begins anew whatever the state."""

    def batches(self, **place):
        batches = super().batches(**place)
        batches.set_state = lambda state: None
        return batches


class Selfish(tiny.Counting):
    """Gives every process the first rows."""

    def local_rows(self, process_index, process_count):
        return super().local_rows(0, process_count)


class Unsteady(tiny.Counting):
    """Draws another seed every time."""

    def __init__(self, config):
        super().__init__(config.clone(seed=int(np.random.default_rng().integers(1 << 30))))


def of(contract, kind):
    return type(f"Of{kind.__name__}", (contract,), {"kind": kind})()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_it_goes_on_after_any_batch"),
        (Unsteady, "test_the_same_config_gives_the_same_batches"),
    ],
)
def test_a_source_that_cannot_be_repeated_is_found(kind, test):
    fails("Arrays are not equal", getattr(of(OfCounting, kind), test))


def test_processes_that_read_the_same_rows_are_found():
    test = of(OfCounting, Selfish).test_processes_share_the_rows_without_overlap_or_gap
    fails("Arrays are not equal", test, 2)


def test_an_author_is_told_to_damage_a_record():
    with pytest.raises(NotImplementedError, match="Or set reads_files = False"):
        OfCounting().test_a_damaged_record_is_named()


# Writers.


class Lines(Writer):
    """Appends, whatever happened before, and keeps what is new until it is closed."""

    def open(self, directory, *, after_step):
        self.path, self.lines = directory / "lines", []

    def write(self, step, kind, values):
        self.lines += [json.dumps([step, *value]) + "\n" for value in values.items()]

    def close(self):
        with self.path.open("a") as file:
            file.writelines(self.lines)


class OfLines(contracts.WriterContract):
    def config(self):
        return Lines.Config()

    def read(self, directory):
        file = directory / "lines"
        lines = file.read_text().splitlines() if file.exists() else []
        return {(step, name): value for step, name, value in map(json.loads, lines)}


def test_a_writer_that_only_appends_passes_where_that_is_enough(tmp_path):
    OfLines().test_values_can_be_read(tmp_path)


@pytest.mark.parametrize(
    "test",
    [
        "test_what_was_flushed_survives_a_process_that_ends",
        "test_a_run_that_goes_on_makes_later_steps_again",
    ],
)
def test_a_writer_that_loses_or_repeats_steps_is_found(test, tmp_path):
    fails(None, getattr(OfLines(), test), tmp_path)


# Learners, optimizers and schedules.


class OfDescent(contracts.LearnerContract):
    kind = tiny.GradientDescent

    def config(self):
        return self.kind.Config(learning_rate=0.1)


class Remembering(tiny.GradientDescent):
    """Has the last gradients for a state, and says nothing of their axes."""

    def init(self, params):
        return params

    def state_axes(self):
        return jax.tree.map(lambda spec: (None,) * len(spec.shape), self.specs)


class Widening(tiny.GradientDescent):
    def update(self, grads, opt_state, params, step):
        made = super().update(grads, opt_state, params, step)
        return made._replace(params=jax.tree.map(lambda p: p.astype("float32"), made.params))


class SumOfAll(tiny.GradientDescent):
    """Divides by the size of the largest gradient of a stack."""

    def update(self, grads, opt_state, params, step):
        grads = jax.tree.map(lambda g: g / jnp.abs(g).max(), grads)
        return super().update(grads, opt_state, params, step)


def test_state_that_is_placed_elsewhere_is_found():
    fails(
        None,
        of(OfDescent, Remembering).test_state_shaped_like_a_parameter_is_placed_as_the_parameter,
    )


def test_parameters_that_become_wider_are_found():
    fails(None, of(OfDescent, Widening).test_parameters_and_state_keep_their_dtypes, "bfloat16")


def test_layers_that_are_not_trained_one_by_one_are_found():
    fails(
        "Not equal to tolerance",
        of(OfDescent, SumOfAll).test_a_stack_of_layers_is_trained_as_separate_layers_are,
    )


class Scheduled(Learner):
    """Its `optimizer` is only a rate."""

    class Config(Learner.Config):
        rate: float | Schedule.Config = REQUIRED

    def init(self, params):
        return ()

    def update(self, grads, opt_state, params, step):
        rate = self.config.rate
        if not isinstance(rate, float):
            rate = rate.clone().instantiate()(self.at(step))
        new = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        return LearnerUpdate(new, opt_state, {"gradient_norm": jnp.float32(0)})

    def at(self, step):
        return step


class Frozen(Scheduled):
    """Asks the schedule for its first value only."""

    def at(self, step):
        return 0 * step


class OfRate(contracts.OptimizerContract):
    kind = Scheduled
    scheduled = ("rate",)

    def config(self):
        return self.kind.Config(rate=0.1)

    def learner_with(self, optimizer):
        return optimizer


def test_a_scheduled_rate_is_asked_for_at_every_step():
    OfRate().test_a_scheduled_field_is_worth_what_its_schedule_says()


def test_a_schedule_that_is_asked_once_is_found():
    fails(None, of(OfRate, Frozen).test_a_scheduled_field_is_worth_what_its_schedule_says)


class Ending(Schedule):
    """Divides by the steps that are left."""

    def __call__(self, step):
        return 1 / jnp.float32(self.config.total_steps - step)


class Counting(Schedule):
    """Counts its calls."""

    calls = 0

    def __call__(self, step):
        self.calls += 1
        return jnp.float32(self.calls) + 0 * step


class OfSchedule(contracts.ScheduleContract):
    def config(self):
        return self.kind.Config(total_steps=8)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Ending, "test_rates_are_finite_and_not_negative"),
        (Counting, "test_a_rate_depends_on_its_step_alone"),
    ],
)
def test_a_schedule_that_ends_or_counts_is_found(kind, test):
    fails(None, getattr(of(OfSchedule, kind), test))


# Tokenizers.


class OfLetters(contracts.TokenizerContract):
    """Text of small letters, which is all that this tokenizer knows."""

    texts = ("", "abc", "zyx")

    def tokenizer(self):
        return tiny.Letters.default_config().instantiate()


class OfAnyText(OfLetters):
    texts = contracts.TokenizerContract.texts


def test_a_tokenizer_is_tested_with_the_texts_that_it_is_for():
    OfLetters().test_texts_come_back_as_they_were()
    OfLetters().test_ids_are_of_the_vocabulary()


def test_a_text_that_does_not_come_back_is_found():
    fails(None, OfAnyText().test_texts_come_back_as_they_were)


# Hardware and mesh rules.


class Silent(CPU):
    def settings(self):
        return (EnvironmentSetting("XLA_FLAGS", "--xla_some_flag=true", ""),)


class OfHardware(contracts.HardwareContract):
    name = "test/mine"

    def device_kinds(self):
        return {"cpu": "host"}


CHIPS = """
from axlearn_core.plugins import HardwareRecord, hookimpl

@hookimpl
def axlearn_hardware():
    return [HardwareRecord("mine", "acme_chips.mine:Mine", "Mine.", platform="cpu")]
"""


def test_hardware_that_imports_jax_in_phase_1_is_found(axlearn_install):
    source = "from axlearn_core.hardware import CPU\nimport jax\nclass Mine(CPU): pass\n"
    axlearn_install("acme-chips", plugin=CHIPS, modules={"mine": source})
    contract = type("OfMine", (OfHardware,), {"name": "acme-chips/mine"})()
    fails("imports jax, which then reads the environment", contract.test_phase_1_imports_no_jax)


def test_a_setting_without_a_reason_is_found(axlearn_registry, monkeypatch):
    axlearn_registry(HardwareRecord("mine", target(Silent), "Mine.", platform="cpu"))
    fails("XLA_FLAGS .* needs a comment", OfHardware().test_every_setting_says_why_it_is_made)
    OfHardware().test_what_the_user_set_stays(monkeypatch)


def test_a_chip_without_an_example_is_asked_for(axlearn_registry):
    axlearn_registry(HardwareRecord("mine", target(CPU), "Mine.", platform="cpu"))
    none = type("OfNone", (OfHardware,), {"device_kinds": lambda self: {}})()
    fails("lacks an example of host", none.test_a_device_kind_leads_to_its_chip)


RULE = MeshRule.Config(mesh_shape={"data": -1, "fsdp": 8})


class OfRules(contracts.MeshRuleContract):
    distribution = "test"

    def machines(self):
        return {"gpu-h100-64": ("nodes", {"fsdp": 64}), "gpu-h100-8": ("nodes", {"fsdp": 8})}


def test_a_mesh_that_is_not_the_claimed_one_is_found(axlearn_registry):
    axlearn_registry(MeshRuleRecord("nodes", f"{HERE}:RULE", "Nodes.", pattern="gpu-.*"))
    OfRules().test_a_machine_gets_its_rule("gpu-h100-64")
    OfRules().test_a_machine_gets_the_mesh_of_its_size("gpu-h100-8")
    fails(None, OfRules().test_a_machine_gets_the_mesh_of_its_size, "gpu-h100-64")


def test_a_machine_whose_rule_is_another_is_found(axlearn_registry):
    before = MeshRuleRecord("first", f"{HERE}:RULE", "Before.", pattern="gpu-h100-8")
    nodes = MeshRuleRecord("nodes", f"{HERE}:RULE", "Nodes.", pattern="gpu-.*")
    axlearn_registry(before, nodes)
    fails(None, OfRules().test_a_machine_gets_its_rule, "gpu-h100-8")


# Kernels.


class Detached(ReferenceAttention):
    """Right numbers, without the gradient of the values."""

    def __call__(self, spec, inputs):
        return super().__call__(spec, inputs._replace(value=jax.lax.stop_gradient(inputs.value)))


class Speechless(ReferenceAttention):
    def supports(self, spec):
        return ""


class OfAttention(contracts.KernelContract):
    name = "test/attention.mine"
    reference = "test/attention.reference"

    def cases(self, rng):
        qkv = rng.normal(size=(3, 1, 4, 2, 4)).astype(np.float32)
        return {"causal": self.case(attention, *qkv, mask=causal())}

    def refusals(self, rng):
        return {"": self.cases(rng)["causal"]}


@pytest.fixture
def kernel(axlearn_registry):
    def register(kind):
        reference = KernelRecord(
            "attention.reference", target(ReferenceAttention), ".", op="attention"
        )
        axlearn_registry(
            reference, KernelRecord("attention.mine", target(kind), "Mine.", op="attention")
        )
        return OfAttention()

    return register


def test_a_case_is_what_a_layer_would_ask_for(kernel):
    (case,) = kernel(Detached).cases(np.random.default_rng(0)).values()
    assert isinstance(case, Case)
    assert str(case.spec).startswith("attention(batch 1, 4 queries, 4 keys, 2/2 heads of 4")


def test_a_wrong_gradient_is_found(kernel):
    with pytest.raises(AssertionError, match="Not equal to tolerance") as caught:
        kernel(Detached).test_results_and_gradients_equal_the_references()
    assert "in case 'causal'" in caught.value.__notes__[0]


def test_a_refusal_without_a_reason_is_found(kernel):
    fails(None, kernel(Speechless).test_it_supports_its_cases)


# Experiments and commands.

SHARED = tiny.experiment()


def shared():
    return SHARED


class OfExperiments(contracts.ExperimentContract):
    distribution = "test"


def test_experiments_that_share_a_config_are_found(axlearn_registry):
    axlearn_registry(ExperimentRecord("mine", target(shared), "Mine."))
    (component,) = get_registry().records("experiment")
    test = OfExperiments().test_each_call_gives_a_trainers_config_of_its_own
    fails(None, test, component)


def test_an_experiment_with_a_component_that_nobody_registered_is_found(axlearn_registry):
    axlearn_registry(ExperimentRecord("mine", "axlearn_core.testing.tiny:experiment", "Mine."))
    (component,) = get_registry().records("experiment")
    OfExperiments().test_its_train_state_is_as_declared(component)
    with pytest.raises(ValueError, match="BigramModel"):
        OfExperiments().test_json_restores_the_config(component)


@click.group()
def explained():
    """Explains itself."""


@explained.command()
def unexplained():
    pass


class OfCommands(contracts.CommandContract):
    distribution = "test"


def test_a_command_within_another_needs_help_too(axlearn_registry):
    axlearn_registry(CommandRecord("mine", f"{HERE}:explained", "Mine."))
    (component,) = get_registry().records("command")
    fails("axl mine unexplained needs a docstring", OfCommands().test_it_has_help, component)


# Coverage.


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        (HardwareRecord("mine", target(CPU), "Mine.", platform="cpu"), "def device_kinds(self):"),
        (MeshRuleRecord("mine", f"{HERE}:RULE", "Mine.", pattern="gpu"), "def machines(self):"),
        (KernelRecord("mine", target(Detached), "Mine.", op="attention"), "def cases(self, rng):"),
        (CommandRecord("mine", f"{HERE}:explained", "Mine."), 'distribution = "test"'),
        (ExperimentRecord("mine", target(shared), "Mine."), "class TestExperiments(Exp"),
        (LauncherRecord("mine", target(shared), "Mine."), "def config(self):"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_component_without_contract_is_told_what_to_write(axlearn_registry, record, advice):
    axlearn_registry(record)
    fails(f"1 of 1 components(.|\n)*{re.escape(advice)}", contracts.check_coverage, "test", [])


def test_a_class_covers_what_it_names_and_a_distribution_all_that_it_has(axlearn_registry):
    axlearn_registry(
        CommandRecord("one", f"{HERE}:explained", "One."),
        CommandRecord("two", f"{HERE}:explained", "Two."),
        HardwareRecord("mine", target(CPU), "Mine.", platform="cpu"),
    )
    tests = [type("TestAll", (OfCommands,), {}), type("TestMine", (OfHardware,), {})]
    report = contracts.check_coverage("test", tests)
    assert report == "3 of 3 components of test are under contract"
