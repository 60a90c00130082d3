"""Trains byte pairs (arXiv:1508.07909) on bytes, in the files of published tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.training.tokenizer import TokenizerTrainer
from axlearn_huggingface.tokenizers.files import CONFIG, GENERATION, TEMPLATE, TOKENIZER
from axlearn_huggingface.tokenizers.hugging_face import HuggingFaceTokenizer

END, PADDING = "<|endoftext|>", "<|padding|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class BytePairTrainer(TokenizerTrainer):
    """Trains a byte-level tokenizer: every text comes back as it was, whatever it was trained on.

    Digits are tokens of their own (arXiv:2302.13971); other merges stay within the words of GPT-2's
    pattern. The first ids are special: 0 ends documents, 1 is padding, then those of chats and your
    own. `HuggingFaceTokenizer` and `transformers` load what is written.
    """

    class Config(TokenizerTrainer.Config):
        vocab_size: int = REQUIRED  # tokens, with 256 bytes and the special ones
        special_tokens: tuple[str, ...] = ()  # further ones, such as "<|tool|>"
        chatml: bool = False  # writes a chat template, whose turns <|im_end|> ends

    def __init__(self, config: Config):
        super().__init__(config)
        chat = (TURN, TURN_END) if config.chatml else ()
        self._special = (END, PADDING, *chat, *config.special_tokens)
        if len(set(self._special)) < len(self._special) or "" in self._special:
            raise ConfigError(
                f"special_tokens must be texts that differ, also from {END} and {PADDING}; "
                f"got {', '.join(map(repr, self._special))}"
            )
        if config.vocab_size < 256 + len(self._special):
            raise ConfigError(
                f"vocab_size (={config.vocab_size}) must be at least {256 + len(self._special)}: "
                f"256 bytes and {len(self._special)} special tokens"
            )

    def train(self, texts: Iterable[str], directory: Path) -> HuggingFaceTokenizer:
        cfg = self.config
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=cfg.vocab_size,
            special_tokens=list(self._special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        if (size := library.get_vocab_size()) < cfg.vocab_size:
            raise ConfigError(
                f"this text gives no more than {size} tokens; take more of it, or a smaller "
                f"vocab_size than {cfg.vocab_size}"
            )
        (directory / TOKENIZER).write_text(library.to_str(pretty=True), encoding="utf-8")
        self._write_settings(directory)
        return self.load(directory)

    def load(self, directory: Path) -> HuggingFaceTokenizer:
        config = HuggingFaceTokenizer.Config(path=str(directory))
        tokenizer: HuggingFaceTokenizer = config.instantiate()
        return tokenizer

    def _write_settings(self, directory: Path) -> None:
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": PADDING,
            "additional_special_tokens": list(self._special[2:]),
            "clean_up_tokenization_spaces": False,
        }
        _write(directory / CONFIG, settings)
        if self.config.chatml:
            (directory / TEMPLATE).write_text(CHATML, encoding="utf-8")
            ends = [self._special.index(name) for name in (END, TURN_END)]
            _write(directory / GENERATION, {"eos_token_id": ends})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
