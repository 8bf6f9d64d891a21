// What the fused forms of FP-Mamba's cell and of FP-Mamba-2's have in common: the sweep through time
// (ops/fp_mamba_sweep.h), and what it leaves for recording f at its solution.
#pragma once

#include <fprnn/models/cells/fused.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/gated_norm.h>

namespace fprnn {

// The products with W of y and of what came before it, if there is any, and of f at y all but the
// scan.
struct MambaTrace : Trace {
  Tensor product;      // (B, T, P), but the last step's is not written
  Tensor of_previous;  // (B, P)
  FpMambaMixTrace mix;
  GatedNormTrace norm;
};

// y W^T, which may have been saved; undefined without either.
Var product_with(const Var& weight, const Var& y, const Tensor& saved);

// N(SiLU(z) . v) and, where f is not recorded, how far it is from y.
FixedPointMap::Applied applied(const FixedPointMap& map, const Var& y, const FixedPointInputs& in,
                               const Cell::Scanned& scanned, const MambaTrace& trace);

// The sweep of these inputs but for delta, keep, skip and what else a cell has of its own. N:
// states. Outputs are not yet there.
FpMambaSweep sweep_of(const Past& past, const FixedPointInputs& in, const SweepRequest& to,
                      const FixedPointMap& map, const SweepMixer& mixer, int64_t N, bool bc_norm);
// Memory for what a sweep that has a kernel is to give, and where it lies. carry: its shape.
Swept outputs_of(FpMambaSweep& sweep, const Context& context, const Shape& carry);
// The same for what it is to leave, all but the scan.
void keep_trace(FpMambaSweep& sweep, MambaTrace& trace, const Tensor& y, const Var& previous);

// The sweep back at y, but for what is computed first for all steps (p, dt, mixed, b), and keep.
FpMambaAdjoint adjoint_of(const Past& past, const FixedPointInputs& in, const SweepBackRequest& to,
                          const FixedPointMap& map, const SweepMixer& mixer, int64_t N,
                          bool bc_norm);
// p at y, with the products of the sweep that found y, as f was recorded.
Var projections_at(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                   const SweepBackRequest& to);

}  // namespace fprnn
