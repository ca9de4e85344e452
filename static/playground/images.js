// The images tab: generates, or edits what the mask leaves open; shows pictures while they are made.
(() => {
  "use strict";
  if (!globalThis.Playground) return;
  const { byId, trouble, ask, events, requestOf, chargeOf, chosen, sendsByKey, run, state, isStopped } = Playground;
  const form = byId("making");
  if (!form) return;
  const fields = form.elements;
  const PARTIALS = 2;
  const IN_GALLERY = /\/images\/([0-9a-f-]{36})/;
  const mask = new Mask(byId("mask-canvas"), byId("mask-picture"), (isPainted) => {
    byId("mask-help").textContent = isPainted ? "What is painted may change; the rest stays." : "Paint over what shall change. Unpainted, the whole picture may.";
    byId("mask-undo").disabled = byId("mask-clear").disabled = !isPainted;
  });
  let hasSource = false;

  /* ---------------------------------------------------------------- The form */
  const isEdit = () => fields.mode.value === "edit";
  const streams = () => fields.partial.checked && chosen()?.dataset.streams !== undefined;
  const adapt = () => {
    const option = chosen();
    const edits = option?.dataset.edits !== undefined;
    for (const part of form.querySelectorAll("[data-mode]")) part.hidden = part.dataset.mode !== fields.mode.value;
    byId("send").querySelector("span").textContent = isEdit() ? "Edit" : "Generate";
    byId("send").disabled = isEdit() && (!hasSource || !edits);
    fields.partial.disabled = option?.dataset.streams === undefined;
    state(isEdit() && !edits ? "This model does not edit. Choose one that does." : "");
  };
  const open = async (blob, name) => {
    try {
      await mask.open(blob);
    } catch {
      trouble.show(new Error("This file is no picture that can be read here."));
      return;
    }
    trouble.hide();
    hasSource = true;
    byId("mask").hidden = false;
    byId("source-name").textContent = name;
    fields.mode.value = "edit";
    adapt();
  };
  const body = () => {
    const wanted = { model: fields.model.value, prompt: fields.prompt.value };
    if (fields.size.value !== "auto") wanted.size = fields.size.value;
    if (fields.quality.value !== "auto") wanted.quality = fields.quality.value;
    if (Number(fields.n.value) > 1) wanted.n = Number(fields.n.value);
    if (streams()) Object.assign(wanted, { stream: true, partial_images: PARTIALS });
    return wanted;
  };

  /* ---------------------------------------------------------------- Results */
  const typeOf = (encoded) => (encoded.startsWith("/9j/") ? "jpeg" : encoded.startsWith("UklG") ? "webp" : encoded.startsWith("R0lG") ? "gif" : "png");
  const bytesOf = (encoded) => Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  const frame = (prompt) => {
    const element = byId("template-result").content.firstElementChild.cloneNode(true);
    element.querySelector("img").alt = prompt;
    element.setAttribute("aria-busy", "true");
    byId("results").prepend(element);
    byId("nothing").hidden = true;
    return element;
  };
  const paint = (element, encoded) => { element.querySelector("img").src = `data:image/${typeOf(encoded)};base64,${encoded}`; };
  const finish = (element, { b64_json: encoded, url }, prompt) => {
    paint(element, encoded);
    element.removeAttribute("aria-busy");
    element.querySelector(".caption").textContent = prompt;
    const download = element.querySelector("[data-do=download]");
    download.href = element.querySelector("img").src;
    download.download = `picture.${typeOf(encoded)}`;
    element.querySelector("[data-do=edit]").addEventListener("click", () => {
      open(new Blob([bytesOf(encoded)], { type: `image/${typeOf(encoded)}` }), "The picture that you just made");
      form.scrollIntoView({ block: "start" });
    });
    const kept = IN_GALLERY.exec(url ?? "");
    if (!kept) return;
    const link = element.querySelector("[data-do=gallery]");
    link.href = `${form.dataset.gallery}/${kept[1]}`;
    link.hidden = false;
  };
  const frames = (prompt) => {
    const made = [];
    let done = 0;
    const next = () => (made[done] ??= frame(prompt));
    return {
      start: next,
      partial: (event) => paint(next(), event.b64_json),
      whole: (event) => { finish(next(), event, prompt); done++; },
      end: () => { for (const element of made.slice(done)) element.remove(); byId("nothing").hidden = byId("results").children.length > 0; return done; },
    };
  };

  /* ---------------------------------------------------------------- Asking */
  const request = async () => {
    const wanted = body();
    if (!isEdit()) return ["/v1/images/generations", wanted];
    const { image, mask: painted } = await mask.files();
    const data = new FormData();
    for (const [name, value] of Object.entries(wanted)) data.append(name, value);
    data.append("image", image, "image.png");
    if (painted) data.append("mask", painted, "mask.png");
    return ["/v1/images/edits", data];
  };
  const make = () => run(async (signal) => {
    const prompt = fields.prompt.value;
    const results = frames(prompt);
    const started = performance.now();
    let id = "";
    let cost = null;
    let failure = null;
    results.start();
    state("Making it…");
    try {
      const [path, asked] = await request();
      const reply = await ask(path, asked, { signal });
      id = requestOf(reply);
      if (reply.headers.get("content-type").startsWith("text/event-stream")) {
        for await (const { data, note } of events(reply)) {
          if (note?.[0] === "x-cost-credits") cost = note[1];
          if (data?.type?.endsWith(".partial_image")) results.partial(data);
          else if (data?.type?.endsWith(".completed")) results.whole(data);
        }
      } else {
        cost = reply.headers.get("x-cost-credits");
        for (const item of (await reply.json()).data) if (item.b64_json) results.whole(item);
      }
    } catch (error) {
      failure = error;
    }
    const count = results.end();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (failure && !isStopped(failure)) {
      state("");
      trouble.show(failure, make);
    } else {
      state(failure ? "Stopped." : `Made in ${seconds} s.`);
    }
    cost ??= await chargeOf(id, failure ? 8 : 4);
    if (cost) state(`${failure ? "Ended after" : "Made in"} ${seconds} s · ${cost} credits${count > 1 ? ` for ${count} pictures` : ""}`);
  });

  /* ---------------------------------------------------------------- The page */
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("send").disabled) return;
    if (!fields.prompt.value.trim()) {
      fields.prompt.focus();
      state("Write a prompt first.");
      return;
    }
    make();
  });
  form.addEventListener("change", adapt);
  sendsByKey(form);
  byId("source").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file, file.name);
    event.target.value = "";
  });
  Pictures.receive(form, ([file]) => { if (file) open(file, file.name || "A picture"); });
  byId("brush").addEventListener("input", (event) => { mask.size = event.target.value / 100; });
  byId("mask-undo").addEventListener("click", () => mask.undo());
  byId("mask-clear").addEventListener("click", () => mask.clear());
  PlaygroundCode.offer(() => {
    const { stream: _, partial_images: __, ...wanted } = body();
    wanted.prompt ||= "A red fox in the snow, woodcut";
    const files = isEdit() ? { image: "image.png", ...(mask.isPainted ? { mask: "mask.png" } : {}) } : {};
    return {
      path: isEdit() ? "/images/edits" : "/images/generations",
      method: isEdit() ? "images.edit" : "images.generate",
      isForm: isEdit(),
      body: wanted,
      files,
      python: ["import base64", `open("picture.png", "wb").write(base64.b64decode(answer.data[0].b64_json))`],
      node: [`fs.writeFileSync("picture.png", Buffer.from(answer.data[0].b64_json, "base64"));`],
    };
  });

  const begin = async () => {
    adapt();
    if (!form.dataset.image) return;
    const answer = await fetch(form.dataset.image);
    if (answer.ok) await open(await answer.blob(), "From the gallery");
  };
  begin().catch(() => state("The picture of the gallery cannot be read."));
})();
