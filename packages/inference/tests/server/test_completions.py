"""`/v1/completions`, asked by OpenAI's own client."""

import openai
import pytest


def test_text_goes_on(client, server):
    done = client.completions.create(model="tiny", prompt="Say it", max_tokens=50)
    assert done.choices[0].text == "Hello!"
    assert done.choices[0].finish_reason == "stop"
    assert (done.object, done.model) == ("text_completion", "tiny")
    assert server.script.prompts == ["Say it"]


def test_usage_counts_the_document_start_and_the_end_token(client):
    usage = client.completions.create(model="tiny", prompt="abc", max_tokens=50).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 7, 11)


def test_max_tokens_ends_with_length(client):
    choice = client.completions.create(model="tiny", prompt="a", max_tokens=3).choices[0]
    assert (choice.text, choice.finish_reason) == ("Hel", "length")


def test_stop_string_ends_before_it(client, server):
    server.script.text = "one, two, three"
    choice = client.completions.create(model="tiny", prompt="a", max_tokens=50, stop=[", th", "x"])
    assert (choice.choices[0].text, choice.choices[0].finish_reason) == ("one, two", "stop")


def test_ids_are_as_good_as_text(client, server):
    client.completions.create(model="tiny", prompt=[97, 98], max_tokens=5)
    assert server.script.asked[0].prompt == (97, 98)


def test_each_prompt_has_n_answers_with_seeds_of_their_own(client, server):
    done = client.completions.create(model="tiny", prompt=["a", "b"], n=2, seed=7, max_tokens=9)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    asked = [(bytes(r.prompt[1:]), r.sampling.seed) for r in server.script.asked]
    assert sorted(asked) == [(b"a", 7), (b"a", 8), (b"b", 7), (b"b", 8)]
    assert done.usage.prompt_tokens == 4  # each prompt once


def test_sampling_reaches_the_model(client, server):
    client.completions.create(
        model="tiny",
        prompt="a",
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        extra_body={"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.1},
    )
    sampling = server.script.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.1, 0.2)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.05, 1.1)


def test_logprobs_of_each_token_with_its_place(client, server):
    server.script.text = "héy"
    done = client.completions.create(model="tiny", prompt="a", logprobs=2, max_tokens=9)
    found = done.choices[0].logprobs
    assert found.tokens == ["h", "bytes:\\xc3", "bytes:\\xa9", "y"]
    assert found.token_logprobs == [-0.25] * 4
    assert found.top_logprobs[0] == {"h": -0.25, "i": -1.25}
    assert found.text_offset == [0, 1, 2, 2]


def test_echo_begins_with_the_prompt(client):
    done = client.completions.create(model="tiny", prompt="I say: ", echo=True, max_tokens=9)
    assert done.choices[0].text == "I say: Hello!"


def test_stream_gives_the_same_text_and_its_usage(client):
    options = {"include_usage": True}
    chunks = list(
        client.completions.create(
            model="tiny", prompt="a", max_tokens=9, stream=True, stream_options=options
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Hello!"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7


def test_streamed_text_holds_no_part_of_a_stop_string_or_of_a_character(client, server):
    server.script.text = "né STO ST ✓ STOP it"
    stream = client.completions.create(
        model="tiny", prompt="a", max_tokens=50, stop="STOP", stream=True
    )
    texts = [chunk.choices[0].text for chunk in stream]
    assert "".join(texts) == "né STO ST ✓ "
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)


def test_adapters_are_models(client, server):
    assert [model.id for model in client.models.list()] == ["tiny", "pirate"]
    assert client.models.retrieve("pirate").id == "pirate"
    done = client.completions.create(model="pirate", prompt="a", max_tokens=9)
    assert (done.model, server.script.asked[0].adapter) == ("pirate", "pirate")


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"prompt": "a", "temprature": 1}, "temprature", "Did you mean 'temperature'"),
        ({"prompt": "a", "temperature": -1}, "temperature", "at least 0 and at most 100, got -1"),
        ({"prompt": "a", "n": "two"}, "n", "must be a whole number, got 'two'"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens", "at least 1"),
        ({"prompt": "a", "logprobs": 21}, "logprobs", "at most 20"),
        ({"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias", "is not supported"),
        ({"prompt": "a", "best_of": 3}, "best_of", "compare the answers yourself"),
        ({"prompt": "a", "suffix": "z"}, "suffix", "is not supported"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo", "cannot be combined"),
        ({"prompt": "a", "stop": [1]}, "stop", "a list of strings"),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "needs stream=true"),
        ({"prompt": [300]}, "prompt", "not in [0, 259)"),
        ({"prompt": {"a": 1}}, "prompt", "must be a string"),
        ({"prompt": []}, "prompt", "has no tokens"),
        ({}, "prompt", "is missing"),
        ({"prompt": "a" * 600}, "prompt", "601 tokens, and max_tokens is 16, but tiny holds 512"),
        ({"prompt": "a", "response_format": {"type": "json_object"}}, "response_format", "pip ins"),
    ],
)
def test_a_wrong_field_is_named(server, fields, param, says):
    answer = server.post("/v1/completions", {"model": "tiny", **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert says in error["message"]


def test_an_unknown_model_lists_the_known_ones(client):
    with pytest.raises(openai.NotFoundError, match="this server has tiny, pirate"):
        client.completions.create(model="gpt-4", prompt="a")


@pytest.mark.parametrize(
    ("content", "says"), [(b"{", "is no JSON"), (b"[1]", "must be a JSON object")]
)
def test_a_body_that_is_no_object_is_refused(server, content, says):
    headers = {"Content-Type": "application/json"}
    answer = server.post("/v1/completions", content=content, headers=headers)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]
