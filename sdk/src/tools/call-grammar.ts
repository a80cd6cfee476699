/** Grammars of answers that are tool calls, alone or beside a schema. */
import type { Json } from '../checkpoint/json-file.js';
import { GrammarRules } from '../structured/grammar-rules.js';
import { addSchema } from '../structured/schema-grammar.js';
import type { CallFormat } from './call-format.js';
import type { Tool } from './tools.js';

/** Behind the opener, which ends the prompt: one call, or at least one where there may be `several`. */
export function forcedCallGrammar(tools: readonly Tool[], format: CallFormat, several = false): Int32Array {
  const rules = new GrammarRules();
  const { rule, start } = rules.rule();
  const end = rules.node();
  rules.end(end);
  addCalls(rules, rules.optionalSpace(start), tools, format, end, several);
  return rules.encode(rule);
}

/** A call with what stands around it, or an answer of the schema. */
export function callOrSchemaGrammar(tools: readonly Tool[], format: CallFormat, schema: Json): Int32Array {
  const rules = new GrammarRules();
  const { rule, start } = rules.rule();
  const end = rules.node();
  rules.end(end);
  const from = rules.optionalSpace(start);
  addSchema(rules, from, schema, end);
  const called = rules.node();
  addCalls(rules, rules.text(from, format.opener), tools, format, called);
  rules.empty(rules.text(called, format.closer), end);
  return rules.encode(rule);
}

/** One call of one of the tools, in a list where the format has lists; or several, and then the closer may stand behind the last. */
function addCalls(rules: GrammarRules, from: number, tools: readonly Tool[], format: CallFormat, to: number, several = false): void {
  const open = rules.node();
  rules.empty(format.isList ? rules.text(from, '[') : from, open);
  const behind = rules.node();
  for (const { name, parameters } of tools) {
    const key = rules.optionalSpace(rules.text(open, '{"name":'));
    const next = rules.optionalSpace(rules.text(rules.text(key, JSON.stringify(name)), ','));
    const given = rules.optionalSpace(rules.text(next, `${JSON.stringify(format.argumentsKey)}:`));
    const close = rules.node();
    addSchema(rules, given, parameters, close);
    rules.text(close, '}', behind);
  }
  if (several) {
    rules.text(behind, format.separator, open);
    if (format.closer !== '') rules.text(behind, format.closer, to);
  }
  rules.empty(format.isList ? rules.text(behind, ']') : behind, to);
}
