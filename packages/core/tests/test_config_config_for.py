"""`config_for`: a node for any function or class."""

import functools

import pytest

from axlearn_core.config import (
    REQUIRED,
    BuildError,
    ConfigError,
    Configurable,
    FieldTypeError,
    MissingFieldsError,
    UnknownFieldError,
    config_for,
)


def schedule(peak: float, *, warmup: int = 10) -> tuple[str, float, int]:
    return ("schedule", peak, warmup)


def chain(*steps, name: str = "chain"):
    return (name, steps)


def mixed(first, /, second=2, *rest, third=3, **others):
    return (first, second, rest, third, others)


class Point:
    def __init__(self, x: int, y: int = 0):
        self.x, self.y = x, y


class Reader(Configurable):
    class Config(Configurable.Config):
        size: int = 1


def collect(readers: list[Reader], table: dict[str, Reader] | None = None):
    return readers, table


def test_it_calls_the_function_with_its_fields():
    assert config_for(schedule, peak=0.5).instantiate() == ("schedule", 0.5, 10)


def test_its_fields_are_the_parameters_with_their_defaults():
    cfg = config_for(schedule)
    assert cfg.peak is REQUIRED
    assert cfg.warmup == 10


def test_fields_can_be_set_later():
    assert config_for(schedule).set(peak=1, warmup=2).instantiate() == ("schedule", 1.0, 2)


def test_annotations_are_checked():
    with pytest.raises(FieldTypeError, match=r"config_for\(schedule\).warmup must be int"):
        config_for(schedule, warmup="long")


def test_an_unknown_parameter_is_refused_with_near_names():
    with pytest.raises(UnknownFieldError, match=r"'warmpu'. Did you mean 'warmup'\?"):
        config_for(schedule, warmpu=3)


def test_a_parameter_without_default_is_required():
    with pytest.raises(MissingFieldsError, match=r"1 required field is not set:\n  peak"):
        config_for(schedule).instantiate()


def test_extra_arguments_count_as_set():
    assert config_for(schedule).instantiate(peak=2.0) == ("schedule", 2.0, 10)


def test_it_builds_classes():
    point = config_for(Point, x=3).instantiate()
    assert (point.x, point.y) == (3, 0)


def test_star_args_are_a_field_of_that_name():
    assert config_for(chain, steps=(1, 2)).instantiate() == ("chain", (1, 2))
    assert config_for(chain).instantiate() == ("chain", ())


def test_positional_only_variadic_and_any_keyword_arguments_all_arrive():
    cfg = config_for(mixed, first=1, second=5, rest=(6, 7), third=8, fourth=9)
    assert cfg.instantiate() == (1, 5, (6, 7), 8, {"fourth": 9})


def test_star_kwargs_are_fields_that_can_be_set_later():
    cfg = config_for(mixed, first=1)
    cfg.extra = 4
    assert cfg.instantiate() == (1, 2, (), 3, {"extra": 4})


def test_arguments_that_are_configs_are_built_first():
    cfg = config_for(chain, steps=(config_for(schedule, peak=1), Reader.default_config()))
    _, (first, second) = cfg.instantiate()
    assert first == ("schedule", 1.0, 10)
    assert isinstance(second, Reader)


def test_configs_inside_lists_and_dicts_are_built_whatever_the_annotation_says_of_the_result():
    cfg = config_for(
        collect, readers=[Reader.default_config()], table={"a": Reader.default_config()}
    )
    readers, table = cfg.instantiate()
    assert isinstance(readers[0], Reader)
    assert isinstance(table["a"], Reader)


def test_each_build_makes_a_new_object():
    cfg = config_for(Point, x=1)
    assert cfg.instantiate() is not cfg.instantiate()


def test_an_argument_s_missing_field_has_its_path():
    cfg = config_for(chain, steps=(config_for(schedule), config_for(schedule)))
    with pytest.raises(MissingFieldsError) as caught:
        cfg.instantiate()
    assert caught.value.paths == ("steps.0.peak", "steps.1.peak")


def test_a_failing_call_carries_the_path():
    with pytest.raises(BuildError, match=r"building steps.0 failed: integer division"):
        config_for(chain, steps=(config_for(divmod_, a=1, b=0),)).instantiate()


def divmod_(a: int, b: int) -> tuple[int, int]:
    return divmod(a, b)


def test_two_nodes_of_one_function_have_one_type():
    assert type(config_for(schedule)) is type(config_for(schedule))
    assert config_for(schedule, peak=1) == config_for(schedule, peak=1.0)


def test_a_partial_has_the_remaining_defaults():
    cfg = config_for(functools.partial(schedule, warmup=3), peak=1.0)
    assert cfg.instantiate() == ("schedule", 1.0, 3)


def test_a_configurable_is_referred_to_its_own_config():
    with pytest.raises(ConfigError, match=r"write Reader.default_config\(\)"):
        config_for(Reader)


def test_a_callable_that_does_not_tell_its_parameters_is_refused():
    with pytest.raises(ConfigError, match="does not tell its parameters; wrap it in a function"):
        config_for(dict)


def test_something_that_is_no_callable_is_refused():
    with pytest.raises(ConfigError, match="3 does not tell its parameters"):
        config_for(3)


def test_a_parameter_that_hides_a_method_of_configs_is_refused():
    def grocery(items):
        return items

    with pytest.raises(ConfigError, match="has a parameter 'items', which cannot be the name"):
        config_for(grocery)
