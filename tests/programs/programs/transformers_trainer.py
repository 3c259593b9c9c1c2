"""Hugging Face's Trainer for 20 steps, with evaluation, checkpoints and resuming."""

import tempfile

import numpy as np
import torch
import transformers as hf
from torch.utils.data import Dataset
from transformers_models import weights_from_numpy


class Counting(Dataset):
    """Sequences that count upwards."""

    def __init__(self, length):
        starts = np.random.default_rng(0).integers(0, 20, length)
        self.ids = torch.from_numpy(starts[:, None] + np.arange(12))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def arguments(folder, **others):
    return hf.TrainingArguments(
        output_dir=folder,
        max_steps=20,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        warmup_steps=4,
        weight_decay=0.01,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=10,
        save_steps=10,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        train_sampling_strategy="sequential",
        **others,
    )


def trainer_of(model, folder, others):
    trainer = hf.Trainer(
        model=model,
        args=arguments(folder, **others),
        train_dataset=Counting(96),
        eval_dataset=Counting(12),
    )
    trainer.remove_callback(hf.PrinterCallback)
    return trainer


def trained(**others):
    config = hf.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    model = hf.LlamaForCausalLM(config)
    weights_from_numpy(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(model, folder, others)
        trainer.train()
        report(trainer)
        again = trainer_of(hf.LlamaForCausalLM(config), folder, others)
        again.train(resume_from_checkpoint=f"{folder}/checkpoint-10")
        report(again)


def report(trainer):
    for row in trainer.state.log_history:
        for name in ("loss", "eval_loss"):
            if name in row:
                print(name, row["step"], round(row[name], 4), round(row.get("grad_norm", 0), 3))


if __name__ == "__main__":
    trained()
    trained(gradient_accumulation_steps=2, lr_scheduler_type="cosine", max_grad_norm=0.5)
