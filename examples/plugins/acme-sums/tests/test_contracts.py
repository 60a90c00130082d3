"""What every data source and every tokenizer keeps to, and that none is forgotten."""

from axlearn_core.testing.contracts import DataSourceContract, TokenizerContract, check_coverage

from acme_sums import AlphabetTokenizer, Sums


class TestSums(DataSourceContract):
    reads_files = False

    def config(self):
        return Sums.Config(seq_len=32, batch_size=4)


class TestAlphabetTokenizer(TokenizerContract):
    texts = ("", "abcabc", "cba")

    def config(self):
        return AlphabetTokenizer.Config(alphabet="abc")


def test_every_component_is_under_contract():
    check_coverage("acme-sums", globals().values())
