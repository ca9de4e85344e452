"""A real OpenAI-compatible upstream for tests: llama.cpp's own server over a tiny model with random weights.

The model is made here, from a fixed seed: a llama of two layers with a SentencePiece vocabulary of English words, every
prefix of them, and all bytes. It speaks nonsense in whole words, fast (some thousand tokens a second on one thread).

    python -m config.tests.llama --port 8081                  # chat and completions
    python -m config.tests.llama --port 8082 --embeddings     # embeddings
"""

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

import gguf
import numpy as np

SEED = 20_261_120
CONTEXT = 2048
WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 128
UNKNOWN, BEGIN, END = 0, 1, 2
# The first dimension of the hidden state is a constant in this model, so its output weight is a bias. It keeps all that
# is not a word from ever being said, the end of the text included: an answer has exactly `max_tokens` tokens.
NEVER = -50.0
WORDS = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one
you were her all their there would will when who him been has more if no out do so can what up said about other into
than its time only could new them man some these then two first may any like now my such make over our even most me
state after also made many did must before back see through way where get much go well your know should down work year
because come people just say each those take day good how long own too little use very great still men here life both
between old under last never place same another think house while high right might came off find states since used
give against three himself look few general hand school part small american home during number again water until
always away public something fact less though far put head nothing left knew church once penny pound shilling credit
balance ledger book
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def vocabulary() -> tuple[list[bytes], list[float], list[int]]:
    """Pieces, scores and token types: three specials, 256 bytes, single characters, then every prefix of every word."""
    kinds = gguf.TokenType
    pieces: dict[str, int] = {"<unk>": kinds.UNKNOWN, "<s>": kinds.CONTROL, "</s>": kinds.CONTROL}
    pieces |= {f"<0x{byte:02X}>": kinds.BYTE for byte in range(256)}
    normal = ["▁", *(chr(code) for code in range(0x21, 0x7F)), "\n"]
    for word in WORDS.split():
        normal += [f"▁{word[:end]}" for end in range(1, len(word) + 1)]
    pieces |= dict.fromkeys(normal, kinds.NORMAL)
    scores = [0.0 if kind != kinds.NORMAL else float(len(piece)) - 100.0 for piece, kind in pieces.items()]
    return [piece.encode() for piece in pieces], scores, [int(kind) for kind in pieces.values()]


def build_model(path: Path) -> Path:
    """Write the GGUF (about half a megabyte, the same bytes each time) and return its path."""
    tokens, scores, kinds = vocabulary()
    words = {f"▁{word}".encode() for word in WORDS.split()}
    random = np.random.default_rng(SEED)

    def weights(*shape: int, scale: float = 0.25) -> np.ndarray:
        return random.normal(0.0, scale, shape).astype(np.float32)

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tuppence-test")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    embedding = weights(len(tokens), WIDTH, scale=1.0)
    embedding[:, 0] = 8.0
    writer.add_tensor("token_embd.weight", embedding)
    for layer in range(LAYERS):
        name = f"blk.{layer}"
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{name}.{part}.weight", np.ones(WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"{name}.{part}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"{name}.ffn_gate.weight", weights(INNER, WIDTH))
        writer.add_tensor(f"{name}.ffn_up.weight", weights(INNER, WIDTH))
        for part, width in (("attn_output", WIDTH), ("ffn_down", INNER)):
            tensor = weights(WIDTH, width)
            tensor[0] = 0.0  # nothing writes to the constant
            writer.add_tensor(f"{name}.{part}.weight", tensor)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    output = weights(len(tokens), WIDTH)
    output[:, 0] = [0.0 if token in words else NEVER for token in tokens]
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def serve(model: Path, *, port: int, embeddings: bool, alias: str) -> None:
    """Run llama.cpp's HTTP server on 127.0.0.1 until the process is ended."""
    import xllamacpp  # loads a native library: only the server process pays for it

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = CONTEXT * 4
    parameters.n_parallel = 4
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_threads_http = 8
    parameters.use_jinja = True
    parameters.warmup = False
    if embeddings:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--alias", default="tiny-llama")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuppence-llama-") as directory:
        model = build_model(Path(directory) / "tiny.gguf")
        serve(model, port=arguments.port, embeddings=arguments.embeddings, alias=arguments.alias)


if __name__ == "__main__":
    main()
