#include "core/tuner/tuned_parameters.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "core/half.h"

namespace shiftadd {
namespace {

constexpr size_t kUpdateItem = 4096;  // parameters of one item of parallel work

// Powers of two in a scale code.
uint32_t terms_of(uint16_t code) {
  uint32_t terms = code != 0;
  for (int shift = 8; shift >= 0 && (code >> shift & 7) != 0; shift -= 4) ++terms;
  return terms;
}

// Spreads the four sign bits of a nibble over four bytes, the first column in the lowest.
constexpr std::array<uint32_t, 16> kSpread = [] {
  std::array<uint32_t, 16> table{};
  for (uint32_t nibble = 0; nibble < 16; ++nibble)
    for (uint32_t t = 0; t < 4; ++t) table[nibble] |= (nibble >> t & 1) << 8 * t;
  return table;
}();

// value where bit `plane` of the code is set, else -value.
inline float signed_value(uint8_t code, uint32_t plane, float value) {
  const uint32_t minus = (~uint32_t{code} >> plane & 1) << 31;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ minus);
}

}  // namespace

ParameterRange ParameterSet::add(ParameterFamily family, size_t count) {
  const ParameterRange range{size(), count};
  for (std::vector<float>* all : {&deltas_, &gradients_, &first_, &second_}) all->resize(range.first + count);
  families_.push_back({range, family});
  return range;
}

void ParameterSet::update(Backend& backend, const TuneRates& rates, uint32_t step, std::span<const ParameterRange> ranges) {
  constexpr float kBeta1 = 0.9f, kBeta2 = 0.95f, kEpsilon = 1e-8f;
  const float first_factor = 1.0f / static_cast<float>(1 - std::pow(0.9, step));
  const float second_factor = 1.0f / static_cast<float>(1 - std::pow(0.95, step));
  for (const ParameterRange& range : ranges) {
    const auto family = std::find_if(families_.begin(), families_.end(), [&](const Family& each) {
      return each.range.first == range.first && each.range.count == range.count;
    });
    if (family == families_.end()) continue;
    const float rate = rates.rates[static_cast<size_t>(family->family)];
    backend.parallel((range.count + kUpdateItem - 1) / kUpdateItem, [&](size_t item) {
      const size_t last = range.first + std::min(range.count, (item + 1) * kUpdateItem);
      for (size_t i = range.first + item * kUpdateItem; i < last; ++i) {
        first_[i] = kBeta1 * first_[i] + (1 - kBeta1) * gradients_[i];
        second_[i] = kBeta2 * second_[i] + (1 - kBeta2) * gradients_[i] * gradients_[i];
        deltas_[i] -= rate * first_[i] * first_factor / (std::sqrt(second_[i] * second_factor) + kEpsilon);
      }
    });
  }
}

void ParameterSet::save(float* out) const {
  for (const std::vector<float>* all : {&deltas_, &first_, &second_}) out = std::copy(all->begin(), all->end(), out);
}

void ParameterSet::load(const float* in) {
  for (std::vector<float>* all : {&deltas_, &first_, &second_}) {
    std::copy(in, in + all->size(), all->begin());
    in += all->size();
  }
}

TunedMatrix::TunedMatrix(PackedWeights weights) : weights_(std::move(weights)) {
  for (uint16_t code : weights_.scales) {
    base_scales_.push_back(decode_scale(code, weights_.shape.scale_exponent));
    terms_ = std::max(terms_, terms_of(code));
  }
  scale_values_ = base_scales_;
  row_scale_values_.assign(weights_.shape.rows, 1.0f);
  for (size_t row = 0; row < weights_.row_scales.size(); ++row)
    row_scale_values_[row] = half_to_float(weights_.row_scales[row]);
}

void TunedMatrix::attach(ParameterSet* parameters) {
  scales_ = parameters->add(ParameterFamily::scale, weights_.scales.size());
  row_scales_ = parameters->add(ParameterFamily::row_scale, weights_.row_scales.size());
}

float TunedMatrix::tuned_scale(const ParameterSet& parameters, size_t index, uint16_t* code) const {
  const float value = base_scales_[index] * (1 + parameters.deltas(scales_)[index]);
  *code = encode_scale(value, weights_.shape.scale_exponent, terms_);
  return value;
}

float TunedMatrix::tuned_row_scale(const ParameterSet& parameters, size_t row, uint16_t* half) const {
  const float value = half_to_float(weights_.row_scales[row]) * (1 + parameters.deltas(row_scales_)[row]);
  *half = float_to_half(value);
  return value;
}

void TunedMatrix::refresh(Backend& backend, const ParameterSet& parameters, bool rounded) {
  backend.parallel((scales_.count + kUpdateItem - 1) / kUpdateItem, [&](size_t item) {
    const size_t last = std::min(scales_.count, (item + 1) * kUpdateItem);
    for (size_t i = item * kUpdateItem; i < last; ++i) {
      uint16_t code;
      const float value = tuned_scale(parameters, i, &code);
      scale_values_[i] = rounded ? decode_scale(code, weights_.shape.scale_exponent) : value;
    }
  });
  for (size_t row = 0; row < row_scales_.count; ++row) {
    uint16_t half;
    const float value = tuned_row_scale(parameters, row, &half);
    row_scale_values_[row] = rounded ? half_to_float(half) : value;
  }
}

// codes: one byte per column of whole quads; bit i is 1 where the sign of plane i is +1.
void TunedMatrix::row_codes(uint32_t row, uint8_t* codes) const {
  const PackedShape& shape = weights_.shape;
  const uint32_t group = row / shape.group_rows, in_group = row % shape.group_rows;
  const uint32_t tile = in_group / kTileRows, r = in_group % kTileRows, nibble = r < 16 ? 0 : 4;
  for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
    const uint32_t quads = shape.quads_in(k_block);
    const uint8_t* block = weights_.planes.data() + shape.block_offset(group, k_block) +
                           size_t{tile} * quads * shape.planes * kBlockBytes + (r & 15);
    for (uint32_t quad = 0; quad < quads; ++quad) {
      uint32_t words[4] = {};
      for (uint32_t plane = 0; plane < shape.planes; ++plane, block += kBlockBytes)
        for (uint32_t j = 0; j < 4; ++j) words[j] |= kSpread[block[16 * j] >> nibble & 15] << plane;
      for (uint32_t word : words)
        for (uint32_t t = 0; t < 4; ++t) *codes++ = static_cast<uint8_t>(word >> 8 * t);
    }
  }
}

void TunedMatrix::expand_scales(uint32_t row_group, float* out) const {
  const PackedShape& shape = weights_.shape;
  const float* values = scale_values_.data() + size_t{row_group} * shape.column_groups() * shape.planes;
  for (uint32_t plane = 0; plane < shape.planes; ++plane)
    for (uint32_t c = 0; c < shape.columns; ++c) *out++ = values[c / shape.group_columns * shape.planes + plane];
}

void TunedMatrix::decode(Backend& backend, float* out) const {
  const PackedShape& shape = weights_.shape;
  const size_t columns = shape.columns;
  backend.parallel(shape.row_groups(), [&](size_t item) {
    const uint32_t group = static_cast<uint32_t>(item), first = group * shape.group_rows;
    std::vector<float> scales(columns * shape.planes);
    std::vector<uint8_t> codes(size_t{shape.quads()} * kQuadColumns);
    expand_scales(group, scales.data());
    for (uint32_t row = first; row < first + shape.rows_in(group); ++row) {
      row_codes(row, codes.data());
      float* values = out + row * columns;
      std::fill(values, values + columns, 0.0f);
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        const float* scale = scales.data() + plane * columns;
        for (size_t c = 0; c < columns; ++c) values[c] += signed_value(codes[c], plane, scale[c]);
      }
      for (size_t c = 0; c < columns; ++c) values[c] *= row_scale_values_[row];
    }
  });
}

void TunedMatrix::project(Backend& backend, const float* d_weights, ParameterSet* parameters) const {
  const PackedShape& shape = weights_.shape;
  const size_t columns = shape.columns;
  float* d_scales = parameters->gradients(scales_);
  float* d_row_scales = parameters->gradients(row_scales_);
  backend.parallel(shape.row_groups(), [&](size_t item) {
    const uint32_t group = static_cast<uint32_t>(item), first = group * shape.group_rows;
    std::vector<float> scales(columns * shape.planes), sums(columns * shape.planes), values(columns), scaled(columns);
    std::vector<uint8_t> codes(size_t{shape.quads()} * kQuadColumns);
    expand_scales(group, scales.data());
    for (uint32_t row = first; row < first + shape.rows_in(group); ++row) {
      const float* slope = d_weights + row * columns;
      row_codes(row, codes.data());
      std::fill(values.begin(), values.end(), 0.0f);
      for (size_t c = 0; c < columns; ++c) scaled[c] = slope[c] * row_scale_values_[row];
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        const float* scale = scales.data() + plane * columns;
        float* sum = sums.data() + plane * columns;
        for (size_t c = 0; c < columns; ++c) {
          values[c] += signed_value(codes[c], plane, scale[c]);
          sum[c] += signed_value(codes[c], plane, scaled[c]);
        }
      }
      if (row_scales_.count == 0) continue;
      double sum = 0;
      for (size_t c = 0; c < columns; ++c) sum += double{slope[c]} * values[c];
      // d/d delta = p0 d/dp.
      d_row_scales[row] = static_cast<float>(sum) * half_to_float(weights_.row_scales[row]);
    }
    for (uint32_t column_group = 0; column_group < shape.column_groups(); ++column_group)
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        const size_t index = (item * shape.column_groups() + column_group) * shape.planes + plane;
        const size_t last = std::min<size_t>(columns, (column_group + 1) * shape.group_columns);
        float sum = 0;
        for (size_t c = column_group * shape.group_columns; c < last; ++c) sum += sums[plane * columns + c];
        d_scales[index] = sum * base_scales_[index];
      }
  });
}

PackedWeights TunedMatrix::tuned(const ParameterSet& parameters) const {
  PackedWeights out = weights_;
  for (size_t i = 0; i < scales_.count; ++i) tuned_scale(parameters, i, &out.scales[i]);
  for (size_t row = 0; row < row_scales_.count; ++row) tuned_row_scale(parameters, row, &out.row_scales[row]);
  return out;
}

}  // namespace shiftadd
