// The twin of package-root.js, seen from dist/cjs.
const { dirname } = require('node:path');
const { pathToFileURL } = require('node:url');

exports.moduleFolder = __dirname;
exports.packageRoot = dirname(dirname(__dirname));
exports.importFile = (path, query = '') => import(pathToFileURL(path).href + query);
