// Who runs what: for every model that was asked for, our browser build in each precision and wllama on each of its files.
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { StepError } from '../../scripts/run-step.mjs';
import { root } from '../../scripts/setup.mjs';
import { ggufScaleModel, packedScaleModel } from '../scale-models.mjs';

/**
 * @typedef {object} Contender
 * @property {'shiftadd' | 'wllama'} engine
 * @property {string} label in the table
 * @property {string} place on the server
 * @property {string} folder that is served there
 * @property {string} url of the model in it: of a folder, or of a GGUF file
 * @property {string} [precision] of shiftadd
 */
/** @typedef {{ name: string, contenders: Contender[] }} Entry */

const embeddedModel = join(root, 'models', 'smollm2-135m-instruct');
const embeddedPeer = join(root, 'benchmarks', 'peers', 'smollm2.gguf');

/** Makes what is missing. @returns {Promise<Entry[]>} */
export async function findContenders(options, hasPeer, say) {
  const hasOurs = existsSync(join(options.build, 'index.js'));
  if (!hasOurs) say(`${options.build} has no index.js, so wllama runs alone; --build names our browser build`);
  if (!hasOurs && !hasPeer) throw new StepError('There is nothing to measure');
  const given = options.models.filter((name) => name !== '1b');
  if (options.ggufFiles.length > 0 && given.length !== 1) {
    throw new StepError('--gguf says what wllama runs beside one model; name exactly one besides 1b', 2);
  }
  let places = 0;
  const served = (folder, file) => {
    const place = `/models/${++places}/`;
    return { place, folder, url: place + file };
  };
  const entries = [];
  for (const name of options.models) {
    const { packed, files } = name === '1b' ? await scaleModels(options, hasOurs, hasPeer, say) : givenModels(name, options, say);
    const contenders = [
      ...(hasOurs ? packed : []).flatMap(({ label, path }) => options.precisions.map((precision) => (
        { engine: 'shiftadd', label: `shiftadd ${label} ${precision}`, ...served(path, ''), precision }))),
      ...(hasPeer ? files : []).map((path) => ({ engine: 'wllama', label: `wllama ${typeOf(path)}`, ...served(dirname(path), basename(path)) })),
    ];
    entries.push({ name: name === '1b' ? name : basename(name), contenders });
  }
  return entries;
}

async function scaleModels({ modelsFolder, bits, types }, hasOurs, hasPeer, say) {
  const packed = [];
  for (const count of hasOurs ? bits : []) packed.push({ label: `${count} bits`, path: await packedScaleModel(modelsFolder, count, say) });
  const files = [];
  for (const type of hasPeer ? types : []) files.push(await ggufScaleModel(modelsFolder, type, say));
  return { packed, files };
}

function givenModels(name, { ggufFiles }, say) {
  const path = name === 'smollm2' ? embeddedModel : resolve(name);
  if (!existsSync(join(path, 'config.json'))) throw new StepError(`${path} is no model folder: it has no config.json`);
  for (const file of ggufFiles) if (!existsSync(file)) throw new StepError(`${file}, which --gguf names, is not there`);
  const files = ggufFiles.length === 0 && name === 'smollm2' && existsSync(embeddedPeer) ? [embeddedPeer] : ggufFiles;
  if (files.length === 0) say(`wllama has no model to run beside ${name}: benchmarks/README.md says where to get one, --gguf names it`);
  return { packed: [{ label: 'packed', path }], files };
}

/** smollm2-Q4_0.gguf is Q4_0. */
const typeOf = (path) => basename(path, '.gguf').split(/[-.]/).at(-1);
