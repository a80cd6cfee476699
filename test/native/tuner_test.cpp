// The tuner: its gradients are right, its loss is what sessions give, steps lower it, results do not depend on
// threads, a saved state resumes with the same bits, and misuse is refused.
#include "core/tuner/tuner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "test/native/model_pair.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

constexpr uint32_t kWindows = 3, kWindow = 140;  // more queries than one part of the attention

std::unique_ptr<Backend> backend_of(int threads) {
  CpuOptions options;
  options.threads = threads;
  options.precision = Precision::exact;
  std::unique_ptr<Backend> backend;
  (void)make_cpu_backend(options, &backend);
  return backend;
}

std::unique_ptr<Model> open_model(const RandomModel& file, int threads) {
  std::unique_ptr<Model> model;
  const Status status = Model::open(file.spec.data(), file.spec.size(), mapped(file.path), backend_of(threads), &model);
  if (!status.ok()) tap::note("%s", status.message.c_str());
  return model;
}

std::unique_ptr<Tuner> open_tuner(const Model& model, const ModelPair& pair) {
  std::unique_ptr<Tuner> tuner;
  bool good = Tuner::open(model, &tuner).ok();
  for (const PairMatrix& matrix : pair.matrices)
    good = good && tuner->set_matrix(matrix.role, matrix.layer, matrix.packed).ok();
  if (!good) tap::check(false, "a tuner opens");
  return tuner;
}

std::vector<int32_t> random_tokens(size_t count) {
  std::mt19937 random(3);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocabulary);
  return tokens;
}

void test_gradients(const ModelPair& pair) {
  const std::unique_ptr<Model> model = open_model(pair.dense, 2);
  const std::unique_ptr<Tuner> tuner = open_tuner(*model, pair);
  const std::vector<int32_t> tokens = random_tokens(kWindows * kWindow);
  tuner->set_rounding(false);
  tuner->model().start();
  ParameterSet& parameters = tuner->model().parameters();
  std::mt19937 random(8);
  // Away from the start, where a matrix and its gains may be at a special point.
  std::vector<float> state(tuner->state_size());
  (void)tuner->save_state(state);
  for (size_t i = 0; i < parameters.size(); ++i) state[2 + i] = 0.1f * (static_cast<float>(random() % 1000) / 500 - 1);
  (void)tuner->load_state(state);

  const auto check = [&](const std::string& name, const std::vector<ParameterRange>& ranges, auto&& run, auto&& loss_at) {
    double loss = 0;
    tap::check(run(&loss).ok() && loss > 0, name + ": a step runs");
    std::vector<std::vector<float>> gradients;  // copied: finding a loss may overwrite them
    for (const ParameterRange& range : ranges)
      gradients.emplace_back(parameters.gradients(range), parameters.gradients(range) + range.count);
    double worst = 0;
    for (size_t n = 0; n < ranges.size(); ++n) {
      const ParameterRange& range = ranges[n];
      if (range.count == 0) continue;
      std::vector<float> direction(range.count), base(parameters.deltas(range), parameters.deltas(range) + range.count);
      const std::vector<float>& gradient = gradients[n];
      double expected = 0, norm = 0;
      for (size_t i = 0; i < range.count; ++i) {
        direction[i] = (gradient[i] < 0 ? -1.0f : 1.0f) * (0.5f + static_cast<float>(random() % 100) / 100);
        expected += double{gradient[i]} * direction[i];
        norm += std::fabs(gradient[i]);
      }
      const float step = 4e-3f;
      double losses[2];
      for (int side = 0; side < 2; ++side) {
        for (size_t i = 0; i < range.count; ++i)
          parameters.deltas(range)[i] = base[i] + (side ? step : -step) * direction[i];
        losses[side] = loss_at();
      }
      std::copy(base.begin(), base.end(), parameters.deltas(range));
      const double measured = (losses[1] - losses[0]) / (2 * step);
      worst = std::max(worst, std::fabs(measured - expected) / std::fabs(expected));
      if (norm == 0) worst = 1;
    }
    tap::check(worst < 3e-3, name + ": gradients of every family in every block equal finite differences");
    tap::note("largest relative difference %.2g", worst);
  };

  std::vector<ParameterRange> ranges{tuner->model().final_norm_parameters()};
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (const ParameterRange& range : tuner->model().block_parameters(layer)) ranges.push_back(range);
  check("end to end", ranges,
        [&](double* loss) { return tuner->step(tokens, kWindows, kWindow, TuneRates{}, loss, Cancel()); },
        [&] {
          double loss = 0;
          (void)tuner->loss(tokens, kWindows, kWindow, &loss, Cancel());
          return loss;
        });
  (void)tuner->begin_blocks(tokens, kWindows, kWindow);
  (void)tuner->next_block(Cancel());
  const uint32_t chosen[] = {2, 0};
  const auto block_step = [&](double* loss) { return tuner->block_step(chosen, TuneRates{}, loss, Cancel()); };
  check("block by block", tuner->model().block_parameters(1), block_step, [&] {
    double loss = 0;
    (void)block_step(&loss);
    return loss;
  });
}

// Mean KL over the positions of the windows from two ordinary sessions.
double session_divergence(const Model& dense, const Model& packed, const std::vector<int32_t>& tokens) {
  double sum = 0;
  for (uint32_t w = 0; w < kWindows; ++w) {
    std::unique_ptr<Session> p, q;
    (void)Session::open(dense, kWindow, &p);
    (void)Session::open(packed, kWindow, &q);
    for (uint32_t i = 0; i < kWindow; ++i) {
      std::vector<float> logits[2] = {std::vector<float>(kVocabulary), std::vector<float>(kVocabulary)};
      double logs[2];
      for (int side = 0; side < 2; ++side) {
        Session& session = side == 0 ? *p : *q;
        (void)session.prefill({tokens.data() + w * kWindow + i, 1}, Cancel());
        (void)session.logits(logits[side]);
        double total = 0;
        for (float value : logits[side]) total += std::exp(double{value});
        logs[side] = std::log(total);
      }
      for (uint32_t v = 0; v < kVocabulary; ++v)
        sum += std::exp(logits[0][v] - logs[0]) * (logits[0][v] - logs[0] - logits[1][v] + logs[1]);
    }
  }
  return sum / (kWindows * kWindow);
}

void test_loss(const ModelPair& pair) {
  const std::unique_ptr<Model> dense = open_model(pair.dense, 2), packed = open_model(pair.packed, 2);
  const std::unique_ptr<Tuner> tuner = open_tuner(*dense, pair);
  const std::vector<int32_t> tokens = random_tokens(kWindows * kWindow);
  double loss = 0;
  (void)tuner->loss(tokens, kWindows, kWindow, &loss, Cancel());
  const double expected = session_divergence(*dense, *packed, tokens);
  tap::check(std::fabs(loss - expected) < 1e-3 * expected, "the loss is the divergence of two ordinary sessions");
  tap::note("loss %.6f, sessions %.6f", loss, expected);
  std::unique_ptr<Tuner> alone;
  (void)Tuner::open(*dense, &alone);
  tap::check(alone->loss(tokens, kWindows, kWindow, &loss, Cancel()).ok() && std::fabs(loss) < 1e-6,
             "without packed matrices there is no divergence");
}

struct Run {
  std::vector<double> losses;
  std::vector<float> state;
  std::vector<uint16_t> codes;
};

const TuneRates kRates{{1e-2f, 5e-3f, 5e-3f}};

Run run_steps(const ModelPair& pair, int threads, int steps, bool interrupted) {
  const std::unique_ptr<Model> model = open_model(pair.dense, threads);
  std::unique_ptr<Tuner> tuner = open_tuner(*model, pair);
  const std::vector<int32_t> tokens = random_tokens(kWindows * kWindow);
  Run run;
  for (int step = 0; step < steps; ++step) {
    double loss = 0;
    if (!tuner->step(tokens, kWindows, kWindow, kRates, &loss, Cancel()).ok()) break;
    run.losses.push_back(loss);
    run.state.resize(tuner->state_size());
    (void)tuner->save_state(run.state);
    if (interrupted && step == steps / 2) {
      tuner = open_tuner(*model, pair);
      (void)tuner->load_state(run.state);
    }
  }
  for (const PairMatrix& matrix : pair.matrices) {
    PackedWeights weights;
    if (!tuner->matrix(matrix.role, matrix.layer, &weights).ok()) continue;
    run.codes.insert(run.codes.end(), weights.scales.begin(), weights.scales.end());
    run.codes.insert(run.codes.end(), weights.row_scales.begin(), weights.row_scales.end());
  }
  return run;
}

bool same(const Run& a, const Run& b) { return a.losses == b.losses && a.state == b.state && a.codes == b.codes; }

void test_steps(const ModelPair& pair) {
  const Run one = run_steps(pair, 1, 8, false);
  tap::check(one.losses.size() == 8 && one.losses.back() < 0.8 * one.losses.front(), "steps lower the loss");
  tap::note("loss %.5f -> %.5f", one.losses.front(), one.losses.back());
  tap::check(same(one, run_steps(pair, 3, 8, false)), "1 and 3 threads give the same bytes");
  tap::check(same(one, run_steps(pair, 2, 8, true)), "a saved state resumes with the same bytes");

  // What is read back is the tuned model.
  const std::unique_ptr<Model> model = open_model(pair.dense, 2);
  const std::unique_ptr<Tuner> tuner = open_tuner(*model, pair);
  (void)tuner->load_state(one.state);
  const std::vector<int32_t> tokens = random_tokens(kWindows * kWindow);
  double expected = 0, loss = 0;
  (void)tuner->loss(tokens, kWindows, kWindow, &expected, Cancel());
  std::vector<float> before(kHidden), after(kHidden);
  (void)open_tuner(*model, pair)->gains(Role::attention_norm, 1, before);
  bool good = tuner->gains(Role::attention_norm, 1, after).ok();
  tap::check(good && before != after, "gains are tuned and read back");
  std::unique_ptr<Tuner> again;
  (void)Tuner::open(*model, &again);
  for (const PairMatrix& matrix : pair.matrices) {
    PackedWeights weights;
    good = good && tuner->matrix(matrix.role, matrix.layer, &weights).ok() && weights.planes == matrix.packed.planes &&
           std::all_of(weights.scales.begin(), weights.scales.end(), valid_scale) &&
           again->set_matrix(matrix.role, matrix.layer, std::move(weights)).ok();
  }
  // The same scales beside the same gains.
  std::vector<float> gains_only = one.state;
  again->model().start();
  size_t first_gain = again->model().parameters().size() - (2 * kLayers + 1) * kHidden;
  std::fill(gains_only.begin() + 2, gains_only.begin() + 2 + static_cast<std::ptrdiff_t>(first_gain), 0.0f);
  (void)again->load_state(gains_only);
  (void)again->loss(tokens, kWindows, kWindow, &loss, Cancel());
  tap::check(good && loss == expected, "matrices are read back as the loss uses them");
}

void test_blocks(const ModelPair& pair) {
  const std::unique_ptr<Model> model = open_model(pair.dense, 2);
  const std::unique_ptr<Tuner> tuner = open_tuner(*model, pair);
  const std::vector<int32_t> tokens = random_tokens(kWindows * kWindow);
  double before = 0, after = 0;
  (void)tuner->loss(tokens, kWindows, kWindow, &before, Cancel());
  bool lower = tuner->begin_blocks(tokens, kWindows, kWindow).ok();
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    double first = 0, last = 0;
    for (uint32_t step = 0; step < 12; ++step) {
      const uint32_t chosen[] = {0, 1, 2};
      lower = tuner->block_step(chosen, kRates, step == 0 ? &first : &last, Cancel()).ok() && lower;
    }
    tap::note("block %u: mean squared error %.5f -> %.5f", layer, first, last);
    lower = lower && last < first && tuner->next_block(Cancel()).ok();
  }
  tap::check(lower && tuner->present_block() == kLayers, "steps lower the error of every block");
  (void)tuner->loss(tokens, kWindows, kWindow, &after, Cancel());
  tap::check(after < before, "tuning block by block lowers the divergence");
  const uint32_t chosen[] = {0};
  tap::check(tuner->block_step(chosen, kRates, &after, Cancel()).code == Code::invalid_argument,
             "no step after the last block");
}

void test_misuse(const ModelPair& pair) {
  const std::unique_ptr<Model> model = open_model(pair.dense, 1), packed = open_model(pair.packed, 1);
  std::unique_ptr<Tuner> tuner;
  tap::check(Tuner::open(*packed, &tuner).code == Code::unsupported, "a packed model is refused");
  (void)Tuner::open(*model, &tuner);
  const auto refused = [](const Status& status, const char* name) {
    tap::check(status.code == Code::invalid_argument && !status.message.empty(), name);
  };
  const PackedWeights& query = pair.matrices[1].packed;
  refused(tuner->set_matrix(Role::attention_norm, 0, query), "a norm is no matrix");
  refused(tuner->set_matrix(Role::head, 0, query), "a tied head is no matrix of its own");
  refused(tuner->set_matrix(Role::query, kLayers, query), "a layer too many");
  refused(tuner->set_matrix(Role::down, 0, query), "another shape");
  PackedWeights damaged = query;
  damaged.scales[0] = 0x1080;
  refused(tuner->set_matrix(Role::query, 0, damaged), "an invalid scale code");
  damaged = query;
  damaged.planes.pop_back();
  refused(tuner->set_matrix(Role::query, 0, damaged), "planes that are too short");
  tap::check(tuner->set_matrix(Role::query, 0, query).ok(), "a matrix is set");
  refused(tuner->set_matrix(Role::query, 0, query), "twice the same matrix");
  PackedWeights out;
  tap::check(tuner->matrix(Role::query, 1, &out).code == Code::not_found, "a matrix that was not set");

  std::vector<int32_t> tokens = random_tokens(2 * kWindow);
  double loss = 0;
  refused(tuner->step(tokens, 3, kWindow, kRates, &loss, Cancel()), "tokens that are not windows x window");
  refused(tuner->step(tokens, 0, 0, kRates, &loss, Cancel()), "no windows");
  refused(tuner->step(random_tokens(kContext + 1), 1, kContext + 1, kRates, &loss, Cancel()),
          "a window beyond the context");
  refused(tuner->step(tokens, 2, kWindow, TuneRates{{-1, 0, 0}}, &loss, Cancel()), "a negative rate");
  refused(tuner->step(tokens, 2, kWindow, TuneRates{{NAN, 0, 0}}, &loss, Cancel()), "a rate that is no number");
  tokens[5] = kVocabulary;
  refused(tuner->step(tokens, 2, kWindow, kRates, &loss, Cancel()), "a token outside the vocabulary");
  tokens[5] = 1;
  const uint32_t chosen[] = {0};
  refused(tuner->block_step(chosen, kRates, &loss, Cancel()), "a block step before begin_blocks");
  refused(tuner->next_block(Cancel()), "the next block before begin_blocks");
  std::vector<float> state(tuner->state_size()), after(state.size());
  refused(tuner->set_matrix(Role::key, 0, pair.matrices[2].packed), "a matrix after the start");
  refused(tuner->load_state({state.data(), state.size() - 1}), "a state of another size");
  state[3] = std::numeric_limits<float>::infinity();
  refused(tuner->load_state(state), "a state that is not finite");

  (void)tuner->save_state(state);
  const int32_t stop = 1;
  tap::check(tuner->step(tokens, 2, kWindow, kRates, &loss, Cancel(&stop)).code == Code::cancelled, "a step is cancelled");
  (void)tuner->save_state(after);
  tap::check(state == after, "a cancelled step changes nothing");

  // A row scale of infinity: nothing finite comes out.
  damaged = query;
  damaged.row_scales[0] = 0x7c00;
  std::unique_ptr<Tuner> broken;
  (void)Tuner::open(*model, &broken);
  tap::check(broken->set_matrix(Role::query, 0, damaged).ok(), "an infinite row scale is a number of the file");
  state.resize(broken->state_size());
  after.resize(state.size());
  (void)broken->save_state(state);
  const Status status = broken->step(tokens, 2, kWindow, kRates, &loss, Cancel());
  (void)broken->save_state(after);
  tap::check(status.code == Code::bad_format && status.message.find("not finite") != std::string::npos && state == after,
             "a loss that is not finite is reported and changes nothing");
}

void test_c_interface(const ModelPair& pair) {
  sa_model* model = nullptr;
  sa_tuner* tuner = nullptr;
  bool refused = sa_tuner_open(nullptr, &tuner) != 0 && pair.dense.open(0, 1, &model) == 0;
  refused = refused && sa_tuner_open(model, nullptr) != 0 && sa_tuner_open(model, &tuner) == 0 && sa_tuner_set(tuner, 4, 0, nullptr) != 0;
  double loss = 0;
  const sa_tune_rates rates{};
  const int32_t token = 1;
  refused = refused && sa_tuner_step(tuner, nullptr, 1, 1, &rates, &loss, nullptr) != 0 &&
            sa_tuner_step(tuner, &token, -1, -1, &rates, &loss, nullptr) != 0 &&
            sa_tuner_step(tuner, &token, 1, 1, nullptr, &loss, nullptr) != 0 &&
            sa_tuner_loss(tuner, &token, 1, 1, nullptr, nullptr) != 0 && sa_tuner_next_block(nullptr, nullptr) != 0 &&
            sa_tuner_begin_blocks(tuner, nullptr, 1, 1) != 0 && sa_tuner_gains(tuner, -1, -1, nullptr, 0) != 0;
  float gain = 0;
  sa_packed_info info;
  refused = refused && sa_tuner_gains(tuner, -1, -1, &gain, 1) != 0 && sa_tuner_describe(tuner, 4, -1, &info) != 0 &&
            sa_tuner_state_size(nullptr) == 0 && sa_tuner_load_state(tuner, nullptr, 0) != 0;
  tap::check(refused, "the C interface refuses null pointers and negative numbers");
  std::vector<float> state(sa_tuner_state_size(tuner));
  tap::check(sa_tuner_loss(tuner, &token, 1, 1, &loss, nullptr) == 0 && std::fabs(loss) < 1e-6 &&
                 sa_tuner_save_state(tuner, state.data(), state.size()) == 0 &&
                 sa_tuner_load_state(tuner, state.data(), state.size()) == 0,
             "the C interface runs");
  sa_tuner_close(tuner);
  sa_tuner_close(nullptr);
  sa_model_close(model);
}

}  // namespace

int main() {
  const ModelPair pair;
  test_gradients(pair);
  test_loss(pair);
  test_steps(pair);
  test_blocks(pair);
  const ModelPair rotated(true);
  test_gradients(rotated);
  test_loss(rotated);
  test_misuse(pair);
  test_c_interface(pair);
  return tap::finish();
}
