#include <fprnn/autograd/tape.h>
#include <fprnn/core/vector.h>

#include <algorithm>

namespace fprnn {

// The cotangents of one walk, by variable number.
struct Backward::Table {
  const std::vector<Shape>& shapes;
  std::vector<Tensor> cotangents;
  std::vector<char> wanted;  // whether any asked-for input can be reached from the variable
  std::vector<char> asked;   // whether it is one of those inputs, and so to be kept

  explicit Table(const std::vector<Shape>& shapes)
      : shapes(shapes), cotangents(shapes.size()), wanted(shapes.size()), asked(shapes.size()) {}

  void ask(int id) { wanted[id] = asked[id] = 1; }

  void accumulate(int id, Tensor gift) {
    require(gift.shape() == shapes[id], "tape", "a cotangent must have its variable's shape",
            gift.shape(), shapes[id]);
    Tensor& sum = cotangents[id];
    if (!sum.defined()) {
      sum = std::move(gift);
    } else {
      if (!sum.unique()) sum = clone(sum);
      add_in_place(sum, gift);
    }
  }
};

bool Backward::has(int output) const {
  return table_.cotangents[node_.first_output + output].defined();
}

const Tensor& Backward::output(int output) {
  const int id = node_.first_output + output;
  Tensor& cotangent = table_.cotangents[id];
  // Only a node with several outputs comes here with one of them missing.
  for (int i = 0; !cotangent.defined() && i < node_.outputs; ++i)
    if (has(i))
      cotangent = zeros(table_.cotangents[node_.first_output + i].context(), table_.shapes[id]);
  return cotangent;
}

bool Backward::wants(int input) const {
  const int id = node_.inputs[input];
  return id >= 0 && table_.wanted[id];
}

void Backward::give(int input, Tensor cotangent) {
  if (wants(input)) table_.accumulate(node_.inputs[input], std::move(cotangent));
}

Tensor Backward::given(int input) const {
  if (!wants(input)) return {};
  const Tensor& sum = table_.cotangents[node_.inputs[input]];
  return sum.defined() && sum.unique() ? sum : Tensor();
}

Var Tape::variable(Tensor value) {
  if (!recording_) return constant(std::move(value));
  shapes_.push_back(value.shape());
  return Var(std::move(value), this, static_cast<int>(shapes_.size()) - 1);
}

Var Tape::leaf(Parameter& parameter) {
  if (!recording_) return constant(parameter.value);
  const auto [found, fresh] = leaf_index_.try_emplace(&parameter, shapes_.size());
  if (fresh) {
    shapes_.push_back(parameter.value.shape());
    leaves_.emplace_back(&parameter, found->second);
  }
  return Var(parameter.value, this, found->second);
}

std::vector<Var> Tape::append(const std::vector<Var>& inputs, std::vector<Tensor> outputs,
                              std::function<void(Backward&)> gradient) {
  TapeNode node;
  for (const Var& input : inputs) node.inputs.push_back(input.id());
  node.first_output = static_cast<int>(shapes_.size());
  node.outputs = static_cast<int>(outputs.size());
  node.gradient = std::move(gradient);
  nodes_.push_back(std::move(node));
  std::vector<Var> vars;
  for (Tensor& output : outputs) vars.push_back(variable(std::move(output)));
  return vars;
}

template <class Visited>
void Tape::walk(Backward::Table& table, const Visited& visited) const {
  const auto reaches = [&](const TapeNode& node) {
    return std::ranges::any_of(node.inputs, [&](int id) { return id >= 0 && table.wanted[id]; });
  };
  for (const TapeNode& node : nodes_)
    if (reaches(node)) std::fill_n(table.wanted.begin() + node.first_output, node.outputs, char{1});

  for (int i = static_cast<int>(nodes_.size()) - 1; i >= 0; --i) {
    const TapeNode& node = nodes_[i];
    Backward backward(table, node);
    bool reached = false;
    for (int output = 0; output < node.outputs; ++output) reached |= backward.has(output);
    if (reached && reaches(node)) node.gradient(backward);
    for (int id = node.first_output; id < node.first_output + node.outputs; ++id)
      if (!table.asked[id]) table.cotangents[id] = Tensor();
    visited(i);
  }
}

std::vector<Tensor> Tape::vjp(const std::vector<Var>& outputs, const std::vector<Tensor>& seeds,
                              const std::vector<Var>& inputs) const {
  require(outputs.size() == seeds.size(), "vjp", "there must be one seed for each output",
          outputs.size(), seeds.size());
  Backward::Table table(shapes_);
  for (const Var& input : inputs) {
    require<UsageError>(input.tape() == this && input.differentiable(), "vjp",
                        "inputs must be variables of this tape");
    table.ask(input.id());
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    require<UsageError>(outputs[i].tape() == this, "vjp", "outputs must be of this tape");
    require(outputs[i].shape() == seeds[i].shape(), "vjp", "a seed must have its output's shape",
            outputs[i].shape(), seeds[i].shape());
    if (outputs[i].differentiable()) table.accumulate(outputs[i].id(), seeds[i]);
  }
  walk(table, [](int) {});
  std::vector<Tensor> cotangents;
  for (const Var& input : inputs) {
    const Tensor& cotangent = table.cotangents[input.id()];
    cotangents.push_back(cotangent.defined() ? cotangent : zeros(context_, input.shape()));
  }
  return cotangents;
}

void Tape::backward(const Var& loss) {
  require<UsageError>(loss.tape() == this && loss.differentiable(), "backward",
                      "the loss must have been recorded on this tape");
  require(loss.elements() == 1, "backward", "the loss must be one element", loss.shape());
  Backward::Table table(shapes_);
  for (const auto& [parameter, id] : leaves_) table.ask(id);
  table.accumulate(loss.id(), full(context_, loss.shape(), 1));
  walk(table, [&](int node) { nodes_[node].gradient = nullptr; });
  for (const auto& [parameter, id] : leaves_) {
    Tensor& cotangent = table.cotangents[id];
    if (!cotangent.defined()) continue;
    if (!parameter->gradient.defined()) {
      parameter->gradient = std::move(cotangent);
    } else {
      if (!parameter->gradient.unique()) parameter->gradient = clone(parameter->gradient);
      add_in_place(parameter->gradient, cotangent);
    }
  }
  nodes_.clear();
  shapes_.clear();
  leaves_.clear();
  leaf_index_.clear();
}

std::vector<Var> record_all(std::string_view op, const std::vector<Var>& inputs,
                            std::vector<Tensor> outputs, std::function<void(Backward&)> gradient) {
  Tape* tape = nullptr;
  bool differentiable = false;
  for (const Var& input : inputs) {
    if (!input.defined()) continue;
    require<UsageError>(input.context() == outputs.front().context(), op,
                        "inputs must be in one Context");
    differentiable |= input.differentiable();
    if (input.tape() == nullptr) continue;
    require<UsageError>(tape == nullptr || tape == input.tape(), op, "inputs must be on one tape");
    tape = input.tape();
  }
  if (differentiable) return tape->append(inputs, std::move(outputs), std::move(gradient));
  std::vector<Var> vars;
  for (Tensor& output : outputs) vars.emplace_back(std::move(output), tape);
  return vars;
}

Var record(std::string_view op, const std::vector<Var>& inputs, Tensor output,
           std::function<void(Backward&)> gradient) {
  return record_all(op, inputs, {std::move(output)}, std::move(gradient)).front();
}

}  // namespace fprnn
