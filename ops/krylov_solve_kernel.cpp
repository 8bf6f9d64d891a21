#include <fprnn/ops/krylov_row.h>

namespace fprnn::FPRNN_ISA {

void krylov_advance(const KrylovAdvance& args, real* space, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row)
    if (!args.state[row].done) krylov::Row(args, row, space).advance();
}

}  // namespace fprnn::FPRNN_ISA
