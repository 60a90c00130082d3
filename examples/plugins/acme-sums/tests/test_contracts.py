"""What every data source and every tokenizer keeps to."""

from axlearn_core.testing.contracts import ConfigContract

from acme_sums import AlphabetTokenizer, Sums


class TestSums(ConfigContract):
    def config(self):
        return Sums.Config(seq_len=32, batch_size=4)


class TestAlphabetTokenizer(ConfigContract):
    def config(self):
        return AlphabetTokenizer.Config(alphabet="abc")
