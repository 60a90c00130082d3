"""The experiments of this distribution."""

from axlearn_core.plugins import ExperimentRecord, hookimpl


@hookimpl
def axlearn_experiments() -> list[ExperimentRecord]:
    return [
        ExperimentRecord(
            "text.quickstart",
            "axlearn_experiments.text:quickstart",
            "1.3M parameters learn Moby Dick in a minute or two on two CPU cores.",
        ),
        ExperimentRecord(
            "text.markov",
            "axlearn_experiments.text:markov",
            "A small model learns a random Markov chain in seconds; no data.",
        ),
        ExperimentRecord(
            "text.llama-tiny",
            "axlearn_experiments.text:llama_tiny",
            "10M parameters on the bundled novel.",
        ),
        ExperimentRecord(
            "text.llama-85m",
            "axlearn_experiments.text:llama_85m",
            "GPT-2 small's size, for one GPU; synthetic tokens.",
        ),
        ExperimentRecord(
            "text.llama-1b",
            "axlearn_experiments.text:llama_1b",
            "The shape of Llama 3.2 1B, for one node; synthetic tokens.",
        ),
        _published("llama2-7b", "llama2_7b", "Llama 2 7B (arXiv:2307.09288)."),
        _published("llama2-70b", "llama2_70b", "Llama 2 70B (arXiv:2307.09288)."),
        _published("llama3-8b", "llama3_8b", "Llama 3 8B (arXiv:2407.21783)."),
        _published("qwen3-30b-a3b", "qwen3_30b_a3b", "128 experts, 8 a token (arXiv:2505.09388)."),
        _published("deepseek-v3", "deepseek_v3_671b", "671B, 37B a token (arXiv:2412.19437)."),
        _published("afm-on-device", "afm_on_device", "2.7B, of 2024 (arXiv:2407.21075)."),
        _published("afm-on-device-2025", "afm_on_device_2025", "3.1B, with shared keys."),
        _published("afm-draft-2025", "afm_draft_2025", "49M, to draft for the 3.1B."),
    ]


def _published(name: str, function: str, summary: str) -> ExperimentRecord:
    target = f"axlearn_experiments.published:{function}"
    return ExperimentRecord(f"published.{name}", target, summary)
