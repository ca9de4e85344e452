// Runs in the audio thread: turns the microphone's samples into 16-bit PCM, a tenth of a second at a time.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(sampleRate / 10);
    this.filled = 0;
  }

  process(inputs) {
    for (const sample of inputs[0][0] ?? []) {
      this.samples[this.filled++] = Math.max(-1, Math.min(1, sample)) * 0x7fff;
      if (this.filled === this.samples.length) {
        this.port.postMessage(this.samples.slice().buffer);
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
