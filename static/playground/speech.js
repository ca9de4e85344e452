// The speech tab: text becomes sound, played and saved from memory.
(() => {
  "use strict";
  if (!globalThis.Playground) return;
  const { byId, trouble, ask, requestOf, chargeOf, sendsByKey, run, state, isStopped } = Playground;
  const form = byId("making");
  if (!form) return;
  const fields = form.elements;
  const MAX_RESULTS = 20;

  const body = () => {
    const wanted = { model: fields.model.value, input: fields.input.value, voice: fields.voice.value.trim() || "alloy" };
    if (fields.response_format.value !== "mp3") wanted.response_format = fields.response_format.value;
    if (fields.instructions.value.trim()) wanted.instructions = fields.instructions.value.trim();
    return wanted;
  };
  const show = (sound, { input, response_format: shape = "mp3", voice }) => {
    const element = byId("template-result").content.firstElementChild.cloneNode(true);
    const address = URL.createObjectURL(sound);
    element.querySelector(".caption").textContent = input.length > 160 ? `${input.slice(0, 159)}…` : input;
    element.querySelector("audio").src = address;
    element.querySelector("audio").setAttribute("aria-label", `Spoken by ${voice}`);
    const download = element.querySelector("[data-do=download]");
    download.href = address;
    download.download = `speech.${shape}`;
    byId("results").prepend(element);
    byId("nothing").hidden = true;
    while (byId("results").children.length > MAX_RESULTS) {
      URL.revokeObjectURL(byId("results").lastElementChild.querySelector("audio").src);
      byId("results").lastElementChild.remove();
    }
    return element;
  };
  const speak = () => run(async (signal) => {
    const wanted = body();
    const started = performance.now();
    let id = "";
    let element = null;
    state("Speaking…");
    try {
      const reply = await ask("/v1/audio/speech", wanted, { signal });
      id = requestOf(reply);
      element = show(await reply.blob(), wanted);
    } catch (error) {
      state(isStopped(error) ? "Stopped." : "");
      if (!isStopped(error)) trouble.show(error, speak);
    }
    const cost = await chargeOf(id, element ? 6 : 8);
    if (cost && element) element.querySelector(".cost").textContent = `${cost} credits`;
    if (cost) state(`${element ? "Spoken" : "Ended"} in ${((performance.now() - started) / 1000).toFixed(1)} s · ${cost} credits`);
  });

  const count = () => { byId("counted").textContent = `${fields.input.value.length.toLocaleString("en")} of 4,096 characters`; };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!fields.input.value.trim()) {
      fields.input.focus();
      state("Write a text first.");
      return;
    }
    speak();
  });
  fields.input.addEventListener("input", count);
  sendsByKey(form);
  count();
  PlaygroundCode.offer(() => {
    const wanted = body();
    wanted.input ||= "Take care of the pence.";
    const file = `speech.${wanted.response_format ?? "mp3"}`;
    return {
      path: "/audio/speech",
      method: "audio.speech.create",
      body: wanted,
      save: file,
      python: [`answer.write_to_file("${file}")`],
      node: [`fs.writeFileSync("${file}", Buffer.from(await answer.arrayBuffer()));`],
    };
  });
})();
