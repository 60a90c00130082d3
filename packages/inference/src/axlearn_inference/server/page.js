"use strict";
const $ = (id) => document.getElementById(id);
const EMPTY = "Nothing is kept: the conversation is gone when you close this page.";
let messages = []; // of the conversation, as the API wants them
let models = [];
let running = null; // the AbortController of the answer that is being written

const headers = () => {
  const found = { "Content-Type": "application/json" };
  if ($("key").value) found.Authorization = `Bearer ${$("key").value}`;
  return found;
};
const model = () => models.find((each) => each.id === $("model").value);

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// Text of people and models only ever becomes the text of an element, never its HTML.
function add(kind, text) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.textContent = text;
  $("log").append(paragraph);
  return paragraph;
}

function showSettings(shown) {
  $("settings").hidden = !shown;
  $("toggle").setAttribute("aria-expanded", shown);
}

function begin() {
  messages = [];
  $("log").replaceChildren();
  $("new").hidden = true;
  add("soft", model() && !model().chat
    ? `This model continues texts: write the beginning of one. ${EMPTY}` : `Ask something. ${EMPTY}`);
  say("");
}

async function problem(response) {
  try { return (await response.json()).error.message; } catch { return `HTTP ${response.status}`; }
}

async function connect() {
  let response;
  try { response = await fetch("v1/models", { headers: headers() }); } catch {
    say("The server does not answer.", true);
    return setTimeout(connect, 3000);
  }
  if (response.status === 401) {
    $("title").textContent = "Chat";
    showSettings(true);
    $("key").focus();
    return say("This server asks for its API key.", Boolean($("key").value));
  }
  if (!response.ok) {
    $("title").textContent = "Chat";
    say(response.status === 503 ? "The model is being loaded …" : await problem(response));
    return setTimeout(connect, 2000);
  }
  models = (await response.json()).data;
  $("model").replaceChildren(...models.map((each) => new Option(each.id, each.id)));
  $("model-row").hidden = models.length < 2;
  $("title").textContent = document.title = models[0].id;
  $("system-row").hidden = !models[0].chat;
  begin();
}

// Yields the JSON of each server-sent event.
async function* events(response) {
  let rest = "";
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function request(text) {
  const body = { model: model().id, temperature: Number($("temperature").value), stream: true };
  if ($("limit").value) body.max_tokens = Number($("limit").value);
  if (!model().chat) {
    body.max_tokens ??= Math.min(256, model().max_model_len >> 1); // such a model may never end
    return ["v1/completions", { ...body, prompt: text }];
  }
  const system = $("system").value.trim();
  const before = system ? [{ role: "system", content: system }] : [];
  return ["v1/chat/completions", { ...body, messages: [...before, ...messages] }];
}

async function answer(text) {
  const paragraph = add("busy", "");
  const [path, body] = request(text);
  running = new AbortController();
  let reason = "";
  try {
    const response = await fetch(path, {
      method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal });
    if (!response.ok) throw new Error(await problem(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      const log = $("log");
      const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
      paragraph.append((choice.delta ? choice.delta.content : choice.text) ?? "");
      if (follow) log.scrollTop = log.scrollHeight;
      reason = choice.finish_reason ?? reason;
    }
    say(reason === "length" ? "The answer has the most tokens that it may have." : "");
  } catch (error) {
    const stopped = error.name === "AbortError";
    say(stopped ? "Stopped." : error.message, !stopped);
  } finally {
    running = null;
    paragraph.classList.remove("busy");
  }
  const written = paragraph.textContent;
  if (written) messages.push({ role: "assistant", content: written });
  else { // so that it can be asked again
    paragraph.previousElementSibling.remove();
    paragraph.remove();
    messages.pop();
    $("text").value ||= text;
  }
}

async function send() {
  const text = $("text").value.trim();
  if (!text || running || !models.length) return;
  if (!messages.length) $("log").replaceChildren();
  $("text").value = "";
  grow();
  messages.push({ role: "user", content: text });
  add("mine", text).scrollIntoView();
  say("");
  const busy = (now) => {
    $("log").setAttribute("aria-busy", now);
    $("send").hidden = now;
    $("stop").hidden = !now;
    $("new").hidden = now;
  };
  busy(true);
  await answer(text);
  busy(false);
  if (!messages.length) $("new").hidden = true;
  if (!coarse) $("text").focus();
}

const coarse = matchMedia("(pointer: coarse)").matches; // a phone: Enter is a new line there
function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("toggle").addEventListener("click", () => showSettings($("settings").hidden));
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !coarse) {
    event.preventDefault();
    send();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", begin);
$("temperature").addEventListener("input", () => {
  $("shown").textContent = Number($("temperature").value).toFixed(1);
});
$("key").addEventListener("change", connect);
$("model").addEventListener("change", () => { $("title").textContent = $("model").value; });
connect();
