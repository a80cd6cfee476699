// What the benchmark asks of an engine. Each file beside this one implements it over the public interface of one package
// and loads that package only when it opens a model, so that the time to load counts.

/**
 * @typedef {object} Settings
 * @property {string} path of the model
 * @property {number} threads
 * @property {string} [precision] of shiftadd
 * @property {number} contextSize tokens that a generation must hold
 * @property {string | null} peers the node_modules folder of the peers
 */

/**
 * @typedef {object} Timing
 * @property {number} firstTokenMs from the call to the first generated token
 * @property {number} decodeMs from there to the last one
 * @property {number} steps decode steps in `decodeMs`
 */

/**
 * @typedef {object} Engine
 * @property {number} vocabularySize
 * @property {number} weightBytes in the file, read once per token: layers, norms and output head
 * @property {() => object} describe backend, instruction set and threads that were really used
 * @property {(tokens: number[], count: number) => Promise<Timing | null>} generate greedily from an empty context; null
 *   when an end token came before `count` tokens
 * @property {(tokens: number[]) => Promise<void>} [checkFinite] throws unless the logits are finite; only for an engine
 *   that would go on without a word
 * @property {(question: string) => AsyncIterable<string>} chat the answer as it comes
 * @property {() => Promise<void>} close
 */

/** @typedef {(settings: Settings) => Promise<Engine>} OpenEngine */

const files = { 'shiftadd': './shiftadd.mjs', 'node-llama-cpp': './node-llama-cpp.mjs' };

/** @param {keyof files} name @param {Settings} settings @returns {Promise<Engine>} */
export async function openEngine(name, settings) {
  const { openEngine: open } = await import(files[name]);
  return open(settings);
}
