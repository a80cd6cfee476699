// The twin of module-place.js in dist/cjs.
const { pathToFileURL } = require('node:url');

exports.moduleFolder = __dirname;
exports.importFile = (path, query = '') => import(/* webpackIgnore: true */ pathToFileURL(path).href + query);
