"""`/v1/chat/completions`, asked by OpenAI's own client."""

import json

import jsonschema
import openai
import pytest

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
LLAMA = '{"name": "weather", "parameters": {"city": "Oslo"}}'


def test_an_assistant_answers(client, server):
    done = client.chat.completions.create(**ASK)
    assert done.choices[0].message.content == "Hello!"
    assert done.choices[0].message.role == "assistant"
    assert (done.object, done.choices[0].finish_reason) == ("chat.completion", "stop")
    assert server.script.prompts == ["user\nHi\nassistant\n"]
    assert server.script.asked[0].prompt.count(257) == 2  # <|im_start|>


def test_the_answer_may_fill_the_context(client, server):
    client.chat.completions.create(**ASK)
    asked = server.script.asked[0]
    assert len(asked.prompt) + asked.max_tokens == 512


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_both_limits_are_known(client, field):
    done = client.chat.completions.create(**ASK, **{field: 2})
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("He", "length")


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(client):
    chunks = list(
        client.chat.completions.create(
            **ASK, stream=True, n=2, stream_options={"include_usage": True}
        )
    )
    for index in (0, 1):
        own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == "Hello!"
        assert own[-1].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 14


def test_logprobs(client):
    done = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
    content = done.choices[0].logprobs.content
    assert [token.token for token in content] == list("Hello!")
    assert (content[0].logprob, content[0].bytes) == (-0.25, [72])
    assert [(top.token, top.logprob) for top in content[0].top_logprobs] == [
        ("H", -0.25),
        ("I", -1.25),
    ]


def test_streamed_logprobs_are_those_of_all_tokens(client):
    stream = client.chat.completions.create(**ASK, logprobs=True, stream=True)
    read = [chunk.choices[0].logprobs for chunk in stream]
    tokens = [token.token for logprobs in read if logprobs for token in logprobs.content]
    assert tokens == list("Hello!")


def test_conversations_with_calls_reach_the_template(client, server):
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
    client.chat.completions.create(
        model="tiny",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "sun"},
        ],
    )
    assert server.script.prompts == [
        "system\nBe brief.\n"
        'assistant\n<tool_call>{"name": "weather", "arguments": {"a": 1}}</tool_call>\n'
        "tool\nsun\nassistant\n"
    ]


@pytest.mark.parametrize("text", [HERMES, LLAMA, f"Let me see.\n{HERMES}", f"{LLAMA}; {LLAMA}"])
def test_calls_are_read(client, server, text):
    server.script.text = text
    choice = client.chat.completions.create(**ASK, tools=[WEATHER, TIME]).choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["weather"] * text.count("weather")
    assert json.loads(calls[0].function.arguments) == {"city": "Oslo"}
    assert choice.message.content == ("Let me see.\n" if "see" in text else None)
    assert '"Tells the weather."' in server.script.prompts[0]


def test_calls_are_streamed_whole(client, server):
    server.script.text = f"See: {HERMES} {HERMES}"
    stream = client.chat.completions.create(**ASK, tools=[WEATHER], stream=True)
    choices = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices) == "See: "
    calls = [call for choice in choices for call in choice.delta.tool_calls or []]
    assert [call.index for call in calls] == [0, 1]
    assert len({call.id for call in calls}) == 2
    assert json.loads(calls[1].function.arguments) == {"city": "Oslo"}
    assert choices[-1].finish_reason == "tool_calls"


def test_the_client_s_own_helper_accumulates_a_streamed_call(client, server):
    server.script.text = HERMES
    with client.chat.completions.stream(**ASK, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls[0].function.name == "weather"


def test_only_one_call_without_parallel_calls(client, server):
    server.script.text = HERMES * 2
    done = client.chat.completions.create(**ASK, tools=[WEATHER], parallel_tool_calls=False)
    assert len(done.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "rm", "parameters": {}}',
        '{"answer": 42}',
        "{ this is no JSON",
        "<tool_call>nonsense</tool_call> after",
        "a <tool_call> never closed",
        "a < b and <tool",
        "",
    ],
)
def test_what_is_no_call_stays_text(client, server, text):
    server.script.text = text
    for stream in (False, True):
        done = client.chat.completions.create(**ASK, tools=[WEATHER], stream=stream)
        if stream:
            found = "".join(chunk.choices[0].delta.content or "" for chunk in done)
        else:
            found = done.choices[0].message.content
            assert done.choices[0].finish_reason == "stop"
        assert found == text


def test_tool_choice_none_hides_the_tools(client, server):
    server.script.text = HERMES
    done = client.chat.completions.create(**ASK, tools=[WEATHER], tool_choice="none")
    assert done.choices[0].message.content == HERMES
    assert "Tools" not in server.script.prompts[0]


class Recorded:
    """Constraints that remember what they were made of."""

    made = []

    def json_schema(self, schema):
        self.made.append(json.loads(schema))
        return self


@pytest.fixture(scope="module")
def constrained(start):
    with start(constraints=Recorded()) as server:
        yield server


def test_response_format_becomes_a_constraint(constrained):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    formats = [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        {"type": "json_object"},
    ]
    Recorded.made.clear()
    for response_format in formats:
        constrained.client().chat.completions.create(**ASK, response_format=response_format)
    assert Recorded.made == [schema, {"type": "object"}]
    assert all(isinstance(r.constraint, Recorded) for r in constrained.script.asked)


def test_a_forced_call_is_constrained_to_its_schema(constrained):
    constrained.script.text = '{"name": "weather", "arguments": {"city": "Oslo"}}'
    Recorded.made.clear()
    choice = {"type": "function", "function": {"name": "weather"}}
    done = constrained.client().chat.completions.create(
        **ASK, tools=[WEATHER, TIME], tool_choice=choice
    )
    assert done.choices[0].message.tool_calls[0].function.name == "weather"
    (schema,) = Recorded.made
    assert jsonschema.validators.validator_for(schema).check_schema(schema) is None
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid({"name": "weather", "arguments": {"city": "Oslo"}})
    assert not valid({"name": "weather", "arguments": {"city": 1}})
    assert not valid({"name": "time", "arguments": {}})


def test_a_required_call_may_be_any(constrained):
    Recorded.made.clear()
    constrained.client().chat.completions.create(
        **ASK, tools=[WEATHER, TIME], tool_choice="required"
    )
    (schema,) = Recorded.made
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid({"name": "weather", "arguments": {"city": "Oslo"}})
    assert valid({"name": "time", "arguments": {}})
    assert not valid({"name": "rm", "arguments": {}})


def test_parameters_that_refer_to_their_own_definitions_still_do(constrained):
    Recorded.made.clear()
    parameters = {
        "$defs": {"City": {"enum": ["Oslo"]}},
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}},
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    constrained.client().chat.completions.create(**ASK, tools=[tool], tool_choice="required")
    (schema,) = Recorded.made
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid({"name": "weather", "arguments": {"city": "Oslo"}})
    assert not valid({"name": "weather", "arguments": {"city": "Rome"}})


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [{"role": "cat", "content": ""}]}, "messages[0].role", "system, developer"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "must be text, got 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "", "x": 1}]}, "messages[0].x", "not known"),
        ({"functions": [{}]}, "functions", "use tools"),
        ({"audio": {}}, "audio", "writes text"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
        ({"tools": [WEATHER], "tool_choice": "must"}, "tool_choice", "none, auto, required"),
        ({"tool_choice": "required"}, "tool_choice", "tools declares []"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs=true"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema; got 'xml'"),
        ({"response_format": {"type": "json_object"}}, "response_format", "pip install"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice", "pip install"),
        ({"messages": [{"role": "user", "content": "a" * 600}]}, "messages", "holds 512 of prompt"),
    ],
)
def test_a_wrong_field_is_named(server, fields, param, says):
    answer = server.post("/v1/chat/completions", {**ASK, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert says in error["message"]


def test_a_model_without_a_template_says_what_to_do(start):
    with (
        start(template=None) as server,
        pytest.raises(openai.BadRequestError, match="--chat-template FILE"),
    ):
        server.client().chat.completions.create(**ASK)
