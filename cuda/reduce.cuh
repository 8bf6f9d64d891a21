// Several independent sums over middle axes in one launch.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/reduce.h>

#include <vector>

namespace fprnn::cuda {

// The same bits as run(cuda, sum) for each.
void sum_together(Cuda cuda, const std::vector<SumMiddle>& sums);

}  // namespace fprnn::cuda
