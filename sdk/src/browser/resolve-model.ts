/** Takes the place of `../resolve-model.js` in the worker: the path is that of the mounted model. */
export async function resolveModel(path: string | URL | undefined): Promise<string> {
  return String(path);
}
