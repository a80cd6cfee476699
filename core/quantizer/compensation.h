// The column loop: bundles are fitted as they stand when reached, and the error of every column is made up for by the
// columns after it.
#pragma once

#include "core/quantizer/row_group.h"
#include "core/quantizer/settings.h"

namespace shiftadd {

// Fills codes and scales of the group. With an identity Hessian nothing is compensated: a plain fit.
void compensate(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group);

}  // namespace shiftadd
