// The transcription tab: a file, or what the microphone heard, becomes text.
(() => {
  "use strict";
  if (!globalThis.Playground) return;
  const { byId, trouble, ask, requestOf, chargeOf, sendsByKey, run, state, isStopped } = Playground;
  const form = byId("making");
  if (!form) return;
  const fields = form.elements;
  const MAX_BYTES = 25 * 1024 * 1024;
  let file = null;
  let recording = null;
  let heard = "";
  let written = "";

  const take = (given) => {
    trouble.hide();
    if (given.size > MAX_BYTES) {
      trouble.show(new Error("This file is larger than 25 MB. Cut it, or save it in a smaller format."));
      return;
    }
    file = given;
    byId("file-name").textContent = `${given.name}, ${(given.size / 1024).toLocaleString("en", { maximumFractionDigits: 0 })} kB`;
    if (heard) URL.revokeObjectURL(heard);
    heard = URL.createObjectURL(given);
    byId("heard").src = heard;
    byId("heard").hidden = false;
    byId("send").disabled = false;
  };
  const label = (text) => { byId("record").querySelector("span").textContent = text; };
  const record = async () => {
    if (recording) {
      const made = recording.stop();
      recording = null;
      label("Record");
      byId("record").setAttribute("aria-pressed", "false");
      state("");
      take(made);
      return;
    }
    recording = await Recorder.start(form.dataset.worklet, (seconds) => state(`Recording, ${seconds.toFixed(0)} s`));
    label("Stop recording");
    byId("record").setAttribute("aria-pressed", "true");
    state("Recording…");
  };

  const body = () => {
    const wanted = { model: fields.model.value, response_format: fields.response_format.value };
    if (fields.language.value.trim()) wanted.language = fields.language.value.trim();
    if (fields.prompt.value.trim()) wanted.prompt = fields.prompt.value.trim();
    return wanted;
  };
  const show = (text) => {
    byId("transcript").textContent = text;
    byId("results").hidden = false;
    byId("nothing").hidden = true;
    if (written) URL.revokeObjectURL(written);
    written = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    const shape = fields.response_format.value;
    byId("download").href = written;
    byId("download").download = `transcript.${shape === "json" ? "txt" : shape}`;
  };
  const transcribe = () => run(async (signal) => {
    const data = new FormData();
    for (const [name, value] of Object.entries(body())) data.append(name, value);
    data.append("file", file, file.name);
    const started = performance.now();
    state("Listening to it…");
    let id = "";
    let cost = null;
    try {
      const reply = await ask("/v1/audio/transcriptions", data, { signal });
      id = requestOf(reply);
      cost = reply.headers.get("x-cost-credits");
      show(reply.headers.get("content-type").startsWith("application/json") ? (await reply.json()).text : await reply.text());
    } catch (error) {
      state(isStopped(error) ? "Stopped." : "");
      if (!isStopped(error)) trouble.show(error, transcribe);
      return;
    }
    cost ??= await chargeOf(id, 4);
    state([`Heard in ${((performance.now() - started) / 1000).toFixed(1)} s`, cost && `${cost} credits`].filter(Boolean).join(" · "));
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (file) transcribe();
  });
  sendsByKey(form);
  byId("file").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
    event.target.value = "";
  });
  byId("record").addEventListener("click", () => record().catch((error) => state(`The microphone cannot be used: ${error.message}`)));
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  PlaygroundCode.offer(() => {
    const isText = fields.response_format.value === "json";
    return {
      path: "/audio/transcriptions",
      method: "audio.transcriptions.create",
      isForm: true,
      body: body(),
      files: { file: file?.name ?? "recording.wav" },
      python: [isText ? "print(answer.text)" : "print(answer)"],
      node: [isText ? "console.log(answer.text);" : "console.log(answer);"],
    };
  });
  addEventListener("pagehide", () => recording?.stop());
})();
