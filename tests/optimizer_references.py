"""Update rules written down once more, from their papers, in double precision and for one tensor: oracles for the libraries.

Every rule is a generator function ``rule(w, h)``: it is sent gradients and yields the weights after each; ``h`` are the hyperparameters.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.linalg import eigh, norm, qr, svd
from scipy.linalg import fractional_matrix_power


def heavy_ball(w, h):  # Polyak 1964; v takes in the decayed gradient
    v = 0.0
    while True:
        g = yield w
        v = h["momentum"] * v + g + h["weight_decay"] * w
        w = w - h["lr"] * v


def nesterov(w, h):  # Sutskever et al. 2013, in the form that evaluates gradients at the leading point
    v = 0.0
    while True:
        g = (yield w) + h["weight_decay"] * w
        v = h["momentum"] * v + g
        w = w - h["lr"] * (g + h["momentum"] * v)


def adagrad(w, h):  # Duchi et al. 2011, diagonal
    s = 0.0
    while True:
        g = yield w
        s = s + g**2
        w = w - h["lr"] * g / (np.sqrt(s) + 1e-10)


def _moments(h):
    b1, b2 = h["betas"][:2]
    m = v = 0.0
    t = 0
    g = yield None
    while True:
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        g = yield t, m, v, m / (1 - b1**t), v / (1 - b2**t)


def adam(w, h):  # Kingma and Ba 2014, algorithm 1; decay, where there is any, as in AdamW
    moments = _moments(h)
    next(moments)
    while True:
        g = yield w
        *_, m, v = moments.send(g)
        w = w - h["lr"] * (m / (np.sqrt(v) + 1e-8) + h.get("weight_decay", 0.0) * w)


def nadamw(w, h):  # Dozat 2016, with its momentum schedule; decoupled decay
    (b1, b2), product, t, m, v = h["betas"], 1.0, 0, 0.0, 0.0
    while True:
        g = yield w
        t += 1
        now, then = (b1 * (1 - 0.5 * 0.96 ** (0.004 * s)) for s in (t, t + 1))
        product *= now
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        step = (then * m / (1 - product * then) + (1 - now) * g / (1 - product)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        w = w - h["lr"] * (step + h["weight_decay"] * w)


def radam(w, h):  # Liu et al. 2019, algorithm 2; decoupled decay
    b2, moments = h["betas"][1], _moments(h)
    next(moments)
    most = 2 / (1 - b2) - 1
    while True:
        g = yield w
        t, _, _, m, v = moments.send(g)
        length = most - 2 * t * b2**t / (1 - b2**t)
        step = m
        if length > 5:
            rectification = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
            step = rectification * m / (np.sqrt(v) + 1e-8)
        w = w - h["lr"] * (step + h["weight_decay"] * w)


def adafactor(w, h):  # Shazeer and Stern 2018, algorithms 4 and 5; rows and columns of matrices
    row = column = full = 0.0
    t = 0
    while True:
        g = yield w
        t += 1
        beta = 1 - t**-0.8
        if w.ndim == 2:
            row = beta * row + (1 - beta) * (g**2).mean(axis=1, keepdims=True)
            column = beta * column + (1 - beta) * (g**2).mean(axis=0, keepdims=True)
            v = row * column / row.mean()
        else:
            v = full = beta * full + (1 - beta) * g**2
        u = g / np.sqrt(v)
        u = u / max(1.0, np.sqrt((u**2).mean()))
        w = w - max(1e-3, np.sqrt((w**2).mean())) * min(h["lr"], 1 / math.sqrt(t)) * u


def lion(w, h):  # Chen et al. 2023, algorithm 2
    (b1, b2), m = h["betas"], 0.0
    while True:
        g = yield w
        w = w - h["lr"] * (np.sign(b1 * m + (1 - b1) * g) + h["weight_decay"] * w)
        m = b2 * m + (1 - b2) * g


def _projected(w, g, step):
    """AdamP's algorithm 1: without the radial part, by channel or else by layer, where weights and gradient are nearly orthogonal."""
    if w.ndim < 2:
        return step, 1.0
    for view in (w.reshape(len(w), -1).shape, (1, w.size)):
        a, b, s = (x.reshape(view) for x in (w, g, step))
        cosine = np.abs((a * b).sum(axis=1)) / (norm(a, axis=1) * norm(b, axis=1))
        if cosine.max() < 0.1 / math.sqrt(view[1]):
            unit = a / norm(a, axis=1, keepdims=True)
            return (s - unit * (unit * s).sum(axis=1, keepdims=True)).reshape(w.shape), 0.1
    return step, 1.0


def adamp(w, h):  # Heo et al. 2020
    moments = _moments(h)
    next(moments)
    while True:
        g = yield w
        t, m, v, _, _ = moments.send(g)
        b1, b2 = h["betas"]
        step, ratio = _projected(w, g, m / (1 - b1**t) / (np.sqrt(v) + 1e-8) * math.sqrt(1 - b2**t))
        w = w * (1 - h["lr"] * h["weight_decay"] * ratio) - h["lr"] * step


def sgdp(w, h):  # Heo et al. 2020; decay is divided by 1 - momentum, as L2 decay through the momentum would be
    v = 0.0
    while True:
        g = yield w
        v = h["momentum"] * v + g
        step, ratio = _projected(w, g, g + h["momentum"] * v)
        w = w * (1 - h["lr"] * h["weight_decay"] * ratio / (1 - h["momentum"])) - h["lr"] * step


def lars(w, h):  # You et al. 2017, algorithm 1; vectors are left to plain momentum
    v = 0.0
    while True:
        g = yield w
        if w.ndim > 1:
            trust = h["trust_coefficient"] * norm(w) / (norm(g) + h["weight_decay"] * norm(w))
            g = trust * (g + h["weight_decay"] * w)
        v = h["momentum"] * v + g
        w = w - h["lr"] * v


def lamb(w, h):  # You et al. 2019, algorithm 2 in the form without bias correction; norms of weights count up to 10
    moments = _moments(h)
    next(moments)
    while True:
        g = yield w
        _, m, v, _, _ = moments.send(g)
        r = m / (np.sqrt(v) + 1e-6) + h["weight_decay"] * w
        w = w - h["lr"] * min(norm(w), 10.0) / norm(r) * r


def ademamix(w, h):  # Pagliardini et al. 2024, algorithm 1 with the schedules of alpha and beta3 over all steps
    (b1, _, b3), slow, moments = h["betas"], 0.0, _moments(h)
    next(moments)
    while True:
        g = yield w
        t, _, _, m, v = moments.send(g)
        share = min(1.0, t / h["t_alpha_beta3"])
        half_lives = (1 - share) * math.log(b3) + share * math.log(b1)
        beta = min(b3, math.exp(math.log(b1) * math.log(b3) / half_lives))
        slow = beta * slow + (1 - beta) * g
        w = w - h["lr"] * ((m + h["alpha"] * share * slow) / (np.sqrt(v) + 1e-8) + h["weight_decay"] * w)


def soap(w, h):  # Vyas et al. 2024, algorithm 3; the first step only starts the bases
    (b1, b2), m, v, t = h["betas"], 0.0, 0.0, 0
    g = yield w
    left, right = (1 - b2) * g @ g.T, (1 - b2) * g.T @ g
    ql, qr_ = (eigh(s)[1][:, ::-1] for s in (left, right))
    while True:
        g = yield w
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (ql.T @ g @ qr_) ** 2
        step = ql @ ((ql.T @ m @ qr_) / (np.sqrt(v) + 1e-8)) @ qr_.T
        w = w - h["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t) * step
        w = w - h["lr"] * h["weight_decay"] * w
        left, right = b2 * left + (1 - b2) * g @ g.T, b2 * right + (1 - b2) * g.T @ g
        if t % h["precondition_frequency"] == 0:
            order_l, order_r = (np.argsort(-(q * (s @ q)).sum(axis=0)) for s, q in ((left, ql), (right, qr_)))
            v = v[order_l][:, order_r]
            ql, qr_ = qr(left @ ql[:, order_l])[0], qr(right @ qr_[:, order_r])[0]


def shampoo(w, h):  # Gupta et al. 2018, algorithm 1 with a relative ridge; roots at every step while there are fewer than root_every
    left = right = v = 0.0

    def root(matrix, power):
        return fractional_matrix_power(matrix + h["eps"] * eigh(matrix)[0].max() * np.eye(len(matrix)), power).real

    while True:
        g = yield w
        if w.ndim == 1:
            left = left + g**2
            step = g / np.sqrt(left + h["eps"] * left.max())
        else:
            left, right = left + g @ g.T, right + g.T @ g
            step = root(left, -1 / 4) @ g @ root(right, -1 / 4)
        v = h["momentum"] * v + step
        w = w - h["lr"] * v


def adam_mini(w, h):  # Zhang et al. 2024, algorithm 1 with rows as blocks
    (b1, b2), m, v, t = h["betas"], 0.0, 0.0, 0
    while True:
        g = yield w
        t += 1
        axes = tuple(range(1, w.ndim)) or None
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (g**2).mean(axis=axes, keepdims=True)
        w = w - h["lr"] * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + 1e-8) + h["weight_decay"] * w)


def galore(w, h):  # Zhao et al. 2024, algorithm 2
    (b1, b2), m, v, t = h["betas"], 0.0, 0.0, 0
    wide = w.shape[0] < w.shape[1]
    rank = max(1, round(h["rank_fraction"] * min(w.shape)))
    while True:
        g = yield w
        if t % h["refresh_every"] == 0:
            u, _, vt = svd(g, full_matrices=False)
            p = u[:, :rank] if wide else vt[:rank].T
        t += 1
        low = p.T @ g if wide else g @ p
        m, v = b1 * m + (1 - b1) * low, b2 * v + (1 - b2) * low**2
        step = m / (1 - b1**t) / (np.sqrt(v) + 1e-8) * math.sqrt(1 - b2**t)
        w = w - h["lr"] * h["scale"] * (p @ step if wide else step @ p.T)
        w = w * (1 - h["lr"] * h["weight_decay"])


def muon(w, h):  # Jordan et al. 2024: Nesterov momentum, five quintic Newton-Schulz steps on [O, I h w], rate for the matrix' shape
    m, matrix = 0.0, (len(w), -1)
    while True:
        g = yield w
        m = h["momentum"] * m + (1 - h["momentum"]) * g
        x = ((1 - h["momentum"]) * g + h["momentum"] * m).reshape(matrix)
        ratio = math.sqrt(max(1.0, x.shape[0] / x.shape[1]))
        x = x / norm(x)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        w = w * (1 - h["lr"] * h["weight_decay"]) - h["lr"] * ratio * x.reshape(w.shape)


def prodigy(w, h):  # Mishchenko and Defazio 2023, algorithm 4, over all weights as one vector; decoupled decay at the rate of the step
    (b1, b2), start, d, r = h["betas"], w, 1e-6, 0.0
    b3 = math.sqrt(b2)
    m = v = s = 0.0
    while True:
        g = yield w
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * (d * g) ** 2
        r = b3 * r + (1 - b3) * h["lr"] * d**2 * (g @ (start - w))
        s = b3 * s + (1 - b3) * h["lr"] * d**2 * g
        rate = h["lr"] * d
        h["d"] = d = max(d, h["d_coef"] * r / np.abs(s).sum())
        w = w * (1 - rate * h["weight_decay"]) - rate * m / (np.sqrt(v) + d * 1e-8)


def schedule_free_sgd(w, h):  # Defazio et al. 2024, algorithm 1; decay at y; yields y, keeps x at hand
    x = z = w
    rates, beta, t = [], h["momentum"], 0
    while True:
        g = (yield w) + h["weight_decay"] * w
        t += 1
        rate = h["lr"] * min(1.0, t / h["warmup_steps"])
        rates.append(max([rate, *rates]))
        z = z - rate * g
        c = rates[-1] ** 2 / sum(r**2 for r in rates)
        x = (1 - c) * x + c * z
        h["x"], w = x, (1 - beta) * z + beta * x


def schedule_free_adamw(w, h):  # Defazio et al. 2024, algorithm 2; without warm-up bias in the first moment, of which there is none
    x = z = w
    rates, (beta, b2), v, t = [], h["betas"], 0.0, 0
    while True:
        g = yield w
        t += 1
        v = b2 * v + (1 - b2) * g**2
        step = g / (np.sqrt(v / (1 - b2**t)) + 1e-8) + h["weight_decay"] * w
        rate = h["lr"] * min(1.0, t / h["warmup_steps"])
        rates.append(max([rate, *rates]))
        z = z - rate * step
        c = rates[-1] ** 2 / sum(r**2 for r in rates)
        x = (1 - c) * x + c * z
        h["x"], w = x, (1 - beta) * z + beta * x


_OURS = {name: rule for name, rule in globals().items() if getattr(rule, "__module__", None) == __name__}
RULES = {name: rule for name, rule in _OURS.items() if not name.startswith("_")}
RULES |= {"adamw": adam, "vr_adam": adam}
