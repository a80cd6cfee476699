// What the browser benchmark asks of an engine. Each file beside this one implements it over the public interface of one
// package, in the page.

/**
 * @typedef {object} Settings
 * @property {string} url of the model
 * @property {number} threads
 * @property {string} [precision] of shiftadd
 * @property {number} contextSize tokens that a generation must hold
 */

/**
 * @typedef {object} Timing
 * @property {number} promptMs in which the engine, by its own clock, computed the prompt
 * @property {number} decodeMs from the first token to the last one, by its own clock
 * @property {number} callMs from the call to its end, as the page saw it
 */

/**
 * @typedef {object} Engine
 * @property {() => object} describe what was really used
 * @property {(length: number, seed: number, count: number) => Promise<Timing | null>} generate `count` tokens greedily after
 *   a prompt of `length` tokens, from an empty context; null when an end token came before
 */

/** @typedef {(settings: Settings) => Promise<Engine>} OpenEngine */

const files = { shiftadd: './shiftadd.mjs', wllama: './wllama.mjs' };

/** @param {keyof files} name @param {Settings} settings @returns {Promise<Engine>} */
export async function openEngine(name, settings) {
  const { openEngine: open } = await import(files[name]);
  return open(settings);
}
