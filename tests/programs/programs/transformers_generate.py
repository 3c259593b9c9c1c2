"""Generation with every kind of cache, and models that went through a folder."""

import sys
import tempfile

import torch
import transformers as hf
from transformers_models import gemma, gpt2, llama, mixtral, qwen, t5, tokens, weights_from_numpy

QUIET = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def made(make, attention="sdpa"):
    kind, config, _ = make()
    for name, value in QUIET.items():
        setattr(config, name, value)
    config._attn_implementation = attention
    model = kind(config).eval()
    weights_from_numpy(model)
    model.generation_config = hf.GenerationConfig.from_model_config(config)
    return model


def show(what, ids):
    print("tokens", what, *ids.flatten().tolist())


def decoder(make):
    name = make.__name__
    model = made(make, "eager" if make is gemma else "sdpa")
    ids = tokens(2, 5)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    given = {"inputs": ids, "attention_mask": mask, "max_new_tokens": 8}
    show(f"{name} greedy", model.generate(**given, do_sample=False))
    show(f"{name} no cache", model.generate(**given, do_sample=False, use_cache=False))
    show(f"{name} beams", model.generate(**given, do_sample=False, num_beams=3))
    show(f"{name} likeliest", model.generate(**given, do_sample=True, top_k=1))
    torch.manual_seed(3)
    options = {
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 2,
    }
    sampled = model.generate(**given, do_sample=True, **options)
    print("sampled", name, *sampled.shape, bool((sampled[:, :5] == ids).all()))
    torch.manual_seed(3)
    again = model.generate(**given, do_sample=True, **options)
    print("repeats", name, torch.equal(sampled, again))
    scores = model.generate(
        **given, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    print("scores", name, *torch.stack(scores.scores).flatten()[::91].tolist())


def caches():
    model = made(llama)
    given = {"inputs": tokens(1, 6), "max_new_tokens": 6, "do_sample": False}
    show("static", model.generate(**given, cache_implementation="static"))
    show("assisted", model.generate(**given, prompt_lookup_num_tokens=3))


def encoder_decoder():
    model = made(t5, "eager")
    show("t5", model.generate(tokens(2, 6), max_new_tokens=6, do_sample=False))
    show("t5 beams", model.generate(tokens(2, 6), max_new_tokens=6, num_beams=2, do_sample=False))


def saved():
    for make in (llama, t5):
        model = made(make, "eager")
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            again = type(model).from_pretrained(folder)
            half = type(model).from_pretrained(folder, dtype=torch.bfloat16)
        pairs = zip(model.state_dict().items(), again.state_dict().items(), strict=True)
        same = all(n == m and torch.equal(a, b) for (n, a), (m, b) in pairs)
        kinds = {str(p.dtype) for p in half.parameters()}
        print("saved", make.__name__, same, *kinds, sum(p.numel() for p in again.parameters()))


if __name__ == "__main__":
    chosen = sys.argv[1:]
    for make in (llama, gpt2, mixtral, qwen, gemma):
        if not chosen or make.__name__ in chosen:
            decoder(make)
    if not chosen or "rest" in chosen:
        caches()
        encoder_decoder()
        saved()
