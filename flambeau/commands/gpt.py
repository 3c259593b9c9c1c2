"""A small GPT, written in the public API only: what ``flambeau train`` trains.

It is the decoder-only transformer of GPT-2 with pre-normalisation: a table of token vectors plus a
table of position vectors, a stack of blocks (causal self-attention, then a two-layer perceptron,
each added to what came in), a last normalisation, and a projection to one logit per token that
shares its weights with the token table.

Shapes are written as suffixes: B sequences in a batch, T tokens in a sequence, C channels
(``width``), H heads, E channels of one head, V tokens in the vocabulary.

Reference:
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017 (weight tying).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn, optim

BYTES = 256
"""Size of the vocabulary of a model that reads raw bytes."""


@dataclass(frozen=True)
class GPTConfig:
    """What decides the shapes of a GPT's parameters, and so what a checkpoint can be loaded into.

    Args:
        vocabulary: number of different tokens.
        context: longest sequence that the model can read, in tokens.
        layers: number of blocks.
        heads: attention heads in a block; must divide ``width``.
        width: channels of the residual stream.
        dropout: chance that an activation is set to zero while training, 0 to switch it off.
    """

    vocabulary: int = BYTES
    context: int = 128
    layers: int = 4
    heads: int = 6
    width: int = 192
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(
                f"width must be divisible by heads, got width {self.width} and {self.heads} heads"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    def to_dict(self) -> dict[str, int | float]:
        """The fields as a plain dictionary, as stored in a checkpoint."""
        return asdict(self)


class CausalSelfAttention(nn.Module):
    """Every token reads from itself and the tokens before it: softmax(q k^T / sqrt(E)) v.

    Reference: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Args: x_BTC of shape (B, T, C). Returns: the same shape."""
        batch, length, width = x_BTC.shape
        q_BTC, k_BTC, v_BTC = self.qkv(x_BTC).split(width, dim=2)
        heads = (batch, length, self.heads, width // self.heads)
        q_BHTE = q_BTC.view(heads).transpose(1, 2)
        k_BHTE = k_BTC.view(heads).transpose(1, 2)
        v_BHTE = v_BTC.view(heads).transpose(1, 2)
        y_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)
        y_BTC = y_BHTE.transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.out(y_BTC))


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Args: x_BTC of shape (B, T, C). Returns: the same shape."""
        return self.dropout(self.down(F.gelu(self.up(x_BTC))))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Args: x_BTC of shape (B, T, C). Returns: the same shape."""
        x_BTC = x_BTC + self.attention(self.norm_attention(x_BTC))
        return x_BTC + self.mlp(self.norm_mlp(x_BTC))


class GPT(nn.Module):
    """A decoder-only transformer that gives, for each token, the logits of the token after it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("index", flambeau.arange(config.context), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights from N(0, 0.02^2); layers that write to the residual stream get
        0.02 / sqrt(2 * layers), so that the stream's variance does not grow with depth."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() < 2:
                nn.init.ones_(parameter)
            else:
                residual = name.endswith(("attention.out.weight", "mlp.down.weight"))
                shrink = math.sqrt(2 * self.config.layers) if residual else 1.0
                nn.init.normal_(parameter, mean=0.0, std=0.02 / shrink)

    def forward(self, tokens_BT: Tensor, at: Tensor | None = None) -> Tensor:
        """Logits of the next token.

        Args:
            tokens_BT: int64 of shape (B, T), T at most ``config.context``.
            at: int64 of shape (1,); when given, only this position's logits are computed.

        Returns:
            Logits of shape (B, T, V), or (B, 1, V) with ``at``.

        Raises:
            ValueError: the sequence is longer than the context.
        """
        length = tokens_BT.shape[1]
        if length > self.config.context:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the context of {self.config.context}"
            )
        x_BTC = self.tokens(tokens_BT) + self.positions(self.index[:length])
        x_BTC = self.dropout(x_BTC)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        if at is not None:
            x_BTC = x_BTC.index_select(1, at)
        return self.head(self.norm(x_BTC))

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy of the next token in nats.

        Args:
            tokens_BT: int64 of shape (B, T).
            targets_BT: int64 of shape (B, T), the token that follows each one of ``tokens_BT``.

        Returns:
            A scalar.
        """
        logits_BTV = self(tokens_BT)
        if logits_BTV.dtype in (flambeau.bfloat16, flambeau.float16):
            logits_BTV = logits_BTV.float()  # a sum over the vocabulary needs the digits
        return F.cross_entropy(logits_BTV.view(-1, logits_BTV.shape[-1]), targets_BT.reshape(-1))

    def parameter_count(self) -> int:
        """Number of trained numbers, the shared token table counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def configure_optimizer(
        self, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
    ) -> optim.AdamW:
        """AdamW that decays matrices and leaves biases and normalisation gains alone."""
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return optim.AdamW(groups, lr=lr, betas=betas)

    def generate(
        self,
        prompt: bytes,
        length: int,
        temperature: float = 0.8,
        top_k: int = 40,
        generator: flambeau.Generator | None = None,
    ) -> bytes:
        """Continue a prompt by sampling one token after the other.

        The window always has ``context`` tokens, the unused ones behind the last: a causal model
        does not see them, and one shape means one compiled program for the whole text.

        Args:
            prompt: the first bytes; its last ``context`` ones are read.
            length: number of bytes to add.
            temperature: divides the logits; below 1 the likely tokens become likelier.
            top_k: only the ``top_k`` likeliest tokens are drawn.
            generator: source of the draws; the default generator when None.

        Returns:
            The prompt and its continuation.
        """
        was_training = self.training
        self.eval()
        context, device = self.config.context, self.index.device
        text = bytearray(prompt or b"\n")
        for _ in range(length):
            window = bytes(text[-context:])
            last = len(window) - 1
            padded = list(window) + [0] * (context - len(window))
            with flambeau.no_grad():
                logits_BTV = self(
                    flambeau.as_tensor([padded], device=device),
                    at=flambeau.as_tensor([last], device=device),
                )
            best_K, token_K = flambeau.topk(
                logits_BTV[0, 0].float(), min(top_k, self.config.vocabulary)
            )
            chosen = flambeau.multinomial(
                flambeau.softmax(best_K / temperature, dim=-1), 1, generator=generator
            )
            text.append(int(token_K[chosen].item()))
        self.train(was_training)
        return bytes(text)
