"""Published weights and tokenizers, in and out."""
