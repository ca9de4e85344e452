// The microphone as a WAV file: exact in length, and understood by every provider.
(() => {
  "use strict";
  const RATE = 24_000;
  const HEADER = 44;

  const wav = (pieces) => {
    const size = pieces.reduce((bytes, piece) => bytes + piece.byteLength, 0);
    const header = new DataView(new ArrayBuffer(HEADER));
    const text = (at, word) => { for (let i = 0; i < word.length; i++) header.setUint8(at + i, word.charCodeAt(i)); };
    text(0, "RIFF");
    header.setUint32(4, HEADER - 8 + size, true);
    text(8, "WAVEfmt ");
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true); // PCM
    header.setUint16(22, 1, true); // one channel
    header.setUint32(24, RATE, true);
    header.setUint32(28, RATE * 2, true);
    header.setUint16(32, 2, true);
    header.setUint16(34, 16, true);
    text(36, "data");
    header.setUint32(40, size, true);
    return new File([header.buffer, ...pieces], "recording.wav", { type: "audio/wav" });
  };

  /* Begin to record; `stop()` of what it gives ends that and gives the file. Throws what the browser says. */
  const start = async (worklet, heard) => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
    const context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule(worklet);
    const node = new AudioWorkletNode(context, "microphone");
    const pieces = [];
    node.port.onmessage = (message) => {
      pieces.push(message.data);
      heard(pieces.length / 10);
    };
    context.createMediaStreamSource(stream).connect(node);
    return {
      stop: () => {
        for (const track of stream.getTracks()) track.stop();
        context.close();
        return wav(pieces);
      },
    };
  };

  globalThis.Recorder = Object.freeze({ start });
})();
