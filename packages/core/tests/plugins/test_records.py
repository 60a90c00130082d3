import dataclasses

import pytest

from axlearn_core.plugins import KINDS, RECORD_TYPES, LayerRecord, MeshRuleRecord, RecordError

HOOKS_THAT_PROVIDE = [  # as the architecture names them
    "axlearn_layers",
    "axlearn_models",
    "axlearn_learners",
    "axlearn_optimizers",
    "axlearn_schedules",
    "axlearn_data_sources",
    "axlearn_document_sources",
    "axlearn_preprocessors",
    "axlearn_tokenizers",
    "axlearn_hardware",
    "axlearn_kernels",
    "axlearn_mesh_rules",
    "axlearn_experiments",
    "axlearn_writers",
    "axlearn_checkpoint_formats",
    "axlearn_evaluators",
    "axlearn_launchers",
    "axlearn_commands",
]


def test_every_providing_hook_has_one_kind_of_record():
    assert [record.hook for record in RECORD_TYPES] == HOOKS_THAT_PROVIDE
    assert len(set(KINDS)) == len(KINDS)


def test_records_are_frozen():
    record = LayerRecord("rms_norm", "pkg.norms:RMSNorm", "A norm.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "other"


@pytest.mark.parametrize("name", ["rms_norm", "text.llama-7b", "2d"])
def test_names_are_lower_case_words(name):
    assert LayerRecord(name, "pkg:A", "A.").name == name


@pytest.mark.parametrize("name", ["", "RMSNorm", "-x", "a b", "a/b", "x\n"])
def test_other_names_are_refused(name):
    with pytest.raises(RecordError, match=r"name must be lower-case.*; got"):
        LayerRecord(name, "pkg:A", "A.")


@pytest.mark.parametrize("target", ["pkg.norms", "pkg:", ":A", "pkg.norms:A-B", "pkg/norms:A"])
def test_targets_name_a_module_and_an_attribute(target):
    with pytest.raises(RecordError, match="target must look like 'package"):
        LayerRecord("a", target, "A.")


@pytest.mark.parametrize("summary", ["", " ", "one\ntwo"])
def test_summaries_are_one_line(summary):
    with pytest.raises(RecordError, match="summary must be one line"):
        LayerRecord("a", "pkg:A", summary)


def test_a_mesh_rule_needs_a_regular_expression():
    with pytest.raises(RecordError, match=r"pattern must be a regular expression.*got 'gpu-\('"):
        MeshRuleRecord("a", "pkg:A", "A.", pattern="gpu-(")
