// The chat: asks /v1/chat/completions, shows the answer while it comes, keeps both for their author.
(() => {
  "use strict";
  if (!globalThis.Playground || !globalThis.Markdown) return;
  const { byId, trouble, post, ask, events, requestOf, linkTo, chargeOf, sum, chosen, sendsByKey, run, state, isStopped, isRunning } = Playground;
  const page = byId("chat");
  if (!page) return;
  const PATH = "/v1/chat/completions";
  const MAX_PICTURES = 4;
  const PICTURES_BYTES = 2_000_000;
  const settings = byId("settings").elements;
  const ENDINGS = { stopped: "Stopped", length: "Cut at the token limit", cut: "Cut off", content_filter: "Filtered" };
  let attached = [];

  /* ---------------------------------------------------------------- Messages: the page is the truth, `said` reads it */
  const said = [...byId("messages").children].map((element) => ({
    element,
    id: element.dataset.id,
    role: element.dataset.role,
    text: element.querySelector(".text").textContent,
    images: [...element.querySelectorAll(".pictures img")].map((image) => image.src),
    cost: (element.querySelector(".cost")?.textContent ?? "").replace(" credits", "").trim(),
  }));
  const part = (message, name) => message.element.querySelector(name);
  const show = (message) => {
    if (message.role === "assistant") Markdown.show(part(message, ".text"), message.text);
    else part(message, ".text").textContent = message.text;
  };
  /* What scrolls: the messages alone, or on a narrow page all of it. */
  const isNarrow = matchMedia("(width < 60rem)");
  const scroller = () => (isNarrow.matches ? document.scrollingElement : byId("log"));
  const toEnd = () => { scroller().scrollTop = scroller().scrollHeight; };
  const isAtEnd = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 80;
  /* The reader is followed until they scroll up, and again from the end on; a slow drawing does not count as scrolling. */
  let isFollowing = true;
  let seenAt = 0;
  document.addEventListener("scroll", () => {
    const { scrollTop } = scroller();
    if (scrollTop < seenAt || isAtEnd()) isFollowing = isAtEnd();
    seenAt = scrollTop;
  }, { capture: true, passive: true });
  /* Draw, and stay at the end if the reader was there. */
  const following = (draw) => {
    draw();
    if (isFollowing) toEnd();
  };
  const add = (role, text, images = []) => {
    const element = byId(`template-${role}`).content.firstElementChild.cloneNode(true);
    const message = { element, id: "", role, text, images, cost: "" };
    element.querySelector(".pictures").replaceChildren(...images.map(picture));
    if (role === "assistant") element.querySelector(".who").textContent = settings.model.value;
    byId("messages").append(element);
    byId("nothing").hidden = true;
    said.push(message);
    show(message);
    isFollowing = true;
    toEnd();
    return message;
  };
  const picture = (url, index) => {
    const image = document.createElement("img");
    image.src = url;
    image.alt = `Picture ${index + 1}`;
    return image;
  };
  const remove = (message) => {
    message.element.remove();
    said.splice(said.indexOf(message), 1);
  };
  const told = (message, { cost, request, ending }) => {
    if (request) part(message, ".cost").href = linkTo(request);
    if (cost) {
      message.cost = cost;
      part(message, ".cost").textContent = `${cost} credits`;
    }
    if (ending !== undefined) part(message, ".ending").textContent = ENDINGS[ending] ?? "";
    tidy();
  };
  const tidy = () => {
    const last = said.at(-1);
    for (const message of said) {
      const retry = part(message, "[data-do=retry]");
      if (retry) {
        retry.hidden = message !== last;
        retry.disabled = isRunning();
      }
      part(message, ".fork").hidden = !message.id || !page.dataset.conversation;
    }
    const costs = said.map((message) => message.cost).filter(Boolean);
    byId("chat-total").textContent = costs.length > 1 ? `${sum(costs)} credits` : "";
  };

  /* ---------------------------------------------------------------- Keeping */
  const parameters = () => ({
    model: settings.model.value,
    system: settings.system.value,
    temperature: settings.temperature.value,
    top_p: settings.top_p.value,
    max_tokens: settings.max_tokens.value,
  });
  const began = ({ url, title }) => {
    page.dataset.conversation = url;
    history.replaceState(null, "", url);
    byId("chat-title").textContent = title;
    document.title = `${title} · ${document.title}`;
    for (const item of byId("chat-menu").querySelectorAll("[data-part]")) {
      item.href = url + item.dataset.part;
      if (item.hasAttribute("hx-target")) item.setAttribute("hx-get", item.href);
    }
    byId("chat-menu").hidden = false;
    globalThis.htmx?.process(byId("chat-menu"));
  };
  const listAgain = async () => {
    if (byId("chat-side").querySelector("[type=search]").value) return;
    const answer = await fetch(page.dataset.list, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.redirected) return;
    const made = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("conversations");
    if (!made) return;
    byId("conversations").replaceChildren(...made.childNodes);
    globalThis.htmx?.process(byId("conversations"));
    mark();
  };
  const mark = () => {
    for (const link of byId("conversations").querySelectorAll(".talks a")) {
      if (link.pathname === page.dataset.conversation) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  };
  const keep = async (message, fields, options) => {
    const all = { role: message.role, text: message.text, images: JSON.stringify(message.images), ...fields };
    const address = page.dataset.conversation;
    const kept = await post(address ? `${address}messages` : page.dataset.start, all, options);
    if (!address) began(kept);
    message.id = kept.message.id;
    const fork = part(message, ".fork");
    fork.action = `${page.dataset.conversation}fork/`;
    fork.elements.message.value = message.id;
    return kept.message;
  };

  /* ---------------------------------------------------------------- Asking */
  const content = ({ text, images }) => {
    if (!images.length) return text;
    const pictures = images.map((url) => ({ type: "image_url", image_url: { url } }));
    return text ? [{ type: "text", text }, ...pictures] : pictures;
  };
  const number = (text) => (text === "" ? undefined : Number(text));
  const request = (messages) => {
    const { model, system, temperature, top_p, max_tokens } = parameters();
    return {
      model,
      messages: [
        ...(system.trim() ? [{ role: "system", content: system }] : []),
        ...messages.filter(({ text, images }) => text || images.length).map((message) => ({ role: message.role, content: content(message) })),
      ],
      temperature: number(temperature),
      top_p: number(top_p),
      max_completion_tokens: number(max_tokens),
      stream: true,
      stream_options: { include_usage: true },
    };
  };

  const drawing = (message) => {
    let isDue = false;
    let at = 0;
    const draw = () => {
      isDue = false;
      at = performance.now();
      following(() => show(message));
    };
    /* Long answers are drawn less often: each time is a reading of the whole. */
    return () => {
      if (isDue) return;
      isDue = true;
      setTimeout(() => requestAnimationFrame(draw), Math.max(0, 40 + message.text.length / 100 - (performance.now() - at)));
    };
  };

  /* One answer at a time: what would ask for another waits, disabled, until the last one is kept. */
  const busy = async (work) => {
    await run(work);
    tidy();
  };
  const answer = (replaced = null) => busy((signal) => answering(signal, replaced));
  /* The answer to all that was said. `replaced` is the answer whose place it takes, or gets back if there is none. */
  const answering = async (signal, replaced = null) => {
    const started = performance.now();
    const asked = request(said);
    const message = add("assistant", "");
    message.element.setAttribute("aria-busy", "true");
    state("Waiting for the model…");
    tidy();
    const about = { request: "", cost: null, ending: "", usage: null };
    const fields = () => ({ answered_by: asked.model, request_id: about.request, ending: about.ending, replaces: replaced?.id });
    /* Whoever leaves keeps what there is; what is on its way already is kept once, by its request. */
    let isWhole = false;
    const rescue = () => {
      if (!isWhole) about.ending = "cut";
      if (message.text) keep(message, fields(), { keepalive: true }).catch(() => {});
    };
    addEventListener("pagehide", rescue);
    let failure = null;
    try {
      const reply = await ask(PATH, asked, { signal });
      about.request = requestOf(reply);
      state("Answering…");
      await read(reply, message, about);
    } catch (error) {
      if (isStopped(error)) about.ending = "stopped";
      else failure = error;
    } finally {
      message.element.removeAttribute("aria-busy");
    }
    isWhole = true;
    if (!message.text && (failure || about.ending === "stopped")) {
      removeEventListener("pagehide", rescue);
      remove(message);
      if (replaced) putBack(replaced);
      state(failure ? "" : "Stopped.");
      if (failure) trouble.show(failure, () => (replaced ? again(replaced) : answer()));
      return;
    }
    if (failure) about.ending = "cut";
    following(() => {
      show(message);
      told(message, about);
    });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    state(summary(about, seconds));
    const unkept = await keep(message, fields()).then(() => null, (error) => error);
    removeEventListener("pagehide", rescue);
    if (failure) trouble.show(failure, () => again(message));
    else if (unkept) trouble.show(new Error(`The answer is not kept: ${unkept.message}`));
    listAgain().catch(() => {});
    if (!about.cost) settleLater(message, about, seconds);
  };
  const read = async (reply, message, about) => {
    const draw = drawing(message);
    for await (const { data, note } of events(reply)) {
      if (note?.[0] === "x-cost-credits") about.cost = note[1];
      if (!data) continue;
      about.usage = data.usage ?? about.usage;
      const choice = data.choices?.[0];
      if (choice?.finish_reason) about.ending = choice.finish_reason;
      if (choice?.delta?.content) {
        message.text += choice.delta.content;
        draw();
      }
    }
  };
  const summary = ({ usage, cost, ending }, seconds) => [
    `${ending === "stopped" ? "Stopped after" : "Answered in"} ${seconds} s`,
    usage && `${usage.prompt_tokens.toLocaleString("en")} tokens in, ${usage.completion_tokens.toLocaleString("en")} out`,
    cost && `${cost} credits`,
  ].filter(Boolean).join(" · ");
  /* What was stopped, or broke off, is charged when the provider has ended. */
  const settleLater = async (message, about, seconds) => {
    about.cost = await chargeOf(about.request);
    if (!about.cost) return;
    told(message, about);
    if (!isRunning()) state(summary(about, seconds));
  };

  const send = () => {
    const text = byId("prompt").value;
    if (!text.trim() && !attached.length) return;
    if (isRunning()) {
      state("Wait for the answer, or stop it.");
      return;
    }
    busy((signal) => sending(signal, text, attached));
  };
  const sending = async (signal, text, images) => {
    const message = add("user", text, images);
    byId("prompt").value = "";
    attach([]);
    grow();
    try {
      await keep(message, parameters());
    } catch (error) {
      remove(message);
      byId("prompt").value = text;
      attach(images);
      trouble.show(error, send);
      return;
    }
    await answering(signal);
  };
  const again = (message) => {
    if (isRunning()) return;
    remove(message);
    answer(message);
  };
  const putBack = (message) => {
    byId("messages").append(message.element);
    said.push(message);
  };

  /* ---------------------------------------------------------------- Pictures */
  const attach = (urls) => {
    attached = urls;
    byId("attached").hidden = !urls.length;
    byId("attached").replaceChildren(...urls.map((url, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Remove picture ${index + 1}`);
      button.append(picture(url, index));
      button.addEventListener("click", () => attach(attached.filter((_, other) => other !== index)));
      return button;
    }));
  };
  const receive = async (files) => {
    if (chosen()?.dataset.sees === undefined) {
      state("This model does not see pictures. Choose one that does.");
      return;
    }
    const room = MAX_PICTURES - attached.length;
    try {
      const urls = await Promise.all(files.slice(0, room).map((file) => Pictures.asDataUrl(file, PICTURES_BYTES / MAX_PICTURES)));
      attach([...attached, ...urls]);
      state(files.length > room ? `At most ${MAX_PICTURES} pictures in one message.` : "");
    } catch {
      state("This file is no picture that can be read here.");
    }
  };
  const sight = () => {
    const sees = chosen()?.dataset.sees !== undefined;
    byId("picture").disabled = !sees;
    byId("attach").classList.toggle("disabled", !sees);
    byId("attach").title = sees ? "Add pictures" : "This model does not see pictures";
  };

  /* ---------------------------------------------------------------- The page */
  const grow = () => {
    const field = byId("prompt");
    field.rows = Math.min(10, Math.max(2, field.value.split("\n").length));
  };
  const count = () => {
    const set = ["system", "temperature", "top_p", "max_tokens"].filter((name) => settings[name].value.trim() !== "").length;
    byId("parameters-set").hidden = !set;
    byId("parameters-set").textContent = `${set} set`;
  };
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!byId("settings").reportValidity()) return;
    send();
  });
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
  byId("settings").addEventListener("input", count);
  sendsByKey(byId("composer"));
  byId("prompt").addEventListener("input", grow);
  byId("model").addEventListener("change", sight);
  byId("picture").addEventListener("change", (event) => {
    receive([...event.target.files]);
    event.target.value = "";
  });
  Pictures.receive(byId("composer"), receive);
  byId("nothing").addEventListener("click", (event) => {
    const suggestion = event.target.closest("[data-suggest]");
    if (!suggestion) return;
    byId("prompt").value = suggestion.dataset.suggest;
    grow();
    byId("prompt").focus();
  });
  byId("messages").addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    const message = said.find(({ element }) => element === button?.closest(".message"));
    if (!message) return;
    if (button.dataset.do === "retry") again(message);
    else navigator.clipboard.writeText(message.text).then(() => state("Copied."), () => state("Copying is blocked by the browser."));
  });
  byId("chat-drawer").addEventListener("click", () => {
    const isOpen = byId("chat-side").toggleAttribute("data-open");
    byId("chat-drawer").setAttribute("aria-expanded", String(isOpen));
  });
  document.addEventListener("htmx:after:swap", mark);
  PlaygroundCode.offer(() => {
    const draft = byId("prompt").value.trim() || attached.length ? [{ role: "user", text: byId("prompt").value, images: attached }] : [];
    const { stream_options: _, ...asked } = request(said.length || draft.length ? [...said, ...draft] : [{ role: "user", text: "Say hello.", images: [] }]);
    const body = JSON.parse(JSON.stringify(asked));
    return {
      path: "/chat/completions",
      method: "chat.completions.create",
      body,
      python: ["for chunk in answer:", "    if chunk.choices:", `        print(chunk.choices[0].delta.content or "", end="", flush=True)`],
      node: ["for await (const chunk of answer) {", `  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");`, "}"],
    };
  });

  for (const message of said) show(message);
  tidy();
  sight();
  count();
  if (said.length) toEnd();
  if (said.at(-1)?.role === "user") trouble.show(new Error("There is no answer to your last message yet."), () => answer());
})();
