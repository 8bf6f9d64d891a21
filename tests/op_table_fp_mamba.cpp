// The parts of FP-Mamba that are one kernel on a GPU.
#include <fprnn/models/mixer.h>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, D, N;
};
struct Mix {
  MixerKind kind;
  int64_t rank;
  int64_t padding = 0, behind = 0;  // numbers of p that nothing is made of, before b and behind c
  bool projected_y = true, projected_previous = true, bc_norm = true;
  double eps = 1e-5;
};

SweepMixer mixer_of(const Mix& mix, int64_t D) {
  const auto [m1, m2] = kronecker_sizes(std::max<int64_t>(D, 1));  // of no use if D is 0
  return {.rank = mix.kind == MixerKind::kronecker ? 0 : mix.rank,
          .in_order = mix.kind == MixerKind::householder,
          .scale = real(1.5),
          .norm = KroneckerNorm::row,
          .m1 = m1,
          .m2 = m2};
}
int64_t outputs_of(const Mix& mix, int64_t D) {
  const auto [m1, m2] = kronecker_sizes(std::max<int64_t>(D, 1));  // of no use if D is 0
  return mix.kind == MixerKind::kronecker ? kronecker_sizes(D).triangles() + m1 + m2
                                          : mix.rank * (D + 1);
}

Array mixed(const Mix& mix, const Array& p, const Array& v, double eps) {
  const int64_t D = v.shape[-1], outputs = outputs_of(mix, D);
  const auto [m1, m2] = kronecker_sizes(std::max<int64_t>(D, 1));  // of no use if D is 0
  const int64_t split = outputs - (mix.kind == MixerKind::kronecker ? m1 + m2 : mix.rank);
  const Array first = reference::silu(reference::slice(p, -1, 0, split));
  const Array second = reference::sigmoid(reference::slice(p, -1, split, outputs));
  if (mix.kind == MixerKind::kronecker) {
    const auto [left, right] =
        reference::kronecker_factors(first, second, m1, m2, {true, false}, eps);
    return reference::kronecker(left, right, v, 1.5);
  }
  const Array u = reference::l2_normalize(
      reference::reshape(first, p.shape.with(-1, mix.rank).appended(D)), eps);
  return mix.kind == MixerKind::dplr ? reference::dplr(u, second, v, 1.5)
                                     : reference::householder(u, second, v, 1.5);
}

// Inputs: projected, x, y and, where they are, projected_y and projected_previous.
Arrays mix_reference(const Mix& mix, const Sizes& size, const Arrays& in) {
  const double eps = real(mix.eps);
  const Array none(in[0].shape);
  const Array& projected_y = mix.projected_y ? in[3] : none;
  const Array* first = mix.projected_previous ? &in[mix.projected_y ? 4 : 3] : nullptr;
  const Array p = reference::add(in[0], reference::shift(projected_y, first));
  const int64_t begin = outputs_of(mix, size.D) + mix.padding;
  const auto direction = [&](int64_t at) {
    const Array part = reference::slice(p, -1, at, at + size.N);
    return mix.bc_norm ? reference::l2_normalize(part, eps) : part;
  };
  return {reference::add(mixed(mix, p, reference::sub(in[1], in[2]), eps), in[2]), direction(begin),
          direction(begin + size.N)};
}

// p stays above 0.1, which keeps lengths away from 0.
void add_mix(OpCases& cases, const Sizes& size, const Mix& mix) {
  const auto [B, T, D, N] = size;
  const int64_t begin = outputs_of(mix, D) + mix.padding, P = begin + 2 * N + mix.behind;
  std::vector<Input> inputs{
      {{B, T, P}, 0.4, 1.4, true}, {{B, T, D}, -1, 1, true}, {{B, T, D}, -1, 1, true}};
  if (mix.projected_y) inputs.push_back({{B, T, P}, -0.3, 0.3, true});
  if (mix.projected_previous) inputs.push_back({{B, P}, -0.3, 0.3, true});
  cases.push_back(
      {.op = "fp_mamba_mix",
       .variation = std::string(name_of(mix.kind)) + " " + describe(mix.rank) +
                    (mix.bc_norm ? "" : " plain") + " eps " + describe(mix.eps),
       .inputs = inputs,
       .apply =
           [=, N = N, D = D](const Vars& v) {
             const auto [mixed, b, c] = fp_mamba_mix(
                 {.projected = v[0],
                  .projected_y = mix.projected_y ? v[3] : Var(),
                  .projected_previous = mix.projected_previous ? v[mix.projected_y ? 4 : 3] : Var(),
                  .x = v[1],
                  .y = v[2],
                  .mixer = mixer_of(mix, D),
                  .N = N,
                  .bc_offset = begin,
                  .bc_norm = mix.bc_norm,
                  .eps = real(mix.eps)});
             return Vars{mixed, b, c};
           },
       .reference = [=](const Arrays& in) { return mix_reference(mix, size, in); }});
}

void add_mixes(OpCases& cases) {
  const MixerKind kinds[] = {MixerKind::householder, MixerKind::dplr};
  for (const MixerKind kind : kinds) {
    for (const int64_t rank : {1, 2, 3, 4})
      for (const auto& [projected_y, projected_previous] :
           {std::pair{true, true}, {true, false}, {false, true}, {false, false}})
        add_mix(cases, {3, 3, 4, 2},
                {.kind = kind,
                 .rank = rank,
                 .projected_y = projected_y,
                 .projected_previous = projected_previous});
    add_mix(cases, {3, 2, 8, 4}, {.kind = kind, .rank = 2, .padding = 2, .behind = 4});
    add_mix(cases, {3, 2, 5, 3}, {.kind = kind, .rank = 3, .padding = 1, .behind = 2});
    add_mix(cases, {3, 2, 8, 4}, {.kind = kind, .rank = 3, .padding = 1, .bc_norm = false});
    add_mix(cases, {3, 2, 6, 4}, {.kind = kind, .rank = 2, .eps = 8});
    add_mix(cases, {1, 1, 1, 1}, {.kind = kind, .rank = 1});
    add_mix(cases, {2, 0, 3, 2}, {.kind = kind, .rank = 1});
    add_mix(cases, {0, 2, 3, 2}, {.kind = kind, .rank = 1});
    add_mix(cases, {3, 2, 33, 40}, {.kind = kind, .rank = 2, .padding = 3});
    add_mix(cases, {1, 2, 260, 4}, {.kind = kind, .rank = 1, .padding = 3});
    add_mix(cases, {1, 2, 1028, 16}, {.kind = kind, .rank = 4, .padding = 0});
    add_mix(cases, {1, 2, 1030, 5}, {.kind = kind, .rank = 2, .padding = 0});
    add_mix(cases, {1, 2, 4100, 2}, {.kind = kind, .rank = 1, .padding = 3});
    add_mix(cases, {3, 31, 64, 16}, {.kind = kind, .rank = 2, .padding = 2});
  }
  for (const auto& [projected_y, projected_previous] :
       {std::pair{true, true}, {true, false}, {false, true}, {false, false}})
    add_mix(cases, {3, 3, 6, 2},
            {.kind = MixerKind::kronecker,
             .rank = 0,
             .padding = 3,
             .behind = 1,
             .projected_y = projected_y,
             .projected_previous = projected_previous});
  add_mix(cases, {3, 2, 12, 5}, {.kind = MixerKind::kronecker, .rank = 0, .bc_norm = false});
  add_mix(cases, {3, 2, 16, 4}, {.kind = MixerKind::kronecker, .rank = 0, .eps = 8});
  add_mix(cases, {2, 0, 6, 2}, {.kind = MixerKind::kronecker, .rank = 0, .padding = 1});
  add_mix(cases, {3, 5, 64, 16}, {.kind = MixerKind::kronecker, .rank = 0, .padding = 2});
  for (const int64_t D : {32, 128, 256, 512, 1024})
    add_mix(cases, {1, 3, D, 16}, {.kind = MixerKind::kronecker, .rank = 0, .padding = 1});
  add_mix(cases, {3, 2, 5, 2}, {.kind = MixerKind::householder, .rank = 5, .padding = 1});
}

void add_gates(OpCases& cases) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{3, 2, 3}, Shape{1, 31, 4}, Shape{3, 33, 17},
                             Shape{2, 0, 3}, Shape{0, 2, 3}, Shape{3, 127, 64}})
    for (const bool previous : {false, true}) {
      const Input all{shape, -1, 1, true};
      std::vector<Input> inputs{all, all, all};
      if (previous) inputs.push_back({shape.without(1), -1, 1, true});
      cases.push_back({.op = "fp_mamba_gate",
                       .variation = previous ? "with previous" : "",
                       .inputs = inputs,
                       .apply =
                           [=](const Vars& v) {
                             return Vars{fp_mamba_gate(v[0], v[1], previous ? v[3] : Var(), v[2])};
                           },
                       .reference =
                           [=](const Arrays& v) {
                             const Array past = reference::shift(v[1], previous ? &v[3] : nullptr);
                             return Arrays{
                                 reference::mul(reference::silu(reference::add(v[0], past)), v[2])};
                           }});
    }
}

// Valid inputs of rank 1 but for what `spoil` does to them.
template <class E, class Spoil>
void add_mix_error(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<E>("fp_mamba_mix", fragment, [=](const Context& c) {
    FpMambaMixInputs in{.projected = tensor(c, {2, 5, 8}),
                        .projected_y = tensor(c, {2, 5, 8}),
                        .projected_previous = tensor(c, {2, 8}),
                        .x = tensor(c, {2, 5, 3}),
                        .y = tensor(c, {2, 5, 3}),
                        .mixer = mixer_of({.kind = MixerKind::dplr, .rank = 1}, 3),
                        .N = 2,
                        .bc_offset = 4};
    spoil(in, c);
    fp_mamba_mix(in);
  }));
}

void add_fp_mamba_errors(ErrorCases& errors) {
  using In = FpMambaMixInputs;
  const auto refuse = [&](const std::string& fragment, auto spoil) {
    add_mix_error<ShapeError>(errors, fragment, spoil);
  };
  refuse("got (2, 5) and", [](In& in, const Context& c) { in.x = tensor(c, {2, 5}); });
  refuse("got (2, 5, 3) and (2, 5, 4)", [](In& in, const Context& c) {
    in.y = tensor(c, {2, 5, 4});
  });
  refuse("got (2, 4, 8) and (2, 5, 3)", [](In& in, const Context& c) {
    in.projected = tensor(c, {2, 4, 8});
  });
  refuse("got 4, 3, 2 and 8", [](In& in, const Context&) { in.bc_offset = 3; });
  refuse("got 4, 5, 2 and 8", [](In& in, const Context&) { in.bc_offset = 5; });
  refuse("projected_y must be (B, T, P), got (2, 5, 7)", [](In& in, const Context& c) {
    in.projected_y = tensor(c, {2, 5, 7});
  });
  refuse("projected_previous must be (B, P), got (2, 7)", [](In& in, const Context& c) {
    in.projected_previous = tensor(c, {2, 7});
  });
  add_mix_error<ValueError>(errors, "eps must be positive, got 0",
                            [](In& in, const Context&) { in.eps = 0; });
  errors.push_back(refuses<ShapeError>("fp_mamba_gate", "got (2, 5, 3), (2, 5, 3) and (2, 4, 3)",
                                       [](const Context& c) {
                                         const Tensor z = tensor(c, {2, 5, 3});
                                         fp_mamba_gate(z, z, {}, tensor(c, {2, 4, 3}));
                                       }));
  errors.push_back(refuses<ShapeError>("fp_mamba_gate", "(B, D), got (2, 5) and (2, 5, 3)",
                                       [](const Context& c) {
                                         const Tensor z = tensor(c, {2, 5, 3});
                                         fp_mamba_gate(z, z, tensor(c, {2, 5}), z);
                                       }));
}

}  // namespace

void add_fp_mamba(OpCases& cases, ErrorCases& errors) {
  add_mixes(cases);
  add_gates(cases);
  add_fp_mamba_errors(errors);
}

}  // namespace fprnn::tests
