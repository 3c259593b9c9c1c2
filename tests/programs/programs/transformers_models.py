"""Small models of ten architectures, random weights: losses, outputs and gradients."""

import os
import sys
import zlib

import numpy as np
import torch
import transformers as hf

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**SMALL, "vocab_size": 61, "num_key_value_heads": 2, "max_position_embeddings": 64}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def weights_from_numpy(model):
    """The same numbers in every library, by the parameter's name."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            numbers = np.random.default_rng(zlib.crc32(name.encode()))
            values = numbers.standard_normal(tuple(p.shape)).astype("float32") * 0.1
            if name.endswith("weight") and p.ndim == 1:
                values += 1
            p.copy_(torch.from_numpy(values))


def tokens(*shape, high=61):
    return torch.from_numpy(np.random.default_rng(0).integers(3, high, shape))


def floats(*shape):
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape).astype("float32"))


def causal(config):
    ids = tokens(2, 12)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def llama():
    return hf.LlamaForCausalLM, hf.LlamaConfig(**GROUPED), causal


def gpt2():
    config = hf.GPT2Config(
        vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return hf.GPT2LMHeadModel, config, causal


def bert():
    config = hf.BertConfig(**SMALL, **QUIET, vocab_size=61, max_position_embeddings=64)
    return hf.BertForMaskedLM, config, causal


def classifier():
    config = hf.BertConfig(**SMALL, **QUIET, vocab_size=61, num_labels=3)
    inputs = {"input_ids": tokens(4, 9), "labels": torch.tensor([0, 2, 1, 1])}
    return hf.BertForSequenceClassification, config, lambda _: inputs


def vit():
    config = hf.ViTConfig(**SMALL, **QUIET, image_size=16, patch_size=4, num_labels=5)
    inputs = {"pixel_values": floats(2, 3, 16, 16), "labels": torch.tensor([1, 4])}
    return hf.ViTForImageClassification, config, lambda _: inputs


def t5():
    config = hf.T5Config(
        vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=0,
    )  # fmt: skip
    inputs = {"input_ids": tokens(2, 11), "labels": tokens(2, 7)}
    return hf.T5ForConditionalGeneration, config, lambda _: inputs


def mixtral():
    config = hf.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    return hf.MixtralForCausalLM, config, causal


def qwen():
    return hf.Qwen3ForCausalLM, hf.Qwen3Config(**GROUPED, head_dim=8), causal


def gemma():
    config = hf.Gemma2Config(**GROUPED, head_dim=8, sliding_window=6, query_pre_attn_scalar=8)
    return hf.Gemma2ForCausalLM, config, causal


def whisper():
    config = hf.WhisperConfig(
        vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=10,
        max_source_positions=20, max_target_positions=20, dropout=0.0, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, begin_suppress_tokens=None,
    )  # fmt: skip
    inputs = {"input_features": floats(2, 10, 40), "labels": tokens(2, 6)}
    return hf.WhisperForConditionalGeneration, config, lambda _: inputs


ATTENTION = {
    llama: ("eager", "sdpa", "flex_attention"),
    gpt2: ("eager", "sdpa"),
    bert: ("eager", "sdpa"),
    classifier: ("sdpa",),
    vit: ("eager", "sdpa"),
    t5: ("eager",),
    mixtral: ("eager", "sdpa"),
    qwen: ("eager", "sdpa"),
    gemma: ("eager",),
    whisper: ("eager", "sdpa"),
}


def report(make, attention):
    kind, config, inputs = make()
    config._attn_implementation = attention
    model = kind(config)
    weights_from_numpy(model)
    model.train()
    if attention == "flex_attention":  # torch has no gradient of it on the CPU
        with torch.no_grad():
            print("loss", make.__name__, attention, model(**inputs(config)).loss.item())
        return
    out = model(**inputs(config))
    out.loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.sqrt(sum(g.square().sum() for g in grads))
    print("loss", make.__name__, attention, out.loss.item())
    print("norm", norm.item(), len(grads))
    print("logits", *out.logits.detach().flatten()[::37][:8].tolist())


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    chosen = sys.argv[1:] or [make.__name__ for make in ATTENTION]
    for make, implementations in ATTENTION.items():
        if make.__name__ in chosen:
            for attention in implementations:
                report(make, attention)
