// What every tab of the playground shares: the pass that opens /v1 for this browser, errors, streams, costs, the picker.
(() => {
  "use strict";
  const root = document.getElementById("playground");
  if (!root) return;
  const byId = (id) => document.getElementById(id);
  const NO_REQUEST = "00000000-0000-0000-0000-000000000000";
  const NANOS = 10_000_000n;

  /* ---------------------------------------------------------------- Errors */
  class Refused extends Error {
    constructor(message, { status = 0, code = "" } = {}) {
      super(message);
      this.status = status;
      this.code = code;
    }
  }
  const refusal = async (answer) => {
    let told = {};
    try {
      told = (await answer.json()).error ?? {};
    } catch { /* an answer that is not ours: the status says all that is known */ }
    if (typeof told === "string") told = { message: told };
    return new Refused(told.message ?? `The server answered ${answer.status}.`, { status: answer.status, code: told.code ?? "" });
  };
  const away = (error) => (error instanceof TypeError ? new Refused("The server cannot be reached. Check your connection.") : error);

  const trouble = {
    hide() { byId("trouble").hidden = true; },
    show(error, retry = null) {
      const isQuota = error.code === "insufficient_quota";
      byId("trouble-text").textContent = isQuota && !root.dataset.billing
        ? `${error.message} Ask somebody who manages billing for credit.`
        : error.message;
      byId("trouble-billing").hidden = !isQuota || !root.dataset.billing;
      if (root.dataset.billing) byId("trouble-billing").href = root.dataset.billing;
      byId("trouble-limits").hidden = error.code !== "budget_exceeded";
      byId("trouble-limits").href = root.dataset.limits;
      byId("trouble-retry").hidden = !retry;
      byId("trouble-retry").onclick = () => { trouble.hide(); retry?.(); };
      byId("trouble").hidden = false;
      byId("trouble").scrollIntoView({ block: "nearest" });
    },
  };

  /* ---------------------------------------------------------------- Requests */
  const csrf = () => root.querySelector("[name=csrfmiddlewaretoken]").value;
  const post = async (address, fields = {}, options = {}) => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) if (value !== undefined && value !== null) body.append(name, value);
    let answer;
    try {
      answer = await fetch(address, { method: "POST", headers: { "X-CSRFToken": csrf() }, body, ...options });
    } catch (error) {
      throw away(error);
    }
    if (answer.redirected) throw new Refused("You are signed out. Reload the page and sign in.");
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  };

  let pass = null;
  const freshPass = async () => {
    if (!pass || pass.expires_at * 1000 < Date.now() + 30_000) pass = await post(root.dataset.pass);
    return pass.value;
  };
  /* A request to /v1 as any client sends it. `body` is sent as JSON, or as the form that it is. Throws Refused. */
  const ask = async (path, body, { signal } = {}) => {
    const isForm = body instanceof FormData;
    for (let attempt = 0; ; attempt++) {
      const headers = { Authorization: `Bearer ${await freshPass()}` };
      if (!isForm) headers["Content-Type"] = "application/json";
      let answer;
      try {
        answer = await fetch(path, { method: "POST", headers, body: isForm ? body : JSON.stringify(body), signal, credentials: "omit" });
      } catch (error) {
        throw away(error);
      }
      if (answer.ok) return answer;
      if (answer.status !== 401 || attempt) throw await refusal(answer);
      pass = null; // revoked or over: once more with a new one
    }
  };

  /* The events of a stream: {data} parsed, or {note: [name, value]} of a comment. Throws what an error event tells. */
  async function* events(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        const lines = (rest + (value ?? "")).split("\n");
        rest = done ? "" : lines.pop();
        for (const line of lines) {
          if (line.startsWith(":")) {
            const [name, told] = line.slice(1).trim().split(/\s+/);
            if (told) yield { note: [name, told] };
          } else if (line.startsWith("data:")) {
            const text = line.slice(5).trim();
            if (text === "[DONE]") continue;
            const data = JSON.parse(text);
            const error = data.error ?? (data.type === "error" ? data : null);
            if (error) throw new Refused(error.message ?? "The answer broke off.", { code: error.code ?? "" });
            yield { data };
          }
        }
        if (done) return;
      }
    } catch (error) {
      throw away(error);
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  /* ---------------------------------------------------------------- Costs */
  const requestOf = (answer) => (answer.headers.get("x-request-id") ?? "").replace(/^req_/, "");
  const dashed = (hex) => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  const linkTo = (request) => root.dataset.request.replace(NO_REQUEST, dashed(request));
  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  /* What a request was charged, once it is: an answer that was stopped is charged when the provider has ended. */
  const chargeOf = async (request, patience = 8) => {
    for (let attempt = 0; request && attempt < patience; attempt++) {
      if (attempt) await pause(Math.min(250 * 2 ** attempt, 8000));
      try {
        const answer = await fetch(root.dataset.cost.replace("REQUEST", request));
        const { credits } = answer.ok ? await answer.json() : {};
        if (credits) return credits;
      } catch { /* asked again */ }
    }
    return null;
  };
  const nanos = (credits) => {
    const [whole, fraction = ""] = credits.replaceAll(",", "").split(".");
    return BigInt(whole) * NANOS + BigInt(fraction.padEnd(7, "0").slice(0, 7));
  };
  const sum = (all) => {
    const total = all.reduce((so_far, credits) => so_far + nanos(credits), 0n);
    return `${total / NANOS}.${(total % NANOS).toString().padStart(7, "0").replace(/0{1,3}$/, "")}`;
  };

  /* ---------------------------------------------------------------- The picker */
  const select = byId("model");
  const chosen = () => select.selectedOptions[0];
  const facts = (option) => [
    option.dataset.price,
    option.dataset.context && `${option.dataset.context} tokens of context`,
    option.dataset.can,
  ].filter(Boolean);
  const told = () => { byId("model-facts").textContent = chosen() ? facts(chosen()).join(" · ") : ""; };
  const choose = (option) => {
    option.selected = true;
    byId("models-dialog").close();
    select.dispatchEvent(new Event("change", { bubbles: true }));
    select.focus();
  };
  const listed = (option) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const name = document.createElement("strong");
    name.textContent = option.value;
    const about = document.createElement("span");
    about.className = "small muted";
    about.textContent = [option.parentElement.label, ...facts(option)].filter(Boolean).join(" · ");
    button.append(name, about);
    button.addEventListener("click", () => choose(option));
    item.append(button);
    item.dataset.words = `${option.value} ${about.textContent}`.toLowerCase();
    return item;
  };
  const search = () => {
    const words = byId("models-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const item of byId("models-list").children) {
      item.hidden = !words.every((word) => item.dataset.words.includes(word));
      found += !item.hidden;
    }
    byId("models-none").hidden = found > 0;
  };
  const browse = () => {
    byId("models-list").replaceChildren(...[...select.options].map(listed));
    byId("models-search").value = "";
    search();
    byId("models-dialog").showModal();
    byId("models-search").focus();
  };
  if (select) {
    select.addEventListener("change", told);
    byId("model-browse").addEventListener("click", browse);
    byId("models-search").addEventListener("input", search);
    byId("models-search").addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      byId("models-list").querySelector("li:not([hidden]) button")?.click();
    });
    told();
  }

  /* ---------------------------------------------------------------- Pages */
  /* Ctrl+Enter sends `form` from anywhere in it. */
  const sendsByKey = (form) => form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  /* One thing at a time: `work(signal)` runs with Stop in Send's place; ends quietly when stopped. */
  let running = null;
  const run = async (work) => {
    if (running) return;
    running = new AbortController();
    byId("send").hidden = true;
    byId("stop").hidden = false;
    trouble.hide();
    try {
      await work(running.signal);
    } finally {
      running = null;
      byId("send").hidden = false;
      byId("stop").hidden = true;
    }
  };
  /* Stop takes Send's place: the second click of a double click is not meant for it. */
  byId("stop")?.addEventListener("click", (event) => { if (event.detail < 2) running?.abort(); });
  const state = (text) => { byId("state").textContent = text; };
  const isStopped = (error) => error?.name === "AbortError";

  globalThis.Playground = Object.freeze({
    root, byId, Refused, trouble, post, ask, events, requestOf, linkTo, chargeOf, sum, chosen, sendsByKey, run, state, isStopped,
    isRunning: () => running !== null,
  });
})();
