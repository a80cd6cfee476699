// Our engine through its public SDK.
/** @typedef {import('./engine.mjs').OpenEngine} OpenEngine */

/** @type {OpenEngine} */
export async function openEngine({ path, threads, precision }) {
  const { loadModel } = await import('shiftadd');
  const model = await loadModel(path, { threads, precision });
  const { bytes, vocabularySize } = model.info;
  return {
    vocabularySize,
    // A tied embedding is read as the head; of an untied one, a token reads a single row.
    weightBytes: bytes.linearLayers + bytes.norms + (bytes.head > 0 ? bytes.head : bytes.embedding),
    describe: () => ({ backend: model.backend.name, isa: model.backend.isa, threads: model.backend.threads }),

    async generate(tokens, count) {
      const { timings, tokens: generated } = await model.generate(tokens, { maxTokens: count }).result();
      // It ends at an end token; the caller then tries another prompt.
      if (generated.length < count) return null;
      return { firstTokenMs: timings.firstTokenMs, decodeMs: timings.decodeMs, steps: count - 1 };
    },

    async *chat(question) {
      for await (const { text } of model.createChat().send(question)) yield text;
    },

    close: () => model.close(),
  };
}
