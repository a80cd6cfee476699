// Who runs what: for every model that was asked for, our engine in each precision and the peer on each of its files.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { StepError } from '../scripts/run-step.mjs';
import { root } from '../scripts/setup.mjs';
import { ggufScaleModel, packedScaleModel } from './scale-models.mjs';

/**
 * @typedef {object} Contender
 * @property {'shiftadd' | 'node-llama-cpp'} engine
 * @property {string} label in the table
 * @property {string} path of the model
 * @property {string} [precision] of shiftadd
 */
/** @typedef {{ name: string, chat: boolean, contenders: Contender[] }} Entry */

const embeddedModel = join(root, 'models', 'smollm2-135m-instruct');
const embeddedPeer = join(root, 'benchmarks', 'peers', 'smollm2.gguf');

/** The peer's types of about the same width. */
const scaleTypes = { 2: ['TQ2_0', 'Q2_K'], 3: ['Q3_K'], 4: ['Q4_0'] };

/** Makes what is missing. @returns {Promise<Entry[]>} */
export async function findContenders(options, hasPeer, say) {
  const ours = options.models.filter((name) => !name.startsWith('scale-'));
  if (options.ggufFiles.length > 0 && ours.length !== 1) {
    throw new StepError('--gguf says what the peer runs beside one model; name exactly one besides the scale models', 2);
  }
  const entries = [];
  for (const name of options.models) {
    const bits = /^scale-(\d+)$/.exec(name)?.[1];
    if (bits === undefined) entries.push(givenModel(name, options, hasPeer, say));
    else entries.push(await scaleModel(name, bits, options, hasPeer, say));
  }
  return entries;
}

function givenModel(name, options, hasPeer, say) {
  const path = name === 'smollm2' ? embeddedModel : resolve(name);
  if (!existsSync(join(path, 'config.json'))) throw new StepError(`${path} is no model folder: it has no config.json`);
  let files = options.ggufFiles;
  for (const file of files) if (!existsSync(file)) throw new StepError(`${file}, which --gguf names, is not there`);
  if (files.length === 0 && name === 'smollm2' && hasPeer) {
    if (existsSync(embeddedPeer)) files = [embeddedPeer];
    else say(`the peer has no model to run beside smollm2: benchmarks/README.md says where to get one, --gguf names it`);
  }
  const peers = hasPeer ? files.map((file) => peer(file, basename(file, '.gguf'))) : [];
  return { name: basename(path), chat: name === 'smollm2', contenders: [...ourContenders(path, options), ...peers] };
}

async function scaleModel(name, bits, options, hasPeer, say) {
  const types = scaleTypes[bits];
  if (types === undefined) throw new StepError(`Expected scale-${Object.keys(scaleTypes).join(', scale-')} but received ${name}`, 2);
  const contenders = ourContenders(await packedScaleModel(options.modelsFolder, bits, say), options);
  for (const type of hasPeer ? types : []) contenders.push(peer(await ggufScaleModel(options.modelsFolder, type, say), type));
  return { name, chat: false, contenders };
}

const ourContenders = (path, { precisions }) =>
  precisions.map((precision) => ({ engine: 'shiftadd', label: `shiftadd ${precision}`, path, precision }));

const peer = (path, type) => ({ engine: 'node-llama-cpp', label: `node-llama-cpp ${type}`, path });
