#include <algorithm>
#include <memory>
#include <utility>

#include "core/c_api_handles.h"
#include "core/grammar/constraint.h"

using namespace shiftadd;

sa_status sa_model_set_vocabulary(sa_model* model, const uint8_t* bytes, size_t byte_count, const uint32_t* ends, size_t count,
                                  const int32_t* end_tokens, size_t end_count) {
  if (model == nullptr || (bytes == nullptr && byte_count > 0) || ends == nullptr || (end_tokens == nullptr && end_count > 0)) return null_argument();
  if (model->vocabulary != nullptr) return finish(invalid_argument("the model has its vocabulary already"));
  if (count != model->model->spec().vocabulary_size) return finish(invalid_argument("the model has another number of tokens"));
  auto vocabulary = std::make_unique<Vocabulary>();
  if (Status status = Vocabulary::make({bytes, byte_count}, {ends, count}, {end_tokens, end_count}, vocabulary.get()); !status.ok()) return finish(status);
  model->vocabulary = std::move(vocabulary);
  return 0;
}

sa_status sa_grammar_open(const sa_model* model, const int32_t* numbers, size_t count, sa_grammar** out) {
  if (model == nullptr || numbers == nullptr || out == nullptr) return null_argument();
  if (model->vocabulary == nullptr) return finish(invalid_argument("the model has no vocabulary yet"));
  Grammar grammar;
  if (Status status = Grammar::load({numbers, count}, &grammar); !status.ok()) return finish(status);
  *out = new sa_grammar{new TokenAutomaton(std::move(grammar), *model->vocabulary)};
  return 0;
}

void sa_grammar_close(sa_grammar* grammar) {
  if (grammar == nullptr) return;
  TokenAutomaton::release(grammar->automaton);
  delete grammar;
}

sa_status sa_grammar_follow(const sa_grammar* grammar, const uint8_t* text, size_t text_bytes, int32_t budget, uint32_t* tokens,
                            size_t word_count, int32_t* verdict, int32_t* least) {
  if (grammar == nullptr || (text == nullptr && text_bytes > 0) || verdict == nullptr || least == nullptr) return null_argument();
  if (budget < 0) return finish(invalid_argument("the budget must not be negative"));
  TokenAutomaton& automaton = *grammar->automaton;
  if (tokens != nullptr && word_count != (automaton.vocabulary().size() + 31) / 32) return finish(invalid_argument("the mask of tokens has the wrong size"));
  automaton.tidy();
  *verdict = 0;
  *least = -1;
  if (tokens != nullptr) std::fill_n(tokens, word_count, 0u);
  int32_t state = automaton.start();
  if (state >= 0) state = automaton.advance(state, {text, text_bytes});
  if (state == Automaton::kDead) return 0;
  if (state < 0) return finish(automaton.failure());
  *verdict = !automaton.accepts(state) ? 1 : automaton.is_final(state) ? 3 : 2;
  const uint32_t rest = automaton.tokens_to_end(state);
  if (rest > TokenAutomaton::kNever) return finish(automaton.failure());
  if (rest < TokenAutomaton::kNever) *least = static_cast<int32_t>(rest);
  if (tokens == nullptr) return 0;
  std::span<const uint32_t> mask;
  if (Status status = automaton.mask(state, static_cast<uint32_t>(budget), &mask); !status.ok()) return finish(status);
  std::copy(mask.begin(), mask.end(), tokens);
  return 0;
}
