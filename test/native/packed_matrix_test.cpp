// The packed format: scale codes, packing and unpacking, sizes and offsets.
#include "core/packed_matrix.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

void scale_codes() {
  double worst_again = 0;
  bool ordered = true;
  size_t valid = 0;
  for (uint32_t code = 0; code < 65536; ++code) {
    if (!valid_scale(static_cast<uint16_t>(code))) continue;
    ++valid;
    const float value = decode_scale(static_cast<uint16_t>(code), -3);
    const float again = decode_scale(encode_scale(value, -3, 4), -3);
    // The smallest first term has no lower neighbour to start from; it only stands for scales that hardly count.
    if (code >> 12 > 1) worst_again = std::fmax(worst_again, std::fabs(again - value) / value);
    if (!(value >= 0)) ordered = false;
  }
  // 1 zero + 15 first terms x (1 + 14 + 14^2 + 14^3) sums
  tap::check(valid == 1 + 15 * (1 + 14 + 196 + 2744), "the number of valid codes is what the format says");
  tap::note("encoding a representable scale again: largest relative error %.4f", worst_again);
  tap::check(worst_again < 0.004, "a representable scale is encoded again within 0.4 %");
  tap::check(ordered, "no scale is negative");
  tap::check(!valid_scale(0x0001) && !valid_scale(0x1080) && !valid_scale(0x1008), "stray bits are invalid");

  // Largest relative error of rounding over one octave, by number of terms: method of additive powers of two.
  const double limits[] = {0.34, 0.12, 0.045, 0.02};
  for (uint32_t terms = 1; terms <= 4; ++terms) {
    double worst = 0;
    for (int i = 0; i < 20000; ++i) {
      const float value = 0.25f + 0.25f * static_cast<float>(i) / 20000;
      const float rounded = decode_scale(encode_scale(value, 0, terms), 0);
      worst = std::fmax(worst, std::fabs(rounded - value) / value);
    }
    tap::note("%u terms: largest relative error %.4f", terms, worst);
    tap::check(worst < limits[terms - 1], std::to_string(terms) + " terms: the rounding error is bounded");
  }
  tap::check(encode_scale(0, 0, 4) == 0 && encode_scale(-1, 0, 4) == 0, "zero and negative values become zero");
  tap::check(decode_scale(encode_scale(1e30f, 0, 4), 0) == 1.875f, "values above the range become the largest scale");
  tap::check(decode_scale(encode_scale(1e-30f, 0, 4), 0) == 0, "values below the range become zero");
  tap::check(scale_exponent_for(1.0f) == 0 && scale_exponent_for(1.01f) == 1 && scale_exponent_for(0.25f) == -2,
             "scale_exponent_for covers the largest scale");
}

void packing() {
  std::mt19937 random(1);
  const uint32_t sizes[][4] = {{1, 1, 1, 8}, {1, 4, 7, 8}, {33, 17, 16, 8}, {31, 15, 32, 1}, {64, 128, 64, 8},
                               {72, 129, 24, 8}, {100, 130, 1000, 1}, {96, 256, 96, 8}, {65, 576, 72, 8}};
  for (const auto& size : sizes)
    for (uint32_t planes : {1u, 3u, 4u, 8u}) {
      PackedShape shape{size[0], size[1], planes, size[2], size[3], 0, true};
      std::vector<uint8_t> codes(size_t{shape.rows} * shape.columns), again(codes.size());
      for (auto& code : codes) code = static_cast<uint8_t>(random() & ((1u << planes) - 1));
      std::vector<uint8_t> bytes(shape.plane_bytes());
      pack_planes(shape, codes.data(), bytes.data());
      unpack_planes(shape, bytes.data(), again.data());

      std::vector<uint16_t> scales(shape.scale_count()), row_scales(shape.rows);
      for (auto& scale : scales) scale = encode_scale(0.1f + static_cast<float>(random() % 1000) / 1000, 0, 3);
      for (auto& scale : row_scales) scale = float_to_half(0.5f + static_cast<float>(random() % 1000) / 1000);
      const PackedMatrix matrix{shape, bytes.data(), scales.data(), row_scales.data()};
      double worst = 0;
      std::vector<float> row(shape.columns);
      for (uint32_t r = 0; r < shape.rows; ++r) {
        unpack_row(matrix, r, row.data());
        for (uint32_t c = 0; c < shape.columns; ++c) {
          double sum = 0;
          for (uint32_t p = 0; p < planes; ++p) {
            const size_t at = (size_t{r / shape.group_rows} * shape.column_groups() + c / shape.group_columns) * planes + p;
            sum += decode_scale(scales[at], 0) * (codes[size_t{r} * shape.columns + c] >> p & 1 ? 1 : -1);
          }
          worst = std::fmax(worst, std::fabs(half_to_float(row_scales[r]) * sum - row[c]));
        }
      }
      const std::string name = std::to_string(size[0]) + "x" + std::to_string(size[1]) + ", groups of " +
                               std::to_string(size[2]) + "x" + std::to_string(size[3]) + ", " + std::to_string(planes) +
                               " planes";
      tap::check(codes == again, name + ": signs survive packing");
      tap::check(worst < 1e-5, name + ": unpack_row follows the formula");
    }
  size_t blocks = 0;
  const PackedShape shape{100, 300, 3, 40, 8, 0, false};
  bool contiguous = true;
  for (uint32_t group = 0; group < shape.row_groups(); ++group)
    for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
      contiguous = contiguous && shape.block_offset(group, k_block) == blocks * kBlockBytes;
      blocks += size_t{shape.tiles_in(group)} * shape.quads_in(k_block) * shape.planes;
    }
  tap::check(contiguous && blocks * kBlockBytes == shape.plane_bytes(), "blocks follow each other without holes");
}

// Float scales hold what codes cannot: terms that lie 8 and more binary places apart.
void float_scales() {
  tap::check(valid_float_scale(0) && valid_float_scale(1e-40f) && valid_float_scale(0x1p101f), "finite scales are valid");
  tap::check(!valid_float_scale(-1e-30f) && !valid_float_scale(INFINITY) && !valid_float_scale(NAN) && !valid_float_scale(1e31f),
             "negative, infinite, undefined and huge scales are not");

  std::mt19937 random(2);
  const PackedShape shape{50, 41, 3, 20, 8, 0, false};
  std::vector<uint8_t> codes(size_t{shape.rows} * shape.columns), planes(shape.plane_bytes());
  for (auto& code : codes) code = static_cast<uint8_t>(random() & 7);
  pack_planes(shape, codes.data(), planes.data());
  std::vector<float> wide(shape.scale_count()), decoded(wide.size());
  std::vector<uint16_t> scales(wide.size());
  for (size_t i = 0; i < wide.size(); ++i) {
    wide[i] = std::ldexp(1 + std::ldexp(1.0f, -8 - static_cast<int>(random() % 9)), -static_cast<int>(random() % 12));
    scales[i] = encode_scale(wide[i], 0, 4);
    decoded[i] = decode_scale(scales[i], 0);
  }
  const PackedMatrix exact{shape, planes.data(), nullptr, nullptr, wide.data()};
  const PackedMatrix coded{shape, planes.data(), scales.data(), nullptr};
  const PackedMatrix same{shape, planes.data(), nullptr, nullptr, decoded.data()};
  bool formula = true, agree = true;
  std::vector<float> row(shape.columns), from_codes(shape.columns), from_floats(shape.columns);
  for (uint32_t r = 0; r < shape.rows; ++r) {
    unpack_row(exact, r, row.data());
    unpack_row(coded, r, from_codes.data());
    unpack_row(same, r, from_floats.data());
    agree = agree && from_codes == from_floats;
    for (uint32_t c = 0; c < shape.columns; ++c) {
      float sum = 0;
      for (uint32_t p = 0; p < shape.planes; ++p) {
        const float scale = wide[(size_t{r / shape.group_rows} * shape.column_groups() + c / shape.group_columns) * shape.planes + p];
        sum += codes[size_t{r} * shape.columns + c] >> p & 1 ? scale : -scale;
      }
      formula = formula && sum == row[c];
    }
  }
  tap::check(formula, "unpack_row takes float scales exactly");
  tap::check(agree, "float scales with the values of codes give the same matrix");
}

void refused_shapes() {
  const PackedShape good{8, 8, 4, 8, 8, 0, false};
  tap::check(good.check().ok(), "a plain shape is accepted");
  for (auto change : {+[](PackedShape& s) { s.rows = 0; }, +[](PackedShape& s) { s.columns = 0; },
                      +[](PackedShape& s) { s.planes = 0; }, +[](PackedShape& s) { s.planes = 9; },
                      +[](PackedShape& s) { s.group_rows = 0; }, +[](PackedShape& s) { s.group_columns = 4; },
                      +[](PackedShape& s) { s.rows = 0xffffffff; }, +[](PackedShape& s) { s.scale_exponent = 127; }}) {
    PackedShape bad = good;
    change(bad);
    tap::check(!bad.check().ok(), "refused: " + bad.check().message);
  }
}

void halves() {
  bool exact = true;
  for (uint32_t h = 0; h < 65536; ++h) {
    const float value = half_to_float(static_cast<uint16_t>(h));
    if (!std::isnan(value) && float_to_half(value) != h) exact = false;
  }
  tap::check(exact, "every half float survives the way to float and back");
  tap::check(float_to_half(65520.0f) == 0x7c00 && float_to_half(1e-8f) == 0 && float_to_half(1.00048828125f) == 0x3c00,
             "half floats round to nearest even and overflow to infinity");
}

}  // namespace

int main() {
  scale_codes();
  packing();
  float_scales();
  refused_shapes();
  halves();
  return tap::finish();
}
