// The SSD scan, with its kernels and by parts.
#include "context.h"
#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, H, P, G, N;
};
struct Options {
  bool skip, channel_skip, dt_bias, h0, softplus = true, negative = false, limits = false;
};
constexpr Options kNone{false, false, false, false}, kAll{true, false, true, true},
    kChannels{true, true, false, true, false}, kNegative{true, false, true, true, true, true},
    kLimits{false, false, true, true, true, false, true};

std::string text_of(const Options& with) {
  return std::string(with.skip ? "skip " : "") + (with.channel_skip ? "of channels " : "") +
         (with.dt_bias ? "dt_bias " : "") + (with.h0 ? "h0 " : "") +
         (with.softplus ? "" : "no softplus ") + (with.negative ? "negative " : "") +
         (with.limits ? "limits " : "");
}

std::vector<Input> inputs_of(const Sizes& of, const Options& with) {
  std::vector<Input> inputs{{{of.B, of.T, of.H, of.P}, -1, 1, true},
                            {{of.B, of.T, of.H}, with.softplus ? -3.0 : 0.1, 1, true},
                            {{of.H}, -2, -0.1},
                            {{of.B, of.T, of.G, of.N}, -1, 1, true},
                            {{of.B, of.T, of.G, of.N}, -1, 1, true}};
  if (with.skip) inputs.push_back({with.channel_skip ? Shape{of.H, of.P} : Shape{of.H}});
  if (with.dt_bias) inputs.push_back({{of.H}, 0, 0.5});
  if (with.h0) inputs.push_back({{of.B, of.H, of.P, of.N}, -1, 1, true});
  return inputs;
}

// Optional inputs follow the others.
template <class X, class Absent>
auto optional(const std::vector<X>& x, size_t i, bool there, const Absent& of) {
  return there ? of(x[i]) : decltype(of(x[i])){};
}

void add_case(OpCases& cases, const Sizes& of, const Options& with, bool by_parts) {
  const size_t bias = 5 + with.skip, h0 = bias + with.dt_bias;
  constexpr double kMin = 0.2, kMax = 0.9;
  OpCase entry;
  entry.op = by_parts ? "ssd_scan_by_parts" : "ssd_scan";
  entry.variation = text_of(with);
  entry.inputs = inputs_of(of, with);
  entry.gradient_floor =
      of.T == 1 ? 0.01 : 0;  // a alone decays h0: without one its gradient is zero
  entry.apply = [=](const Vars& x) {
    const auto itself = [](const Var& v) { return v; };
    SsdScanInputs in{.x = x[0],
                     .dt = x[1],
                     .a = x[2],
                     .b = x[3],
                     .c = x[4],
                     .skip = optional(x, 5, with.skip, itself),
                     .dt_bias = optional(x, bias, with.dt_bias, itself),
                     .h0 = optional(x, h0, with.h0, itself),
                     .softplus = with.softplus,
                     .negative = with.negative};
    if (with.limits) {
      in.dt_min = static_cast<real>(kMin);
      in.dt_max = static_cast<real>(kMax);
    }
    const SsdScanResult result = by_parts ? ssd_scan_by_parts(in) : ssd_scan(in);
    return Vars{result.y, result.state};
  };
  entry.reference = [=](const Arrays& x) {
    const auto address = [](const Array& a) { return &a; };
    reference::SsdScan in{.x = &x[0],
                          .dt = &x[1],
                          .a = &x[2],
                          .b = &x[3],
                          .c = &x[4],
                          .skip = optional(x, 5, with.skip, address),
                          .dt_bias = optional(x, bias, with.dt_bias, address),
                          .h0 = optional(x, h0, with.h0, address),
                          .softplus = with.softplus,
                          .negative = with.negative};
    if (with.limits) {
      in.dt_min = kMin;
      in.dt_max = kMax;
    }
    const auto result = reference::ssd_scan(in);
    return Arrays{result.first, result.second};
  };
  cases.push_back(std::move(entry));
}

SsdScanInputs valid(const Context& c) {
  return {.x = tensor(c, {2, 5, 4, 3}),
          .dt = tensor(c, {2, 5, 4}),
          .a = tensor(c, {4}),
          .b = tensor(c, {2, 5, 2, 6}),
          .c = tensor(c, {2, 5, 2, 6})};
}

// Valid inputs but for what `spoil` does to them.
template <class Error, class Spoil>
void refuse(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<Error>("ssd_scan", fragment, [=](const Context& c) {
    SsdScanInputs in = valid(c);
    spoil(in, c);
    ssd_scan(in);
  }));
}

void add_errors(ErrorCases& errors) {
  using In = SsdScanInputs;
  const auto shape = [&](const std::string& fragment, auto spoil) {
    refuse<ShapeError>(errors, fragment, spoil);
  };
  shape("(B, T, H, P), got (2, 5, 4)", [](In& in, const Context& c) {
    in.x = tensor(c, {2, 5, 4});
  });
  shape("N >= 1: b and x, got (2, 5, 2, 0)", [](In& in, const Context& c) {
    in.b = in.c = tensor(c, {2, 5, 2, 0});
  });
  shape("N >= 1: b and x, got (2, 6, 2, 6)", [](In& in, const Context& c) {
    in.b = in.c = tensor(c, {2, 6, 2, 6});
  });
  shape("same shape, got (2, 5, 2, 6) and (2, 5, 2, 5)", [](In& in, const Context& c) {
    in.c = tensor(c, {2, 5, 2, 5});
  });
  for (const int64_t G : {0, 3})
    shape("divide the heads of x, got " + std::to_string(G) + " and 4",
          [G](In& in, const Context& c) {
            in.b = in.c = tensor(c, {2, 5, G, 6});
          });
  shape("dt must be (B, T, H), got (2, 5, 3)", [](In& in, const Context& c) {
    in.dt = tensor(c, {2, 5, 3});
  });
  shape("a must be (H), got (4, 1)", [](In& in, const Context& c) { in.a = tensor(c, {4, 1}); });
  shape("(H) or (H, P), got (3)", [](In& in, const Context& c) { in.skip = tensor(c, {3}); });
  shape("dt_bias must be (H), got (1)",
        [](In& in, const Context& c) { in.dt_bias = tensor(c, {1}); });
  shape("(B, H, P, N), got (2, 4, 6, 3)", [](In& in, const Context& c) {
    in.h0 = tensor(c, {2, 4, 6, 3});
  });
  refuse<ValueError>(errors, "must not be above dt_max, got 2 and 1", [](In& in, const Context&) {
    in.dt_min = 2;
    in.dt_max = 1;
  });
  errors.push_back(refuses<UsageError>(
      "ssd_scan_by_parts", "no limits of dt, got 0.5",
      [](const Context& c) {
        SsdScanInputs in = valid(c);
        in.dt_min = real(0.5);
        ssd_scan_by_parts(in);
      },
      "ssd_scan"));
}

}  // namespace

void add_ssd_scans(OpCases& cases, ErrorCases& errors) {
  // Those with many states go by chunks, others step by step.
  const Sizes small[] = {{1, 1, 1, 1, 1, 1},   {2, 3, 4, 3, 2, 5}, {2, 5, 3, 17, 3, 4},
                         {2, 2, 9, 2, 1, 3},   {2, 0, 2, 3, 1, 2}, {0, 2, 2, 3, 1, 2},
                         {2, 1, 2, 16, 1, 16}, {2, 9, 4, 9, 2, 33}};
  const Sizes larger[] = {{1, 63, 2, 5, 1, 3},   {2, 64, 1, 3, 1, 9},   {2, 65, 4, 2, 2, 2},
                          {1, 130, 2, 16, 1, 4}, {1, 200, 9, 3, 1, 8},  {1, 70, 1, 33, 1, 17},
                          {1, 64, 2, 40, 1, 64}, {2, 65, 3, 33, 3, 70}, {1, 33, 2, 64, 2, 127},
                          {1, 34, 2, 65, 1, 3},  {1, 34, 1, 3, 1, 129}, {1, 130, 9, 64, 1, 33}};
  for (const bool by_parts : {false, true})
    for (const Options& with : {kNone, kAll, kChannels, kNegative, kLimits}) {
      if (on_gpu() && kDouble && with.limits) continue;  // its kernel's alone, which is for floats
      if (by_parts && with.limits) continue;
      for (const Sizes& of : small) add_case(cases, of, with, by_parts);
      if (with.limits) continue;
      if (by_parts) add_case(cases, larger[std::size(larger) - 1], with, by_parts);
      for (const Sizes& of : larger)
        if (!by_parts) add_case(cases, of, with, by_parts);
    }
  add_errors(errors);
}

}  // namespace fprnn::tests
