// Descent on the full objective tr(E H E') after the column loop: scales, signs and row scales in turn, every change
// kept only when the objective falls.
#pragma once

#include "core/quantizer/row_group.h"
#include "core/quantizer/settings.h"

namespace shiftadd {

// Changes codes, scales and (when the settings have them) row scales of the group; settings.sweeps = 0 does nothing.
void refine(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group);

}  // namespace shiftadd
