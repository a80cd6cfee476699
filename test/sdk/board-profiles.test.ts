// The board profiles: each fits the schema, none contradicts another, and the package carries them.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import t from 'tap';
import { boardProfile, loadBoardProfiles } from '../../sdk/src/index.js';
import { packageRoot } from '../../sdk/src/native-path.js';

const folder = join(packageRoot(), 'devices', 'profiles');
const read = (name: string): object => JSON.parse(readFileSync(join(folder, name), 'utf8')) as object;
const validate = new Ajv({ allErrors: true, allowUnionTypes: true, formats: { regex: (text: string) => Boolean(new RegExp(text)) } }).compile(read('schema.json'));

t.test('every profile fits the schema', async (t) => {
  const names = readdirSync(folder).filter((name) => name !== 'schema.json');
  t.ok(names.length >= 25);
  for (const name of names) {
    t.match(name, /^[a-z0-9-]+\.json$/);
    t.ok(validate(read(name)), `${name}: ${JSON.stringify(validate.errors)}`);
  }
});

t.test('the schema refuses what is no profile', async (t) => {
  const orin = read('orin-nano-8gb.json');
  t.notOk(validate({ ...orin, kind: 'phone' }));
  t.notOk(validate({ ...orin, colour: 'green' }));
  t.notOk(validate({ ...orin, energy: { scope: 'everything', totals: [] } }));
  t.notOk(validate({ ...orin, match: { parts: ['3767-0003'] } }));
});

t.test('no module is two boards, and a power mode is the default once', async (t) => {
  const profiles = loadBoardProfiles();
  const parts = profiles.flatMap(({ match }) => match.parts ?? []);
  t.equal(new Set(parts).size, parts.length);
  for (const { id, powerModes } of profiles) {
    t.ok(powerModes.filter((mode) => mode.default).length <= 1, id);
    t.equal(new Set(powerModes.map((mode) => mode.name)).size, powerModes.length, id);
  }
});

t.test('by id', async (t) => {
  t.match(boardProfile('orin-nano-8gb'), { id: 'orin-nano-8gb', kind: 'jetson', memory: { bytes: 8 * 2 ** 30, unified: true } });
  t.throws(() => boardProfile('orin-nano-8g'), { code: 'ERR_NOT_FOUND', message: /Did you mean 'orin-nano-8gb'/ });
  t.throws(() => boardProfile(8 as unknown as string), TypeError);
});

t.test('totals are those of the boards', async (t) => {
  const total = (id: string): string[][] | undefined => boardProfile(id).energy?.totals.map(({ rails }) => rails);
  t.same(total('jetson-nano')![0], ['POM_5V_IN']);
  t.equal(boardProfile('jetson-nano-2gb').energy, null);
  for (const id of ['jetson-tx2', 'xavier-nx-8gb', 'orin-nano-8gb', 'orin-nx-16gb']) t.same(total(id), [['VDD_IN']], id);
  t.same(total('agx-xavier-32gb'), [['GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V']]);
  t.same(total('agx-orin-64gb'), [['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0']]);
  t.same(total('agx-thor-t5000'), [['VIN'], ['VDD_GPU', 'VDD_CPU_SOC_MSS', 'VIN_SYS_5V0']]);
});
