"""Tasks, tokenizers, packing, prepared data and exactly resumable iterators."""
