#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/models/act.h>
#include <fprnn/models/delta_net.h>
#include <fprnn/models/deq.h>
#include <fprnn/models/fp_delta_net.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_mamba2.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/mamba2.h>
#include <fprnn/models/mlstm.h>
#include <fprnn/models/pd_ssm.h>
#include <fprnn/models/recurrent.h>
#include <fprnn/models/registry.h>
#include <fprnn/models/slstm.h>
#include <fprnn/models/transformer.h>

#include <algorithm>

namespace fprnn {

void ModelRegistry::add(ModelKind kind) {
  require<ValueError>(!kind.name.empty() && kind.name.find(',') == std::string::npos, "models",
                      "a name must not be empty or contain a comma", kind.name);
  require<ValueError>(std::ranges::find(kinds_, kind.name, &ModelKind::name) == kinds_.end(),
                      "models", "a name must not be there already", kind.name);
  require<ValueError>(kind.declare != nullptr, "models", "a kind must declare its layers",
                      kind.name);
  kinds_.push_back(std::move(kind));
}

const ModelKind& ModelRegistry::at(std::string_view name) const {
  const auto found = std::ranges::find(kinds_, name, &ModelKind::name);
  if (found == kinds_.end())
    throw ValueError("models", "there is no such model" + did_you_mean(nearest(name, names())),
                     std::array{describe(name)});
  return *found;
}

std::vector<std::string> ModelRegistry::names() const {
  std::vector<std::string> names;
  for (const ModelKind& kind : kinds_) names.push_back(kind.name);
  return names;
}

ModelRegistry built_in_models() {
  ModelRegistry models;
  models.add(fp_mamba_kind());
  models.add(fp_rnn_kind());
  models.add(mamba_kind());
  models.add(mamba2_kind());
  models.add(lstm_kind());
  models.add(gru_kind());
  for (const auto& kind : {delta_net_kind, gated_delta_net_kind, delta_product_kind})
    models.add(kind());
  models.add(transformer_kind());
  models.add(deq_kind());
  models.add(slstm_kind());
  models.add(mlstm_kind());
  models.add(act_kind());
  models.add(pd_ssm_kind());
  for (const auto& kind : {fp_mamba2_kind, fp_delta_net_kind}) models.add(kind());
  return models;
}

}  // namespace fprnn
