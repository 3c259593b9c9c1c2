"""Lightning's Trainer with torchmetrics: fit, validate, test, checkpoints, and its loop by hand."""

import logging
import tempfile
import warnings

import lightning as L
import numpy as np
import torch
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers_models import weights_from_numpy

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


def data(rows, seed):
    numbers = np.random.default_rng(seed)
    x = numbers.standard_normal((rows, 6)).astype("float32")
    y = (x[:, :3].argmax(1) + (x[:, 3] > 0)) % 3
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


class Classifier(L.LightningModule):
    """A perceptron with metrics."""

    def __init__(self, width=24, lr=0.02):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(  # a bias before the norm would have no gradient but rounding
            nn.Linear(6, width, bias=False), nn.BatchNorm1d(width), nn.GELU(), nn.Linear(width, 3)
        )
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=3)
        self.scores = torchmetrics.MetricCollection(
            [
                torchmetrics.F1Score(task="multiclass", num_classes=3, average="macro"),
                torchmetrics.AUROC(task="multiclass", num_classes=3),
                torchmetrics.ConfusionMatrix(task="multiclass", num_classes=3),
            ]
        )
        self.losses = []

    def training_step(self, batch, index):
        x, y = batch
        logits = self.layers(x)
        loss = nn.functional.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy, on_epoch=True, on_step=False)
        self.log("loss", loss, prog_bar=True)
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        logits = self.layers(x)
        self.log("val_loss", nn.functional.cross_entropy(logits, y))
        self.scores.update(logits.softmax(-1), y)

    def on_validation_epoch_end(self):
        found = self.scores.compute()
        print("scores", *[v for m in found.values() for v in m.flatten().tolist()])
        self.scores.reset()

    test_step = validation_step

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def main():
    L.seed_everything(0)
    model = Classifier()
    weights_from_numpy(model)
    with tempfile.TemporaryDirectory() as folder:
        saving = ModelCheckpoint(folder, monitor="val_loss", filename="best")
        trainer = L.Trainer(
            max_epochs=4,
            accelerator="cpu",
            gradient_clip_val=1.0,
            accumulate_grad_batches=1,
            callbacks=[saving, EarlyStopping("val_loss", patience=3)],
            logger=CSVLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(model, DataLoader(data(64, 0), 8), DataLoader(data(32, 1), 16))
        for loss in model.losses:
            print("loss", loss.item())
        print("metrics", *[f"{k} {v.item():.4f}" for k, v in trainer.callback_metrics.items()])
        best = Classifier.load_from_checkpoint(saving.best_model_path)
        found = trainer.validate(best, DataLoader(data(32, 1), 16), verbose=False)
        print("best", found[0]["val_loss"], best.hparams.width)
        again = L.Trainer(
            max_epochs=5, logger=False, enable_progress_bar=False, enable_checkpointing=False,
            accelerator="cpu", enable_model_summary=False, limit_train_batches=4,
        )  # fmt: skip
        fresh = Classifier()
        again.fit(
            fresh, DataLoader(data(64, 0), 8), DataLoader(data(32, 1), 16),
            ckpt_path=saving.best_model_path,
        )  # fmt: skip
        print("resumed", again.current_epoch, *[loss.item() for loss in fresh.losses])


def metrics():
    numbers = np.random.default_rng(3)
    a = torch.from_numpy(numbers.standard_normal(50).astype("float32"))
    b = a + 0.3 * torch.from_numpy(numbers.standard_normal(50).astype("float32"))
    for kind in ("MeanSquaredError", "R2Score", "PearsonCorrCoef", "SpearmanCorrCoef",
                 "KendallRankCorrCoef", "ExplainedVariance"):  # fmt: skip
        metric = getattr(torchmetrics, kind)()
        metric.update(a, b)
        metric.update(b, a)
        print("metric", kind, metric.compute().item())
    scores, truth = a.sigmoid(), (b > 0).long()
    for kind in ("Accuracy", "AveragePrecision", "AUROC", "MatthewsCorrCoef", "CalibrationError"):
        metric = getattr(torchmetrics, kind)(task="binary")
        print("metric", kind, metric(scores, truth).item())
    curve = torchmetrics.functional.roc(scores, truth, task="binary", thresholds=5)
    print("curve", *torch.cat(curve).tolist())


if __name__ == "__main__":
    main()
    metrics()
