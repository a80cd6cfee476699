/** The folder that holds package.json. */
export const packageRoot: string;
/** The folder of the modules that run: of the sources or of one of the two builds. */
export const moduleFolder: string;
/** Loads an ES module by its path, in both module formats. */
export function importFile(path: string, query?: string): Promise<unknown>;
