"""Makes a language model of half a megabyte that llama.cpp loads. What it says is noise; that it says it
through a real inference server is the point. It says only printable ASCII and never ends by itself, so that
every token is one event of a stream (llama.cpp holds back the bytes of an unfinished character) and an
answer is as long as it may be.
"""
import sys

import gguf
import numpy

WIDTH, BLOCKS, HEADS, HIDDEN, CONTEXT = 64, 2, 4, 128, 2048
SPECIAL = ("<unk>", "<s>", "</s>")
WORDS = ("▁toll", "▁bridge", "▁is", "▁open", "▁pay", "▁here", "▁and", "▁pass", "o", "l", "e", "s", "▁")
TEMPLATE = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}[assistant]"


def vocabulary():
    """Token, kind, score: the special ones, every byte, a few words."""
    kinds = gguf.TokenType
    yield SPECIAL[0], kinds.UNKNOWN, 0.0
    for token in SPECIAL[1:]:
        yield token, kinds.CONTROL, 0.0
    for byte in range(256):
        yield f"<0x{byte:02X}>", kinds.BYTE, 0.0
    for rank, word in enumerate(WORDS):
        yield word, kinds.NORMAL, -float(rank)


def spoken(token):
    return token in WORDS or token in [f"<0x{byte:02X}>" for byte in range(0x20, 0x7F)]


def silence(values, tokens):
    """Every embedding leans far along the first axis, and what is not to be said far against it."""
    values["token_embd.weight"][:, 0] = 1.0
    values["output.weight"][:, 0] = [0.0 if spoken(token) else -4.0 for token in tokens]


def tensors(words):
    """Name and shape (None: a vector of ones, for the norms)."""
    yield "token_embd.weight", (words, WIDTH)
    yield "output_norm.weight", None
    yield "output.weight", (words, WIDTH)
    for block in range(BLOCKS):
        name = f"blk.{block}"
        yield f"{name}.attn_norm.weight", None
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{name}.{part}.weight", (WIDTH, WIDTH)
        yield f"{name}.ffn_norm.weight", None
        yield f"{name}.ffn_gate.weight", (HIDDEN, WIDTH)
        yield f"{name}.ffn_up.weight", (HIDDEN, WIDTH)
        yield f"{name}.ffn_down.weight", (WIDTH, HIDDEN)


def make(path):
    tokens, kinds, scores = zip(*vocabulary())
    model = gguf.GGUFWriter(path, "llama")
    model.add_name("tiny")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(BLOCKS)
    model.add_feed_forward_length(HIDDEN)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_vocab_size(len(tokens))
    model.add_file_type(gguf.LlamaFileType.ALL_F32)
    model.add_tokenizer_model("llama")
    model.add_token_list([token.encode() for token in tokens])
    model.add_token_types(list(kinds))
    model.add_token_scores(list(scores))
    model.add_unk_token_id(0)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    model.add_chat_template(TEMPLATE)
    random = numpy.random.default_rng(seed=2)
    values = {name: numpy.ones(WIDTH) if shape is None else random.normal(0.0, 0.05, shape)
              for name, shape in tensors(len(tokens))}
    silence(values, tokens)
    for name, tensor in values.items():
        model.add_tensor(name, tensor.astype(numpy.float32))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    make(sys.argv[1])
