// What the files of the C ABI share: the model behind its handle, and how a Status becomes a status code.
#pragma once

#include <memory>

#include "backends/cpu/cpu_backend.h"
#include "core/c_api.h"
#include "core/grammar/token_automaton.h"
#include "core/model.h"

struct sa_model {
  std::unique_ptr<shiftadd::Model> model;
  shiftadd::Precision precision;
  shiftadd::KvType kv_type;
  std::unique_ptr<shiftadd::Vocabulary> vocabulary;  // for grammars
};

struct sa_grammar {
  shiftadd::TokenAutomaton* automaton;  // shared with the sessions that it constrains
};

namespace shiftadd {

// Keeps the message for sa_last_error().
sa_status finish(const Status& status);
inline sa_status null_argument() { return finish(invalid_argument("a required pointer is null")); }

}  // namespace shiftadd
