// The rotation of the residual stream: orthogonal, refused when it is not, right in double precision, and invisible in what
// a model computes.
#include "core/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "core/session.h"
#include "test/native/model_pair.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

// Q in double precision by its definition.
std::vector<double> matrix_of(const Rotation& rotation) {
  const size_t hidden = rotation.signs.size(), width = hidden / rotation.size;
  std::vector<double> q(hidden * hidden);
  for (size_t i = 0; i < hidden; ++i)
    for (size_t j = 0; j < hidden; ++j) {
      const bool odd = std::popcount((i % width) & (j % width)) % 2 == 1;
      q[i * hidden + j] = rotation.signs[i] * rotation.matrix[i / width * rotation.size + j / width] * (odd ? -1 : 1) /
                          std::sqrt(static_cast<double>(hidden));
    }
  return q;
}

void test_apply(const Rotation& rotation, const std::string& name) {
  const size_t hidden = rotation.signs.size();
  tap::check(rotation.check().ok(), name + " is orthogonal");
  const std::vector<double> q = matrix_of(rotation);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(hidden), y(hidden), back(hidden), scratch(hidden);
  for (float& value : x) value = normal(random);
  rotation.apply(x.data(), y.data(), scratch.data(), false);
  double worst = 0, returned = 0;
  for (size_t j = 0; j < hidden; ++j) {
    double want = 0;
    for (size_t i = 0; i < hidden; ++i) want += x[i] * q[i * hidden + j];
    worst = std::max(worst, std::fabs(want - y[j]));
  }
  tap::check(worst < 1e-5, name + " is x Q");
  rotation.apply(y.data(), back.data(), scratch.data(), true);
  for (size_t i = 0; i < hidden; ++i) returned = std::max(returned, std::fabs(double{x[i]} - back[i]));
  tap::check(returned < 1e-5, name + " and its inverse cancel");
  rotation.apply(x.data(), x.data(), scratch.data(), false);
  tap::check(x == y, name + " works in place");
}

Rotation walsh_alone(uint32_t hidden) { return {1, std::vector<float>(hidden, 1.0f), {1.0f}}; }

void test_check() {
  const auto refused = [](Rotation rotation, const char* what) { tap::check(!rotation.check().ok(), what); };
  Rotation damaged = random_rotation();
  damaged.matrix[7] = -damaged.matrix[7];
  refused(damaged, "a matrix with a wrong sign is refused");
  damaged = random_rotation();
  damaged.signs[3] = 0.5f;
  refused(damaged, "a sign that is none is refused");
  damaged = random_rotation();
  damaged.signs.resize(60);
  refused(damaged, "a size that leaves no power of two is refused");
  damaged = random_rotation();
  damaged.matrix.pop_back();
  refused(damaged, "a matrix that is not square is refused");
  refused(Rotation{}, "none is no rotation");
}

std::unique_ptr<Model> open_model(const RandomModel& file) {
  std::unique_ptr<Backend> backend;
  CpuOptions options;
  options.threads = 2;
  options.precision = Precision::exact;
  std::unique_ptr<Model> model;
  if (!make_cpu_backend(options, &backend).ok() ||
      !Model::open(file.spec.data(), file.spec.size(), mapped(file.path), std::move(backend), &model).ok())
    tap::check(false, "a model opens");
  return model;
}

std::vector<float> all_logits(const Model& model, const std::vector<int32_t>& tokens) {
  std::unique_ptr<Session> session;
  std::vector<float> out(tokens.size() * kVocabulary);
  if (!Session::open(model, 64, &session).ok() || !session->prefill_logits(tokens, out, Cancel()).ok())
    tap::check(false, "a session runs");
  return out;
}

// The rotated copy of a dense model predicts what the model does.
void test_model() {
  const ModelPair pair;
  const std::unique_ptr<Model> model = open_model(pair.dense);
  RandomModel rotated;
  rotated.begin(true);
  bool good = true;
  for (const PairMatrix& item : pair.matrices) {
    std::vector<uint16_t> halves(item.dense.size());
    good = good && model->rotated(random_rotation(), item.role, item.layer, halves).ok();
    const DenseMatrix& shape = *model->dense(item.role, item.layer);
    rotated.dense(item.role, item.layer, shape.rows, shape.columns, DType::f16, halves.data(), halves.size() * 2);
  }
  tap::check(good, "every matrix is rotated");
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    rotated.norm(Role::attention_norm, layer);
    rotated.norm(Role::feed_forward_norm, layer);
  }
  std::vector<float> gain(kHidden);
  model->backend().download(model->vector(Role::final_norm), gain.data(), gain.size());
  rotated.dense(Role::final_norm, 0, kHidden, 1, DType::f32, gain.data(), gain.size() * 4);
  std::FILE* file = std::fopen(rotated.path.c_str(), "wb");
  std::fwrite(rotated.bytes.data(), 1, rotated.bytes.size(), file);
  std::fclose(file);

  const std::vector<int32_t> tokens{3, 14, 15, 92, 65, 35, 89, 79};
  const std::vector<float> want = all_logits(*model, tokens), got = all_logits(*open_model(rotated), tokens);
  double squares = 0, error = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += double{want[i]} * want[i];
    error += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
  }
  tap::check(std::sqrt(error / squares) < 2e-3, "a rotated model gives the logits of the model");
  tap::note("relative difference %.2g", std::sqrt(error / squares));

  std::vector<uint16_t> out(kHidden * kHidden);
  const auto refused = [&](Role role, uint32_t layer, size_t count, const char* what) {
    tap::check(!model->rotated(random_rotation(), role, layer, {out.data(), count}).ok(), what);
  };
  refused(Role::query, kLayers, kHidden * kHidden, "a layer that is not there");
  refused(Role::embedding, 1, kVocabulary * kHidden, "an embedding in a layer");
  refused(Role::head, 0, kVocabulary * kHidden, "a head that is not there");
  refused(Role::attention_norm, 0, kHidden, "a norm");
  refused(Role::query, 0, 7, "a result of another size");
  Rotation other = random_rotation();
  other.signs.resize(20);
  tap::check(!model->rotated(other, Role::query, 0, out).ok(), "a rotation of another size");
}

// One step of many tokens and many of one give the same bits, as without a rotation.
void test_session() {
  const RandomModel packed(true);
  const std::unique_ptr<Model> model = open_model(packed);
  const std::vector<int32_t> tokens{3, 14, 15, 92, 65, 35, 89, 79, 32};
  const std::vector<float> whole = all_logits(*model, tokens);
  std::unique_ptr<Session> session;
  (void)Session::open(*model, 64, &session);
  std::vector<float> last(kVocabulary);
  for (int32_t token : tokens) (void)session->prefill({&token, 1}, Cancel());
  (void)session->logits(last);
  tap::check(std::equal(last.begin(), last.end(), whole.end() - kVocabulary), "prefill and decode agree bit by bit");
  const RandomModel plain;
  tap::check(all_logits(*open_model(plain), tokens) != whole, "the rotation is not ignored");
}

}  // namespace

int main() {
  test_apply(random_rotation(), "40 = 20 x 2");
  test_apply(walsh_alone(64), "64");
  test_apply(walsh_alone(1), "1");
  test_check();
  test_model();
  test_session();
  return tap::finish();
}
