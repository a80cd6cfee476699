/** The folder that holds package.json. */
export const packageRoot: string;
/** Loads an ES module by its path, in both module formats. */
export function importFile(path: string, query?: string): Promise<unknown>;
