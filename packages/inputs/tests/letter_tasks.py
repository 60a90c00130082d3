"""A user's own seqio tasks and a mixture of them, as a module that registers them."""

import seqio

from axlearn_inputs.tasks import register_text_task

LETTERS = {"train": ["aaaa", "a\n"] * 50, "validation": ["aé"]}
DIGITS = {"train": ["1234"] * 100, "validation": ["5"]}

register_text_task("only_letters", LETTERS.__getitem__, ["train", "validation"])
register_text_task("only_digits", DIGITS.__getitem__, ["train", "validation"])
seqio.MixtureRegistry.add("three_to_one", [("only_letters", 3), ("only_digits", 1)])

register_text_task("untouched", LETTERS.__getitem__, ["train"])
_task = seqio.TaskRegistry.get("untouched")
seqio.TaskRegistry.add_provider(
    "other_ids",
    _task.replace(
        name="other_ids",
        preprocessors=[
            seqio.preprocessors.tokenize,
            lambda dataset: dataset.map(lambda x: {**x, "targets": x["targets"] + 1}),
        ],
    ),
)
