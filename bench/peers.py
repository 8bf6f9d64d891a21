"""What PyTorch and Triton do on a GPU, timed as `bench --device cuda` times us: medians of replayed graphs.

peers.py [RUNS]             prints one JSON object a line; RUNS (15) are what a median is over
  copy                      one tensor to another; 0.5, 2 and 8 GB moved, read and written both counted
  lstm-forward[-backward]   torch.nn.LSTM, that is cuDNN, in fp32: 512 sequences of 16 tokens, width 128
  attention-forward[...]    scaled_dot_product_attention, causal, bf16: 8 x 2,048 tokens, 16 heads of 64
  delta-rule-forward[...]   flash-linear-attention's gated delta rule, where its package is there, bf16: 8 x 2,048, 16 heads of 128
  triton-scan               h_t = a_t h_{t-1} + b_t by tl.associative_scan, our own: 12 bytes an element
Exit code 2: there is no PyTorch with Triton, or no GPU for it.
"""
import json
import sys
import time

try:
    import torch
    import triton
    import triton.language as tl
except ImportError as error:
    print(f"peers.py needs PyTorch and Triton: {error}", file=sys.stderr)
    sys.exit(2)
if not torch.cuda.is_available():
    print("peers.py needs a GPU that PyTorch can use", file=sys.stderr)
    sys.exit(2)
RUNS, RUN_SECONDS = int(sys.argv[1]) if sys.argv[1:] else 15, 0.02


def milliseconds(work):
    with torch.cuda.stream(torch.cuda.Stream()):  # not the one that is recorded
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def seconds(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            graph.replay()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    repeats = max(1, int(RUN_SECONDS / min(seconds(1), seconds(1))))
    return sorted(seconds(repeats) / repeats * 1e3 for _ in range(RUNS))[RUNS // 2]


def show(name, parameters, taken, **rates):
    where = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}
    print(json.dumps({"name": name, "parameters": parameters, **where, "milliseconds": taken, **rates}), flush=True)


def copies():
    for megabytes in (500, 2000, 8000):
        source = torch.zeros(megabytes * 1000 * 1000 // 8, device="cuda")
        target = torch.empty_like(source)
        taken = milliseconds(lambda: target.copy_(source))
        show("copy", {"megabytes moved": megabytes}, taken, gigabytes_per_second=megabytes / taken)


def lstm(B=512, T=16, d=128):
    torch.backends.cudnn.allow_tf32 = False
    model = torch.nn.LSTM(d, d, batch_first=True, device="cuda")
    x, seed = (torch.randn(B, T, d, device="cuda", requires_grad=True) for _ in range(2))

    both_ways("lstm", {"B": B, "T": T, "d_model": d}, lambda: model(x)[0], [x, *model.parameters()], seed)


def both_ways(name, parameters, call, inputs, seed):
    forward = torch.no_grad()(call)
    both = lambda: torch.autograd.grad(call(), inputs, seed)
    for what, work in (name + "-forward", forward), (name + "-forward-backward", both):
        taken = milliseconds(work)
        show(what, parameters, taken, tokens_per_second=parameters["B"] * parameters["T"] / taken * 1e3)


def heads(B, T, H, d, order):
    shape = (B, H, T, d) if order == "heads first" else (B, T, H, d)
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(4)]


def attention(B=8, T=2048, H=16, d=64):
    q, k, v, seed = heads(B, T, H, d, "heads first")
    call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    both_ways("attention", {"B": B, "T": T, "H": H, "d": d}, call, [q, k, v], seed.detach())


def delta_rule(B=8, T=2048, H=16, d=128):
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError as error:
        print(f"no delta rule: {error}", file=sys.stderr)
        return
    q, k, v, seed = heads(B, T, H, d, "tokens first")
    k = torch.nn.functional.normalize(k.detach(), dim=-1).requires_grad_()
    beta = torch.rand(B, T, H, device="cuda", dtype=torch.bfloat16).requires_grad_()
    g = (-torch.rand(B, T, H, device="cuda")).requires_grad_()
    call = lambda: chunk_gated_delta_rule(q, k, v, g, beta)[0]
    try:
        both_ways("delta-rule", {"B": B, "T": T, "H": H, "d": d}, call, [q, k, v, g, beta], seed.detach())
    except RuntimeError as error:  # some versions refuse to go backward beside some of Triton's
        print(f"no gradient of the delta rule: {error}", file=sys.stderr)


@triton.jit
def then(a, b, a_later, b_later):
    return a * a_later, b * a_later + b_later


@triton.jit
def scan_kernel(a, b, h, T, D, TIME: tl.constexpr, WIDTH: tl.constexpr):
    t, channel = tl.arange(0, TIME), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    carry = tl.zeros([WIDTH], tl.float32)
    for begin in range(0, T, TIME):
        at = (tl.program_id(0).to(tl.int64) * T + begin + t)[:, None] * D + channel[None, :]
        decay, state = tl.associative_scan((tl.load(a + at), tl.load(b + at)), 0, then)
        state += decay * carry[None, :]
        tl.store(h + at, state)
        carry = tl.sum(tl.where(t[:, None] == TIME - 1, state, 0.0), 0)


def scans(B=8, D=1536, time_block=64, width=32):  # which divide T and D
    for T in (2048, 16384):
        a, b = torch.rand(B, T, D, device="cuda"), torch.randn(B, T, D, device="cuda")
        h = torch.empty_like(a)
        taken = milliseconds(lambda: scan_kernel[(B, D // width)](a, b, h, T, D, time_block, width))
        show("triton-scan", {"B": B, "T": T, "D": D}, taken, gigabytes_per_second=12 * B * T * D / taken / 1e6)


copies()
lstm()
attention()
delta_rule()
scans()
