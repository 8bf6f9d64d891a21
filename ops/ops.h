// Every op.
#pragma once

#include <fprnn/ops/attention.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/kronecker.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/krylov_solve.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/scan.h>
#include <fprnn/ops/selective_scan.h>
#include <fprnn/ops/ssd_scan.h>
