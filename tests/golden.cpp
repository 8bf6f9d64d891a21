// golden [DIR ...]: runs every case of the folders (tests/golden if none is named) and compares
// outputs and gradients with the authors' own, on the device that the environment names
// (context.h).
// One line a case; the last line counts them.
#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/mixer.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <filesystem>
#include <optional>

#include "context.h"
#include "golden_fixed_point.h"

namespace {

using namespace fprnn;
using namespace fprnn::golden;

// Where the authors' rule had to shrink its step, the map expands: to round the parameters of
// patience_decay to floats otherwise, by half a unit up or down, moves its iterate by up to 6e-4.
constexpr double kToleranceExpanding = kDouble ? kTolerance : 1e-3;

void run_scan(Case& c) {
  c.check(scan(c.input("a"), c.input("b"), {.reverse = c.spec.at("reverse")}), "out.h");
}

void run_selective_scan(Case& c) {
  c.check(selective_scan({.u = c.input("u"),
                          .delta = c.input("delta"),
                          .a = c.input("A"),
                          .b = c.input("B"),
                          .c = c.input("C"),
                          .skip = c.input("D"),
                          .delta_bias = c.input("delta_bias"),
                          .softplus = c.spec.at("delta_softplus")})
              .y);
}

void run_masked_cross_entropy(Case& c) {
  const IntTensor targets = c.file.ints(c.context, "in.targets");
  c.check(masked_cross_entropy(c.input("logits"), targets, c.read("in.mask")), "out.loss");
}

void run_weight_norm_linear(Case& c) {
  const Var x = c.input("x"), g = c.input("g"), v = c.input("v");
  c.check(weight_norm_linear(x, g, v));
}

void run_causal_conv_silu(Case& c) {
  const Var x = c.input("x"), weight = c.input("weight"), bias = c.input("bias");
  c.check(silu(causal_conv(x, weight, bias)));
}

void run_layer_norm(Case& c) {
  const Var x = c.input("x"), weight = c.input("weight"), bias = c.input("bias");
  c.check(layer_norm(x, weight, bias, eps_of(c.spec)));
}

void run_rms_norm(Case& c) {
  const Var x = c.input("x"), weight = c.input("weight");
  c.check(rms_norm(x, weight, eps_of(c.spec)));
}

void run_l2_normalize(Case& c) { c.check(l2_normalize(c.input("x"), eps_of(c.spec))); }

// The clipped AdamW trajectory of two tensors, p with decay and q without.
void run_adamw(Case& c) {
  Parameter p{"p", c.read("in.p"), {}, true}, q{"q", c.read("in.q"), {}, false};
  AdamW optimiser({{"p", &p}, {"q", &q}}, {.beta1 = c.spec.at("beta1"),
                                           .beta2 = c.spec.at("beta2"),
                                           .eps = c.spec.at("eps"),
                                           .weight_decay = c.spec.at("weight_decay_p")});
  const Tensor all = c.read("in.grads");
  const std::vector<real> grads = all.to_vector();
  for (int64_t step = 0; step < all.size(0); ++step) {
    const std::span row = std::span(grads).subspan(step * all.size(1), all.size(1));
    const int64_t split = p.value.elements();
    p.gradient = Tensor(c.context, p.value.shape(), row.first(split));
    q.gradient = Tensor(c.context, q.value.shape(), row.subspan(split));
    const double norm = optimiser.step(c.spec.at("lr"), c.spec.at("clip")).gradient_norm;
    const std::string index = std::to_string(step);
    c.compare_output(full(c.context, {}, static_cast<real>(norm)), "out.norm." + index);
    c.compare_output(p.value, "out.p." + index);
    c.compare_output(q.value, "out.q." + index);
  }
}

void run_mamba(Case& c) {
  Rng rng;
  Module root;
  Mamba block(root, "mamba", {c.context, rng},
              {.d_model = c.spec.at("d_model"),
               .d_state = c.spec.at("d_state"),
               .expand = c.spec.at("expand"),
               .dt_rank = c.spec.at("dt_rank"),
               .conv_width = c.spec.at("d_conv")});
  c.load(block);
  c.check(block.forward(c.input("x")));
}

void run_mixer(Case& c) {
  Rng rng;
  Module root;
  const auto mixer = make_mixer(root, "mixer", {c.context, rng},
                                {.kind = mixer_named(c.spec.at("mixer_type").get<std::string>()),
                                 .channels = c.read("in.v").size(-1),
                                 .parameters = c.read("in.p").size(-1),
                                 .rank = c.spec.value("rank", 1),
                                 .scale = c.spec.at("mixer_scale"),
                                 .eps = eps_of(c.spec)});
  c.load(*mixer);
  const Var p = c.input("p"), v = c.input("v");
  c.check(mixer->forward(p, v));
}

FpMambaOptions fp_mamba_options(const Json& spec) {
  FpMambaOptions options{.d_model = spec.at("d_model"),
                         .d_state = spec.at("d_state"),
                         .expand = spec.value("expand", 2),
                         .dt_rank = spec.at("dt_rank"),
                         .conv_width = spec.value("use_short_conv", false) ? 4 : 0,
                         .mixer = mixer_of(spec),
                         .rank = spec.value("mixer_rank", 1),
                         .scale = spec.value("mixer_scale", real(2)),
                         .symmetric = spec.value("symm_mixer", false),
                         .bc_norm = spec.value("bc_norm", true),
                         .glu_in_loop = spec.value("glu_in_loop", false),
                         .eps = eps_of(spec),
                         .solver = solver_of(spec)};
  options.dependence.q = spec.value("mixer_h_dep", true);
  return options;
}

void run_fp_mamba(Case& c) { run_layer<FpMamba>(c, fp_mamba_options(c.spec), "fixed_point.y"); }

void run_fp_rnn(Case& c) {
  run_layer<FpRnn>(c,
                   FpRnnOptions{.d_model = c.spec.at("d_model"),
                                .expand = c.spec.value("expand", 2),
                                .conv_width = c.spec.value("use_short_conv", false) ? 4 : 0,
                                .mixer = mixer_of(c.spec),
                                .rank = c.spec.value("mixer_rank", 1),
                                .scale = c.spec.value("mixer_scale", real(2)),
                                .hidden_dependence = c.spec.value("mixer_h_dep", true),
                                .symmetric = c.spec.value("symm_mixer", false),
                                .eps = eps_of(c.spec),
                                .solver = solver_of(c.spec)},
                   "fixed_point.h");
}

// Where the authors' rule stops, and how it came there.
void run_patience(Case& c) {
  FpMambaOptions options = fp_mamba_options(c.spec);
  options.solver.solver = Solver::patience;
  options.solver.max_iterations = c.spec.at("cap");
  options.solver.patience = {.threshold = c.spec.at("threshold"),
                             .quantile = c.spec.at("quantile"),
                             .step_size = c.spec.at("step_size"),
                             .decay = c.spec.at("decay"),
                             .min_step_size = c.spec.at("min_step_size"),
                             .patience = c.spec.at("patience")};
  Rng rng;
  Module root;
  FpMamba layer(root, "layer", {c.context, rng}, options);
  for (const auto& [path, parameter] : layer.parameters())
    parameter->value = c.read("param." + path);
  layer.forward(c.read("in.x"));
  const std::vector<real> steps = c.read("patience.step_size").to_vector();
  if (std::ranges::any_of(steps, [&](real s) { return s < options.solver.patience.step_size; }))
    c.tolerance = kToleranceExpanding;
  c.compare_output(layer.solution(), "patience.y");
  std::vector<real> best;
  for (const auto& row : layer.patience_history().best_residual)
    best.insert(best.end(), row.begin(), row.end());
  const int64_t B = layer.solution().size(0), L = static_cast<int64_t>(best.size()) / B;
  c.compare_output(Tensor(c.context, {L, B}, best), "patience.best_residual");
  c.compare_output(Tensor(c.context, {B}, layer.patience_history().step_size),
                   "patience.step_size");
  const int64_t iterations = c.file.ints(c.context, "patience.iterations").to_vector()[0];
  const int64_t ours = layer.report().iterations.front();
  require<ValueError>(ours == iterations, "golden",
                      "patience must stop where the authors' code does", ours, iterations);
}

Runners own_runners() {
  return {
      {"adamw", run_adamw},
      {"causal_conv_silu", run_causal_conv_silu},
      {"fp_mamba", run_fp_mamba},
      {"fp_rnn", run_fp_rnn},
      {"l2_normalize", run_l2_normalize},
      {"layer_norm", run_layer_norm},
      {"mamba", run_mamba},
      {"masked_cross_entropy", run_masked_cross_entropy},
      {"mixer", run_mixer},
      {"patience", run_patience},
      {"rms_norm", run_rms_norm},
      {"scan", run_scan},
      {"selective_scan", run_selective_scan},
      {"weight_norm_linear", run_weight_norm_linear},
  };
}

Runners all_runners() {
  Runners all = own_runners();
  for (const auto& family : {act_runners, delta_runners, fp_mamba2_runners, mamba2_runners,
                             pd_ssm_runners, recurrent_runners, transformer_runners, xlstm_runners})
    all.merge(family());
  return all;
}

// Runs one file and prints its line; true if it agrees.
bool run_file(const std::filesystem::path& path, const Context& context) {
  try {
    SafetensorsFile file = SafetensorsFile::read(path.string());
    const auto spec = file.metadata().find("spec");
    require<FormatError>(spec != file.metadata().end(), "golden", "a case must have a spec");
    const Json fields = Json::parse(spec->second);
    const std::string kind = fields.at("kind");
    Case c{std::move(file), fields, context};
    static const Runners runners = all_runners();
    const auto runner = runners.find(kind);
    require<FormatError>(runner != runners.end(), "golden", "the kind must be known", kind);
    runner->second(c);
    const bool agrees = c.output_error <= c.tolerance && c.gradient_error <= c.tolerance;
    fmt::print("{:7} {:42} outputs {:.1e}  gradients {:.1e}\n", agrees ? "agrees" : "DIFFERS",
               path.stem().string(), c.output_error, c.gradient_error);
    return agrees;
  } catch (const std::exception& error) {
    fmt::print("{:7} {:42} {}\n", "FAILS", path.stem().string(), error.what());
    return false;
  }
}

// Runs what is in the folders, or counts it as skipped where there is no device to run it on.
int run_folders(const std::vector<std::string>& folders) {
  const std::string reason = tests::reason_to_skip_all();
  std::optional<Context> context;
  if (reason.empty())
    context = tests::test_context();
  else
    fmt::print("{}: every case is skipped\n", reason);
  int passed = 0, failed = 0, skipped = 0;
  for (const std::string& folder : folders) {
    std::vector<std::filesystem::path> cases;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      if (entry.path().extension() == ".safetensors") cases.push_back(entry.path());
    if (cases.empty()) {
      fmt::print("FAILS   {} is not a readable folder with cases\n", folder);
      ++failed;
    }
    std::ranges::sort(cases);
    for (const auto& path : cases)
      (!context ? skipped : run_file(path, *context) ? passed : failed) += 1;
  }
  fmt::print("{} passed, {} failed, {} skipped\n", passed, failed, skipped);
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> folders(argv + 1, argv + argc);
  if (folders.empty()) folders.push_back(FPRNN_SOURCE_DIR "/tests/golden");
  try {
    return run_folders(folders);
  } catch (const std::exception& error) {  // of the environment
    fmt::print(stderr, "{}\n", error.what());
    fmt::print("0 passed, 1 failed, 0 skipped\n");
    return 2;
  }
}
