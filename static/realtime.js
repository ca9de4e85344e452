// The Realtime playground: a WebSocket to /v1/realtime with an ephemeral key, text and voice in both directions.
(() => {
  "use strict";
  const root = document.getElementById("realtime");
  if (!root) return;
  const RATE = 24000;
  const part = (id) => document.getElementById(`realtime-${id}`);
  const writing = part("write").elements;
  let socket = null;
  let sound = null;
  let microphone = null;
  let playsUntil = 0;
  const lines = new Map();

  const state = (text) => { part("state").textContent = text; };
  const say = (type, fields = {}) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type, ...fields }));

  const line = (id, who) => {
    if (!lines.has(id)) {
      const item = document.createElement("li");
      item.dataset.who = who;
      const name = document.createElement("strong");
      name.textContent = who === "you" ? "You: " : "Model: ";
      const text = document.createElement("span");
      item.append(name, text);
      part("talk").append(item);
      lines.set(id, text);
    }
    return lines.get(id);
  };
  const add = (id, who, text) => {
    line(id, who).textContent += text;
    part("talk").lastElementChild.scrollIntoView({ block: "nearest" });
  };

  const encode = (buffer) => {
    let text = "";
    for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
    return btoa(text);
  };
  const play = (encoded) => {
    sound ??= new AudioContext({ sampleRate: RATE });
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const samples = new Int16Array(bytes.buffer, 0, bytes.length >> 1);
    if (!samples.length) return;
    const buffer = sound.createBuffer(1, samples.length, RATE);
    buffer.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 0x8000));
    const source = sound.createBufferSource();
    source.buffer = buffer;
    source.connect(sound.destination);
    playsUntil = Math.max(playsUntil, sound.currentTime);
    source.start(playsUntil);
    playsUntil += buffer.duration;
  };

  const HEARD = {
    "session.created": () => {
      const modality = part("modality").value;
      const audio = { input: { format: { type: "audio/pcm", rate: RATE }, turn_detection: { type: "server_vad" } } };
      say("session.update", { session: { type: "realtime", output_modalities: [modality], audio } });
      state("Connected. Write something, or switch the microphone on.");
    },
    "response.output_text.delta": (event) => add(event.item_id, "model", event.delta),
    "response.output_audio_transcript.delta": (event) => add(event.item_id, "model", event.delta),
    "response.output_audio.delta": (event) => play(event.delta),
    "input_audio_buffer.speech_started": () => state("Listening…"),
    "input_audio_buffer.committed": (event) => add(event.item_id, "you", "(spoken)"),
    "response.created": () => state("Answering…"),
    "response.done": (event) => {
      const usage = event.response.usage;
      state(usage ? `Answered: ${usage.input_tokens} tokens in, ${usage.output_tokens} out. Charged to the organization.` : "Answered.");
    },
    "error": (event) => state(`Error: ${event.error.message}`),
  };

  const connected = (is) => {
    part("connect").lastChild.textContent = is ? "Disconnect" : "Connect";
    for (const name of ["model", "modality"]) part(name).disabled = is;
    part("microphone").disabled = !is;
    for (const element of writing) element.disabled = !is;
  };

  const disconnect = () => {
    silence();
    socket?.close(1000);
    socket = null;
  };

  const connect = async () => {
    state("Connecting…");
    const settings = part("settings");
    const body = new URLSearchParams({ model: settings.elements.model.value });
    const headers = { "X-CSRFToken": settings.elements.csrfmiddlewaretoken.value };
    const answer = await fetch(root.dataset.secret, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(`The server answered ${answer.status}. Reload the page and try again.`);
    const { value } = await answer.json();
    const address = `${location.origin.replace("http", "ws")}/v1/realtime`;
    const opening = new WebSocket(address, ["realtime", `openai-insecure-api-key.${value}`]);
    socket = opening;
    let failure = "";
    opening.addEventListener("open", () => connected(true));
    opening.addEventListener("message", (message) => {
      const event = JSON.parse(message.data);
      if (event.type === "error") failure = event.error.message;
      HEARD[event.type]?.(event);
    });
    opening.addEventListener("close", (event) => {
      connected(false);
      silence();
      const reason = event.code === 1000 ? "" : ` ${failure || `(${event.code})`}`;
      state(`Disconnected.${reason}`);
      if (socket === opening) socket = null;
    });
  };

  const silence = () => {
    if (!microphone) return;
    for (const track of microphone.stream.getTracks()) track.stop();
    microphone.context.close();
    microphone = null;
    part("microphone").setAttribute("aria-pressed", "false");
  };
  const listen = async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
    const context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule(root.dataset.worklet);
    const node = new AudioWorkletNode(context, "microphone");
    node.port.onmessage = (message) => say("input_audio_buffer.append", { audio: encode(message.data) });
    context.createMediaStreamSource(stream).connect(node);
    microphone = { stream, context };
    part("microphone").setAttribute("aria-pressed", "true");
    state("The microphone is on: speak, and pause for an answer.");
  };

  part("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket) disconnect();
    else connect().catch((error) => state(error.message));
  });
  part("microphone").addEventListener("click", () => {
    if (microphone) silence();
    else listen().catch((error) => state(`The microphone cannot be used: ${error.message}`));
  });
  part("write").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = part("text");
    const text = field.value.trim();
    if (!text) return;
    add(crypto.randomUUID(), "you", text);
    say("conversation.item.create", { item: { type: "message", role: "user", content: [{ type: "input_text", text }] } });
    say("response.create");
    field.value = "";
  });
  addEventListener("pagehide", disconnect);
})();
