"""Many texts side by side are the texts that one gets one by one."""

import numpy as np

from axlearn_inference.request import Request, Sampling

GREEDY = Sampling(temperature=0)


def requests(count, seed=0, vocab=67):
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(2.2, 0.8, count), 1, 40).astype(int)
    outputs = np.clip(rng.lognormal(1.8, 0.7, count), 1, 20).astype(int)
    return [
        Request(tuple(map(int, rng.integers(vocab, size=n))), int(m), GREEDY)
        for n, m in zip(lengths, outputs, strict=True)
    ]


def test_many_requests_have_the_texts_of_one_by_one(make_engine, greedy, finish_all):
    engine = make_engine()
    asked = {engine.submit(each): each for each in requests(40)}
    texts = finish_all(engine)
    for handle, request in asked.items():
        assert texts[handle] == greedy(request.prompt, request.max_tokens)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pages_used) == (0, 0, 0)
