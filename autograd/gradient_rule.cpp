#include <fmt/format.h>
#include <fprnn/autograd/gradient_rule.h>
#include <fprnn/core/check.h>

#include <charconv>

namespace fprnn {

GradientRule gradient_named(std::string_view name) {
  GradientRule rule;
  if (name == "one-step") return rule;
  if (name == "exact") {
    rule.kind = GradientRule::Kind::exact;
    return rule;
  }
  rule.kind = GradientRule::Kind::neumann;
  constexpr std::string_view kPrefix = "neumann:";
  const bool prefixed = name.starts_with(kPrefix);
  const char *first = name.data() + (prefixed ? kPrefix.size() : 0),
             *last = name.data() + name.size();
  const auto [end, error] = std::from_chars(first, last, rule.terms);
  constexpr int64_t kMostTerms = 10'000;
  require<ValueError>(prefixed && error == std::errc() && end == last && rule.terms >= 0 &&
                          rule.terms <= kMostTerms,
                      "fixed_point", "gradients are one-step, neumann:K up to 10,000, and exact",
                      name);
  return rule;
}

std::string name_of(const GradientRule& rule) {
  switch (rule.kind) {
    case GradientRule::Kind::one_step:
      return "one-step";
    case GradientRule::Kind::neumann:
      return fmt::format("neumann:{}", rule.terms);
    case GradientRule::Kind::exact:
      break;
  }
  return "exact";
}

}  // namespace fprnn
