// What every op must do, for all of them at once.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "close.h"
#include "context.h"
#include "finite_difference.h"
#include "needs.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

// With REPORT=1 in the environment the largest error of each op is printed.
class Worst {
 public:
  explicit Worst(std::string title) : title_(std::move(title)) {}
  ~Worst() {
    if (environment("REPORT", "").empty()) return;
    for (const auto& [op, worst] : errors_)
      std::printf("%s %-22s %.1e  %s\n", title_.c_str(), op.c_str(), worst.first,
                  worst.second.c_str());
    std::fflush(stdout);
  }
  void note(const OpCase& entry, double error) {
    auto& worst = errors_[entry.op];
    if (error > worst.first) worst = {error, name_of(entry)};
  }

 private:
  std::string title_;
  std::map<std::string, std::pair<double, std::string>> errors_;
};

// The function that a line of a header declares at its start with one of the types that ops return. One
// that is told the op's name is no op itself.
std::string op_declared_in(std::string line) {
  if (line.starts_with("inline ")) line.erase(0, std::string("inline ").size());
  for (const std::string type :
       {"Var ", "std::vector<Var> ", "SelectiveScanResult ", "KroneckerFactors ",
        "FpMambaMixResult ", "LstmResult ", "SsdScanResult ", "DeltaRuleResult ", "MlstmResult ",
        "SlstmResult ", "ActResult "}) {
    if (!line.starts_with(type)) continue;
    const std::string rest = line.substr(type.size());
    const size_t length = rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_");
    if (length != std::string::npos && length > 0 && rest[length] == '(' &&
        !rest.substr(length).starts_with("(std::string_view op"))
      return rest.substr(0, length);
  }
  return "";
}

std::set<std::string> ops_in_headers() {
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(FPRNN_SOURCE_DIR "/ops")) {
    if (file.path().extension() != ".h") continue;
    std::ifstream lines(file.path());
    for (std::string line; std::getline(lines, line);)
      if (const std::string name = op_declared_in(line); !name.empty()) names.insert(name);
  }
  return names;
}

}  // namespace

TEST_CASE("op table: every public op is in it, and nothing else") {
  std::set<std::string> listed, refusing;
  for (const OpCase& entry : op_table().cases) listed.insert(entry.op);
  for (const ErrorCase& error : op_table().errors) refusing.insert(error.op);
  const std::set<std::string> declared = ops_in_headers();
  CHECK(declared.size() > 20);
  for (const std::string& op : declared)
    CHECK_MESSAGE(listed.count(op) == 1, "no cases for " << op);
  for (const std::string& op : listed) CHECK_MESSAGE(declared.count(op) == 1, "ops/ has no " << op);
  for (const std::string& op : refusing) CHECK_MESSAGE(listed.count(op) == 1, "ops/ has no " << op);
}

TEST_CASE("op table: forward equals the reference") {
  const Context context = test_context();
  Worst worst("forward");
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result result = run_case(context, entry, inputs);
    const Arrays truth = entry.reference(arrays_of(entry, inputs));
    const std::string name = name_of(entry);
    REQUIRE_MESSAGE(result.outputs.size() == truth.size(), name);
    for (size_t i = 0; i < truth.size(); ++i) {
      CHECK_MESSAGE(result.shapes[i] == truth[i].shape, name << ": " << describe(result.shapes[i])
                                                             << " is not "
                                                             << describe(truth[i].shape));
      check_close(name, result.outputs[i], truth[i].data, entry.forward_tolerance);
      worst.note(entry, relative_error(result.outputs[i], truth[i].data));
    }
  }
}

TEST_CASE("op table: gradients equal central differences of the reference") {
  const Context context = test_context();
  Worst worst("gradient");
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result result = run_case(context, entry, inputs);
    size_t asked = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!entry.inputs[i].differentiable) continue;
      const GradientError found =
          gradient_error(entry, inputs, result.seeds, i, result.gradients[asked++]);
      worst.note(entry, found.error);
      CHECK_MESSAGE(found.error <= entry.gradient_tolerance,
                    name_of(entry) << ", input " << i << ": error " << found.error << " > "
                                   << entry.gradient_tolerance << ", " << found.where);
    }
  }
}

TEST_CASE("op table: errors are typed and say what broke which rule") {
  const Context context = test_context();
  for (const ErrorCase& expected : op_table().errors) {
    const std::string name = expected.op + " '" + expected.fragment + "'";
    try {
      expected.call(context);
      context.synchronise();  // when a GPU throws what it found in values
      FAIL_CHECK(name << ": nothing was thrown");
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK_MESSAGE(typeid(error) == *expected.type, name << " threw another type: " << text);
      CHECK_MESSAGE(error.tag() == expected.tag, name << " has another tag: " << text);
      CHECK_MESSAGE(text.rfind("[" + expected.tag + "] ", 0) == 0, text);
      CHECK_MESSAGE(text.find(expected.fragment) != std::string::npos,
                    text << " lacks " << expected.fragment);
    }
  }
}

// On a GPU: nor does doing it again.
TEST_CASE("op table: the number of threads changes no bit") {
  const Context contexts[] = {context_with(1), context_with(2), context_with(3)};
  std::map<std::string, int64_t> largest;
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result one = run_case(contexts[0], entry, inputs);
    for (const Values& values : {inputs, one.outputs})
      for (const auto& value : values)
        largest[entry.op] = std::max(largest[entry.op], static_cast<int64_t>(value.size()));
    for (const Context& context : {contexts[1], contexts[2]}) {
      const Result other = run_case(context, entry, inputs);
      CHECK_MESSAGE(same_bits(one.outputs, other.outputs),
                    name_of(entry) << ", " << context.threads() << " threads");
      CHECK_MESSAGE(same_bits(one.gradients, other.gradients),
                    name_of(entry) << ", gradients, " << context.threads() << " threads");
    }
  }
  for (const auto& entry : largest)
    if (!small_only())
      CHECK_MESSAGE(entry.second > kGrain,
                    entry.first << " has no case large enough for several pieces");
}

namespace {

// The part of each tensor of shape (3, ...) that belongs to sequence b.
std::vector<real> sequence_of(const std::vector<real>& values, size_t b) {
  const size_t length = values.size() / 3;
  return {values.begin() + b * length, values.begin() + (b + 1) * length};
}

void check_alone(const Context& context, const OpCase& entry, const Values& inputs,
                 const Result& together, size_t b) {
  OpCase alone = entry;
  Values own_inputs = inputs, own_seeds = together.seeds;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!entry.inputs[i].batched) continue;
    alone.inputs[i].shape = entry.inputs[i].shape.with(0, 1);
    own_inputs[i] = sequence_of(inputs[i], b);
  }
  for (auto& seed : own_seeds) seed = sequence_of(seed, b);
  const Result result = run_case(context, alone, own_inputs, own_seeds);
  for (size_t i = 0; i < result.outputs.size(); ++i)
    check_same_alone(fmt::format("{}, output {} of sequence {}", name_of(entry), i, b),
                     result.outputs[i], sequence_of(together.outputs[i], b));
  size_t asked = 0;
  for (const Input& input : entry.inputs) {
    if (!input.differentiable) continue;
    if (input.batched)
      check_same_alone(fmt::format("{}, gradient {} of sequence {}", name_of(entry), asked, b),
                       result.gradients[asked], sequence_of(together.gradients[asked], b));
    ++asked;
  }
}

}  // namespace

// Bit for bit on the CPU (run_case.h).
TEST_CASE("op table: a sequence alone equals the same in a batch of three") {
  const Context context = test_context();
  std::set<std::string> checked;
  for (const OpCase& entry : op_table().cases) {
    const auto batched = std::ranges::find_if(entry.inputs, &Input::batched);
    if (batched == entry.inputs.end() || batched->shape[0] != 3) continue;
    checked.insert(entry.op);
    const Values inputs = draw_inputs(entry);
    const Result together = run_case(context, entry, inputs);
    for (size_t b = 0; b < 3; ++b) check_alone(context, entry, inputs, together, b);
  }
  for (const std::string op :
       {"matmul", "batched_matmul", "linear", "layer_norm", "rms_norm", "l2_normalize", "scan",
        "selective_scan", "causal_conv", "householder", "dplr", "kronecker", "exp", "add"})
    if (!small_only()) CHECK_MESSAGE(checked.count(op) == 1, op << " has no batch of three");
}

TEST_CASE("op table: inputs, seeds and outputs are never modified") {
  const Context context = test_context();
  for (const OpCase& entry : op_table().cases)
    CHECK_MESSAGE(run_case(context, entry, draw_inputs(entry)).unchanged, name_of(entry));
}

namespace {

// The op between two copies: when its gradient is computed nobody but the op holds its inputs and
// outputs, and what was freed has been handed out again and is NaN.
Vars with_nothing_kept(const OpCase& entry, const Vars& inputs) {
  const auto copies = [](const Vars& from) {
    Vars to;
    for (const Var& x : from) to.push_back(affine(x, 1, 0));
    return to;
  };
  const Vars outputs = copies(entry.apply(copies(inputs)));
  std::vector<Tensor> others;
  for (const Vars& all : {inputs, outputs})
    for (const Var& x : all)
      for (int i = 0; i < 4; ++i)
        others.push_back(full(x.context(), x.shape(), std::numeric_limits<real>::quiet_NaN()));
  return outputs;
}

}  // namespace

TEST_CASE("op table: a gradient reads only what its op holds") {
  const Context context = test_context();
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    OpCase alone = entry;
    alone.apply = [&](const Vars& x) { return with_nothing_kept(entry, x); };
    CHECK_MESSAGE(same_bits(run_case(context, alone, inputs).gradients,
                            run_case(context, entry, inputs).gradients),
                  name_of(entry));
  }
}

// What an op skips because nobody asked must not change the rest.
TEST_CASE("op table: one gradient alone equals the same among all") {
  const Context context = test_context();
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result all = run_case(context, entry, inputs);
    OpCase none = entry;
    for (Input& input : none.inputs) input.differentiable = false;
    Vars plain;
    for (size_t i = 0; i < inputs.size(); ++i)
      plain.emplace_back(Tensor(context, entry.inputs[i].shape, inputs[i]));
    const Vars unrecorded = entry.apply(plain);
    for (size_t i = 0; i < unrecorded.size(); ++i) {
      CHECK_MESSAGE(!unrecorded[i].differentiable(), name_of(entry));
      CHECK_MESSAGE(same_bits(unrecorded[i].value().to_vector(), all.outputs[i]),
                    name_of(entry) << ", unrecorded");
    }
    size_t asked = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!entry.inputs[i].differentiable) continue;
      OpCase one = none;
      one.inputs[i].differentiable = true;
      const Result result = run_case(context, one, inputs, all.seeds);
      CHECK_MESSAGE(same_bits(result.gradients[0], all.gradients[asked++]), name_of(entry)
                                                                                << ", input " << i);
    }
  }
}

// Rows of which one number is none, beside sound ones: max(|x|, eps) is NaN.
TEST_CASE("ops: a row with a NaN has no length, and none of its numbers is one") {
  const Context context = test_context();
  constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
  constexpr int64_t kD = 4, kTriangles = 6;  // two factors of 2 by 2
  const auto all_nan = [](const std::vector<real>& values, size_t begin, size_t end) {
    return std::all_of(values.begin() + begin, values.begin() + end,
                       [](real x) { return std::isnan(x); });
  };
  const Tensor x(context, {2, 2}, std::vector<real>{3, 4, 3, kNan});
  Tape tape(context);
  const Var v = tape.variable(x), y = l2_normalize(v, real(1e-6));
  const std::vector<real> n = y.value().to_vector();
  CHECK(std::abs(n[0] - real(0.6)) < real(1e-6));
  CHECK(all_nan(n, 2, 4));
  CHECK(all_nan(tape.vjp({y}, {full(context, {2, 2}, 1)}, {v})[0].to_vector(), 2, 4));

  // E = (1, NaN; 0, 1) makes every row of E E^T a row with a NaN.
  const Tensor k(context, {1, kTriangles}, std::vector<real>{1, kNan, 1, 1, 0, 1});
  for (const KroneckerNorm norm : {KroneckerNorm::row, KroneckerNorm::spectral}) {
    const KroneckerFactors factors =
        kronecker_factors(k, full(context, {1, 4}, 1), kD, norm, real(1e-6));
    CHECK(all_nan(factors.left.value().to_vector(), 0, 4));
    CHECK(!all_nan(factors.right.value().to_vector(), 0, 1));
  }
}

}  // namespace fprnn::tests
