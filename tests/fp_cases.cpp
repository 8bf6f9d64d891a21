#include "fp_cases.h"

#include <fmt/format.h>
#include <fprnn/ops/layout.h>

namespace fprnn::tests {

namespace {

// A mixer that no kernel knows: Q v = v - scale (a . v - b . v'), where v' has the halves of v exchanged.
class PairMixer : public Mixer {
 public:
  PairMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name), init, options,
              {{"pair", options.channels}, {"own", options.channels, true}}) {}

  MixerFactors factors(const Var& projected) const override {
    const int64_t D = options_.channels;
    const auto part = [&](int64_t begin) { return slice(projected, -1, begin, begin + D); };
    return {affine(sigmoid(part(D)), real(0.5), 0), affine(tanh(part(0)), real(0.4), 0)};
  }
  Var apply(const MixerFactors& q, const Var& v) const override {
    const int64_t half = v.size(-1) / 2;
    const Var turned = concat({slice(v, -1, half, 2 * half), slice(v, -1, 0, half)}, -1);
    const Var taken = sub(mul(q[0], v), mul(q[1], turned));
    return sub(v, affine(taken, options_.scale, 0));
  }
};

std::unique_ptr<Mixer> make_pair_mixer(Module& parent, std::string name, const Init& init,
                                       const MixerOptions& options) {
  return std::make_unique<PairMixer>(parent, std::move(name), init, options);
}

}  // namespace

std::vector<Case> mamba_cases() {
  using Options = FpMambaOptions;
  const auto mixer = [](MixerKind kind, int64_t rank, KroneckerNorm norm = KroneckerNorm::row) {
    return with(kMamba,
                [&](Options& o) { o.mixer = kind, o.rank = rank, o.kronecker_norm = norm; });
  };
  const Options householder = mixer(MixerKind::householder, 1),
                kronecker = mixer(MixerKind::kronecker, 1);
  std::vector<Case> cases{
      mamba_case("householder 1", householder),
      mamba_case("householder 2", mixer(MixerKind::householder, 2)),
      mamba_case("householder 3", mixer(MixerKind::householder, 3)),
      mamba_case("dplr 2", mixer(MixerKind::dplr, 2)),
      mamba_case("kronecker row", kronecker),
      mamba_case("kronecker spectral", mixer(MixerKind::kronecker, 1, KroneckerNorm::spectral))};
  for (Case& entry : cases) entry.plain = true;
  const auto sees = [](std::string_view names) {
    return [names](Options& o) { o.dependence = hidden_dependence_named(names); };
  };
  const std::pair<std::string, std::function<void(Options&)>> switches[] = {
      {"symmetric", [](Options& o) { o.symmetric = true; }},
      {"glu_in_loop", [](Options& o) { o.glu_in_loop = true; }},
      {"without bc_norm", [](Options& o) { o.bc_norm = false; }},
      {"conv 4", [](Options& o) { o.conv_width = 4; }},
      {"sees none", sees("none")},
      {"sees q", sees("q")},
      {"sees b,c", sees("b,c")},
      {"sees q,b,c,lambda", sees("q,b,c,lambda")}};
  for (const auto& [name, change] : switches) {
    cases.push_back(mamba_case("householder " + name, with(householder, change)));
    cases.push_back(mamba_case("kronecker " + name, with(kronecker, change)));
  }
  cases.push_back(mamba_case("householder without additive input",
                             with(householder, [](Options& o) { o.additive_input = false; })));
  const auto own = with(kMamba, [](Options& o) { o.make_mixer = make_pair_mixer; });
  cases.push_back(mamba_case("with a mixer of one's own", own));
  cases.push_back(
      mamba_case("with a mixer of one's own, sees q,b,c,lambda", with(own, sees("q,b,c,lambda"))));
  return cases;
}

std::vector<Case> rnn_cases() {
  std::vector<Case> cases;
  for (const auto& [kind, rank] :
       {std::pair{MixerKind::householder, 1}, {MixerKind::dplr, 2}, {MixerKind::kronecker, 1}}) {
    const FpRnnOptions plain = with(
        kRnn, [&, kind = kind, rank = rank](FpRnnOptions& o) { o.mixer = kind, o.rank = rank; });
    const std::string name = fmt::format("{} {}", name_of(kind), rank);
    cases.push_back(rnn_case(name, plain));
    cases.back().plain = true;
    cases.push_back(rnn_case(name + " conv 4", with(plain, [](auto& o) { o.conv_width = 4; })));
    cases.push_back(
        rnn_case(name + " symmetric", with(plain, [](auto& o) { o.symmetric = true; })));
    cases.push_back(rnn_case(name + " without hidden dependence",
                             with(plain, [](auto& o) { o.hidden_dependence = false; })));
  }
  cases.push_back(rnn_case("with a mixer of one's own",
                           with(kRnn, [](auto& o) { o.make_mixer = make_pair_mixer; })));
  return cases;
}

std::vector<Case> block_cases() {
  FpMamba2Options mamba;
  mamba.d_model = kWidth, mamba.d_state = 4, mamba.headdim = 4, mamba.scale = 1;
  FpDeltaNetOptions delta;
  delta.d_model = kWidth, delta.heads = 2, delta.scale = 1;
  const auto kronecker = [](auto& o) { o.mixer = MixerKind::kronecker; };
  std::vector<Case> cases{
      block_case<FpMamba2>("mamba2 householder 1", mamba),
      block_case<FpMamba2>("mamba2 kronecker", with(mamba, kronecker)),
      block_case<FpDeltaNet>("delta householder 1", delta),
      block_case<FpDeltaNet>("delta kronecker", with(delta, kronecker)),
  };
  for (Case& entry : cases) entry.plain = true;
  cases.push_back(
      block_case<FpMamba2>("mamba2 dplr 2, groups, conv 4, glu_in_loop", with(mamba, [](auto& o) {
                             o.mixer = MixerKind::dplr, o.rank = 2, o.ngroups = 2;
                             o.conv_width = 4, o.glu_in_loop = true;
                           })));
  cases.push_back(block_case<FpMamba2>("mamba2 sees c, without bc_norm", with(mamba, [](auto& o) {
                                         o.dependence = hidden_dependence_named("c");
                                         o.bc_norm = false, o.channel_skip = true;
                                       })));
  cases.push_back(block_case<FpDeltaNet>("delta with reflections, symmetric, conv 4, sees q",
                                         with(delta, [](auto& o) {
                                           o.dependence = hidden_dependence_named("q");
                                           o.negative_eigenvalues = o.symmetric = true;
                                           o.forget_gate = false, o.conv_width = 4;
                                         })));
  cases.push_back(block_case<FpDeltaNet>(
      "delta with a mixer of one's own",
      with(delta, [](auto& o) { o.make_mixer = make_pair_mixer, o.glu_in_loop = true; })));
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = mamba_cases();
  for (const auto& more : {rnn_cases(), block_cases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

Values gradients_of(Built& built, const Var& u, const FixedPointState& start) {
  Tape tape(built.context);
  Vars asked{tape.variable(u.value())};
  FixedPointState state = start;
  const Var y = built.layer->forward(asked[0], state, built.on);
  for (const auto& [path, parameter] : built.layer->parameters())
    asked.push_back(tape.leaf(*parameter));
  Values gradients;
  for (const Tensor& gradient : tape.vjp({y}, {random(built.context, y.shape(), 2)}, asked))
    gradients.push_back(gradient.to_vector());
  return gradients;
}

}  // namespace fprnn::tests
