"""The peers' recipes as bare loops of our own: what a careful person writes by hand, without a harness.

``shakespeare``  nanoGPT's documented CPU setting for characters of Shakespeare (github.com/karpathy/nanoGPT, README and
                 config/train_shakespeare_char.py): 4 layers, 4 heads, 128 wide, 64 characters, batch 12, 2,000 iterations, AdamW at 1e-3
                 after 100 steps of warm-up, cosine to 1e-4, betas 0.9 and 0.99, weight decay 0.1 on matrices, gradients clipped to norm
                 1, float32.
``airbench``     K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (arXiv 2404.00498), the settings of airbench94 with widths cut
                 to fit CPU minutes: whitening filters, GELU, Nesterov SGD with 64 times the rate for biases, triangular schedule,
                 lookahead every five steps, alternating flip. Its progress is the share of the seconds it is given.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

# --- characters of Shakespeare ----------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, width, heads, depth):
        super().__init__()
        self.heads = heads
        self.qkv, self.mix = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        for linear in (self.qkv, self.up, self.mix, self.down):
            into_residual = linear is self.mix or linear is self.down
            nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * depth) if into_residual else 0.02)

    def forward(self, x):  # [B, T, W]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        x = x + self.mix(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Characters(nn.Module):
    def __init__(self, vocabulary, block=64, width=128, depth=4, heads=4):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)
        self.layers = nn.Sequential(*(Layer(width, heads, depth) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, tokens):  # [B, T] -> [B, T, V]
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        return self.norm(self.layers(x)) @ self.embed.weight.T


def shakespeare(text, windows, vocabulary, seed, steps, evaluate_every):
    """Seconds of training and validation loss in nats after every ``evaluate_every`` steps; ``text`` int64 [n], ``windows`` [m, 65]."""
    torch.manual_seed(seed)
    model = Characters(vocabulary)
    weights = list(model.parameters())
    groups = [{"params": [p for p in weights if p.ndim > 1]}, {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    curve, seconds = [], 0.0
    for first in range(0, steps, evaluate_every):
        start = time.perf_counter()
        for step in range(first, min(first + evaluate_every, steps)):
            warm = min(1.0, (step + 1) / 101)
            falling = 0.5 * (1 + math.cos(math.pi * max(0, step - 100) / max(1, steps - 100)))
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * warm if step < 100 else 1e-4 + 9e-4 * falling
            at = torch.randint(len(text) - 64, (12, 1)) + torch.arange(65)
            batch = text[at]
            loss = cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - start
        with torch.inference_mode():
            total = 0.0
            for part in windows.split(128):
                total += float(cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
        curve.append((seconds, total / windows[:, 1:].numel()))
    return curve


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------------------------


def norm(channels):
    found = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    found.weight.requires_grad_(False)
    return found


def pictures_net(filters, widths):
    """Whitening, three blocks, a linear head; logits are scaled by 1/9."""
    whiten = nn.Conv2d(3, len(filters), 2)
    whiten.weight = nn.Parameter(filters.clone(), requires_grad=False)
    nn.init.zeros_(whiten.bias)
    layers = [whiten, nn.GELU()]
    for a, b in pairwise([len(filters), *widths]):
        convolutions = [nn.Conv2d(c, b, 3, padding=1, bias=False) for c in (a, b)]
        for convolution in convolutions:
            nn.init.dirac_(convolution.weight[: convolution.in_channels])
        layers += [convolutions[0], nn.MaxPool2d(2), norm(b), nn.GELU(), convolutions[1], norm(b), nn.GELU()]
    layers += [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(widths[-1], 10, bias=False)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def airbench(train, validation, facts, filters, seed, seconds, widths=(32, 64, 64), batch=500):
    """Validation accuracy after ``seconds`` of training, and how many pictures it saw; pictures uint8 [n, 3, 32, 32], labels [n]."""
    torch.manual_seed(seed)
    mean, std = (torch.tensor(facts[name]).view(1, 3, 1, 1) * 255 for name in ("mean", "std"))
    padded = nn.functional.pad(train[0].float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    net = pictures_net(filters, widths)
    biases = [p for name, p in net.named_parameters() if p.requires_grad and p.ndim == 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    rate = 11.5 / (1024 * (1 + 1 / (1 - 0.85))) * batch  # of the mean loss
    decay = 0.0153 / 11.5  # a step takes off rate x decay
    optimizer = torch.optim.SGD(
        [{"params": biases, "lr": 64 * rate, "weight_decay": decay / 64}, {"params": others, "lr": rate, "weight_decay": decay}],
        momentum=0.85,
        nesterov=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    slow = [tensor.clone() for tensor in net.state_dict().values() if tensor.is_floating_point()]
    seen, step, flipped = 0, 0, torch.rand(len(padded)) < 0.5
    start = time.perf_counter()
    while (progress := (time.perf_counter() - start) / seconds) < 1:
        for ids in torch.randperm(len(padded)).split(batch):
            progress = (time.perf_counter() - start) / seconds
            if len(ids) < batch or progress >= 1:
                break
            high = 0.2 + 0.8 * progress / 0.23 if progress < 0.23 else 1 - 0.93 * (progress - 0.23) / 0.77
            for group, own in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = own * high
            images = (moved(padded[ids], flipped[ids]).float() - mean) / std
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(images.contiguous(memory_format=torch.channels_last))
            cross_entropy(logits.float() / 9, train[1][ids], label_smoothing=0.2).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen, step = seen + batch, step + 1
            if step % 5 == 0:
                look_ahead(net, slow, 0.95**5 * progress**3)
        flipped = ~flipped  # every second pass shows the mirrored picture
    look_ahead(net, slow, 1.0)
    net.eval()
    right = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for part in torch.arange(len(validation[1])).split(1000):
            right += int((net((validation[0][part].float() - mean) / std).argmax(dim=1) == validation[1][part]).sum())
    return right / len(validation[1]), seen


def moved(padded, flipped):  # uint8 [B, 3, 36, 36] -> [B, 3, 32, 32]: each at an offset of its own, some mirrored
    count = len(padded)
    rows, columns = (torch.randint(5, (count, 1)) + torch.arange(32) for _ in range(2))
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    which = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def look_ahead(net, slow, kept):
    """The slow weights move towards the net's, and the net goes on from there; with ``kept`` 1 it takes them as they are."""
    for before, now in zip(slow, (tensor for tensor in net.state_dict().values() if tensor.is_floating_point()), strict=True):
        before.lerp_(now, 1 - kept)
        now.copy_(before)
