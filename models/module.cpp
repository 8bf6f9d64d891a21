#include <fprnn/models/module.h>

#include <algorithm>

namespace fprnn {

void check_sizes(std::string_view model, std::initializer_list<int64_t> sizes) {
  for (const int64_t size : sizes)
    require<ValueError>(size >= 1 && size <= kMaxSize, model, "sizes must be 1 to 2^20", size);
}

Module::Module(Module& parent, std::string name) : parent_(&parent) {
  parent.children_.emplace_back(std::move(name), this);
}

Module::~Module() {
  for (const auto& [name, child] : children_) child->parent_ = nullptr;
  if (parent_ != nullptr)
    std::erase_if(parent_->children_, [this](const auto& child) { return child.second == this; });
}

Parameter& Module::add_parameter(std::string name, Tensor value, Decay decay) {
  own_.push_back(std::make_unique<Parameter>(
      Parameter{std::move(name), std::move(value), {}, decay == Decay::yes}));
  return *own_.back();
}

void Module::collect(const std::string& prefix, std::vector<NamedParameter>& into) {
  for (const auto& parameter : own_) into.push_back({prefix + parameter->name, parameter.get()});
  for (const auto& [name, child] : children_) child->collect(prefix + name + ".", into);
}

std::vector<NamedParameter> Module::parameters() {
  std::vector<NamedParameter> all;
  collect("", all);
  return all;
}

Parameter& Module::parameter(std::string_view path) {
  for (const auto& [name, parameter] : parameters())
    if (name == path) return *parameter;
  throw ValueError("module", "the parameter must exist", std::array{describe(path)});
}

int64_t Module::parameter_count() {
  int64_t count = 0;
  for (const auto& [path, parameter] : parameters()) count += parameter->value.elements();
  return count;
}

}  // namespace fprnn
