#include <fprnn/autograd/tape.h>
#include <fprnn/core/vector.h>

#include <algorithm>
#include <utility>

namespace fprnn {

// The cotangents of one walk, by place on the tape.
struct Backward::Table {
  const std::vector<Shape>& shapes;
  std::vector<Tensor> cotangents;
  std::vector<char> wanted;  // whether any asked-for input can be reached from the variable
  std::vector<char> asked;   // whether it is one of those inputs, and so to be kept

  explicit Table(const std::vector<Shape>& shapes)
      : shapes(shapes), cotangents(shapes.size()), wanted(shapes.size()), asked(shapes.size()) {}

  void ask(int place) { wanted[place] = asked[place] = 1; }

  void accumulate(int place, Tensor gift) {
    require<UsageError>(gift.defined(), "tape", "a cotangent must not be an empty tensor");
    require(gift.shape() == shapes[place], "tape", "a cotangent must have its variable's shape",
            gift.shape(), shapes[place]);
    Tensor& sum = cotangents[place];
    if (!sum.defined()) {
      sum = std::move(gift);
    } else {
      if (!sum.unique()) sum = clone(sum);
      add_in_place(sum, gift);
    }
  }
};

int Backward::input_at(int input) const {
  const auto inputs = static_cast<int>(node_.inputs.size());
  require<UsageError>(input >= 0 && input < inputs, "tape",
                      "a gradient must name an input of its op: name, inputs", input, inputs);
  return node_.inputs[input];
}

int Backward::output_at(int output) const {
  require<UsageError>(output >= 0 && output < node_.outputs, "tape",
                      "a gradient must name an output of its op: name, outputs", output,
                      node_.outputs);
  return node_.first_output + output;
}

bool Backward::has(int output) const { return table_.cotangents[output_at(output)].defined(); }

const Tensor& Backward::output(int output) {
  const int place = output_at(output);
  Tensor& cotangent = table_.cotangents[place];
  // Only a node with several outputs comes here with one of them missing.
  for (int i = 0; !cotangent.defined() && i < node_.outputs; ++i)
    if (has(i))
      cotangent = zeros(table_.cotangents[node_.first_output + i].context(), table_.shapes[place]);
  return cotangent;
}

bool Backward::wants(int input) const {
  const int place = input_at(input);
  return place >= 0 && table_.wanted[place];
}

void Backward::accumulate(int input, Tensor cotangent) {
  const int place = input_at(input);
  if (place >= 0 && table_.wanted[place]) table_.accumulate(place, std::move(cotangent));
}

Tensor Backward::given(int input) const {
  if (!wants(input)) return {};
  const Tensor& sum = table_.cotangents[input_at(input)];
  return sum.defined() && sum.unique() ? sum : Tensor();
}

Var Tape::variable(Tensor value) {
  if (!recording_) return constant(std::move(value));
  shapes_.push_back(value.shape());
  return var_at(std::move(value), static_cast<int>(shapes_.size()) - 1);
}

Var Tape::leaf(Parameter& parameter) {
  if (!recording_) return constant(parameter.value);
  const auto [found, fresh] = leaf_index_.try_emplace(&parameter, shapes_.size());
  if (fresh) {
    shapes_.push_back(parameter.value.shape());
    leaves_.emplace_back(&parameter, found->second);
  }
  return var_at(parameter.value, found->second);
}

int Tape::place_of(std::string_view op, const Var& x) const {
  if (!x.differentiable()) return -1;
  require<UsageError>(x.context() == context_, op, "a variable must be of the tape's Context");
  const int64_t place = x.id() - first_;
  require<UsageError>(place >= 0 && place < std::ssize(shapes_), op,
                      "a variable of before the tape's last backward has no history any more; its "
                      "value can be used: tape.constant(x.value())");
  return static_cast<int>(place);
}

std::vector<Var> Tape::append(std::string_view op, const std::vector<Var>& inputs,
                              std::vector<Tensor> outputs,
                              std::function<void(Backward&)> gradient) {
  TapeNode node;
  for (const Var& input : inputs) node.inputs.push_back(place_of(op, input));
  node.first_output = static_cast<int>(shapes_.size());
  node.outputs = static_cast<int>(outputs.size());
  node.gradient = std::move(gradient);
  nodes_.push_back(std::move(node));
  std::vector<Var> vars;
  for (Tensor& output : outputs) vars.push_back(variable(std::move(output)));
  return vars;
}

template <class Nodes, class Visited>
void Tape::walk(Nodes& nodes, Backward::Table& table, const Visited& visited) {
  const auto reaches = [&](const TapeNode& node) {
    return std::ranges::any_of(node.inputs, [&](int at) { return at >= 0 && table.wanted[at]; });
  };
  for (const TapeNode& node : nodes)
    if (reaches(node)) std::fill_n(table.wanted.begin() + node.first_output, node.outputs, char{1});

  // By number: a gradient may append nodes meanwhile.
  for (auto i = std::ssize(nodes) - 1; i >= 0; --i) {
    auto& node = nodes[i];
    const int begin = node.first_output, end = begin + node.outputs;
    bool reached = false;
    for (int at = begin; at < end; ++at) reached |= table.cotangents[at].defined();
    if (reached && reaches(node)) {
      Backward backward(table, node);
      node.gradient(backward);
    }
    for (int at = begin; at < end; ++at)
      if (!table.asked[at]) table.cotangents[at] = Tensor();
    visited(node);
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
    table.ask(place_of("vjp", input));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    require<UsageError>(outputs[i].tape() == this || outputs[i].tape() == nullptr, "vjp",
                        "outputs must be of this tape");
    require(outputs[i].shape() == seeds[i].shape(), "vjp", "a seed must have its output's shape",
            outputs[i].shape(), seeds[i].shape());
    const int place = place_of("vjp", outputs[i]);
    if (place >= 0) table.accumulate(place, seeds[i]);
  }
  walk(nodes_, table, [](const TapeNode&) {});
  std::vector<Tensor> cotangents;
  for (const Var& input : inputs) {
    const Tensor& cotangent = table.cotangents[place_of("vjp", input)];
    cotangents.push_back(cotangent.defined() ? cotangent : zeros(context_, input.shape()));
  }
  return cotangents;
}

void Tape::backward(const Var& loss) {
  require<UsageError>(loss.tape() == this && loss.differentiable(), "backward",
                      "the loss must have been recorded on this tape");
  const int place = place_of("backward", loss);
  require(loss.elements() == 1, "backward", "the loss must be one element", loss.shape());
  // Whatever becomes of the walk, the tape is empty from here on.
  const std::vector<Shape> shapes = std::exchange(shapes_, {});
  std::deque<TapeNode> nodes = std::exchange(nodes_, {});
  const auto leaves = std::exchange(leaves_, {});
  leaf_index_.clear();
  first_ = next_first();

  Backward::Table table(shapes);
  for (const auto& [parameter, at] : leaves) table.ask(at);
  table.accumulate(place, full(context_, loss.shape(), 1));
  walk(nodes, table, [](TapeNode& node) { node.gradient = nullptr; });
  for (const auto& [parameter, at] : leaves) {
    Tensor& cotangent = table.cotangents[at];
    if (!cotangent.defined()) continue;
    if (!parameter->gradient.defined()) {
      parameter->gradient = std::move(cotangent);
    } else {
      if (!parameter->gradient.unique()) parameter->gradient = clone(parameter->gradient);
      add_in_place(parameter->gradient, cotangent);
    }
  }
}

std::vector<Var> record_all(std::string_view op, const std::vector<Var>& inputs,
                            std::vector<Tensor> outputs, std::function<void(Backward&)> gradient) {
  require<UsageError>(!outputs.empty(), op, "an op must have an output");
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
  if (differentiable) return tape->append(op, inputs, std::move(outputs), std::move(gradient));
  std::vector<Var> vars;
  for (Tensor& output : outputs) vars.emplace_back(std::move(output), tape);
  return vars;
}

Var record(std::string_view op, const std::vector<Var>& inputs, Tensor output,
           std::function<void(Backward&)> gradient) {
  return record_all(op, inputs, {std::move(output)}, std::move(gradient)).front();
}

}  // namespace fprnn
