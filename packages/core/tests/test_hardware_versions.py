"""What is said of a jax, a jaxlib and a plugin of different releases."""

from importlib.metadata import PackageNotFoundError

import pytest

from axlearn_core.hardware import jax_mismatch

JAX = [
    "jaxlib<=0.10.2,>=0.10.1",
    "numpy>=2.0",
    'libtpu==0.0.42.*; extra == "tpu"',
    'jaxlib<=0.10.2,>=0.10.2; extra == "cuda12"',
    'jax-cuda12-plugin[with-cuda]<=0.10.2,>=0.10.2; extra == "cuda12"',
]
PLUGIN = ["jax-cuda12-pjrt==0.10.2"]


def find(**versions):
    requirements = {"jax": JAX, "jax-cuda12-plugin": PLUGIN}
    installed = {name.replace("_", "-"): version for name, version in versions.items()}

    def find(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name], requirements.get(name, [])

    return find


@pytest.mark.parametrize(
    ("extra", "versions"),
    [
        ("", {"jaxlib": "0.10.1"}),
        ("tpu", {"jaxlib": "0.10.2", "libtpu": "0.0.42.1"}),
        (
            "cuda12",
            {"jaxlib": "0.10.2", "jax_cuda12_plugin": "0.10.2", "jax_cuda12_pjrt": "0.10.2"},
        ),
    ],
    ids=str,
)
def test_what_jax_asks_for_fits(extra, versions):
    assert jax_mismatch(extra, find=find(jax="0.10.2", **versions)) is None


def test_another_jaxlib_is_named_with_the_command_that_mends_it():
    assert jax_mismatch(find=find(jax="0.10.2", jaxlib="0.9.0")) == (
        "jax 0.10.2 needs jaxlib <=0.10.2,>=0.10.1, and 0.9.0 is installed. "
        "To mend it: pip install 'jax==0.10.2'"
    )


def test_another_libtpu_is_named():
    problem = jax_mismatch("tpu", find=find(jax="0.10.2", jaxlib="0.10.2", libtpu="0.0.52"))
    assert "needs libtpu ==0.0.42.*, and 0.0.52 is installed" in problem
    assert "pip install 'jax[tpu]==0.10.2'" in problem


def test_what_the_plugin_itself_needs_is_looked_at_too():
    versions = {"jaxlib": "0.10.2", "jax_cuda12_plugin": "0.10.2", "jax_cuda12_pjrt": "0.10.0"}
    problem = jax_mismatch("cuda12", find=find(jax="0.10.2", **versions))
    assert problem.startswith("jax-cuda12-plugin 0.10.2 needs jax-cuda12-pjrt ==0.10.2, and 0.10.0")


def test_a_missing_plugin_is_named():
    problem = jax_mismatch("tpu", find=find(jax="0.10.2", jaxlib="0.10.2"))
    assert problem.startswith("jax 0.10.2 needs libtpu, which is not installed")


def test_no_jax_at_all():
    assert jax_mismatch(find=find()) == "jax is not installed: pip install jax"


def test_what_is_installed_here_fits():
    assert jax_mismatch() is None
