/** The folder of the file that runs: of the sources, of a build of them or of somebody's bundle. */
export const moduleFolder: string;
/** Loads an ES module by its path, in both module formats. */
export function importFile(path: string, query?: string): Promise<unknown>;
