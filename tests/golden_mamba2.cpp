// The SSD scan and the Mamba-2 block: whole, in chunks and step by step.
#include <fprnn/models/mamba2.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/ssd_scan.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

SsdScanInputs scan_inputs(Case& c) {
  SsdScanInputs in{.x = c.input("x"),
                   .dt = c.input("dt"),
                   .a = c.input("A"),
                   .b = c.input("B"),
                   .c = c.input("C"),
                   .softplus = c.spec.value("dt_softplus", true),
                   .negative = c.spec.value("negative_eigenvalues", false)};
  if (c.file.has("in.D")) in.skip = c.input("D");
  if (c.file.has("in.dt_bias")) in.dt_bias = c.input("dt_bias");
  if (c.file.has("in.state")) in.h0 = c.input("state");
  return in;
}

// Steps begin .. end - 1 of what has a time.
SsdScanInputs part_of(SsdScanInputs in, int64_t begin, int64_t end, const Var& state) {
  for (Var* each : {&in.x, &in.dt, &in.b, &in.c}) *each = slice(*each, 1, begin, end);
  in.h0 = state;
  return in;
}

void run_ssd_scan(Case& c) {
  const SsdScanInputs in = scan_inputs(c);
  const int64_t T = in.x.size(1);
  for (const int64_t length : {T, int64_t{1}, int64_t{3}, int64_t{64}}) {
    std::vector<Var> parts;
    Var state = in.h0;
    for (int64_t t = 0; t < T; t += length) {
      const auto [y, last] = ssd_scan(part_of(in, t, std::min(T, t + length), state));
      parts.push_back(y);
      state = last;
    }
    c.compare_output(state.value(), "out.state");
    const Tensor seed = c.file.has("loss.weight_state") ? c.read("loss.weight_state") : Tensor();
    c.check(concat(parts, 1), "out.y", state, seed);
  }
}

void run_mamba2(Case& c) {
  Rng rng;
  Module root;
  Mamba2 block(root, "mamba2", {c.context, rng},
               {.d_model = c.spec.at("d_model"),
                .d_state = c.spec.at("d_state"),
                .headdim = c.spec.at("headdim"),
                .ngroups = c.spec.value("ngroups", 1),
                .expand = c.spec.value("expand", 2),
                .conv_width = c.spec.value("d_conv", 4),
                .rmsnorm = c.spec.value("rmsnorm", true),
                .norm_before_gate = c.spec.value("norm_before_gate", false),
                .channel_skip = c.spec.value("D_has_hdim", false),
                .negative_eigenvalues = c.spec.value("negative_eigenvalues", false),
                .eps = eps_of(c.spec)});
  c.load(block);
  check_layer<Mamba2State>(c, block);
}

}  // namespace

Runners mamba2_runners() { return {{"mamba2", run_mamba2}, {"ssd_scan", run_ssd_scan}}; }

}  // namespace fprnn::golden
