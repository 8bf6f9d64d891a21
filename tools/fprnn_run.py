#!/usr/bin/env python3
"""Reads a run of fprnn and repeats FP-Mamba's forward pass with numpy, in double precision.

    from fprnn_run import Run
    run = Run("runs/mine")               # config, step, weights by name
    logits = run.logits([6, 1, 2, 5])    # (T, vocabulary)

    python3 tools/fprnn_run.py runs/mine < tokens    # a line of token ids each: the likeliest answers, with probabilities

The equations are those of models/fp_mamba.h, with low-rank mixers (householder, dplr). It is slow and short on purpose: a
model of another kind is a function beside fp_mamba.
"""
import json
import os
import sys

import numpy as np

EPS = 1e-5


def read_safetensors(path):
    """{name: array} of a safetensors file; the package safetensors.numpy does the same."""
    types = {"F32": np.float32, "F64": np.float64}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def unit(x):
    """x / max(|x|, eps) along the last axis."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), EPS)


def rms_norm(x, weight):
    return weight * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS)


def layer_norm(x, weight, bias):
    x = x - x.mean()
    return weight * x / np.sqrt(np.mean(x * x) + EPS) + bias


def solved(f, size, tolerance=1e-12, most=100_000):
    """y = f(y) from 0 by damped iteration; the damping doubles whenever the residual grows."""
    y, part, last = np.zeros(size), 1.0, np.inf
    for _ in range(most):
        move = f(y) - y
        residual = np.abs(move).max()
        if residual <= tolerance:
            return y
        if residual > last:
            part = max(part / 2, 1 / 64)
        y, last = y + part * move, residual
    raise ArithmeticError(f"no fixed point was found: residual {last:.1e}")


class Run:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        checkpoint = os.path.join(folder, "best")  # of --keep best
        if not os.path.exists(os.path.join(checkpoint, "state.json")):
            with open(os.path.join(folder, "LATEST")) as file:
                checkpoint = os.path.join(folder, file.read().strip())
        with open(os.path.join(checkpoint, "state.json")) as file:
            self.step = json.load(file)["step"]
        arrays = read_safetensors(os.path.join(checkpoint, "model.safetensors"))
        self.weights = {name: array.astype(np.float64) for name, array in arrays.items()}

    def weight(self, name):
        """A map's matrix, which is stored as it is or as the lengths and directions of its rows."""
        if name + ".weight" in self.weights:
            return self.weights[name + ".weight"]
        normed = name + ".parametrizations.weight.original"
        v = self.weights[normed + "1"]
        return self.weights[normed + "0"] * v / np.linalg.norm(v, axis=1, keepdims=True)

    def logits(self, tokens):
        if self.config["model"] != "fp-mamba":
            raise NotImplementedError(f"the model is {self.config['model']}, not fp-mamba")
        embedding = self.weights["embedding.weight"]
        x = embedding[np.asarray(tokens)]
        for i in range(self.config["layers"]):
            x = x + self.fp_mamba(f"layers.{i}.layer.", rms_norm(x, self.weights[f"layers.{i}.norm.weight"]))
        return rms_norm(x, self.weights["norm.weight"]) @ embedding.T

    def fp_mamba(self, layer, u):
        """(T, d) -> (T, d), one step after the other."""
        of, weight = self.config, lambda name: self.weight(layer + name)
        other = lambda name: self.weights[layer + name]
        if of["mixer"] == "kronecker" or of["hidden_dependence"] != "q,b,c" or of["mixer_input"] != "concatenated":
            raise NotImplementedError("only low-rank mixers of [x ; y], with q, b and c that see y")
        D, N, r, scale = of["expand"] * of["d_model"], of["d_state"], of["rank"], of["mixer_scale"]
        x, z = np.split(u @ weight("in_proj").T, 2, axis=-1)
        if of["short_conv"]:
            taps = other("conv1d.weight").reshape(D, -1)
            padded = np.concatenate([np.zeros((taps.shape[1] - 1, D)), x])
            x = silu(sum(padded[i : i + len(x)] * taps[:, i] for i in range(taps.shape[1])) + other("conv1d.bias"))
        delta, B, C = np.split(x @ weight("x_proj").T, [-2 * N, -N], axis=-1)
        step = np.logaddexp(0, delta @ weight("dt_proj").T + other("dt_proj.bias"))
        A, skip = -np.exp(other("A_log")), other("D")
        normalise = unit if of["bc_norm"] else lambda v: v
        of_u, of_alpha, of_bc = weight("mixer.u_proj"), weight("mixer.alpha_proj"), weight("bc_y_proj")

        def mixed(vectors, alpha, v):  # Q v
            if of["mixer"] == "dplr":
                return v - scale * (alpha * (vectors @ v)) @ vectors
            for a, w in zip(alpha, vectors):
                v = v - scale * a * (w @ v) * w
            return v

        added = x if of.get("additive_input", True) else 0 * x  # runs from before these settings lack them
        keep = of.get("state_keep", 1)
        y, H, out = np.zeros(D), np.zeros((D, N)), []
        for t in range(len(u)):
            p = np.concatenate([x[t], y])
            vectors = unit(silu(of_u @ p).reshape(r, D))
            alpha = sigmoid(of_alpha @ p + other("mixer.alpha_proj.bias"))
            b, c = np.split(of_bc @ y, 2)
            b, c = normalise(B[t] + b), normalise(C[t] + c)
            kept = keep * np.exp(step[t][:, None] * A) * H
            gate = silu(z[t]) if of["glu_in_loop"] else 1
            from_y = lambda y: mixed(vectors, alpha, added[t] - y) + y
            state = lambda y: kept + np.outer(step[t] * from_y(y), b)
            f = lambda y: layer_norm(gate * (state(y) @ c + skip * from_y(y)), other("out_norm.weight"), other("out_norm.bias"))
            before, y = y, solved(f, D)
            H = state(y)
            out.append(y if of["glu_in_loop"] else silu(z[t] + weight("z_y_proj") @ before) * y)
        return np.array(out) @ weight("out_proj").T


def main():
    run = Run(sys.argv[1])
    for line in sys.stdin:
        tokens = [int(word) for word in line.split()]
        logits = run.logits(tokens)
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        print(json.dumps({"answers": p.argmax(axis=-1).tolist(), "probabilities": p.max(axis=-1).tolist()}))


if __name__ == "__main__":
    main()
