"""The typed record: declaring fields, assigning, reading, copying, freezing."""

import copy
import pickle
from typing import Any

import pytest

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigError,
    FrozenConfigError,
    RequiredUsedError,
    UnknownFieldError,
    config_for,
    near_names,
)


class Inner(ConfigBase):
    size: int = 1
    names: list[str] = []


class Outer(ConfigBase):
    rate: float = 0.5
    needed: int = REQUIRED
    inner: Inner = Inner()
    table: dict[str, list[int]] = {}
    tags: set[str] = set()
    pair: tuple[Inner, ...] = ()
    anything: Any = None


def test_a_field_has_its_declared_default():
    assert Outer().rate == 0.5


def test_a_field_without_a_default_is_required():
    class Bare(ConfigBase):
        width: int

    assert Bare().width is REQUIRED


def test_the_constructor_takes_fields():
    assert Outer(rate=0.1).rate == 0.1


def test_set_edits_in_place_and_returns_the_config_itself():
    cfg = Outer()
    assert cfg.set(rate=0.25, needed=3) is cfg
    assert (cfg.rate, cfg.needed) == (0.25, 3)


def test_assignment_is_by_value():
    inner = Inner(names=["a"])
    cfg = Outer(inner=inner)
    inner.size = 7
    inner.names.append("b")
    assert cfg.inner == Inner(names=["a"])


def test_assigning_a_list_or_dict_copies_it_and_what_is_in_it():
    table = {"a": [1]}
    cfg = Outer(table=table)
    table["a"].append(2)
    assert cfg.table == {"a": [1]}


def test_reading_a_child_returns_the_live_child():
    cfg = Outer()
    cfg.inner.size = 5
    cfg.inner.names.append("x")
    assert cfg.inner.size == 5
    assert cfg.inner.names == ["x"]


def test_two_instances_share_no_default():
    first, second = Outer(), Outer()
    first.inner.size = 2
    first.table["a"] = [1]
    assert second == Outer()


def test_clone_shares_nothing_with_the_original():
    cfg = Outer(table={"a": [1]}, pair=(Inner(),))
    copied = cfg.clone(rate=0.1)
    copied.inner.size, copied.pair[0].size = 8, 9
    copied.table["a"].append(2)
    assert cfg == Outer(table={"a": [1]}, pair=(Inner(),))
    assert copied.rate == 0.1


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_the_copy_module_clones(copier):
    cfg = Outer()
    copied = copier(cfg)
    copied.inner.size = 3
    assert cfg.inner.size == 1


def test_a_subclass_extends_its_parent_and_may_change_a_default():
    class More(Outer):
        rate = 2
        extra: str = "x"

    assert (More().rate, More().extra, More().inner) == (2.0, "x", Inner())


def test_equality_needs_the_same_class_and_values():
    class Same(Inner):
        pass

    assert Inner(size=2) == Inner(size=2)
    assert Inner(size=2) != Inner(size=3)
    assert Inner() != Same()


def test_an_unknown_name_is_answered_with_near_names_and_all_fields():
    with pytest.raises(
        UnknownFieldError, match=r"'ratee'. Did you mean 'rate'\? Its fields: rate, "
    ):
        Outer().set(ratee=1)


def test_reading_an_unknown_name_is_answered_the_same_way():
    with pytest.raises(UnknownFieldError, match=r"has no field 'iner'. Did you mean 'inner'\?"):
        _ = Outer().iner


def test_an_unknown_name_is_an_attribute_error_so_that_hasattr_works():
    assert not hasattr(Outer(), "nothing")


def test_near_names_of_nothing_similar_is_empty():
    assert near_names("zzz", ["rate"]) == ""


def test_a_field_without_annotation_is_refused_when_the_class_is_made():
    with pytest.raises(ConfigError, match=r"sets size without a type; write `size: <type> = "):

        class Untyped(ConfigBase):
            size = 3


def test_a_field_that_hides_a_method_is_refused():
    with pytest.raises(ConfigError, match=r"Hiding.items hides the method .* such as items_value"):

        class Hiding(ConfigBase):
            items: int = 3


def test_an_annotation_that_cannot_be_evaluated_says_which_name_and_what_to_do():
    class Dangling(ConfigBase):
        size: "Nowhere" = 3  # noqa: F821

    with pytest.raises(ConfigError, match=r"name 'Nowhere', which is unknown in .* at run time"):
        Dangling()


def test_a_field_cannot_be_deleted():
    with pytest.raises(ConfigError, match="cannot be deleted; set rate to another value"):
        del Outer().rate


# Frozen configs.


@pytest.fixture
def frozen() -> Outer:
    return Outer(
        needed=1, table={"a": [1]}, tags={"t"}, pair=(Inner(),), anything=[{"k": 1}]
    ).freeze()


def test_a_frozen_field_cannot_be_set(frozen):
    with pytest.raises(FrozenConfigError, match=r"edit a copy: cfg.clone\(rate=...\)"):
        frozen.rate = 1.0


def test_a_frozen_child_cannot_be_set(frozen):
    with pytest.raises(FrozenConfigError, match=r"Inner.size belongs to an object"):
        frozen.pair[0].size = 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda cfg: cfg.inner.names.append("x"),
        lambda cfg: cfg.table.update(b=[2]),
        lambda cfg: cfg.table["a"].clear(),
        lambda cfg: cfg.table.__setitem__("b", []),
        lambda cfg: cfg.tags.add("x"),
        lambda cfg: cfg.anything[0].pop("k"),
    ],
)
def test_frozen_containers_refuse_edits_at_any_depth(frozen, edit):
    before = frozen.clone()
    with pytest.raises(FrozenConfigError, match=r"already built and cannot change; edit a copy"):
        edit(frozen)
    assert frozen == before


def test_freezing_changes_no_value(frozen):
    assert frozen == frozen.clone()
    assert isinstance(frozen.table["a"], list)


def test_a_clone_of_a_frozen_config_is_editable_again(frozen):
    cfg = frozen.clone()
    cfg.table["a"].append(2)
    cfg.anything[0]["k"] = 2
    cfg.tags.add("u")
    assert (cfg.table, cfg.anything, cfg.tags) == ({"a": [1, 2]}, [{"k": 2}], {"t", "u"})


def test_a_frozen_config_travels_between_processes():
    cfg = Outer(needed=1, table={"a": [1]}, tags={"t"}, anything=config_for(sorted_copy)).freeze()
    received = pickle.loads(pickle.dumps(cfg))
    assert received == cfg
    with pytest.raises(FrozenConfigError):
        received.table["a"].append(2)


def sorted_copy(values: tuple[int, ...] = (2, 1)) -> list[int]:
    return sorted(values)


# REQUIRED.


@pytest.mark.parametrize(
    "use",
    [
        bool,
        len,
        iter,
        int,
        float,
        abs,
        lambda r: r + 1,
        lambda r: 2 * r,
        lambda r: r // 2,
        lambda r: r < 3,
        lambda r: r[0],
        lambda r: r(),
        lambda r: r.size,
        lambda r: setattr(r, "size", 1),
        lambda r: 3 in r,
        lambda r: range(r),
        lambda r: -r,
    ],
)
def test_required_explains_itself_on_any_use(use):
    with pytest.raises(RequiredUsedError, match=r"before it was set. Set the field first"):
        use(REQUIRED)


def test_required_is_one_object_after_copying_and_pickling():
    assert copy.deepcopy(REQUIRED) is REQUIRED
    assert pickle.loads(pickle.dumps(REQUIRED)) is REQUIRED


def test_required_can_be_printed():
    assert "needed=REQUIRED" in repr(Outer())
