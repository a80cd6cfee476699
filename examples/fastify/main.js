// node main.js [model folder]; PORT is 3000 unless set.
import { loadModel } from 'shiftadd';
import { buildApp } from './app.js';

const model = await loadModel(process.argv[2]);
const app = buildApp(model);
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, async () => {
    await app.close();
    await model.close();
  });
console.log(await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT'] ?? 3000) }));
