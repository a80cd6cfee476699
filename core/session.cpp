#include "core/session.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/finite.h"

namespace shiftadd {
namespace {

constexpr uint32_t kCopyPositions = 64;  // that are on the host at once while one session copies another
constexpr uint32_t kEvaluateRows = 32;  // rows of logits between two looks at the cancel flag

Status not_finite(const Backend& backend, size_t position) {
  SHIFTADD_TRY(backend.failure());
  return {Code::device_failed, "the logits at position " + std::to_string(position) +
                                   " are not finite: the weights contain NaN or infinite values"};
}

}  // namespace

Status Session::open(const Model& model, uint32_t context_size, std::unique_ptr<Session>* out) {
  if (context_size == 0 || context_size > model.spec().context_limit)
    return invalid_argument("the context size must be 1 to " + std::to_string(model.spec().context_limit) +
                            " but is " + std::to_string(context_size));
  std::unique_ptr<Session> session(new Session(model));
  SHIFTADD_TRY(session->cache_.allocate(model, model.spec().layers, context_size));
  SHIFTADD_TRY(session->transformer_.allocate());
  session->logits_.resize(model.spec().vocabulary_size);
  session->tokens_.reserve(context_size);
  *out = std::move(session);
  return ok_status();
}

Status Session::check_tokens(std::span<const int32_t> tokens) const {
  for (int32_t token : tokens)
    if (token < 0 || static_cast<uint32_t>(token) >= model_.spec().vocabulary_size)
      return invalid_argument("token " + std::to_string(token) + " is outside the vocabulary of " +
                              std::to_string(model_.spec().vocabulary_size));
  return ok_status();
}

Status Session::run_step(std::span<const int32_t> tokens, uint32_t position, Cancel cancel) {
  const uint32_t rows = static_cast<uint32_t>(tokens.size());
  transformer_.embed(tokens.data(), position, rows);
  transformer_.begin_step(position, rows);
  Status status;
  for (uint32_t layer = 0; layer < model_.spec().layers && status.ok(); ++layer) {
    if (cancel.requested()) status = cancelled();
    else transformer_.run_block(layer, cache_.layer(layer), position, rows);
  }
  transformer_.end_step();
  return status;
}

Status Session::reach(size_t length, Cancel cancel) {
  const uint32_t limit = model_.spec().rotary_switch;
  const bool beyond = limit > 0 && length > limit;
  if (beyond == beyond_switch_) return ok_status();
  transformer_.set_beyond_switch(beyond);
  for (size_t done = 0; done < tokens_.size(); done += Transformer::kMaxRows) {
    const std::span<const int32_t> rest = std::span<const int32_t>(tokens_).subspan(done);
    const Status status = run_step(rest.first(std::min<size_t>(rest.size(), Transformer::kMaxRows)), static_cast<uint32_t>(done), cancel);
    if (status.ok()) continue;
    transformer_.set_beyond_switch(beyond_switch_);  // the keys that were read again are of the wrong kind
    tokens_.clear();
    has_logits_ = false;
    return status;
  }
  beyond_switch_ = beyond;
  return ok_status();
}

Status Session::check_prefill(std::span<const int32_t> tokens) const {
  if (tokens.empty()) return invalid_argument("there are no tokens to read");
  if (tokens.size() > context_size() - position())
    return invalid_argument(std::to_string(tokens.size()) + " tokens do not fit: " + std::to_string(position()) +
                            " of " + std::to_string(context_size()) + " positions are taken");
  return check_tokens(tokens);
}

Status Session::run_steps(std::span<const int32_t> tokens, Cancel cancel, uint32_t* last_rows) {
  SHIFTADD_TRY(check_prefill(tokens));
  SHIFTADD_TRY(reach(position() + tokens.size(), cancel));
  // A cancelled or failed call may leave keys and values behind the position; the next call overwrites them.
  uint32_t rows = 0;
  for (size_t done = 0; done < tokens.size(); done += rows) {
    rows = static_cast<uint32_t>(std::min<size_t>(Transformer::kMaxRows, tokens.size() - done));
    SHIFTADD_TRY(run_step(tokens.subspan(done, rows), position() + static_cast<uint32_t>(done), cancel));
  }
  *last_rows = rows;
  return ok_status();
}

Status Session::append(std::span<const int32_t> tokens, Cancel cancel) {
  uint32_t rows = 0;
  SHIFTADD_TRY(run_steps(tokens, cancel, &rows));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  has_logits_ = false;
  return ok_status();
}

Status Session::prefill(std::span<const int32_t> tokens, Cancel cancel) {
  uint32_t rows = 0;
  SHIFTADD_TRY(run_steps(tokens, cancel, &rows));
  has_logits_ = logits_on_host_ = false;
  transformer_.compute_last_logits(rows);
  largest_ = transformer_.largest_logit();
  if (largest_ < 0) return not_finite(model_.backend(), position() + tokens.size() - 1);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  has_logits_ = true;
  return ok_status();
}

Status Session::prefill_logits(std::span<const int32_t> tokens, std::span<float> out, Cancel cancel) {
  SHIFTADD_TRY(check_prefill(tokens));
  const size_t vocabulary = model_.spec().vocabulary_size;
  if (out.size() != tokens.size() * vocabulary)
    return invalid_argument("the logits need room for " + std::to_string(tokens.size() * vocabulary) + " numbers");
  SHIFTADD_TRY(reach(position() + tokens.size(), cancel));
  for (size_t done = 0; done < tokens.size(); done += Transformer::kMaxRows) {
    const uint32_t rows = static_cast<uint32_t>(std::min<size_t>(Transformer::kMaxRows, tokens.size() - done));
    SHIFTADD_TRY(run_step(tokens.subspan(done, rows), position() + static_cast<uint32_t>(done), cancel));
    transformer_.logits(0, rows, out.data() + done * vocabulary);
  }
  for (size_t row = 0; row < tokens.size(); ++row)
    if (!all_finite(out.subspan(row * vocabulary, vocabulary))) return not_finite(model_.backend(), position() + row);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  std::copy_n(out.end() - static_cast<ptrdiff_t>(vocabulary), vocabulary, logits_.begin());
  keep_host_logits();
  return ok_status();
}

Status Session::sample(const Sampling& sampling, int32_t* token) {
  if (!has_logits_) return invalid_argument("there are no logits to sample from: read some tokens first");
  return constraint_ != nullptr ? sample_constrained(sampling, token) : sample_free(sampling, token);
}

Status Session::sample_free(const Sampling& sampling, int32_t* token) {
  if (!Sampler::takes_largest(sampling)) return sampler_.sample(host_logits(), tokens_, sampling, {}, token);
  *token = largest_;
  return ok_status();
}

Status Session::sample_constrained(const Sampling& sampling, int32_t* token) {
  SHIFTADD_TRY(constraint_->prepare());
  bool allowed = false;
  if (Sampler::is_greedy(sampling)) {  // mostly the likeliest token is allowed, and one token is checked much sooner than all
    SHIFTADD_TRY(sample_free(sampling, token));
    SHIFTADD_TRY(constraint_->allows(*token, &allowed));
  }
  if (!allowed) {
    std::span<const uint32_t> mask;
    SHIFTADD_TRY(constraint_->mask(&mask));
    SHIFTADD_TRY(sampler_.sample(host_logits(), tokens_, sampling, mask, token));
  }
  return constraint_->advance(*token);
}

Status Session::constrain(TokenAutomaton* automaton, uint32_t budget) {
  constraint_ = nullptr;
  if (automaton == nullptr) return ok_status();
  if (automaton->vocabulary().size() != model_.spec().vocabulary_size) return invalid_argument("the grammar belongs to another vocabulary");
  auto constraint = std::make_unique<Constraint>(automaton);
  SHIFTADD_TRY(constraint->begin(budget));
  constraint_ = std::move(constraint);
  return ok_status();
}

Status Session::decode_draft(int32_t token, std::span<const int32_t> draft, int32_t* out, int32_t* count,
                             Cancel cancel) {
  const size_t rows = draft.size() + 1, vocabulary = model_.spec().vocabulary_size;
  if (constraint_ != nullptr) return unsupported("a constrained answer takes no drafts");
  if (draft.size() > kMaxDraft) return invalid_argument("a draft has at most " + std::to_string(kMaxDraft) + " tokens");
  if (rows > context_size() - position())
    return invalid_argument(std::to_string(rows) + " tokens do not fit: " + std::to_string(position()) + " of " +
                            std::to_string(context_size()) + " positions are taken");
  int32_t tokens[kMaxDraft + 1] = {token};
  std::copy(draft.begin(), draft.end(), tokens + 1);
  SHIFTADD_TRY(check_tokens({tokens, rows}));
  const uint32_t limit = model_.spec().rotary_switch;
  if (draft.size() > 0 && limit > position() && limit < position() + rows)  // a rejected draft must not cross it
    return decode_draft(token, draft.first(limit - position() - 1), out, count, cancel);
  SHIFTADD_TRY(reach(position() + rows, cancel));
  SHIFTADD_TRY(run_step({tokens, rows}, position(), cancel));
  draft_logits_.resize((kMaxDraft + 1) * vocabulary);
  transformer_.logits(0, static_cast<uint32_t>(rows), draft_logits_.data());
  for (size_t row = 0;; ++row) {
    const std::span<const float> logits(draft_logits_.data() + row * vocabulary, vocabulary);
    if (!all_finite(logits)) return not_finite(model_.backend(), position() + row);
    out[row] = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (row < draft.size() && out[row] == draft[row]) continue;
    tokens_.insert(tokens_.end(), tokens, tokens + row + 1);
    std::copy(logits.begin(), logits.end(), logits_.begin());
    keep_host_logits();
    *count = static_cast<int32_t>(row + 1);
    return ok_status();
  }
}

Status Session::rewind(uint32_t position) {
  if (position > tokens_.size())
    return invalid_argument("cannot rewind to position " + std::to_string(position) + " from " +
                            std::to_string(tokens_.size()));
  if (position == tokens_.size()) return ok_status();
  tokens_.resize(position);
  has_logits_ = false;
  return ok_status();
}

void Session::keep_host_logits() {
  has_logits_ = logits_on_host_ = true;
  largest_ = static_cast<int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
}

std::span<const float> Session::host_logits() {
  if (!logits_on_host_) transformer_.read_logits(logits_.data());
  logits_on_host_ = true;
  return logits_;
}

Status Session::logits(std::span<float> out) {
  if (!has_logits_) return invalid_argument("there are no logits: read some tokens first");
  if (out.size() != logits_.size())
    return invalid_argument("the logits need room for " + std::to_string(logits_.size()) + " numbers");
  const std::span<const float> logits = host_logits();
  SHIFTADD_TRY(model_.backend().failure());
  std::copy(logits.begin(), logits.end(), out.begin());
  return ok_status();
}

Status Session::evaluate(std::span<const int32_t> tokens, std::span<float> log_probabilities, Cancel cancel) {
  if (tokens.size() < 2 || log_probabilities.size() != tokens.size() - 1)
    return invalid_argument("evaluation needs at least two tokens and one result less than tokens");
  if (tokens.size() > context_size())
    return invalid_argument(std::to_string(tokens.size()) + " tokens do not fit the context of " +
                            std::to_string(context_size()));
  SHIFTADD_TRY(check_tokens(tokens));
  SHIFTADD_TRY(rewind(0));
  SHIFTADD_TRY(reach(tokens.size(), cancel));
  for (size_t done = 0; done + 1 < tokens.size(); done += Transformer::kMaxRows) {
    const uint32_t rows = static_cast<uint32_t>(std::min<size_t>(Transformer::kMaxRows, tokens.size() - 1 - done));
    SHIFTADD_TRY(run_step(tokens.subspan(done, rows), static_cast<uint32_t>(done), cancel));
    for (uint32_t first = 0, last = 0; first < rows; first = last) {
      if (cancel.requested()) return cancelled();
      last = std::min(rows, first + kEvaluateRows);
      float* out = &log_probabilities[done + first];
      transformer_.log_probabilities(first, last, &tokens[done + first + 1], out);
      for (uint32_t m = 0; m < last - first; ++m)
        if (std::isnan(out[m])) return not_finite(model_.backend(), done + first + m);
    }
  }
  return ok_status();
}

Status Session::embed(std::span<const int32_t> tokens, Pooling pooling, std::span<float> out, Cancel cancel) {
  const size_t width = model_.spec().embedding_size;
  if (out.size() != width) return invalid_argument("the vector needs room for " + std::to_string(width) + " numbers");
  SHIFTADD_TRY(rewind(0));
  SHIFTADD_TRY(check_prefill(tokens));
  SHIFTADD_TRY(reach(tokens.size(), cancel));
  std::vector<float> states;
  std::vector<double> sums(width, 0.0);
  for (size_t done = 0; done < tokens.size(); done += Transformer::kMaxRows) {
    const uint32_t rows = static_cast<uint32_t>(std::min<size_t>(Transformer::kMaxRows, tokens.size() - done));
    SHIFTADD_TRY(run_step(tokens.subspan(done, rows), static_cast<uint32_t>(done), cancel));
    const bool is_last = done + rows == tokens.size();
    if ((pooling == Pooling::last && !is_last) || (pooling == Pooling::first && done > 0)) continue;
    const uint32_t first = pooling == Pooling::last ? rows - 1 : 0, behind = pooling == Pooling::first ? 1 : rows;
    states.resize((behind - first) * width);
    transformer_.read_states(transformer_.output_states(first, behind), states.data(), states.size());
    for (size_t i = 0; i < states.size(); ++i) sums[i % width] += states[i];
    if (pooling == Pooling::first) break;
  }
  const double count = pooling == Pooling::mean ? static_cast<double>(tokens.size()) : 1;
  for (size_t i = 0; i < width; ++i) out[i] = static_cast<float>(sums[i] / count);
  if (all_finite(out)) return ok_status();
  SHIFTADD_TRY(model_.backend().failure());
  return {Code::device_failed, "the hidden states are not finite: the weights contain NaN or infinite values"};
}

Status Session::save(uint32_t first, uint32_t count, std::span<uint8_t> out) const {
  if (first > position() || count > position() - first)
    return invalid_argument("positions " + std::to_string(first) + " to " + std::to_string(uint64_t{first} + count) +
                            " are not all taken: there are " + std::to_string(position()));
  if (out.size() != count * position_bytes())
    return invalid_argument("the positions need room for " + std::to_string(count * position_bytes()) + " bytes");
  if (count > 0) cache_.read(first, count, out.data());
  return model_.backend().failure();
}

// Of the keys that this session is going to hold in the place of its own.
void Session::take_kind(bool beyond_switch) {
  beyond_switch_ = beyond_switch;
  transformer_.set_beyond_switch(beyond_switch);
}

Status Session::restore(std::span<const int32_t> tokens, std::span<const uint8_t> saved, bool beyond_switch) {
  SHIFTADD_TRY(check_prefill(tokens));
  if (saved.size() != tokens.size() * position_bytes())
    return invalid_argument(std::to_string(tokens.size()) + " positions have " + std::to_string(tokens.size() * position_bytes()) +
                            " bytes but " + std::to_string(saved.size()) + " were given");
  if (beyond_switch && model_.spec().rotary_switch == 0) return invalid_argument("this model has one kind of rotary positions");
  if (position() > 0 && beyond_switch != beyond_switch_) return invalid_argument("the session holds keys of another kind of rotary positions");
  take_kind(beyond_switch);
  cache_.write(position(), static_cast<uint32_t>(tokens.size()), saved.data());
  SHIFTADD_TRY(model_.backend().failure());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  has_logits_ = false;
  return ok_status();
}

Status Session::copy(const Session& from, std::span<const int32_t> tokens) {
  if (&from == this || &from.model_ != &model_) return invalid_argument("a session copies another one of the same model");
  if (tokens.size() > context_size())
    return invalid_argument(std::to_string(tokens.size()) + " tokens do not fit the context of " + std::to_string(context_size()));
  // Whoever chose the session may have been wrong about what it holds; content of another text must not come along.
  if (tokens.size() > from.tokens_.size() || !std::equal(tokens.begin(), tokens.end(), from.tokens_.begin()))
    return invalid_argument("the other session does not begin with these tokens");
  SHIFTADD_TRY(rewind(0));
  take_kind(from.beyond_switch_);
  const uint32_t count = static_cast<uint32_t>(tokens.size());
  std::vector<uint8_t> part(std::min(count, kCopyPositions) * position_bytes());
  for (uint32_t done = 0, next = 0; done < count; done = next) {
    next = std::min(count, done + kCopyPositions);
    from.cache_.read(done, next - done, part.data());
    cache_.write(done, next - done, part.data());
  }
  SHIFTADD_TRY(model_.backend().failure());
  tokens_.assign(tokens.begin(), tokens.end());
  has_logits_ = false;
  return ok_status();
}

}  // namespace shiftadd
